package llm

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAPathMayPinTheModel(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("pinned", nil), spec("stranger", map[string]any{"models": []string{"lost"}}))
	for in, want := range map[string]string{
		`{"model":"lost","x":1}`: `{"model":"up-chat","x":1}`,
		`{"model":[],"x":1}`:     `{"model":"up-chat","x":1}`,
		`{"x":1}`:                `{"model":"up-chat","x":1}`,
		`{ }`:                    `{"model":"up-chat" }`,
	} {
		if status, text, _ := g.ask("POST", "/m/default"+chat, keyOf("pinned"), in); status != 200 || e.last(t).body != want {
			t.Errorf("%s: %d %s, the engine saw %s", in, status, text, e.last(t).body)
		}
	}
	if status, _, _ := g.ask("POST", "/m/default"+chat, keyOf("stranger"), `{"model":"lost"}`); status != 403 {
		t.Errorf("a pin is no permission: %d", status)
	}
	if status, text, _ := g.ask("GET", "/m/default/v1/models", keyOf("pinned"), ""); status != 200 || strings.Count(text, `"id"`) != 1 || !strings.Contains(text, `"id":"default"`) {
		t.Errorf("the list: %d %s", status, text)
	}
	if status, text, _ := g.ask("GET", "/m/default/v1/models", keyOf("stranger"), ""); status != 200 || strings.Contains(text, `"id"`) {
		t.Errorf("a stranger's list: %d %s", status, text)
	}
	for name, want := range map[string]int{"default": 200, "chat-one": 404, "lost": 404} {
		if status, _, _ := g.ask("GET", "/m/default/v1/models/"+name, keyOf("pinned"), ""); status != want {
			t.Errorf("%s: %d", name, status)
		}
	}
}

