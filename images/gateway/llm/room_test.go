package llm

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// holding begins a body of which the end never comes, and reads the answer, if one is
// given all the same.
func holding(t *testing.T, g *gateway, path, key string, announced int, begin string) (conn net.Conn, answer <-chan *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.edge, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, key, announced, begin)
	got := make(chan *http.Response, 1)
	go func() {
		defer close(got)
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			got <- res
		}
	}()
	return conn, got
}

// codeOf is the status and code of an answer that must come soon.
func codeOf(t *testing.T, answer <-chan *http.Response) (int, string) {
	t.Helper()
	select {
	case res := <-answer:
		if res == nil {
			t.Fatal("the connection ended without an answer")
		}
		defer res.Body.Close()
		raw, _ := io.ReadAll(res.Body)
		code, _ := errorOf(t, string(raw))
		return res.StatusCode, code
	case <-time.After(3 * time.Second):
		t.Fatal("no answer")
	}
	return 0, ""
}

func TestOneConsumersBodiesLeaveRoomForOthers(t *testing.T) {
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
	}, spec("hoarder", nil), spec("bystander", nil))
	const path = "/v1/embeddings"
	begin := strings.Repeat(" ", most/4+10)
	first, _ := holding(t, g, path, keyOf("hoarder"), most/2, begin)
	eventually(t, 2*time.Second, "the first body is held", func() bool { return buffered.Load() >= most/4 })
	_, second := holding(t, g, path, keyOf("hoarder"), most/2, begin)
	if status, code := codeOf(t, second); status != 429 || code != "gateway_share_exceeded" {
		t.Errorf("%d %s", status, code)
	}
	small := `{"model":"embed-one","input":"` + strings.Repeat("x", most/4) + `"}`
	if status, text, _ := g.ask("POST", path, keyOf("bystander"), small); status != 200 {
		t.Errorf("another consumer: %d %s", status, text)
	}
	first.Close()
	eventually(t, 2*time.Second, "all memory is given back", func() bool { return buffered.Load() == 0 })
	if status, text, _ := g.ask("POST", path, keyOf("hoarder"), small); status != 200 {
		t.Errorf("the share is free again: %d %s", status, text)
	}
}

func TestABodyIsReadWithinTheConsumersAnswers(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("dawdler", map[string]any{"concurrent_streams": 1}))
	first, _ := holding(t, g, chat, keyOf("dawdler"), 100, `{"model":`)
	eventually(t, 2*time.Second, "the first body is held", func() bool { return buffered.Load() > 0 })
	status, text, _ := g.ask("POST", chat, keyOf("dawdler"), `{"model":"default"}`)
	if code, _ := errorOf(t, text); status != 429 || code != "concurrent_streams_exceeded" {
		t.Errorf("%d %s", status, code)
	}
	first.Close()
	eventually(t, 2*time.Second, "the slot is free again", func() bool {
		status, _, _ := g.ask("POST", chat, keyOf("dawdler"), `{"model":"default"}`)
		return status == 200
	})
	for range 2 {
		if status, text, _ := g.ask("POST", chat, keyOf("dawdler"), `{"model":`); status != 400 {
			t.Errorf("a body that is refused keeps no slot: %d %s", status, text)
		}
	}
}

func TestABodyHasATimeToCome(t *testing.T) {
	usual := bodyGrace
	bodyGrace = 300 * time.Millisecond
	t.Cleanup(func() { bodyGrace = usual })
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("silent", nil))
	start := time.Now()
	_, answer := holding(t, g, chat, keyOf("silent"), 100, `{"model":`)
	if status, code := codeOf(t, answer); status != 408 || code != "request_timeout" || time.Since(start) < bodyGrace {
		t.Errorf("%d %s after %v", status, code, time.Since(start))
	}

	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	second := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	t.Cleanup(second.CloseIdleConnections)
	engines, models := usualCatalog(e.dial())
	address := serve(t, object{"protocols": []string{"h1", "h2c"}, "routes": apiRoutes(g.consumers, engines, models)})
	ask := func(client *http.Client, body io.Reader) (*http.Response, error) {
		req, _ := http.NewRequest("POST", "http://"+address+chat, body)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+keyOf("silent"))
		return client.Do(req)
	}
	for proto, client := range map[string]*http.Client{"HTTP/1.1": {}, "HTTP/2.0": second} {
		e.answers(func(http.ResponseWriter, *http.Request) bool {
			time.Sleep(3 * bodyGrace)
			return false
		})
		res, err := ask(client, strings.NewReader(`{"model":"default"}`))
		if err != nil || res.StatusCode != 200 || res.Proto != proto {
			t.Fatalf("%s: an answer may take longer than its question: %v %v", proto, res, err)
		}
		res.Body.Close()
		body, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, `{"model":`) }()
		res, err = ask(client, body)
		if err != nil || res.StatusCode != 408 {
			t.Fatalf("%s: %v %v", proto, res, err)
		}
		res.Body.Close()
		_ = w.Close()
	}
	eventually(t, 2*time.Second, "all memory is given back", func() bool { return buffered.Load() == 0 })
}
