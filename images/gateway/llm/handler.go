package llm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Defaults and bounds of what a request may be.
const (
	defaultMaxBody     = 16 << 20 // bytes: room for some images
	defaultMaxBuffered = 64 << 20 // bytes, of all requests together
	defaultMaxDepth    = 64       // levels: tool schemas have about 15
)

// varPinned is the variable by which a route before us names the model, whatever the
// body says.
const varPinned = "llm_pinned"

// Handler understands a request for a model and the answer to it. It must come after
// llm_auth and before reverse_proxy, which dials {http.vars.llm_upstream}.
//
// It reads the body once, finds the model and its engine, chooses the engine's instance
// with the least to do, puts the engine's name for the model in place, and taps the
// answer for figures without holding it back or keeping it. Before the first byte has
// passed to the client, another instance and then the model's fallback are asked when
// an engine cannot answer: what comes after this handler in its route may run several
// times for one request, and must not be in a group. Further variables:
// {http.vars.llm_model}, {http.vars.llm_engine}, {http.vars.llm_operation}; a route
// before may set llm_pinned, the model that is used whatever the body says.
type Handler struct {
	Catalog
	// MaxBody bounds a request's body, in bytes. Default: 16777216 (16 MiB).
	MaxBody int64 `json:"max_body,omitempty"`
	// MaxBuffered bounds the memory for the bodies of all requests together, over all
	// handlers, in bytes; beyond it requests get 503. One consumer may have half of it,
	// but always one largest body. Default: 67108864 (64 MiB).
	MaxBuffered int64 `json:"max_buffered,omitempty"`
	// MaxDepth bounds how deep its JSON may be nested. Default: 64.
	MaxDepth int `json:"max_depth,omitempty"`

	log     *zap.Logger
	gaps    map[string]prometheus.Observer // by model id
	watched []*Engine
}

// CaddyModule tells Caddy what this is.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm", New: func() caddy.Module { return new(Handler) }}
}

// Provision checks the settings, fills defaults and starts to watch engines that have
// several instances.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	h.MaxBody = cmp.Or(h.MaxBody, defaultMaxBody)
	h.MaxBuffered = cmp.Or(h.MaxBuffered, max(defaultMaxBuffered, 2*(h.MaxBody+1)))
	h.MaxDepth = cmp.Or(h.MaxDepth, defaultMaxDepth)
	if h.MaxBody < 0 || h.MaxDepth < 0 {
		return configError("llm", "max_body and max_depth must not be negative")
	}
	if h.MaxBuffered <= h.MaxBody {
		return configError("llm", "max_buffered is %d: it must be more than max_body (%d), or the largest body never has room", h.MaxBuffered, h.MaxBody)
	}
	if err := h.provisionWithEngines(); err != nil {
		return configError("llm", "%w", err)
	}
	h.gaps = make(map[string]prometheus.Observer, len(h.Models))
	for _, model := range h.Models {
		h.gaps[model.ID] = metrics.gap.WithLabelValues(model.ID)
	}
	if err := metrics.register(ctx.GetMetricsRegistry()); err != nil {
		return configError("llm", "%w", err)
	}
	for _, engine := range h.Engines {
		if err := engine.watchInstances(); err != nil {
			return configError("llm", "%w", err)
		}
		h.watched = append(h.watched, engine)
	}
	return nil
}

// Cleanup stops watching what no other handler watches.
func (h *Handler) Cleanup() error {
	var errs []error
	for _, engine := range h.watched {
		errs = append(errs, engine.unwatchInstances())
	}
	return errors.Join(errs...)
}

// call is one request on its way to an engine.
type call struct {
	ctx    context.Context
	op     *operation
	sess   *session
	asked  string // the name the client used
	from   *Model // what that name stands for
	stream bool
	usage  []byte // stream_options that ask for token counts; nil: none
	hide   bool   // leave out the token counts that we asked for

	// The body, until the answer has begun.
	doc  *document
	body [][]byte // as the engine gets it
	size int      // of the body that the client sent, in bytes
	most int      // tokens that the answer may have; 0: not known
	room room

	// Who answers.
	model    *Model
	at       *instance   // nil while the call has no place
	tried    []*instance // of this model
	moved    bool        // another instance was asked already
	crashed  bool        // a connection broke before the answer, and somebody else was asked
	attempts int

	tap *tap
	// broken: the proxy gave up in the middle of the answer.
	broken bool
}