func TestAModelsNameMayHaveSlashes(t *testing.T) {
	e := newEngine(t)
	g := startCatalog(t, object{"main": object{"instances": []string{e.dial()}}}, []object{{"id": "hf.co/some/model:q4", "engine": "main"}}, spec("slashed", nil))
	if status, text, _ := g.ask("GET", "/v1/models/hf.co/some/model:q4", keyOf("slashed"), ""); status != 200 || !strings.Contains(text, `"id":"hf.co/some/model:q4"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := g.ask("GET", "/v1/models/hf.co/some", keyOf("slashed"), ""); status != 404 {
		t.Errorf("half a name: %d", status)
	}
}

// What makes a request special to an engine reaches it byte for byte.
func TestWhatIsNotOursPassesUnchanged(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("coder", nil))
	for path, more := range map[string]string{
		"/v1/completions":      `"prompt":"def f(","suffix":"\n\treturn x","n":1`,
		"/ollama/api/generate": `"prompt":"def f(","suffix":")","options":{"seed":8, "Stop":["\u003c"]},"raw":true`,
		chat: `"tools":[{"type":"function","function":{"name":"n","parameters":{"type":"object","properties":{"model":{"n":1}}}}}],` +
			`"tool_choice":"auto","response_format":{"type":"json_schema","json_schema":{"strict":true}},"seed":18446744073709551615,"é":1.0`,
	} {
		status, text, _ := g.ask("POST", path, keyOf("coder"), `{"model":"default",`+more+`}`)
		if want := `{"model":"up-chat",` + more + `}`; status != 200 || e.last(t).body != want {
			t.Errorf("%s: %d %s, the engine saw %s", path, status, text, e.last(t).body)
		}
	}
}

func TestTokensOfAConsumerAreBookedAndBounded(t *testing.T) {
	e := newEngine(t)
	entry := func(perMinute int) map[string]any {
		return spec("frugal", map[string]any{"tokens_per_minute": perMinute})
	}
	g := startGateway(t, e.dial(), true, entry(10), spec("daily", map[string]any{"tokens_per_day": 9}), spec("rich", nil))
	tokens := func(direction string) float64 {
		return g.counted("gateway_llm_tokens_total", `consumer="frugal"`, `model="chat-one"`, `direction="`+direction+`"`)
	}
	ask := func(who string) (int, string, http.Header) {
		return g.ask("POST", chat, keyOf(who), `{"model":"default"}`) // 5 + 4 tokens
	}
	if status, text, _ := ask("frugal"); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	eventually(t, time.Second, "tokens are counted", func() bool { return tokens("input") == 5 && tokens("output") == 4 })
	if status, text, _ := ask("frugal"); status != 200 {
		t.Fatalf("9 of 10 are used: %d %s", status, text)
	}
	eventually(t, time.Second, "more tokens are counted", func() bool { return tokens("input") == 10 })
	status, text, header := ask("frugal")
	if code, _ := errorOf(t, text); status != 429 || code != "tokens_per_minute_exceeded" || header.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := g.ask("GET", "/v1/models", keyOf("frugal"), ""); status != 200 {
		t.Errorf("lists cost no tokens: %d", status)
	}
	if status, _, _ := ask("rich"); status != 200 {
		t.Errorf("another consumer: %d", status)
	}
	_, _, _ = ask("daily")
	eventually(t, time.Second, "the day is used up", func() bool {
		status, text, _ := ask("daily")
		return status == 429 && strings.Contains(text, "tokens_per_day_exceeded")
	})
	writeConsumers(t, g.consumers, entry(18))
	changed := g.metric("gateway_consumers_file_loads_total", `result="ok"`)
	eventually(t, 2*time.Second, "the changed file is in force", func() bool {
		return g.metric("gateway_consumers") == 1 || g.metric("gateway_consumers_file_loads_total", `result="ok"`) > changed
	})
	if status, text, _ := ask("frugal"); status != 429 {
		t.Errorf("18 of 18 are used, whatever the file was before: %d %s", status, text)
	}
}

// Else whoever leaves just before the end would use prompts for nothing.
func TestAPromptThatNobodyCountedIsEstimated(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("dodger", map[string]any{"tokens_per_minute": 100}))
	res := g.send("POST", chat, keyOf("dodger"), `{"model":"default","stream":true,"case":"hang-midway","x":"`+strings.Repeat("x", 400)+`"}`)
	if _, err := io.ReadFull(res.Body, make([]byte, len(sseHello))); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	eventually(t, 2*time.Second, "the minute is used up", func() bool {
		status, text, _ := g.ask("POST", chat, keyOf("dodger"), `{"model":"none"}`)
		return status == 429 && strings.Contains(text, "tokens_per_minute_exceeded")
	})
}

// Else whoever leaves before a whole answer comes would have it made for nothing.
func TestAWholeAnswerThatNobodyWaitedForIsBooked(t *testing.T) {
	e := newEngine(t)
	limit := func(more map[string]any) map[string]any {
		more["tokens_per_minute"] = 50
		return more
	}
	g := startGateway(t, e.dial(), true, spec("asked-much", limit(object{})), spec("capped", limit(object{"max_output_tokens": 60})),
		spec("asked-little", limit(object{"max_output_tokens": 60})), spec("quick", limit(object{})))
	for _, c := range []struct {
		who, more string
		refused   bool
	}{{"asked-much", `,"max_tokens":60`, true}, {"capped", "", true}, {"asked-little", `,"max_tokens":10`, false}, {"quick", "", false}} {
		ctx, leave := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", g.edge+chat, strings.NewReader(`{"model":"default","case":"hang"`+c.more+`}`))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+keyOf(c.who))
		seen := e.count()
		go func() {
			if res, err := http.DefaultClient.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		eventually(t, 2*time.Second, "the engine has it", func() bool { return e.count() > seen })
		leave()
		<-e.cancelled
		eventually(t, 2*time.Second, "it has ended", func() bool { return g.metric("gateway_llm_requests_in_flight", `model="chat-one"`) == 0 })
		if status, _, _ := g.ask("POST", chat, keyOf(c.who), `{"model":"default"}`); (status == 429) != c.refused {
			t.Errorf("%s: %d", c.who, status)
		}
	}
	c := &call{}
	if n := c.guessAnswer(2500 * time.Millisecond); n != 50 {
		t.Errorf("2.5 s are %d tokens", n)
	}
	if n := c.guessAnswer(time.Hour); n != maxGuessedAnswer {
		t.Errorf("an hour is %d tokens", n)
	}
}

func TestNoEngineIsAskedToSwitchProtocols(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("switcher", nil))
	status, text, _ := g.ask("POST", chat, keyOf("switcher"), `{"model":"default"}`, "Connection", "Upgrade", "Upgrade", "websocket")
	if seen := e.last(t).header; status != 200 || seen.Get("Upgrade") != "" || seen.Get("Connection") != "" {
		t.Errorf("%d %s, the engine saw %v", status, text, seen)
	}
}

func TestABodyAndALengthOfItsOwnForAConsumer(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("short", map[string]any{"max_body": 64, "max_output_tokens": 5}))
	status, text, _ := g.ask("POST", chat, keyOf("short"), `{"model":"default","x":"`+strings.Repeat("x", 64)+`"}`)
	if code, _ := errorOf(t, text); status != 413 || code != "request_too_large" {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := g.ask("POST", chat, keyOf("short"), `{"model":"default","max_tokens":500}`); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	if seen := e.last(t).body; seen != `{"model":"up-chat","max_tokens":5}` {
		t.Errorf("the engine saw %s", seen)
	}
}

func TestAnAnswerThatTakesTooLongIsEnded(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("hasty", map[string]any{"max_duration": 1}))
	start := time.Now()
	status, text, header := g.ask("POST", chat, keyOf("hasty"), `{"model":"default","case":"hang"}`)
	if code, _ := errorOf(t, text); status != 504 || code != "max_duration_exceeded" || header.Get("X-Should-Retry") != "false" {
		t.Errorf("%d %s", status, text)
	}
	res := g.send("POST", chat, keyOf("hasty"), `{"model":"default","stream":true,"case":"hang-midway"}`)
	raw, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err == nil || string(raw) != sseHello {
		t.Errorf("a stream that is cut must not look whole: %q %v", raw, err)
	}
	if took := time.Since(start); took < 2*time.Second || took > 4*time.Second {
		t.Errorf("two answers of one second took %v", took)
	}
	for range 2 {
		select {
		case <-e.cancelled:
		case <-time.After(2 * time.Second):
			t.Fatal("the engine still works")
		}
	}
	eventually(t, time.Second, "the cut is counted", func() bool {
		return g.counted("gateway_stream_cut_total", `consumer="hasty"`, `by="limit"`) == 1
	})
}

// In every phase: while the engine thinks about a stream or a whole answer, in the
// middle of a stream, and while a connection to it is only being made.
func TestAClientThatLeavesStopsTheEngineInEveryPhase(t *testing.T) {
	e := newEngine(t)
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	closed := make(chan struct{}, 1)
	go func() {
		for {
			conn, err := deaf.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, conn) // ends when the gateway hangs up
			conn.Close()
			closed <- struct{}{}
		}
	}()
	engines := object{"main": object{"instances": []string{e.dial()}}, "deaf": object{"instances": []string{deaf.Addr().String()}}}
	g := startCatalog(t, engines, []object{{"id": "m", "engine": "main", "fallback": "d"}, {"id": "d", "engine": "deaf"}}, spec("leaver-of-all", nil))
	inFlight := func() float64 {
		return g.metric("gateway_llm_requests_in_flight", `model="m"`) + g.metric("gateway_llm_requests_in_flight", `model="d"`)
	}
	for _, c := range []struct{ name, body string }{
		{"a stream that has not begun", `{"model":"m","stream":true,"case":"hang"}`},
		{"a whole answer", `{"model":"m","case":"hang"}`},
		{"the middle of a stream", `{"model":"m","stream":true,"case":"hang-midway"}`},
		{"an engine that does not even answer", `{"model":"d"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "POST", g.edge+chat, strings.NewReader(c.body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+keyOf("leaver-of-all"))
			go func() {
				if res, err := http.DefaultClient.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}()
			eventually(t, 2*time.Second, "the request is in flight", func() bool { return inFlight() == 1 })
			if strings.Contains(c.body, "hang") {
				eventually(t, 2*time.Second, "the engine has it", func() bool { return e.count() > 0 })
			}
			leave()
			ended := e.cancelled
			select {
			case <-ended:
			case <-closed:
			case <-time.After(2 * time.Second):
				t.Fatal("the engine still works 2 s after its client left")
			}
			eventually(t, time.Second, "its place is free", func() bool { return inFlight() == 0 })
			e.mu.Lock()
			e.seen = nil
			e.mu.Unlock()
		})
	}
}

