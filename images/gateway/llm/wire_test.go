package llm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is an upstream that keeps the heads of requests to the byte: Go's own server
// would tidy them up first.
type wire struct {
	net.Listener
	mu    sync.Mutex
	heads []string
}

func newWire(t *testing.T) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &wire{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go u.answer(conn)
		}
	}()
	return u
}

func (u *wire) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	var head bytes.Buffer
	for r := bufio.NewReader(conn); !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")); {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		head.WriteString(line)
	}
	u.mu.Lock()
	u.heads = append(u.heads, head.String())
	u.mu.Unlock()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

// take returns the lines of the only head since the last time, or none.
func (u *wire) take(t *testing.T) []string {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.heads
	u.heads = nil
	if len(seen) == 0 {
		return nil
	}
	if len(seen) > 1 {
		t.Fatalf("the upstream saw %d requests: %q", len(seen), seen)
	}
	return strings.Split(strings.TrimSpace(seen[0]), "\r\n")
}

// serve runs Caddy with one server, on an address that is returned.
func serve(t *testing.T, server object) string {
	t.Helper()
	address := freeAddress(t)
	server["listen"], server["automatic_https"] = []string{address}, object{"disable": true}
	raw, err := json.Marshal(object{
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"logging": object{"logs": object{"default": object{"level": "FATAL"}}},
		"apps":    object{"http": object{"servers": object{"door": server}}},
	})
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
	})
	return address
}

// door is a server with an edge for the name gw.test:8443 in front of an upstream.
func door(t *testing.T, edge object) (address string, u *wire) {
	t.Helper()
	u = newWire(t)
	edge["handler"] = "llm_edge"
	proxy := object{"handler": "reverse_proxy", "upstreams": []object{{"dial": u.Addr().String()}}}
	return serve(t, object{"protocols": []string{"h1", "h2c"}, "routes": []object{{"handle": []object{edge, proxy}}}}), u
}

// say sends bytes and returns the status of the first answer, 0 without one.
func say(t *testing.T, address, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// sayH2 sends one HTTP/2 request of these fields and returns its status, 0 when its
// stream or the connection was ended instead.
func sayH2(t *testing.T, address string, fields ...hpack.HeaderField) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		_ = encoder.WriteField(field)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return 0
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			var status int
			_, _ = fmt.Sscan(frame.PseudoValue("status"), &status)
			return status
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return 0
		}
	}
}

func h2(method, authority, path string, more ...string) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: authority}, {Name: ":path", Value: path}}
	for i := 0; i+1 < len(more); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: more[i], Value: more[i+1]})
	}
	return fields
}

// truths are the lines about where a request comes from that an upstream must see, each
// once, and nothing else that says anything about it.
func truths(t *testing.T, lines []string, want ...string) {
	t.Helper()
	var told []string
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-forwarded") || lower == "host" {
			told = append(told, lower+": "+value)
		}
		if strings.Contains(line, "canary") {
			t.Errorf("the upstream saw %q", line)
		}
	}
	slices.Sort(told)
	if !slices.Equal(told, want) {
		t.Errorf("the upstream was told %q, want %q", told, want)
	}
}

// The door itself has no TLS here, as behind a proxy that has: https is what clients see.
func TestAnUpstreamIsToldTheTruthOnce(t *testing.T) {
	address, u := door(t, object{"hosts": []string{"gw.test:8443"}, "proto": "https"})
	want := []string{"host: gw.test:8443", "x-forwarded-for: 127.0.0.1", "x-forwarded-host: gw.test:8443", "x-forwarded-proto: https"}
	forgeries := []string{"X-Forwarded-For", "x-forwarded-for", "X_Forwarded_For", "X.Forwarded.For", "X--Forwarded-For", "X-Forwarded-For-", "-X-Forwarded-For",
		"X-Forwarded~For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-FORWARDED-PORT", "Forwarded", "X-Real-IP", "Remote_User", "Tailscale-User-Login", "X-Original-URL",
		"X-HTTP-Method-Override", "Client-IP", "X-ProxyUser-Ip", "X-Authentik-Username", "Via", "Proxy"}
	request := "GET /v1/models HTTP/1.1\r\nHost: GW.test:8443\r\nConnection: close, X-Forwarded-For, X-Forwarded-Proto, Host\r\nTE: trailers\r\n"
	fields := h2("GET", "gw.TEST:8443", "/v1/models")
	for _, name := range forgeries {
		request += name + ": canary\r\n" + name + ": canary\r\n"
		fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: "canary"})
	}
	if status := say(t, address, request+"\r\n"); status != 200 {
		t.Fatalf("HTTP/1: %d", status)
	}
	truths(t, u.take(t), want...)
	if status := sayH2(t, address, fields...); status != 200 {
		t.Fatalf("HTTP/2: %d", status)
	}
	truths(t, u.take(t), want...)
	if status := say(t, address, "GET https://gw.test:8443/v1/models HTTP/1.1\r\nHost: canary\r\n\r\n"); status != 200 {
		t.Fatalf("absolute form: %d", status)
	}
	truths(t, u.take(t), want...)
}

func TestATrustedProxyNamesTheClient(t *testing.T) {
	address, u := door(t, object{"trusted_proxies": []string{"127.0.0.0/8"}, "proto": "http"})
	for said, client := range map[string]string{
		"canary, 198.51.100.1": "198.51.100.1", "canary": "127.0.0.1", "198.51.100.1:4711": "198.51.100.1", "[2001:db8::1]:1": "2001:db8::1",
		"2001:db8::1%canary": "2001:db8::1", "::ffff:198.51.100.1": "198.51.100.1",
	} {
		if status := say(t, address, "GET / HTTP/1.1\r\nHost: anything\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: "+said+"\r\nX-Forwarded-Proto: canary\r\n\r\n"); status != 200 {
			t.Fatalf("%q: %d", said, status)
		}
		truths(t, u.take(t), "host: anything", "x-forwarded-for: "+client, "x-forwarded-host: anything", "x-forwarded-proto: http")
	}
}

