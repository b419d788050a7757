package llm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const chat = "/v1/chat/completions"

func TestAliasBecomesTheEnginesName(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("alias", nil))
	for path, c := range map[string]struct{ asked, want, upstreamPath string }{
		chat:                     {"default", "up-chat", chat},
		"/v1/completions":        {"gpt-4", "up-chat", "/v1/completions"},
		"/v1/responses":          {"chat-one", "up-chat", "/v1/responses"},
		"/v1/embeddings":         {"embed-one", "up-embed", "/v1/embeddings"},
		"/ollama/api/chat":       {"default:latest", "up-chat", "/api/chat"},
		"/ollama/api/generate":   {"chat-one", "up-chat", "/api/generate"},
		"/ollama/api/embed":      {"embed-one", "up-embed", "/api/embed"},
		"/ollama/api/embeddings": {"embed-one", "up-embed", "/api/embeddings"},
	} {
		status, text, _ := g.ask("POST", path, keyOf("alias"), fmt.Sprintf(`{ "x" : 1.50, "model" : %q , "y":"é" }`, c.asked))
		if status != 200 {
			t.Errorf("%s: %d %s", path, status, text)
			continue
		}
		seen := e.last(t)
		if want := fmt.Sprintf(`{ "x" : 1.50, "model" : %q , "y":"é" }`, c.want); seen.body != want || seen.path != c.upstreamPath {
			t.Errorf("%s: the engine saw %s %s, want %s", path, seen.path, seen.body, want)
		}
	}
}

func TestUsageIsAskedForAndTakenOutAgain(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("counted", nil))
	for _, c := range []struct{ name, body, sent, want string }{
		{"not asked", `{"model":"default","stream":true}`,
			`{"stream_options":{"include_usage":true},"model":"up-chat","stream":true}`, sseHello + sseDone},
		{"null", `{"model":"default","stream":true,"stream_options":null}`,
			`{"model":"up-chat","stream":true,"stream_options":{"include_usage":true}}`, sseHello + sseDone},
		{"refused", `{"model":"default","stream":true,"stream_options":{"include_usage":false,"x":1}}`,
			`{"model":"up-chat","stream":true,"stream_options":{"include_usage":true,"x":1}}`, sseHello + sseDone},
		{"asked", `{"model":"default","stream":true,"stream_options":{"include_usage":true}}`,
			`{"model":"up-chat","stream":true,"stream_options":{"include_usage":true}}`, sseHello + sseUsage + sseDone},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := func(kind string) float64 {
				return g.counted("gen_ai_client_token_usage_sum", `consumer="counted"`, `token_type="`+kind+`"`)
			}
			in, out := tokens("input"), tokens("output")
			status, text, _ := g.ask("POST", chat, keyOf("counted"), c.body)
			if status != 200 || text != c.want {
				t.Errorf("got %d %q", status, text)
			}
			if sent := e.last(t).body; sent != c.sent {
				t.Errorf("the engine saw %s", sent)
			}
			eventually(t, time.Second, "token metrics", func() bool { return tokens("input") == in+7 && tokens("output") == out+2 })
		})
	}
	if n := g.counted("gen_ai_server_time_to_first_token_seconds_count", `consumer="counted"`, `model="chat-one"`, `operation="chat"`); n != 4 {
		t.Errorf("first token times: %v", n)
	}
	if n := g.counted("gateway_stream_cut_total", `consumer="counted"`); n != 0 {
		t.Errorf("%v whole streams count as cut", n)
	}
	status, text, _ := g.ask("POST", "/ollama/api/chat", keyOf("counted"), `{"model":"chat-one"}`)
	if lines := strings.Count(text, "\n"); status != 200 || lines != 2 {
		t.Errorf("native stream: %d %q", status, text)
	}
	eventually(t, time.Second, "native token metrics", func() bool {
		return g.counted("gen_ai_client_token_usage_sum", `consumer="counted"`, `token_type="input"`) == 4*7+11
	})
}