func TestBodiesOfAllRequestsTogetherAreBounded(t *testing.T) {
	e := newEngine(t)
	const most = 1 << 20
	engines, models := usualCatalog(e.dial())
	g := start(t, func(consumers string) []object {
		routes := apiRoutes(consumers, engines, models)
		for _, r := range routes {
			for _, h := range r["handle"].([]object) {
				if h["handler"] == "llm" {
					h["max_body"], h["max_buffered"] = most/2, most
				}
			}
		}
		return routes
	}, spec("heavy", nil), spec("heavier", nil), spec("light", nil))
	// Bodies that do not come to an end: each holds what has come of it.
	var open []*io.PipeWriter
	for _, who := range []string{"heavy", "heavier"} {
		body, w := io.Pipe()
		open = append(open, w)
		req, _ := http.NewRequest("POST", g.edge+"/v1/embeddings", body)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+keyOf(who))
		go func() {
			if res, err := http.DefaultClient.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		if _, err := w.Write([]byte(`{"model":"embed-one","input":"` + strings.Repeat("x", most/2-1000))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 2*time.Second, "both bodies are held", func() bool { return buffered.Load() > most-8<<10 })
	large := `{"model":"embed-one","input":"` + strings.Repeat("x", 100<<10) + `"}`
	status, text, header := g.ask("POST", "/v1/embeddings", keyOf("light"), large)
	if code, _ := errorOf(t, text); status != 503 || code != "gateway_busy" || header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", status, text)
	}
	for _, w := range open {
		_ = w.CloseWithError(fmt.Errorf("gone"))
	}
	eventually(t, 2*time.Second, "all memory is given back", func() bool { return buffered.Load() == 0 })
	if status, text, _ := g.ask("POST", "/v1/embeddings", keyOf("heavy"), large); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	stream := g.send("POST", chat, keyOf("heavy"), `{"model":"default","stream":true,"case":"hang-midway","x":"`+strings.Repeat("x", 100<<10)+`"}`)
	eventually(t, 2*time.Second, "a body is let go once its answer has begun", func() bool { return buffered.Load() == 0 })
	stream.Body.Close()
}

