package llm

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestOnlyAValidKeyPasses(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("good", nil),
		spec("late", map[string]any{"expires": "2020-01-01T00:00:00Z"}), spec("narrow", map[string]any{"scopes": []string{"embeddings"}}))
	body := `{"model":"default","messages":[]}`
	for _, c := range []struct {
		name      string
		headers   []string
		status    int
		code      string
		challenge []string
	}{
		{"no key", nil, 401, "missing_api_key", []string{"Bearer", "Basic"}},
		{"wrong key", []string{"Authorization", "Bearer sk-wrong"}, 401, "invalid_api_key", []string{"Bearer"}},
		{"the hash as key", []string{"Authorization", "Bearer " + hashText(keyOf("good"))}, 401, "invalid_api_key", nil},
		{"expired consumer", []string{"Authorization", "Bearer " + keyOf("late")}, 401, "invalid_api_key", nil},
		{"Basic with a wrong name", []string{"Authorization", basic("other", keyOf("good"))}, 401, "invalid_api_key", []string{"Bearer", "Basic"}},
		{"Basic with another's key", []string{"Authorization", basic("narrow", keyOf("good"))}, 401, "invalid_api_key", nil},
		{"key in a header that is not read", []string{"X-Api-Key", keyOf("good")}, 401, "invalid_api_key", nil},
		{"two keys", []string{"Authorization", "Bearer " + keyOf("good"), "X-Api-Key", "k"}, 400, "several_credentials", nil},
		{"Authorization twice", []string{"Authorization", "Bearer " + keyOf("good"), "Authorization", "Bearer x"}, 400, "several_credentials", nil},
		{"scope missing", []string{"Authorization", "Bearer " + keyOf("narrow")}, 403, "missing_scope", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text, header := g.ask("POST", chat, "", body, c.headers...)
			if code, _ := errorOf(t, text); status != c.status || code != c.code {
				t.Errorf("got %d %s, want %d %s", status, code, c.status, c.code)
			}
			if c.challenge != nil {
				got := strings.Join(header.Values("WWW-Authenticate"), "; ")
				for _, want := range c.challenge {
					if !strings.Contains(got, want+` realm="test"`) {
						t.Errorf("challenge %q lacks %s", got, want)
					}
				}
				if len(header.Values("WWW-Authenticate")) != len(c.challenge) {
					t.Errorf("challenges are %q", got)
				}
			}
		})
	}
	if n := e.count(); n != 0 {
		t.Fatalf("the engine saw %d refused requests", n)
	}
	for name, headers := range map[string][]string{
		"Bearer": {"Authorization", "bearer " + keyOf("good")},
		"Basic":  {"Authorization", basic("good", keyOf("good"))},
	} {
		if status, text, _ := g.ask("POST", chat, "", body, headers...); status != 200 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

func TestCredentialsNeverReachTheEngine(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("secretive", nil))
	status, _, _ := g.ask("POST", chat, keyOf("secretive"), `{"model":"default"}`,
		"Cookie", "session=canary", "Accept-Encoding", "gzip", "X-Harmless", "yes")
	if status != 200 {
		t.Fatalf("status %d", status)
	}
	seen := e.last(t)
	for name, values := range seen.header {
		if text := name + strings.Join(values, " "); strings.Contains(text, keyOf("secretive")) || strings.Contains(text, "canary") {
			t.Errorf("the engine saw %s: %v", name, values)
		}
	}
	if seen.header.Get("X-Harmless") != "yes" || seen.header.Get("Accept-Encoding") != "identity" {
		t.Errorf("headers: %v", seen.header)
	}
	eventually(t, time.Second, "an access log line", func() bool {
		raw, _ := os.ReadFile(g.accessLog)
		return strings.Contains(string(raw), `"user_id":"secretive"`)
	})
	raw, _ := os.ReadFile(g.accessLog)
	if strings.Contains(string(raw), keyOf("secretive")) {
		t.Error("the key is in the access log")
	}
	for _, want := range []string{`"consumer":"secretive"`, `"model":"chat-one"`, `"engine":"main"`, `"operation":"chat"`, `"input_tokens":5`, `"output_tokens":4`, `"finish_reason":"length"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the access log lacks %s: %s", want, raw)
		}
	}
}

func TestWhoeverIsRevokedIsOutAndNobodyElse(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("leaver", nil), spec("stayer", nil))
	open := func(name string) (*http.Response, *bufio.Reader) {
		res := g.send("POST", chat, keyOf(name), `{"model":"default","stream":true,"case":"hang-midway"}`)
		r := bufio.NewReader(res.Body)
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data:") {
			t.Fatalf("%s: %q %v", name, line, err)
		}
		return res, r
	}
	leaver, leaverBody := open("leaver")
	defer leaver.Body.Close()
	waiting := make(chan int, 1)
	go func() {
		status, _, _ := g.ask("POST", chat, keyOf("leaver"), `{"model":"default","case":"hang"}`)
		waiting <- status
	}()
	stayer, stayerBody := open("stayer")
	defer stayer.Body.Close()

	if err := os.WriteFile(g.consumers, []byte(`{"version":1,"consumers":[{"na`), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "the metric tells of a bad file", func() bool { return g.metric("gateway_consumers_file_ok") == 0 })
	if status, _, _ := g.ask("GET", "/v1/models", keyOf("leaver"), ""); status != 200 {
		t.Fatalf("a half-written file must leave the old one in force, got %d", status)
	}

	writeConsumers(t, g.consumers, spec("stayer", nil))
	changed := time.Now()
	eventually(t, time.Second, "401 for the revoked key", func() bool {
		status, _, _ := g.ask("GET", "/v1/models", keyOf("leaver"), "")
		return status == 401
	})
	if _, err := io.ReadAll(leaverBody); err == nil {
		t.Error("the revoked stream ended as if it were whole")
	}
	t.Logf("the open stream ended %v after the change", time.Since(changed).Round(time.Millisecond))
	if status := <-waiting; status != 401 {
		t.Errorf("a request that still waits for its answer gets %d", status)
	}
	if status, _, _ := g.ask("GET", "/v1/models", keyOf("stayer"), ""); status != 200 {
		t.Errorf("the other consumer got %d", status)
	}
	eventually(t, time.Second, "the cut counts as revoked", func() bool {
		return g.counted("gateway_stream_cut_total", `consumer="leaver"`, `by="revoked"`) == 1
	})
	ended := make(chan struct{})
	go func() {
		_, _ = io.ReadAll(stayerBody)
		close(ended)
	}()
	select {
	case <-ended:
		t.Error("the other consumer's stream ended too")
	case <-time.After(3 * pollInterval):
	}
	if path := <-e.cancelled; path != chat {
		t.Errorf("the engine went on with %s", path)
	}
}

func TestConsumersMayArriveAfterTheStart(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true)
	if status, _, _ := g.ask("GET", "/v1/models", keyOf("newcomer"), ""); status != 401 {
		t.Fatalf("without a file: %d", status)
	}
	res, err := http.Get(g.inner + "/live")
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("/live: %v %v", res, err)
	}
	res.Body.Close()
	writeConsumers(t, g.consumers, spec("newcomer", nil))
	eventually(t, time.Second, "200 once the file is there", func() bool {
		status, _, _ := g.ask("GET", "/v1/models", keyOf("newcomer"), "")
		return status == 200
	})
}

func TestLimitsOfAConsumer(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true,
		spec("slow", map[string]any{"requests_per_minute": 3}), spec("single", map[string]any{"concurrent_streams": 1}))
	for i := range 3 {
		if status, text, _ := g.ask("POST", chat, keyOf("slow"), `{"model":"default"}`); status != 200 {
			t.Fatalf("request %d: %d %s", i, status, text)
		}
	}
	status, text, header := g.ask("POST", chat, keyOf("slow"), `{"model":"default"}`)
	if code, _ := errorOf(t, text); status != 429 || code != "rate_limit_exceeded" || header.Get("Retry-After") != "20" {
		t.Errorf("%d %s, Retry-After %q", status, text, header.Get("Retry-After"))
	}

	first := g.send("POST", chat, keyOf("single"), `{"model":"default","stream":true,"case":"hang-midway"}`)
	status, text, header = g.ask("POST", chat, keyOf("single"), `{"model":"default"}`)
	if code, _ := errorOf(t, text); status != 429 || code != "concurrent_streams_exceeded" || header.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := g.ask("POST", "/v1/embeddings", keyOf("single"), `{"model":"embed-one"}`); status != 200 {
		t.Errorf("embeddings take no stream: %d", status)
	}
	first.Body.Close()
	eventually(t, 2*time.Second, "the slot is free again", func() bool {
		status, _, _ := g.ask("POST", chat, keyOf("single"), `{"model":"default"}`)
		return status == 200
	})
}
