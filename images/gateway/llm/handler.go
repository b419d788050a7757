package llm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Defaults and bounds of what a request may be.
const (
	defaultMaxBody  = 16 << 20 // bytes: room for some images
	defaultMaxDepth = 64       // levels: tool schemas have about 15
)

// Handler understands a request for a model and the answer to it. It must come after
// llm_auth and before reverse_proxy, which dials {http.vars.llm_upstream}.
//
// It reads the body once, finds the model and its engine, puts the engine's name for
// the model in place, and taps the answer for figures without holding it back or
// keeping it. Further variables: {http.vars.llm_model}, {http.vars.llm_engine},
// {http.vars.llm_operation}.
type Handler struct {
	Catalog
	// MaxBody bounds a request's body, in bytes. Default: 16777216 (16 MiB).
	MaxBody int64 `json:"max_body,omitempty"`
	// MaxDepth bounds how deep its JSON may be nested. Default: 64.
	MaxDepth int `json:"max_depth,omitempty"`

	log  *zap.Logger
	gaps map[string]prometheus.Observer // by model id
}

// CaddyModule tells Caddy what this is.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm", New: func() caddy.Module { return new(Handler) }}
}

// Provision checks the settings and fills defaults.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	if h.MaxDepth == 0 {
		h.MaxDepth = defaultMaxDepth
	}
	if h.MaxBody < 0 || h.MaxDepth < 0 {
		return configError("llm", "max_body and max_depth must not be negative")
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
	return nil
}

// call is one request on its way to an engine.
type call struct {
	ctx    context.Context
	op     *operation
	sess   *session
	asked  string // the name the client used
	model  *Model
	stream bool
	body   [][]byte // as the engine gets it
	hide   bool     // leave out the token counts that we asked for
	tap    *tap
	// broken: the proxy gave up in the middle of the answer.
	broken bool
}

// ServeHTTP refuses what must not reach an engine, and proxies and meters the rest.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	c, refusal := h.prepare(r)
	if refusal == nil && c.op.role == roleChat {
		if most := c.sess.consumer.ConcurrentStreams; c.sess.usage.streams.take(most) {
			defer c.sess.usage.streams.release()
		} else {
			refusal = &apiError{Status: http.StatusTooManyRequests, Code: "concurrent_streams_exceeded", RetryAfter: time.Second,
				Message: fmt.Sprintf("This key may have %d answers running at the same time. Wait for one to end.", most)}
		}
	}
	if refusal != nil {
		if sess := sessionOf(r.Context()); sess != nil {
			metrics.refused.WithLabelValues(sess.consumer.Name, refusal.Code).Inc()
		}
		if refusal.Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		refusal.write(w)
		return nil
	}
	return h.forward(w, r, next, c)
}

// prepare reads the request and decides whether and how an engine gets it.
func (h *Handler) prepare(r *http.Request) (*call, *apiError) {
	c := &call{ctx: r.Context(), op: operations[r.URL.Path], sess: sessionOf(r.Context())}
	switch {
	case c.sess == nil:
		h.log.Error("llm is used without llm_auth before it: everything is refused")
		return nil, errorForStatus(http.StatusInternalServerError)
	case c.op == nil:
		return nil, errorForStatus(http.StatusNotFound)
	case r.Method != http.MethodPost:
		return nil, errorForStatus(http.StatusMethodNotAllowed)
	}
	doc, refusal := readDocument(r, h.MaxBody, h.MaxDepth)
	if refusal != nil {
		return nil, refusal
	}
	if c.asked, refusal = doc.model(); refusal != nil {
		return nil, refusal
	}
	if c.model, refusal = h.lookup(c.asked, c.sess.consumer); refusal != nil {
		return nil, refusal
	}
	if c.model.Role != c.op.role {
		return nil, badBody("wrong_model_role", "model", "The model %q is for %s, which this address is not.", c.asked, c.model.Role)
	}
	if c.stream, refusal = doc.stream(c.op.streams); refusal != nil {
		return nil, refusal
	}
	edits := []edit{doc.withModel(c.model.UpstreamName)}
	if c.stream && c.op.usageOption {
		usage, asked, refusal := doc.withUsage()
		if refusal != nil {
			return nil, refusal
		}
		edits = append(edits, usage)
		c.hide = !asked
	}
	c.body = doc.apply(edits...)
	return c, nil
}