func TestEveryOperationCountsItsTokens(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("counter", nil))
	e.answers(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/v1/embeddings":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"object":"list","data":[{"embedding":[0.5,0.25]}],"usage":{"prompt_tokens":6,"total_tokens":6}}`)
		case "/api/embed":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"embeddings":[[0.5]],"prompt_eval_count":8}`)
		case "/v1/responses":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n"+
				"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n")
		default:
			return false
		}
		return true
	})
	for _, c := range []struct {
		path, model, id string
		in, out         float64
	}{
		{"/v1/embeddings", "embed-one", "embed-one", 6, 0},
		{"/ollama/api/embed", "embed-one", "embed-one", 8, 0},
		{"/v1/responses", "default", "chat-one", 3, 1},
	} {
		count := func(direction string) float64 {
			return g.counted("gateway_llm_tokens_total", `consumer="counter"`, `model="`+c.id+`"`, `direction="`+direction+`"`)
		}
		in, out := count("input"), count("output")
		if status, text, _ := g.ask("POST", c.path, keyOf("counter"), `{"model":"`+c.model+`","stream":true}`); status != 200 {
			t.Errorf("%s: %d %s", c.path, status, text)
		}
		eventually(t, time.Second, c.path+" is counted", func() bool { return count("input") == in+c.in && count("output") == out+c.out })
	}
}

func TestSeriesOfConsumersThatAreGoneAreDropped(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("mayfly", nil), spec("oak", nil))
	for _, name := range []string{"mayfly", "oak"} {
		_, _, _ = g.ask("POST", chat, keyOf(name), `{"model":"default"}`)
		_, _, _ = g.ask("POST", chat, keyOf(name), `{"model":"none"}`)
		eventually(t, time.Second, "its series are there", func() bool {
			return g.counted("gateway_llm_requests_total", `consumer="`+name+`"`) == 1 && g.counted("gateway_llm_refused_total", `consumer="`+name+`"`) == 1
		})
	}
	var s series
	now := time.Now()
	oak := map[string]*consumer{"oak": {}}
	s.follow(map[string]*consumer{"oak": {}, "mayfly": {}}, now)
	s.follow(oak, now.Add(seriesKept))
	if text := g.scrape(); !strings.Contains(text, `consumer="mayfly"`) {
		t.Error("a scraper did not get the last figures")
	}
	s.follow(oak, now.Add(seriesKept+time.Second))
	if text := g.scrape(); strings.Contains(text, `consumer="mayfly"`) || !strings.Contains(text, `consumer="oak"`) {
		t.Error("the wrong series are there")
	}
}