func TestACutStreamIsCounted(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("cutter", nil))
	cuts := func() float64 { return g.counted("gateway_stream_cut_total", `consumer="cutter"`, `by="engine"`) }
	res := g.send("POST", chat, keyOf("cutter"), `{"model":"default","stream":true,"case":"cut"}`)
	raw, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err == nil || string(raw) != sseHello {
		t.Errorf("the client must get what came, and see the break: %v %q", err, raw)
	}
	eventually(t, time.Second, "a broken connection counts", func() bool { return cuts() == 1 })
	if status, text, _ := g.ask("POST", chat, keyOf("cutter"), `{"model":"default","stream":true,"case":"no-done"}`); status != 200 || text != sseHello {
		t.Errorf("%d %q", status, text)
	}
	eventually(t, time.Second, "a stream without its end counts", func() bool { return cuts() == 2 })
	eventually(t, time.Second, "the access log says so", func() bool {
		raw, _ := os.ReadFile(g.accessLog)
		return strings.Count(string(raw), `"cut_by":"engine"`) == 2
	})
}

func TestRefusalsBeforeTheEngine(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("asker", map[string]any{"models": []string{"default", "embed-one"}}))
	deep := strings.Repeat("[", 80) + strings.Repeat("]", 80)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
	}{
		{"unknown model", "POST", chat, `{"model":"nope"}`, nil, 404, "model_not_found"},
		{"model not allowed", "POST", chat, `{"model":"lost"}`, nil, 403, "model_not_allowed"},
		{"alias allowed, its id not", "POST", chat, `{"model":"chat-one"}`, nil, 403, "model_not_allowed"},
		{"embedding model for a chat", "POST", chat, `{"model":"embed-one"}`, nil, 400, "wrong_model_role"},
		{"no model", "POST", chat, `{"messages":[]}`, nil, 400, "missing_model"},
		{"model twice", "POST", chat, `{"model":"default","model":"lost"}`, nil, 400, "duplicate_member"},
		{"model twice, escaped", "POST", chat, `{"model":"default","mod\u0065l":"lost"}`, nil, 400, "duplicate_member"},
		{"MODEL", "POST", chat, `{"model":"default","MODEL":"lost"}`, nil, 400, "misspelt_member"},
		{"long s", "POST", chat, `{"model":"default","ſtream":true}`, nil, 400, "misspelt_member"},
		{"not JSON", "POST", chat, `model=default`, nil, 400, "invalid_json"},
		{"a list", "POST", chat, `[{"model":"default"}]`, nil, 400, "invalid_json"},
		{"two objects", "POST", chat, `{"model":"default"}{"model":"lost"}`, nil, 400, "invalid_json"},
		{"too deep", "POST", chat, `{"model":"default","x":` + deep + `}`, nil, 400, "too_deep"},
		{"too large", "POST", chat, `{"model":"default","x":"` + strings.Repeat("x", 5000) + `"}`, nil, 413, "request_too_large"},
		{"gzip", "POST", chat, `{"model":"default"}`, []string{"Content-Encoding", "gzip"}, 415, "unsupported_media_type"},
		{"GET", "GET", chat, "", nil, 405, "method_not_allowed"},
		{"unknown path", "POST", "/v1/files", `{"model":"default"}`, nil, 404, "not_found"},
		{"unrouted path", "POST", "/x", `{"model":"default"}`, nil, 404, "not_found"},
		{"n", "POST", chat, `{"model":"default","n":9}`, nil, 400, "invalid_n"},
		{"N", "POST", chat, `{"model":"default","N":2}`, nil, 400, "misspelt_member"},
		{"background", "POST", "/v1/responses", `{"model":"default","background":true}`, nil, 400, "background_not_supported"},
		{"pull", "POST", "/ollama/api/pull", `{"model":"default"}`, nil, 404, "not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text, header := g.ask(c.method, c.path, keyOf("asker"), c.body, c.headers...)
			if code, _ := errorOf(t, text); status != c.status || code != c.code {
				t.Errorf("got %d %s, want %d %s", status, code, c.status, c.code)
			}
			if status == 405 && header.Get("Allow") != "POST" {
				t.Errorf("Allow is %q", header.Get("Allow"))
			}
		})
	}
	t.Run("form data", func(t *testing.T) {
		req, _ := http.NewRequest("POST", g.edge+chat, strings.NewReader(`{"model":"default"}`))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Authorization", "Bearer "+keyOf("asker"))
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 415 {
			t.Fatalf("%v %v", res, err)
		}
		res.Body.Close()
	})
	t.Run("too large without a length", func(t *testing.T) {
		body := io.MultiReader(strings.NewReader(`{"model":"default","x":"`), strings.NewReader(strings.Repeat("x", 1<<20)))
		req, _ := http.NewRequest("POST", g.edge+chat, body)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+keyOf("asker"))
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 413 {
			t.Fatalf("%v %v", res, err)
		}
		res.Body.Close()
	})
	if n := e.count(); n != 0 {
		t.Errorf("the engine saw %d refused requests", n)
	}
	large := strings.Repeat("x", 3<<20)
	if status, text, _ := g.ask("POST", "/v1/embeddings", keyOf("asker"), `{"input":"`+large+`","model":"embed-one"}`); status != 200 {
		t.Fatalf("a large body: %d %s", status, text)
	}
	if seen := e.last(t).body; seen != `{"input":"`+large+`","model":"up-embed"}` {
		t.Errorf("a large body came with %d bytes", len(seen))
	}
}

