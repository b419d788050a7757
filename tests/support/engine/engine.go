package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	largestBody = 512 << 20
	version     = "0.35.0" // what it says of itself where Ollama does
)

// engine answers as OpenAI's API and Ollama's do, by scenarios, and keeps what it was asked.
type engine struct {
	models    []string
	answerAll bool   // unknown addresses get 200, as from Open WebUI
	key       string // that it wants to be shown, if any
	play      *play
	record    *record
	gate      gate
	inFlight  atomic.Int64
	most      atomic.Int64
}

// gate stops every answer for a while.
type gate struct {
	mu         sync.Mutex
	from, till time.Time
}

func (g *gate) freeze(after, last time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.from = time.Now().Add(after)
	g.till = g.from.Add(last)
}

// pass returns when nothing stops; false: the client went away meanwhile.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	from, till := g.from, g.till
	g.mu.Unlock()
	if till.IsZero() {
		return true
	}
	if now := time.Now(); now.Before(from) || now.After(till) {
		return true
	}
	return sleepUntil(ctx, till)
}

// exchange is one request and its answer.
type exchange struct {
	*engine
	w     http.ResponseWriter
	r     *http.Request
	seen  *Seen
	body  []byte
	start time.Time
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{engine: e, w: w, r: r, seen: e.record.of(r), start: time.Now()}
	defer e.count()()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestBody))
	x.body = body
	e.record.body(x.seen, body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client broke off
	}
	defer func() { e.record.change(func() { x.seen.EndedAt = stamp() }) }()
	x.answer()
}

func (e *engine) count() (done func()) {
	now := e.inFlight.Add(1)
	for most := e.most.Load(); now > most && !e.most.CompareAndSwap(most, now); most = e.most.Load() {
	}
	return func() { e.inFlight.Add(-1) }
}

func (x *exchange) answer() {
	if x.key != "" && x.r.Header.Get("Authorization") != "Bearer "+x.key {
		x.json(http.StatusUnauthorized, openAIError(401, "invalid_api_key", "Incorrect API key provided."))
		return
	}
	path := x.r.URL.Path
	switch {
	case x.answerAll:
		x.page()
	case x.r.Method == http.MethodPost && spoken[path] != nil:
		x.generate(spoken[path])
	case x.r.Method == http.MethodPost && (path == "/v1/embeddings" || path == "/api/embed" || path == "/api/embeddings"):
		x.embed(path)
	case path == "/v1/models":
		x.json(http.StatusOK, object{"object": "list", "data": x.listed()})
	case strings.HasPrefix(path, "/v1/models/"):
		x.oneModel(strings.TrimPrefix(path, "/v1/models/"))
	case path == "/api/tags" || path == "/api/ps":
		x.json(http.StatusOK, object{"models": x.local()})
	case path == "/api/version":
		x.json(http.StatusOK, object{"version": version})
	case path == "/api/show" && x.r.Method == http.MethodPost:
		x.show()
	case path == "/":
		x.json(http.StatusOK, "Ollama is running")
	case manages(path):
		x.json(http.StatusOK, object{"status": "success"})
	default:
		x.json(http.StatusNotFound, openAIError(404, "not_found", "404 page not found"))
	}
}

// manages tells whether Ollama changes what it has at this address. Nothing changes here, but nothing is refused either:
// who gets through has got through.
func manages(path string) bool {
	for _, name := range []string{"pull", "push", "create", "copy", "delete"} {
		if path == "/api/"+name {
			return true
		}
	}
	return strings.HasPrefix(path, "/api/blobs/")
}

func (x *exchange) status(status int) {
	x.record.change(func() { x.seen.Status = status })
	x.w.WriteHeader(status)
}

// head writes the headers that engines add: ones that must not come out of a gateway among them.
func (x *exchange) head(mime string, more Pairs) {
	h := x.w.Header()
	h.Set("Content-Type", mime)
	h.Set("Server", "fake-engine")
	h.Set("X-Powered-By", "fake-engine")
	h.Set("Access-Control-Allow-Origin", "*")
	for _, pair := range more {
		h.Add(pair[0], pair[1])
	}
}

