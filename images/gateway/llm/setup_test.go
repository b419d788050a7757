package llm

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// recorded is one request as an engine saw it.
type recorded struct {
	path   string
	header http.Header
	body   string
}

// engine is a recording upstream that answers like Ollama does.
type engine struct {
	*httptest.Server
	mu        sync.Mutex
	seen      []recorded
	cancelled chan string // the path of every request whose client went away
	release   chan struct{}
	version   string
	checks    atomic.Int32 // how often it was asked for that
	// answer goes before the usual answers where it reports that it answered.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newEngine(t testing.TB) *engine {
	t.Helper()
	e := &engine{cancelled: make(chan string, 16), release: make(chan struct{}), version: "0.35.0"}
	e.Server = httptest.NewServer(e)
	t.Cleanup(func() {
		close(e.release)
		e.Close()
	})
	return e
}

func (e *engine) dial() string { return e.Listener.Addr().String() }

func (e *engine) last(t *testing.T) recorded {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.seen) == 0 {
		t.Fatal("the engine saw no request")
	}
	return e.seen[len(e.seen)-1]
}

// answers makes the engine answer otherwise; nil is as usual.
func (e *engine) answers(with func(w http.ResponseWriter, r *http.Request) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = with
}

// refuses makes the engine answer everything with one error.
func (e *engine) refuses(status int, message string) {
	e.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Engine", "refused")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, message)
		return true
	})
}

func (e *engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.seen)
}

const (
	sseHello = `data: {"id":"1","object":"chat.completion.chunk","model":"up","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"1","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"1","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	sseUsage = `data: {"id":"1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}` + "\n\n"
	sseDone  = "data: [DONE]\n\n"
)

// ServeHTTP answers by the prompt: the body's "case" member.
func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/api/tags":
		fmt.Fprint(w, `{"models":[{"name":"up-chat:latest","model":"up-chat:latest","size":7,"remote_host":"http://secret"},{"name":"unlisted"},{"name":"up-embed:latest"}]}`)
		return
	case "/api/ps":
		fmt.Fprint(w, `{"models":[{"name":"up-chat:latest","size_vram":5}]}`)
		return
	case "/api/version":
		fmt.Fprintf(w, `{"version":%q}`, e.version)
		e.checks.Add(1)
		return
	}
	e.mu.Lock()
	e.seen = append(e.seen, recorded{r.URL.Path, r.Header.Clone(), string(raw)})
	answer := e.answer
	e.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	var body struct {
		Case          string `json:"case"`
		Stream        *bool  `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	flush := http.NewResponseController(w).Flush
	native := strings.HasPrefix(r.URL.Path, "/api/")
	switch {
	case body.Case == "hang", body.Case == "hang-midway":
		if body.Case == "hang-midway" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, sseHello)
			_ = flush()
		}
		select {
		case <-r.Context().Done():
			e.cancelled <- r.URL.Path
		case <-e.release:
		}
	case body.Case == "cut":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, sseHello)
		_ = flush()
		panic(http.ErrAbortHandler)
	case body.Case == "no-done":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, sseHello)
	case native && (body.Stream == nil || *body.Stream):
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, `{"model":"up","message":{"role":"assistant","content":"Hi"},"done":false}`+"\n")
		_ = flush()
		_, _ = io.WriteString(w, `{"model":"up","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":11,"eval_count":3}`+"\n")
	case body.Stream != nil && *body.Stream:
		w.Header().Set("Content-Type", "text/event-stream")
		for piece := range strings.SplitAfterSeq(sseHello, "\n\n") {
			_, _ = io.WriteString(w, piece)
			_ = flush()
		}
		if body.StreamOptions.IncludeUsage {
			_, _ = io.WriteString(w, sseUsage)
			_ = flush()
		}
		_, _ = io.WriteString(w, sseDone)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"x","choices":[{"message":{"content":"Hello"},"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9}}`)
	}
}

// Keys of the test's consumers. Each test names its consumers itself, because
// metrics are shared by the whole process.
func keyOf(name string) string { return "sk-" + name + "-0123456789abcdef" }

func hashText(key string) string {
	hash := hashKey(key)
	return hex.EncodeToString(hash[:])
}