func TestAnEngineThatIsGoneIsAnErrorInOpenAIsShape(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("unlucky", nil))
	status, text, _ := g.ask("POST", chat, keyOf("unlucky"), `{"model":"lost","stream":true}`)
	if code, message := errorOf(t, text); status != 502 || code != "engine_unreachable" || strings.Contains(message, "127.0.0.1") {
		t.Errorf("%d %s", status, text)
	}
	eventually(t, time.Second, "the 502 is counted", func() bool {
		return g.counted("gateway_llm_requests_total", `consumer="unlucky"`, `status="502"`) == 1
	})
}

func TestAClientThatLeavesStopsTheEngine(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("impatient", nil))
	for _, how := range []string{"hang", "hang-midway"} {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", g.edge+chat, strings.NewReader(`{"model":"default","stream":true,"case":"`+how+`"}`))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+keyOf("impatient"))
		before := e.count()
		go func() {
			if res, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}()
		eventually(t, 2*time.Second, "the engine has the request", func() bool { return e.count() > before })
		time.Sleep(50 * time.Millisecond)
		cancel()
		select {
		case <-e.cancelled:
		case <-time.After(2 * time.Second):
			t.Fatalf("%s: the engine still works 2 s after its client left", how)
		}
	}
	eventually(t, time.Second, "both count as cut by the client", func() bool {
		return g.counted("gateway_stream_cut_total", `consumer="impatient"`, `by="client"`) == 2
	})
	if n := g.metric("gateway_llm_requests_in_flight", `model="chat-one"`); n != 0 {
		t.Errorf("%v requests still in flight", n)
	}
}

func TestModelsListsWhatThisConsumerMayUse(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("all", nil), spec("some", map[string]any{"models": []string{"embed-one", "gpt-4"}}))
	for name, want := range map[string]string{"all": "default gpt-4 chat-one embed-one lost", "some": "gpt-4 embed-one"} {
		status, text, _ := g.ask("GET", "/v1/models", keyOf(name), "")
		var ids []string
		for _, card := range strings.Split(text, `"id":"`)[1:] {
			id, _, _ := strings.Cut(card, `"`)
			ids = append(ids, id)
		}
		if got := strings.Join(ids, " "); status != 200 || got != want {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	for path, want := range map[string]int{"/v1/models/gpt-4": 200, "/v1/models/chat-one": 403, "/v1/models/nope": 404, "/v1/models/": 404, "/v1/modelsx": 404} {
		if status, text, _ := g.ask("GET", path, keyOf("some"), ""); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

func TestHealthSaysWhetherAModelCanAnswerAndNothingElse(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true)
	if status, text, _ := g.ask("GET", "/health", "", ""); status != 200 || text != `{"status":"ok"}` {
		t.Errorf("%d %s", status, text)
	}
	if err := checkHealth(g.edge+"/health", time.Second); err != nil {
		t.Error(err)
	}
	e.Listener.Close()
	e.CloseClientConnections()
	eventually(t, 3*time.Second, "503 without an engine", func() bool {
		status, text, _ := g.ask("GET", "/health", "", "")
		return status == 503 && text == `{"status":"unavailable"}`
	})
	if err := checkHealth(g.edge+"/health", time.Second); err == nil {
		t.Error("the health command takes 503 for well")
	}
}