// forward hands the request to the proxy behind us and meters the answer.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, c *call) (err error) {
	engine := h.Engines[c.model.Engine]
	for name, value := range map[string]string{
		varModel: c.model.ID, varEngine: c.model.Engine, varUpstream: engine.Dial, varOperation: c.op.name,
	} {
		caddyhttp.SetVar(c.ctx, name, value)
	}
	setBody(r, c.body)

	gap := h.gaps[c.model.ID]
	c.tap = newTap(w, c.op.dialect, c.hide, func(d time.Duration) { gap.Observe(d.Seconds()) })
	c.tap.revoked = c.revoked
	running := metrics.inFlight.WithLabelValues(c.model.ID)
	running.Inc()
	c.broken = true // until the proxy returns: it panics when an answer breaks off
	defer func() {
		running.Dec()
		c.tap.close()
		metrics.observe(c, time.Now())
		c.logFields()
	}()
	err = next.ServeHTTP(c.tap, r)
	c.broken = false
	if c.tap.status != 0 || err == nil && !c.revoked() {
		return err
	}
	return h.answerFor(c, err)
}

// revoked reports whether the request was ended because its key no longer holds.
func (c *call) revoked() bool { return errors.Is(context.Cause(c.ctx), errRevoked) }

// answerFor turns an error of the proxy into an answer.
func (h *Handler) answerFor(c *call, err error) error {
	status := http.StatusBadGateway
	var known caddyhttp.HandlerError
	if errors.As(err, &known) && known.StatusCode >= 400 {
		status = known.StatusCode
	}
	answer := errorForStatus(status)
	switch {
	case c.revoked():
		answer = errBadKey
	case status < 500: // the client has gone
	default:
		h.log.Error("engine failed", zap.String("engine", c.model.Engine), zap.String("model", c.model.ID), zap.Error(err))
		if status == http.StatusServiceUnavailable {
			answer.RetryAfter = time.Second
		}
	}
	answer.write(c.tap)
	return nil
}

// setBody gives the request its new body, with everything that describes a body.
func setBody(r *http.Request, body [][]byte) {
	size := 0
	for _, piece := range body {
		size += len(piece)
	}
	r.GetBody = func() (io.ReadCloser, error) {
		readers := make([]io.Reader, len(body))
		for i, piece := range body {
			readers[i] = bytes.NewReader(piece)
		}
		return io.NopCloser(io.MultiReader(readers...)), nil
	}
	r.Body, _ = r.GetBody() // never fails
	r.ContentLength = int64(size)
	r.TransferEncoding = nil
	r.Header.Set("Content-Length", strconv.Itoa(size))
	r.Header.Set("Content-Type", "application/json")
	// What the tap cannot read it cannot meter.
	r.Header.Set("Accept-Encoding", "identity")
	for _, name := range []string{"Content-Encoding", "Content-Md5", "Digest", "Content-Digest", "Expect", "Trailer"} {
		r.Header.Del(name)
	}
}

// cutBy tells who ended an answer before its end: "engine", "client", "revoked", or
// "" when nobody did.
func (c *call) cutBy() string {
	t := c.tap
	gone := c.ctx.Err() != nil
	whole := !c.broken && !t.broken && (!t.streamed || t.ended)
	switch {
	case t.failed && t.status < 300:
		return "engine"
	case whole && !(gone && t.status == statusClientGone):
		return ""
	case c.revoked():
		return "revoked"
	case gone || t.broken:
		return "client"
	default:
		return "engine"
	}
}

// logFields adds the figures to the access log's line.
func (c *call) logFields() {
	t := c.tap
	logField(c.ctx, zap.String("model", c.model.ID))
	logField(c.ctx, zap.String("engine", c.model.Engine))
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
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