// ServeHTTP refuses what must not reach an engine, and proxies and meters the rest.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	c := &call{ctx: r.Context(), op: operations[r.URL.Path], sess: sessionOf(r.Context())}
	defer c.room.leave()
	refusal := h.admit(c, r)
	// Before the body is read: one that never comes to its end must not be had for nothing.
	if refusal == nil && c.op.role == roleChat {
		if most := c.sess.consumer.ConcurrentStreams; c.sess.usage.streams.take(most) {
			defer c.sess.usage.streams.release()
		} else {
			refusal = &apiError{Status: http.StatusTooManyRequests, Code: "concurrent_streams_exceeded", RetryAfter: time.Second,
				Message: fmt.Sprintf("This key may have %d answers running at the same time. Wait for one to end.", most)}
		}
	}
	if refusal == nil {
		refusal = h.prepare(c, w, r)
	}
	if refusal == nil {
		defer h.leave(c)
		refusal = h.begin(c)
	}
	if refusal != nil {
		if c.sess != nil {
			metrics.refused.WithLabelValues(c.sess.consumer.Name, refusal.Code).Inc()
		}
		if refusal.Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		refusal.write(w)
		return nil
	}
	return h.forward(w, r, next, c)
}

// admit decides whether a request is to be read at all.
func (h *Handler) admit(c *call, r *http.Request) *apiError {
	switch {
	case c.sess == nil:
		h.log.Error("llm is used without llm_auth before it: everything is refused")
		return errorForStatus(http.StatusInternalServerError)
	case c.op == nil:
		return errorForStatus(http.StatusNotFound)
	case r.Method != http.MethodPost:
		return errorForStatus(http.StatusMethodNotAllowed)
	}
	if c.op.role == "" {
		return nil
	}
	who := c.sess.consumer
	return c.sess.usage.tokens.check(time.Now(), who.TokensPerMinute, who.TokensPerDay)
}

// prepare reads the request and decides whether an engine may get it.
func (h *Handler) prepare(c *call, w http.ResponseWriter, r *http.Request) (refusal *apiError) {
	who := c.sess.consumer
	c.room = room{most: h.MaxBuffered, share: max(h.MaxBuffered/2, h.MaxBody+1), ours: &c.sess.usage.buffered}
	maxBody := h.MaxBody
	if who.MaxBody > 0 {
		maxBody = min(maxBody, who.MaxBody)
	}
	if c.doc, refusal = readDocument(w, r, maxBody, h.MaxDepth, &c.room); refusal != nil {
		return refusal
	}
	c.size = len(c.doc.raw)
	if refusal = h.read(c); refusal != nil {
		return refusal
	}
	if c.model, refusal = h.lookup(c.asked, who); refusal != nil {
		return refusal
	}
	c.from = c.model
	c.most = c.doc.mostTokens(c.op, who.MaxOutputTokens)
	if c.op.role != "" && c.model.Role != c.op.role {
		return badBody("wrong_model_role", "model", "The model %q is for %s, which this address is not.", c.asked, c.model.Role)
	}
	if !h.speaks(c.model, c.op) {
		return badBody("wrong_model_engine", "model", "The model %q has no such API of its own. Ask for it below /v1.", c.asked)
	}
	c.body, refusal = h.bodyFor(c, c.model)
	return refusal
}

// read takes from the body what decides over it.
func (h *Handler) read(c *call) (refusal *apiError) {
	if pinned, is := caddyhttp.GetVar(c.ctx, varPinned).(string); is && pinned != "" {
		c.asked = pinned
	} else if c.asked, refusal = c.doc.model(c.op.alsoModel); refusal != nil {
		return refusal
	}
	if c.stream, refusal = c.doc.stream(c.op.streams); refusal != nil {
		return refusal
	}
	if c.stream && c.op.usageOption {
		var asked bool
		if c.usage, asked, refusal = c.doc.usage(); refusal != nil {
			return refusal
		}
		c.hide = !asked
	}
	if string(c.doc.value("background")) == "true" {
		return badBody("background_not_supported", "background", "Answers in the background are not kept here. Leave \"background\" out.")
	}
	_, refusal = c.doc.choices(c.op)
	return refusal
}

