package llm

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// letThrough is what an edge let through.
type letThrough struct {
	*http.Request
	address, client string
}

// through sends a request through an edge; nil where it was answered instead.
func through(t *testing.T, e *Edge, r *http.Request) (*letThrough, *httptest.ResponseRecorder) {
	t.Helper()
	if err := e.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
	var seen *letThrough
	err := e.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		address, _ := caddyhttp.GetVar(r.Context(), varAddress).(string)
		seen = &letThrough{r, address, clientOf(r)}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return seen, w
}

func asked(target string, change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://gw.test:8443/", nil)
	r.RequestURI, r.RemoteAddr = target, "192.0.2.7:4000"
	if change != nil {
		change(r)
	}
	return r
}

func TestHostsArePinnedWithTheirPort(t *testing.T) {
	hosts := []string{"GW.test:8443", "[::1]:8443", "plain.test:443", "other.test"}
	for host, want := range map[string]bool{
		"gw.test:8443": true, "Gw.Test:8443": true, "[::1]:8443": true, "plain.test": true, "plain.test:443": true, "other.test:443": true,
		"gw.test": false, "gw.test:443": false, "gw.test.:8443": false, "gw.test:08443": false, "evil": false, "": false, "plain.test:80": false,
		"gw.test:8443/..": false, "gw.test:8443#": false, "a@gw.test:8443": false,
	} {
		seen, w := through(t, &Edge{Hosts: hosts}, asked("/v1/models", func(r *http.Request) { r.Host = host }))
		if (seen != nil) != want || !want && w.Code != http.StatusMisdirectedRequest {
			t.Errorf("%q: passed %v, status %d", host, seen != nil, w.Code)
		}
	}
	if seen, _ := through(t, &Edge{}, asked("/live", func(r *http.Request) { r.Host = "10.0.0.1" })); seen == nil {
		t.Error("without hosts any name is answered")
	}
	for target, status := range map[string]int{"https://gw.test:8443/v1/models": 200, "https://evil/v1/models": 421, "https://gw.test:8443//v1": 400, "*": 400} {
		if _, w := through(t, &Edge{Hosts: hosts}, asked(target, func(r *http.Request) { r.Host = "gw.test:8443" })); w.Code != status {
			t.Errorf("%q: %d", target, w.Code)
		}
	}
}

func TestForgedHeadersAreRemovedInEverySpelling(t *testing.T) {
	forgeries := []string{"Forwarded", "X-Real-Ip", "x-real-ip", "X_Real_Ip", "X.Real.Ip", "X-Real_ip", "True-Client-Ip", "X-Forwarded-For", "X-Forwarded-Proto",
		"X-Forwarded-Host", "X-FORWARDED-EMAIL", "X.forwarded.email", "X_forwarded_user", "Remote-User", "Remote.user", "REMOTE_USER", "Tailscale-User-Login",
		"Tailscale.User.Login", "X-Webauth-User", "X-Auth-Request-Email", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-HTTP-Method",
		"X-Method-Override", "X-Consumer", "X-Consumer-Name", "Cf-Connecting-Ip", "Via", "Trailer", "Expect", "Host", "Proxy", "Any_name", "Any.name",
		"X-Envoy-Original-Path", "X-Forwarded", "Forwarded-For", "X--Original--Url", "X-Authentik-Username", "Sec-Websocket-Protocol", "Ssl-Client-Cert", "X-User-Id"}
	good := map[string]string{"Accept": "x", "Authorization": "Bearer k", "Cookie": "a=b", "Content-Type": "application/json", "X-Stainless-Os": "Linux",
		"User-Agent": "u", "Idempotency-Key": "1", "Openai-Organization": "o", "X-Requested-With": "x", "Origin": "https://a", "Sec-Websocket-Key": "k", "Upgrade": "websocket"}
	seen, _ := through(t, &Edge{}, asked("/", func(r *http.Request) {
		for _, name := range forgeries {
			r.Header[name] = []string{"canary", "canary again"}
		}
		for name, value := range good {
			r.Header[name] = []string{value}
		}
		r.Header["Connection"] = []string{"close, X-Forwarded-For, Upgrade"}
		r.Trailer = http.Header{"X-Forwarded-For": nil}
	}))
	want := http.Header{"Connection": {"Upgrade"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"gw.test:8443"}}
	for name, value := range good {
		want[name] = []string{value}
	}
	if !reflect.DeepEqual(seen.Header, want) || seen.Trailer != nil {
		t.Errorf("left: %v, trailers %v", seen.Header, seen.Trailer)
	}
}

