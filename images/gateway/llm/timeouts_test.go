package llm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// The times of a server as the platform renders them, a tenth of each.
var times = object{"read_header_timeout": "1s", "read_idle_timeout": "1s", "read_min_rate": 500, "write_idle_timeout": "1s", "idle_timeout": "30s"}

// silence is longer than each of them.
const silence = 2500 * time.Millisecond

// timed is a gateway with those times in front of an upstream that takes its time.
func timed(t *testing.T) (address string, gone <-chan string) {
	t.Helper()
	left := make(chan string, 8)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flush := http.NewResponseController(w).Flush
		switch r.URL.Path {
		case "/silent":
			_, _ = io.Copy(io.Discard, r.Body)
			for _, piece := range []string{"first", "last"} {
				time.Sleep(silence)
				_, _ = io.WriteString(w, piece)
				_ = flush()
			}
		case "/endless":
			piece := strings.Repeat("x", 64<<10)
			for {
				if _, err := io.WriteString(w, piece); err != nil || r.Context().Err() != nil {
					left <- r.Header.Get("X-Case")
					return
				}
			}
		case "/socket":
			conn, stream, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			line, _ := stream.ReadString('\n')
			time.Sleep(silence)
			_, _ = io.WriteString(conn, line)
		default:
			if n, err := io.Copy(io.Discard, r.Body); err == nil {
				fmt.Fprint(w, n)
			}
		}
	}))
	t.Cleanup(upstream.Close)
	server := object{"protocols": []string{"h1", "h2c"}, "routes": []object{{"handle": []object{{"handler": "llm_edge"}, proxyTo(upstream.Listener.Addr().String())}}}}
	for name, value := range times {
		server[name] = value
	}
	return serve(t, server), left
}

func TestTimes(t *testing.T) {
	address, gone := timed(t)
	http2Client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	http2Client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(http2Client.CloseIdleConnections)
	clients := map[string]*http.Client{"HTTP/1.1": {}, "HTTP/2.0": http2Client}

	var running sync.WaitGroup
	defer running.Wait()
	at := func(name string, test func(*testing.T)) { running.Go(func() { t.Run(name, test) }) }
	at("slow headers end", func(t *testing.T) {
		trickle(t, address, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "x")
	})
	at("a slow body ends", func(t *testing.T) {
		trickle(t, address, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "x")
	})
	at("a slow body in chunks ends", func(t *testing.T) {
		trickle(t, address, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n")
	})
	at("a socket may be silent", func(t *testing.T) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		r := bufio.NewReader(conn)
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 101 {
			t.Fatalf("%v %v", res, err)
		}
		time.Sleep(silence)
		_, _ = io.WriteString(conn, "hello\n")
		if line, err := r.ReadString('\n'); line != "hello\n" {
			t.Errorf("%q %v", line, err)
		}
	})
	for proto, client := range clients {
		at(proto+" silence is no fault", func(t *testing.T) {
			res, err := client.Post("http://"+address+"/silent", "application/json", strings.NewReader(`{"messages":[]}`))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if text, err := io.ReadAll(res.Body); string(text) != "firstlast" || res.Proto != proto {
				t.Errorf("%q %v by %s", text, err, res.Proto)
			}
		})
		at(proto+" a slow upload that goes on is taken", func(t *testing.T) {
			r, w := io.Pipe()
			go func() {
				for range 6 { // 2 KB a second, for longer than any of the times
					_, _ = io.WriteString(w, strings.Repeat("x", 1000))
					time.Sleep(silence / 5)
				}
				_ = w.Close()
			}()
			res, err := client.Post("http://"+address+"/", "text/plain", r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if text, err := io.ReadAll(res.Body); string(text) != "6000" {
				t.Errorf("%d %q %v", res.StatusCode, text, err)
			}
		})
		at(proto+" who stops reading is cut", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/endless", nil)
			req.Header.Set("X-Case", proto)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			select {
			case <-gone:
			case <-time.After(10 * time.Second):
				t.Error("the upstream still writes")
			}
		})
	}
}

// trickle sends a beginning and then a piece every tenth of a second, and insists that
// the connection ends, or an error is told, in more than one and less than three seconds.
func trickle(t *testing.T, address, begin, piece string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	started := time.Now()
	_ = conn.SetDeadline(started.Add(20 * time.Second))
	_, _ = io.WriteString(conn, begin)
	ended := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		ended <- strings.TrimSpace(line)
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case line := <-ended:
			if took := time.Since(started); took < 900*time.Millisecond || took > 3*time.Second || strings.Contains(line, " 200 ") {
				t.Errorf("%q after %v", line, took)
			} else {
				t.Logf("%q after %v", line, took.Round(time.Millisecond))
			}
			return
		case <-tick.C:
			_, _ = io.WriteString(conn, piece)
		}
	}
}