// bodyFor is the request as a model's engine gets it.
func (h *Handler) bodyFor(c *call, m *Model) ([][]byte, *apiError) {
	change := &changes{doc: c.doc}
	change.setModel("model", m.UpstreamName)
	if _, there := c.doc.members[c.op.alsoModel]; there {
		change.setModel(c.op.alsoModel, m.UpstreamName)
	}
	if c.usage != nil {
		change.set("stream_options", c.usage)
	}
	if refusal := change.leaveLoaded(c.op); refusal != nil {
		return nil, refusal
	}
	if refusal := change.cap(c.op, h.Engines[m.Engine].Kind, c.sess.consumer.MaxOutputTokens); refusal != nil {
		return nil, refusal
	}
	return change.apply(), nil
}

// begin finds the first place for a call: at its model's engine, or where that has no
// room at its fallback's.
func (h *Handler) begin(c *call) *apiError {
	refusal := h.enter(c, c.model)
	if (refusal == errEngineFull || refusal == errShareOfEngine) && h.fallBack(c, reasonOverloaded) {
		return nil
	}
	return refusal
}

// errEngineFull comes before the engine's own queue overflows: it would say less.
var errEngineFull = &apiError{Status: http.StatusTooManyRequests, Code: "engine_overloaded", RetryAfter: time.Second,
	Message: "The engine that serves this model has as many requests as it takes. Wait and try again."}

// errShareOfEngine: one consumer alone must not fill the queue that all wait in.
var errShareOfEngine = &apiError{Status: http.StatusTooManyRequests, Code: "engine_share_exceeded", RetryAfter: time.Second,
	Message: "This key has as many requests as one key may have at the engine that serves this model. Wait for one to end."}

// enter gives a call a place at a model's engine, within what all consumers together
// may ask of both, and its own consumer of the engine. It gives up the place that the
// call had.
func (h *Handler) enter(c *call, m *Model) *apiError {
	h.leave(c)
	if !m.use.running.take(m.MaxInFlight) {
		return &apiError{Status: http.StatusTooManyRequests, Code: "model_overloaded", RetryAfter: time.Second,
			Message: fmt.Sprintf("The model %q has as many requests as it may have at the same time. Wait and try again.", m.ID)}
	}
	engine, ours := h.Engines[m.Engine], c.sess.usage.at(m.Engine)
	if !ours.take(engine.share()) {
		m.use.running.release()
		return errShareOfEngine
	}
	at := engine.take()
	if at == nil {
		ours.release()
		m.use.running.release()
		return errEngineFull
	}
	if wait, ok := m.use.requests.take(time.Now(), m.RequestsPerMinute, 0); !ok {
		at.release()
		ours.release()
		m.use.running.release()
		return &apiError{Status: http.StatusTooManyRequests, Code: "model_rate_limit_exceeded", RetryAfter: wait,
			Message: fmt.Sprintf("The model %q takes %d requests a minute. Wait %d seconds.", m.ID, m.RequestsPerMinute, wholeSeconds(wait))}
	}
	c.model, c.at = m, at
	metrics.inFlight.WithLabelValues(m.ID).Inc()
	return nil
}

// leave gives up the place of a call, if it has one.
func (h *Handler) leave(c *call) {
	if c.at == nil {
		return
	}
	c.at.release()
	c.sess.usage.at(c.model.Engine).release()
	c.model.use.running.release()
	metrics.inFlight.WithLabelValues(c.model.ID).Dec()
	c.at = nil
}

// forward hands the request to the proxy behind us and meters the answer.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, c *call) (err error) {
	if most := c.sess.consumer.MaxDuration; most > 0 {
		var end context.CancelCauseFunc
		c.ctx, end = context.WithCancelCause(c.ctx)
		defer end(nil)
		defer time.AfterFunc(most, func() { end(errTooLong) }).Stop()
		r = r.WithContext(c.ctx)
	}
	c.tap = newTap(w, c.op.dialect, c.hide, func(d time.Duration) { h.gaps[c.model.ID].Observe(d.Seconds()) })
	c.tap.endedByUs = c.endedByUs
	c.tap.holds = func(status int) bool { return h.holds(c, status) }
	c.tap.passes = c.passes
	c.broken = true // until the proxy returns: it panics when an answer breaks off
	defer func() {
		c.tap.close()
		c.bookTokens()
		metrics.observe(c, time.Now())
		c.logFields()
	}()
	for {
		c.point(r)
		err = c.try(next, r)
		reason := c.failure(err)
		if reason == "" || !h.again(c, reason) {
			break
		}
		c.tap.discard()
	}
	c.broken = false
	c.tap.release() // nobody else was to be asked: the answer stands
	if c.tap.status != 0 || err == nil && !c.endedByUs() {
		return err
	}
	return h.answerFor(c, err)
}