func TestNothingOddReachesAnUpstream(t *testing.T) {
	address, u := door(t, object{"hosts": []string{"gw.test:8443"}, "proto": "https"})
	for line, want := range map[string]int{
		"GET /v1/models": 200, "GET /v1/models?a=%2e%2e/b": 200, "GET https://gw.test:8443/v1/models": 200, "OPTIONS /v1/models": 200,
		"GET *": 400, "CONNECT gw.test:8443": 400, "CONNECT /v1/models": 400, "GET //v1/models": 400, "GET /v1//models": 400, "GET /v1/../models": 400,
		"GET /v1/%2e%2e/models": 400, "GET /%76%31/models": 400, "GET /v1;x/models": 400, "GET /v1\\models": 400, "GET /v1%2fmodels": 400, "GET /v1/models%20": 400,
		"GET /v1/models#x": 400, "GET https://evil/v1/models": 421, "GET http://gw.test:8443@evil/v1/models": 421, "GET https://gw.test:8443//v1": 400, "GET gw.test:8443/v1": 400,
		"GET /v1/models%ef%bc%8f..": 400, "GET ": 400,
	} {
		if got := say(t, address, line+" HTTP/1.1\r\nHost: gw.test:8443\r\n\r\n"); got != want {
			t.Errorf("%s: %d, want %d", line, got, want)
		}
		if seen := u.take(t); (seen != nil) != (want == 200) {
			t.Errorf("%s: the upstream saw %q", line, seen)
		}
	}
	for host, want := range map[string]int{
		"Host: gw.test:8443": 200, "Host: Gw.Test:8443": 200, "Host: gw.test.:8443": 421, "Host: gw.test": 421, "Host: gw.test:443": 421, "Host: 127.0.0.1": 421,
		"Host: gw.test:8443, evil": 400, "Host: gw.test:8443\r\nHost: evil": 400, "Host : gw.test:8443": 400, "X-Nothing: x": 400, "Host:": 400, "Host: evil\r\nX-Forwarded-Host: gw.test:8443": 421,
		"Host: gw.test:8443\r\n Host: evil": 400,
	} {
		if got := say(t, address, "GET /v1/models HTTP/1.1\r\n"+host+"\r\n\r\n"); got != want {
			t.Errorf("%q: %d, want %d", host, got, want)
		}
		if seen := u.take(t); (seen != nil) != (want == 200) {
			t.Errorf("%q: the upstream saw %q", host, seen)
		}
	}
	// Go's server answers this one itself, for the server as a whole.
	if got := say(t, address, "OPTIONS * HTTP/1.1\r\nHost: evil\r\n\r\n"); got != 200 || u.take(t) != nil {
		t.Errorf("OPTIONS *: %d", got)
	}
	if got := say(t, address, "GET /v1/models HTTP/1.0\r\n\r\n"); got != 421 {
		t.Errorf("HTTP/1.0 without a host: %d", got)
	}
	for name, c := range map[string]struct {
		fields []hpack.HeaderField
		want   int
	}{
		"plain":             {h2("GET", "gw.test:8443", "/v1/models"), 200},
		"foreign":           {h2("GET", "evil", "/v1/models"), 421},
		"foreign, with our": {h2("GET", "evil", "/v1/models", "host", "gw.test:8443"), 0},
		"kelvin":            {h2("GET", "gw.test\u212a:8443", "/v1/models"), 0},
		"user":              {h2("GET", "a@gw.test:8443", "/v1/models"), 0},
		"up":                {h2("GET", "gw.test:8443", "/v1/../models"), 400},
		"absolute":          {h2("GET", "gw.test:8443", "https://evil/v1/models"), 0},
		"relative":          {h2("GET", "gw.test:8443", "v1/models"), 0},
		"empty path":        {h2("GET", "gw.test:8443", ""), 0},
		"space in the path": {h2("GET", "gw.test:8443", "/v1/models HTTP/1.1\r\nX-Evil: 1"), 0},
		"path twice":        {h2("GET", "gw.test:8443", "/v1/models", ":path", "/evil"), 0},
		"late pseudo":       {h2("GET", "gw.test:8443", "/v1/models", "x-a", "b", ":authority", "evil"), 0},
		"unknown pseudo":    {h2("GET", "gw.test:8443", "/v1/models", ":status", "200"), 0},
		"upper case":        {h2("GET", "gw.test:8443", "/v1/models", "X-Forwarded-For", "canary"), 0},
		"connection":        {h2("GET", "gw.test:8443", "/v1/models", "connection", "x-forwarded-for"), 0},
		"line end":          {h2("GET", "gw.test:8443", "/v1/models", "x-a", "b\r\nX-Forwarded-For: canary"), 0},
		"connect":           {[]hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "gw.test:8443"}}, 400},
		"extended connect":  {h2("CONNECT", "gw.test:8443", "/ws/x", ":protocol", "websocket"), 0},
	} {
		got := sayH2(t, address, c.fields...)
		if got != c.want && (c.want != 0 || got == 200 || got >= 500) {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
		if seen := u.take(t); (seen != nil) != (c.want == 200) {
			t.Errorf("%s: the upstream saw %q", name, seen)
		}
	}
}