// spec is a consumers file entry with everything allowed, changed by with.
func spec(name string, with map[string]any) map[string]any {
	entry := map[string]any{
		"name": name, "keys": []any{map[string]any{"sha256": hashText(keyOf(name)), "expires": nil}},
		"scopes": []string{"chat", "embeddings", "native"}, "models": []string{"*"},
		"requests_per_minute": nil, "concurrent_streams": nil, "expires": nil,
	}
	for member, value := range with {
		entry[member] = value
	}
	return entry
}

func writeConsumers(t testing.TB, path string, entries ...map[string]any) {
	t.Helper()
	if entries == nil {
		entries = []map[string]any{}
	}
	raw, err := json.Marshal(map[string]any{"version": 1, "consumers": entries})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// gateway is a real Caddy in this process.
type gateway struct {
	t         testing.TB
	edge      string // base URL of the listener for clients
	inner     string // base URL of the listener for us
	consumers string // path of the consumers file
	accessLog string
	before    string // the metrics at its start
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

type object = map[string]any

// engines and models of most tests.
func usualCatalog(dial string) (engines object, models []object) {
	engines = object{"main": object{"instances": []string{dial}}, "gone": object{"instances": []string{"127.0.0.1:1"}}}
	models = []object{
		{"id": "chat-one", "engine": "main", "upstream_name": "up-chat", "role": "chat", "aliases": []string{"default", "gpt-4"}},
		{"id": "embed-one", "engine": "main", "upstream_name": "up-embed", "role": "embedding"},
		{"id": "lost", "engine": "gone", "role": "chat"},
	}
	return engines, models
}

// startGateway runs Caddy with the routes that the platform renders, in short.
func startGateway(t testing.TB, dial string, tapped bool, entries ...map[string]any) *gateway {
	t.Helper()
	engines, models := usualCatalog(dial)
	if !tapped {
		return start(t, plainRoutes(dial), entries...)
	}
	return startCatalog(t, engines, models, entries...)
}

// startCatalog is startGateway with other engines and models.
func startCatalog(t testing.TB, engines object, models []object, entries ...map[string]any) *gateway {
	t.Helper()
	return start(t, func(consumers string) []object { return apiRoutes(consumers, engines, models) }, entries...)
}

// start runs Caddy with routes that know the path of the consumers file.
func start(t testing.TB, routes func(consumers string) []object, entries ...map[string]any) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{t: t, consumers: filepath.Join(dir, "consumers.json"), accessLog: filepath.Join(dir, "access.log")}
	if entries != nil {
		writeConsumers(t, g.consumers, entries...)
	}
	edge, inner := freeAddress(t), freeAddress(t)
	g.edge, g.inner = "http://"+edge, "http://"+inner
	raw, err := json.Marshal(g.config(edge, inner, routes(g.consumers)))
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(raw, true); err != nil {
		t.Fatalf("caddy refuses the configuration: %v\n%s", err, raw)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		modelUses.Clear() // it outlives gateways
	})
	g.before = g.scrape()
	return g
}

// proxyTo is the proxy that comes last.
func proxyTo(dial string) object {
	return object{"handler": "reverse_proxy", "flush_interval": -1, "upstreams": []object{{"dial": dial}},
		"headers": object{"request": object{"set": object{"Host": []string{"{http.reverse_proxy.upstream.hostport}"}}}}}
}

func plainRoutes(dial string) func(string) []object {
	return func(string) []object { return []object{{"handle": []object{proxyTo(dial)}}} }
}

func route(path string, handle ...object) object {
	return object{"match": []object{{"path": []string{path}}}, "handle": handle, "terminal": true}
}