// try lets the proxy ask once. It panics to break off an answer; where nothing of the
// answer has passed to the client, that is an error like others.
func (c *call) try(next caddyhttp.Handler, r *http.Request) (err error) {
	defer func() {
		if broken := recover(); broken == http.ErrAbortHandler && !c.tap.passed {
			err = caddyhttp.Error(http.StatusBadGateway, http.ErrAbortHandler)
		} else if broken != nil {
			panic(broken)
		}
	}()
	return next.ServeHTTP(c.tap, r)
}

// point directs the request to where the call has its place.
func (c *call) point(r *http.Request) {
	c.attempts++
	for name, value := range map[string]string{
		varModel: c.model.ID, varEngine: c.model.Engine, varUpstream: c.at.address, varOperation: c.op.name,
	} {
		caddyhttp.SetVar(c.ctx, name, value)
	}
	c.setBody(r)
}

// passes lets go of the request's body: nobody else will be asked.
func (c *call) passes() {
	c.doc, c.body = nil, nil
	c.room.leave()
}

// errTooLong is the cause with which an answer is ended that takes too long.
var errTooLong = errors.New("the answer takes longer than the consumer may have")

// endedBy tells by which of our own rules the request was ended: "revoked", "limit" or "".
func (c *call) endedBy() string {
	switch cause := context.Cause(c.ctx); {
	case errors.Is(cause, errRevoked):
		return "revoked"
	case errors.Is(cause, errTooLong):
		return "limit"
	default:
		return ""
	}
}

func (c *call) endedByUs() bool { return c.endedBy() != "" }

// answerFor turns an error of the proxy into an answer.
func (h *Handler) answerFor(c *call, err error) error {
	status := http.StatusBadGateway
	var known caddyhttp.HandlerError
	if errors.As(err, &known) && known.StatusCode >= 400 {
		status = known.StatusCode
	}
	answer := errorForStatus(status)
	switch {
	case c.endedBy() == "revoked":
		answer = errBadKey
	case c.endedBy() == "limit":
		answer = &apiError{Status: http.StatusGatewayTimeout, Code: "max_duration_exceeded",
			Message: fmt.Sprintf("An answer to this key may take %v, and this one took longer.", c.sess.consumer.MaxDuration)}
		c.tap.Header().Set("X-Should-Retry", "false") // OpenAI's clients would otherwise ask twice more
	case status < 500: // the client has gone
	default:
		h.log.Error("engine failed", zap.String("engine", c.model.Engine), zap.String("model", c.model.ID), zap.Error(err))
		if status == http.StatusServiceUnavailable {
			answer.RetryAfter = time.Second
		}
	}
	c.tap.holds = nil
	answer.write(c.tap)
	return nil
}

// setBody gives the request its new body, with everything that describes a body.
func (c *call) setBody(r *http.Request) {
	size := 0
	for _, piece := range c.body {
		size += len(piece)
	}
	// The proxy's transport asks for it again when a kept connection turns out to be dead.
	r.GetBody = func() (io.ReadCloser, error) {
		if c.body == nil {
			return nil, errors.New("the body was let go")
		}
		return &pieces{left: slices.Clone(c.body)}, nil
	}
	r.Body = &pieces{left: slices.Clone(c.body)}
	r.ContentLength = int64(size)
	r.TransferEncoding = nil
	r.Header.Set("Content-Length", strconv.Itoa(size))
	r.Header.Set("Content-Type", "application/json")
	// What the tap cannot read it cannot meter.
	r.Header.Set("Accept-Encoding", "identity")
	for _, name := range []string{"Content-Encoding", "Content-Md5", "Digest", "Content-Digest", "Expect", "Trailer", "Upgrade"} {
		r.Header.Del(name)
	}
}