func TestKeysAreTakenOutOfPlacesWhereTheyDoNotBelong(t *testing.T) {
	key := "sk-" + strings.Repeat("aB3_-", 8)
	for name, values := range map[string][]string{"Cookie": {"token=x; api_key=" + key}, "Referer": {"https://gw/?key=" + key}, "X-Whatever": {"x", key}} {
		seen, _ := through(t, &Edge{}, asked("/", func(r *http.Request) { r.Header[name] = values }))
		if seen.Header[name] != nil {
			t.Errorf("%s: %v", name, seen.Header)
		}
	}
	kept := http.Header{"Authorization": {"Bearer " + key}, "Cookie": {"token=eyJhbGc.eyJpZCsk-aaaaaaaaaaaaaaaaaaaaaaaaaaaa.x"}, "X-Task": {"ask-for-a-rather-long-name-of-it"}}
	seen, _ := through(t, &Edge{}, asked("/", func(r *http.Request) { r.Header = kept.Clone() }))
	for name, values := range kept {
		if !reflect.DeepEqual(seen.Header[name], values) {
			t.Errorf("%s is gone: %v", name, seen.Header)
		}
	}
	for query, want := range map[string]int{"key=" + key: 400, "a=b&api_key=" + key: 400, "k=%73k-" + key[3:]: 400, "q=sk-short": 200, "q=task-" + key[3:]: 200, "": 200} {
		_, w := through(t, &Edge{}, asked("/v1/models?"+query, func(r *http.Request) { r.URL.RawQuery = query }))
		if w.Code != want {
			t.Errorf("%q: %d", query, w.Code)
		}
	}
	for path, want := range map[string]int{"/v1/models/" + key: 400, "/v1/models/task-" + key[3:]: 200} {
		if _, w := through(t, &Edge{}, asked(path, nil)); w.Code != want {
			t.Errorf("%q: %d", path, w.Code)
		}
	}
}

func TestHeadersHaveABound(t *testing.T) {
	for want, size := range map[int]int{200: maxHeader - 100, 431: maxHeader} {
		if _, w := through(t, &Edge{}, asked("/", func(r *http.Request) { r.Header.Set("Accept", strings.Repeat("x", size)) })); w.Code != want {
			t.Errorf("%d bytes: %d", size, w.Code)
		}
		if _, w := through(t, &Edge{}, asked("/"+strings.Repeat("x", size), nil)); w.Code != want {
			t.Errorf("a target of %d bytes: %d", size, w.Code)
		}
	}
}

func TestOneOriginAtMost(t *testing.T) {
	ours, theirs := "https://gw.test:8443", "null"
	for want, origins := range map[int][]string{200: {ours}, 400: {theirs, ours}} {
		if _, w := through(t, &Edge{}, asked("/", func(r *http.Request) { r.Header["Origin"] = origins })); w.Code != want {
			t.Errorf("%v: %d", origins, w.Code)
		}
	}
}

func TestTheClientIsThePeerOrWhatATrustedProxySays(t *testing.T) {
	e := Edge{TrustedProxies: []string{"10.0.0.5", "fd00::/8"}}
	for name, c := range map[string]struct{ peer, forwarded, address, client string }{
		"peer":                   {"192.0.2.7:4000", "198.51.100.1", "192.0.2.7", "192.0.2.7"},
		"trusted":                {"10.0.0.5:1", "203.0.113.9, 198.51.100.1", "198.51.100.1", "198.51.100.1"},
		"trusted, nothing said":  {"10.0.0.5:1", "", "10.0.0.5", "10.0.0.5"},
		"trusted, rubbish":       {"10.0.0.5:1", "unknown", "10.0.0.5", "10.0.0.5"},
		"trusted network":        {"[fd00::1]:1", "2001:db8:1:2:3::4", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
		"one household":          {"[2001:db8:1:2:aaaa::1]:1", "", "2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"},
		"IPv4 inside IPv6":       {"[::ffff:192.0.2.7]:1", "", "192.0.2.7", "192.0.2.7"},
		"a zone":                 {"[fe80::1%eth0]:1", "", "fe80::1", "fe80::/64"},
		"trusted IPv4 inside v6": {"[::ffff:10.0.0.5]:1", "198.51.100.1", "198.51.100.1", "198.51.100.1"},
	} {
		seen, _ := through(t, &e, asked("/", func(r *http.Request) {
			r.RemoteAddr = c.peer
			if c.forwarded != "" {
				r.Header.Set("X-Forwarded-For", c.forwarded)
			}
		}))
		if seen.address != c.address || seen.client != c.client || addressOf(seen.RemoteAddr).String() != c.address {
			t.Errorf("%s: %q %q %q", name, seen.address, seen.client, seen.RemoteAddr)
		}
		if seen.Header.Get("X-Forwarded-For") != "" {
			t.Errorf("%s: the header is still there", name)
		}
		e.trusted = nil
	}
}

func TestWrongSettingsOfAnEdgeAreToldAtStart(t *testing.T) {
	for _, e := range []Edge{{Proto: "h2"}, {Hosts: []string{""}}, {Hosts: []string{"a/b"}}, {Hosts: []string{"{host}"}}, {TrustedProxies: []string{"lan"}}} {
		if err := e.Provision(caddy.Context{}); err == nil {
			t.Errorf("%+v is taken", e)
		}
	}
}

// BenchmarkEdge is what every request pays at the door.
func BenchmarkEdge(b *testing.B) {
	e := &Edge{Hosts: []string{"gw.test:8443"}}
	if err := e.Provision(caddy.Context{}); err != nil {
		b.Fatal(err)
	}
	header := http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"gzip, deflate"}, "Authorization": {"Bearer sk-" + strings.Repeat("x", 43)},
		"Connection": {"keep-alive"}, "Content-Type": {"application/json"}, "User-Agent": {"OpenAI/Python 2.0"}, "X-Stainless-Lang": {"python"}, "X-Stainless-Os": {"Linux"}}
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	r := asked("/v1/chat/completions", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
	for b.Loop() {
		r.Header, r.RemoteAddr = header.Clone(), "192.0.2.7:4000"
		_ = e.ServeHTTP(nil, r, next)
	}
}