func apiRoutes(consumers string, engines object, models []object) []object {
	catalog := func(handler string, more object) object {
		h := object{"handler": handler, "engines": engines, "models": models}
		for k, v := range more {
			h[k] = v
		}
		return h
	}
	auth := func(scope string) object {
		return object{"handler": "llm_auth", "consumers_file": consumers, "realm": "test", "scope": scope}
	}
	proxy := proxyTo("{http.vars.llm_upstream}")
	strip := object{"handler": "rewrite", "strip_path_prefix": "/ollama"}
	pin := object{"match": []object{{"path": []string{"/m/default/v1/*"}}}, "handle": []object{
		{"handler": "vars", "llm_pinned": "default"}, {"handler": "rewrite", "strip_path_prefix": "/m/default"}}}
	return []object{
		pin,
		route("/v1/models*", auth(""), object{"handler": "llm_models", "models": models}),
		route("/v1/embeddings", auth("embeddings"), catalog("llm", nil), proxy),
		route("/v1/*", auth("chat"), catalog("llm", object{"max_body": 4096}), proxy),
		route("/ollama/api/show", auth("show"), strip, catalog("llm", nil), proxy),
		{"match": []object{{"path": []string{"/ollama/*"}, "method": []string{"GET", "HEAD"}}}, "terminal": true,
			"handle": []object{auth("native"), strip, catalog("llm_native", nil)}},
		route("/ollama/*", auth("native"), strip, catalog("llm", nil), proxy),
		route("/health", catalog("llm_health", object{"cache": "200ms"})),
		{"handle": []object{{"handler": "llm_error"}}},
	}
}

func (g *gateway) config(edge, inner string, routes []object) object {
	return object{
		"admin": object{"disabled": true, "config": object{"persist": false}},
		"logging": object{"logs": object{
			"default": object{"level": "ERROR", "exclude": []string{"http.log.access", "http.handlers.llm", "http.handlers.llm_auth"}},
			"access": object{"include": []string{"http.log.access"}, "encoder": object{"format": "json"},
				"writer": object{"output": "file", "filename": g.accessLog, "mode": "0600"}},
		}},
		"apps": object{"http": object{"servers": object{
			"edge": object{"listen": []string{edge}, "automatic_https": object{"disable": true}, "logs": object{},
				"routes": routes,
				"errors": object{"routes": []object{{"handle": []object{{"handler": "llm_error", "status": "{http.error.status_code}"}}}}}},
			"inner": object{"listen": []string{inner}, "automatic_https": object{"disable": true},
				"routes": []object{
					route("/live", object{"handler": "static_response", "status_code": 200, "body": "live"}),
					route("/metrics", object{"handler": "metrics"}),
				}},
		}}},
	}
}

// send makes one request; the caller closes the body.
func (g *gateway) send(method, path, key, body string, headers ...string) *http.Response {
	g.t.Helper()
	req, err := http.NewRequest(method, g.edge+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return res
}

// ask makes one request and returns status, text and header of the answer.
func (g *gateway) ask(method, path, key, body string, headers ...string) (int, string, http.Header) {
	g.t.Helper()
	res := g.send(method, path, key, body, headers...)
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(raw), res.Header
}

// errorOf reads an error in OpenAI's shape and insists on that shape.
func errorOf(t *testing.T, text string) (code, message string) {
	t.Helper()
	var answer struct {
		Error struct {
			Message string
			Type    string
			Param   *string
			Code    *string
		}
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&answer); err != nil || answer.Error.Message == "" || answer.Error.Type == "" || answer.Error.Code == nil {
		t.Fatalf("not an error in OpenAI's shape: %q (%v)", text, err)
	}
	return *answer.Error.Code, answer.Error.Message
}

// metric reads the sum of the samples of a name that have all these labels.
func (g *gateway) metric(name string, labels ...string) float64 {
	g.t.Helper()
	return sumOf(g.scrape(), name, labels)
}

// counted is how much a metric grew since this gateway started: metrics outlive it.
func (g *gateway) counted(name string, labels ...string) float64 {
	g.t.Helper()
	return g.metric(name, labels...) - sumOf(g.before, name, labels)
}

func (g *gateway) scrape() string {
	g.t.Helper()
	res, err := http.Get(g.inner + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	return string(raw)
}

func sumOf(text, name string, labels []string) float64 {
	sum := 0.0
	for line := range strings.Lines(text) {
		at := strings.LastIndexByte(line, ' ')
		series := line[:max(at, 0)]
		match := series == name || strings.HasPrefix(series, name+"{")
		for _, label := range labels {
			match = match && strings.Contains(series, label)
		}
		if match {
			number, _ := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
			sum += number
		}
	}
	return sum
}

// eventually waits for something that happens beside the test.
func eventually(t *testing.T, within time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("not within %v: %s", within, what)
}