func (x *exchange) json(status int, value any, more ...[2]string) {
	if !x.gate.pass(x.r.Context()) {
		x.gone()
		return
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	x.head("application/json", more)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	x.status(status)
	_, _ = x.w.Write(text)
}

func (x *exchange) gone() { x.record.change(func() { x.seen.GoneAt = stamp() }) }

// page is any page of a web application, and any of its sockets.
func (x *exchange) page() {
	if strings.EqualFold(x.r.Header.Get("Upgrade"), "websocket") {
		x.socket()
		return
	}
	// A scenario for an address stands where one for a model does.
	if s := x.play.get(x.r.URL.Path); s.Fault == "status" {
		x.json(s.Status, object{"detail": http.StatusText(s.Status)})
		return
	}
	x.json(http.StatusOK, object{"page": x.r.RequestURI}, [2]string{"Set-Cookie", "token=t; Path=/; HttpOnly"})
}

// socket accepts an upgrade and sends back every byte that comes.
func (x *exchange) socket() {
	sum := sha1.Sum([]byte(x.r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.json(http.StatusBadRequest, openAIError(400, "no_upgrade", err.Error()))
		return
	}
	defer conn.Close()
	x.record.change(func() { x.seen.Status = http.StatusSwitchingProtocols })
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	_ = echoFrames(conn, buffered)
}

// echoFrames answers each frame of a WebSocket with the same one, unmasked as servers' frames are.
func echoFrames(to io.Writer, from io.Reader) error {
	for {
		var head [2]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return err
		}
		size := uint64(head[1] & 0x7f)
		if size > 125 {
			return errors.New("a frame of more than 125 bytes")
		}
		rest := make([]byte, 4+size)
		if head[1]&0x80 == 0 {
			return errors.New("a frame that is not masked")
		}
		if _, err := io.ReadFull(from, rest); err != nil {
			return err
		}
		mask, load := rest[:4], rest[4:]
		for i := range load {
			load[i] ^= mask[i%4]
		}
		if _, err := to.Write(append([]byte{head[0], byte(size)}, load...)); err != nil || head[0]&0x0f == 8 {
			return err
		}
	}
}

func (x *exchange) listed() []any {
	all := []any{}
	for _, name := range x.models {
		all = append(all, object{"id": name, "object": "model", "created": 1700000000, "owned_by": "library"})
	}
	return all
}

func (x *exchange) oneModel(name string) {
	if !x.has(name) {
		x.json(http.StatusNotFound, unknown(name))
		return
	}
	x.json(http.StatusOK, object{"id": name, "object": "model", "created": 1700000000, "owned_by": "library"})
}

func unknown(name string) any {
	return openAIError(404, "model_not_found", fmt.Sprintf("model %q not found, try pulling it first", name))
}

func (x *exchange) has(name string) bool {
	return slices.Contains(x.models, name) || slices.Contains(x.models, name+":latest")
}

func (x *exchange) local() []any {
	all := []any{}
	for _, name := range x.models {
		all = append(all, object{
			"name": name, "model": name, "modified_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
			"size": 1 << 20, "size_vram": 0, "context_length": 4096, "digest": strings.Repeat("0", 64), "details": details,
		})
	}
	return all
}

var details = object{
	"parent_model": "", "format": "gguf", "family": "qwen3", "families": []string{"qwen3"},
	"parameter_size": "600M", "quantization_level": "Q4_K_M",
}

// show reveals a system prompt, as Ollama does.
func (x *exchange) show() {
	var a ask
	_ = json.Unmarshal(x.body, &a)
	name := a.Model
	if name == "" {
		name = a.Name
	}
	x.record.change(func() { x.seen.Model = name })
	if !x.has(name) {
		x.json(http.StatusNotFound, object{"error": fmt.Sprintf("model '%s' not found", name)})
		return
	}
	x.json(http.StatusOK, object{
		"modelfile": "FROM " + name + "\nSYSTEM canary-system-prompt", "system": "canary-system-prompt",
		"template": "{{ .Prompt }}", "details": details, "capabilities": []string{"completion", "tools"},
		"model_info":  object{"general.architecture": "qwen3", "qwen3.context_length": 4096},
		"modified_at": "2026-01-01T00:00:00Z",
	})
}

// spoken are the addresses at which text is generated.
var spoken = map[string]func(a *ask, s *Scenario, id string) (v voice, streams bool){
	"/v1/chat/completions": func(a *ask, s *Scenario, id string) (voice, bool) {
		return &completions{
			events: events{s.LineEnding, s.Comments}, chat: true, id: "chatcmpl-" + id, model: a.Model,
			created: time.Now().Unix(), role: s.RoleChunk, signature: a.call(),
		}, a.Stream != nil && *a.Stream
	},
	"/v1/completions": func(a *ask, s *Scenario, id string) (voice, bool) {
		return &completions{
			events: events{s.LineEnding, s.Comments}, id: "cmpl-" + id, model: a.Model, created: time.Now().Unix(),
		}, a.Stream != nil && *a.Stream
	},
	"/v1/responses": func(a *ask, s *Scenario, id string) (voice, bool) {
		return &responses{
			events: events{s.LineEnding, s.Comments}, id: id, model: a.Model, created: time.Now().Unix(),
			signature: a.call(),
		}, a.Stream != nil && *a.Stream
	},
	"/api/chat":     func(a *ask, _ *Scenario, _ string) (voice, bool) { return newNative(a, true) },
	"/api/generate": func(a *ask, _ *Scenario, _ string) (voice, bool) { return newNative(a, false) },
}

func newNative(a *ask, chat bool) (voice, bool) {
	return &native{
		chat: chat, model: a.Model, created: time.Now().UTC().Format(time.RFC3339Nano), signature: a.call(),
	}, a.Stream == nil || *a.Stream
}

// generate answers with text, streamed or not.
func (x *exchange) generate(speak func(*ask, *Scenario, string) (voice, bool)) {
	var a ask
	if err := json.Unmarshal(x.body, &a); err != nil {
		x.json(http.StatusBadRequest, openAIError(400, "invalid_json", err.Error()))
		return
	}
	x.record.change(func() { x.seen.Model = a.Model })
	s, line, number := x.play.cast(a.Model)
	v, streams := speak(&a, &s, strconv.Itoa(x.seen.ID))
	if !x.has(a.Model) {
		x.json(http.StatusNotFound, v.refusal(404, "model_not_found", fmt.Sprintf("model %q not found", a.Model)))
		return
	}
	leave, err := line.enter(x.r.Context())
	switch {
	case errors.Is(err, errFull):
		x.json(http.StatusServiceUnavailable, v.refusal(503, "overloaded", err.Error()))
		return
	case err != nil:
		x.gone()
		return
	}
	defer leave()
	line.working.Add(1)
	defer line.working.Add(-1)
	x.start = time.Now()
	if x.refused(&s, &a, v.refusal) || !x.awaited(&s) {
		return
	}
	plan := s.write(&a, number)
	t := &teller{exchange: x, s: &s, v: v, plan: plan, dues: s.dues(len(plan.parts), number), line: line}
	if streams {
		t.stream(a.StreamOptions.IncludeUsage)
	} else {
		t.whole()
	}
}

// refused plays the faults that come before any answer.
func (x *exchange) refused(s *Scenario, a *ask, refusal func(int, string, string) any) bool {
	switch {
	case s.Fault == "status":
		code := map[int]string{429: "rate_limit_exceeded", 503: "overloaded"}[s.Status]
		if code == "" {
			code = "server_error"
		}
		x.json(s.Status, refusal(s.Status, code, "the fake engine was told to refuse"), s.Headers...)
	case s.Fault == "echo_key":
		x.json(http.StatusUnauthorized, refusal(401, "invalid_api_key",
			"Incorrect API key provided: "+x.r.Header.Get("Authorization")))
	case s.Fault == "context_overflow", s.ContextTokens > 0 && a.promptTokens() > s.ContextTokens:
		x.json(http.StatusBadRequest, refusal(400, "context_length_exceeded", fmt.Sprintf(
			"This model's maximum context length is %d tokens. However, your messages resulted in %d tokens.",
			s.ContextTokens, a.promptTokens())))
	case s.Fault == "never":
		<-x.r.Context().Done()
		x.gone()
	case s.Fault == "bad_head":
		conn, _, err := http.NewResponseController(x.w).Hijack()
		if err == nil {
			_, _ = conn.Write([]byte("\x00\x01 this is not HTTP\r\n\r\n"))
			_ = conn.Close()
		}
	default:
		return false
	}
	return true
}

// awaited waits for the moment of the answer's head.
func (x *exchange) awaited(s *Scenario) bool {
	if s.HeaderDelay > 0 {
		x.start = x.start.Add(milliseconds(s.HeaderDelay))
		if !sleepUntil(x.r.Context(), x.start) {
			x.gone()
			return false
		}
	}
	return true
}

func (x *exchange) embed(path string) {
	var a ask
	if err := json.Unmarshal(x.body, &a); err != nil {
		x.json(http.StatusBadRequest, openAIError(400, "invalid_json", err.Error()))
		return
	}
	x.record.change(func() { x.seen.Model = a.Model })
	refusal := func(status int, code, message string) any { return openAIError(status, code, message) }
	if path != "/v1/embeddings" {
		refusal = func(_ int, _, message string) any { return object{"error": message} }
	}
	if !x.has(a.Model) {
		x.json(http.StatusNotFound, refusal(404, "model_not_found", fmt.Sprintf("model %q not found", a.Model)))
		return
	}
	s, line, _ := x.play.cast(a.Model)
	leave, err := line.enter(x.r.Context())
	if err != nil {
		x.json(http.StatusServiceUnavailable, refusal(503, "overloaded", err.Error()))
		return
	}
	defer leave()
	x.start = time.Now()
	if x.refused(&s, &a, refusal) || !x.awaited(&s) {
		return
	}
	if !sleepUntil(x.r.Context(), x.start.Add(milliseconds(s.TTFT))) {
		x.gone()
		return
	}
	dimensions := s.Dimensions
	if a.Dimensions > 0 {
		dimensions = a.Dimensions
	}
	vectors := make([][]float32, 0)
	for _, text := range a.texts() {
		vectors = append(vectors, vector(text, dimensions))
	}
	tokens := a.promptTokens()
	switch path {
	case "/api/embeddings":
		if len(vectors) == 0 {
			vectors = append(vectors, []float32{})
		}
		x.json(http.StatusOK, object{"embedding": vectors[0]}, s.Headers...)
	case "/api/embed":
		x.json(http.StatusOK, object{
			"model": a.Model, "embeddings": vectors, "total_duration": 1, "load_duration": 1, "prompt_eval_count": tokens,
		}, s.Headers...)
	default:
		data := []any{}
		for i, v := range vectors {
			data = append(data, object{"object": "embedding", "index": i, "embedding": encoded(v, a.EncodingFormat)})
		}
		x.json(http.StatusOK, object{
			"object": "list", "model": a.Model, "data": data,
			"usage": object{"prompt_tokens": tokens, "total_tokens": tokens},
		}, s.Headers...)
	}
}

// vector has length 1 and is the same for the same text.
func vector(text string, dimensions int) []float32 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(text))
	random := rand.New(rand.NewPCG(hash.Sum64(), 1))
	made, sum := make([]float32, dimensions), 0.0
	for i := range made {
		value := random.NormFloat64()
		made[i], sum = float32(value), sum+value*value
	}
	for i := range made {
		made[i] /= float32(math.Sqrt(sum))
	}
	return made
}

func encoded(v []float32, format string) any {
	if format != "base64" {
		return v
	}
	raw := make([]byte, 0, 4*len(v))
	for _, one := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(one))
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// reset closes a connection so that the other side gets a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	under := conn
	for {
		switch layer := under.(type) {
		case *tap:
			under = layer.Conn
		case interface{ NetConn() net.Conn }:
			under = layer.NetConn()
		case *net.TCPConn:
			_ = layer.SetLinger(0)
			_ = conn.Close()
			return
		default:
			_ = conn.Close()
			return
		}
	}
}