// pieces reads a body and lets go of what was read.
type pieces struct{ left [][]byte }

func (p *pieces) Read(to []byte) (n int, err error) {
	for len(p.left) > 0 {
		n = copy(to, p.left[0])
		if p.left[0] = p.left[0][n:]; len(p.left[0]) == 0 {
			p.left[0] = nil
			p.left = p.left[1:]
		}
		if n > 0 || len(to) == 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

func (p *pieces) Close() error { return nil }

// cutBy tells who ended an answer before its end: "engine", "client", "revoked" (its
// key), "limit" (it took too long), or "" when nobody did.
func (c *call) cutBy() string {
	t := c.tap
	gone := c.ctx.Err() != nil
	whole := !c.broken && !t.broken && (!t.streamed || t.ended)
	switch {
	case t.failed && t.status < 300:
		return "engine"
	case whole && !(gone && t.status == statusClientGone):
		return ""
	case c.endedByUs():
		return c.endedBy()
	case gone || t.broken:
		return "client"
	default:
		return "engine"
	}
}

// Where an engine counted no tokens of a prompt, since the answer was broken off or it
// never counts, they are estimated from the body's bytes, up to a bound: pictures are
// long texts and few tokens.
const (
	bytesPerToken    = 4
	maxGuessedTokens = 8192
)

// What an engine had answered when its client left before a whole answer came, nobody
// counted: it is what the request was bounded to, or a guess by the time it took.
const (
	guessedTokensPerSecond = 20
	maxGuessedAnswer       = 4096
)

// guessAnswer is what an answer is booked with that nobody counted.
func (c *call) guessAnswer(took time.Duration) int {
	if c.most > 0 {
		return c.most
	}
	return min(int(took.Seconds()*guessedTokensPerSecond), maxGuessedAnswer)
}

// bookTokens counts what the answer took against what its consumer may use.
func (c *call) bookTokens() {
	t := c.tap
	tokens := max(t.input, 0) + t.outputTokens()
	left := c.endedByUs() || t.status == statusClientGone || t.status < 300 && (t.broken || c.ctx.Err() != nil)
	answered := t.status > 0 && t.status < 300 || c.broken || left
	if left && !c.stream && t.output < 0 && c.op.role == roleChat {
		tokens += c.guessAnswer(time.Since(c.sess.started))
	}
	if t.input < 0 && answered && c.op.role != "" {
		tokens += min(c.size/bytesPerToken, maxGuessedTokens)
	}
	c.sess.usage.tokens.book(time.Now(), tokens)
}

// logFields adds the figures to the access log's line.
func (c *call) logFields() {
	t := c.tap
	// Caddy's own duration is 0 for answers that break off.
	logField(c.ctx, zap.Float64("duration_ms", float64(time.Since(c.sess.started).Microseconds())/1000))
	logField(c.ctx, zap.String("model", c.model.ID))
	logField(c.ctx, zap.String("engine", c.model.Engine))
	if c.at != nil {
		logField(c.ctx, zap.String("instance", c.at.address))
	}
	if c.attempts > 1 {
		logField(c.ctx, zap.Int("attempts", c.attempts))
	}
	if c.from != c.model {
		logField(c.ctx, zap.String("fallback_from", c.from.ID))
	}
	logField(c.ctx, zap.String("operation", c.op.name))
	logField(c.ctx, zap.Bool("stream", c.stream))
	if t.input >= 0 {
		logField(c.ctx, zap.Int("input_tokens", t.input))
	}
	if t.output >= 0 || t.pieces > 0 {
		logField(c.ctx, zap.Int("output_tokens", t.outputTokens()))
	}
	if t.streamed && t.pieces > 0 {
		logField(c.ctx, zap.Float64("ttft_ms", float64(t.first.Sub(c.sess.started).Microseconds())/1000))
	}
	if t.finish != "" {
		logField(c.ctx, zap.String("finish_reason", finishLabel(t.finish)))
	}
	if by := c.cutBy(); by != "" {
		logField(c.ctx, zap.String("cut_by", by))
	}
}

// logField adds a field to the access log's line of a request.
func logField(ctx context.Context, field zap.Field) {
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(field)
	}
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
