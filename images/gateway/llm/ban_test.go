package llm

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// guarded is a gateway whose llm_auth bans an address after three failures, in front of
// an upstream that tells the cookie it got.
type guarded struct {
	t         *testing.T
	address   string
	consumers string
	server    object
}

func startGuarded(t *testing.T, entries ...map[string]any) *guarded {
	t.Helper()
	g := &guarded{t: t, consumers: filepath.Join(t.TempDir(), "consumers.json")}
	writeConsumers(t, g.consumers, entries...)
	auth := func(keepCookies bool) object {
		return object{"handler": "llm_auth", "consumers_file": g.consumers, "realm": "test", "keep_cookies": keepCookies, "addresses": object{
			"zone": t.Name(), "rate": object{"events": 20, "per": "1h", "burst": 0},
			"failures": object{"rate": object{"events": 3, "per": "1h"}, "ban": "1m", "longest_ban": "1h"}}}
	}
	tell := object{"handler": "static_response", "status_code": 200, "body": "cookie={http.request.header.Cookie} authorization={http.request.header.Authorization}"}
	match := []object{{"llm_path": []string{"/pages/*"}}}
	g.server = object{"routes": []object{
		{"handle": []object{{"handler": "llm_edge", "proto": "http"}}},
		{"match": []object{{"llm_path": []string{"/metrics"}}}, "handle": []object{{"handler": "metrics"}}, "terminal": true},
		{"match": match, "handle": []object{auth(true), tell}, "terminal": true},
		{"handle": []object{auth(false), tell}},
	}}
	g.address = serve(t, g.server)
	return g
}

// ask sends a request from an address of this machine.
func (g *guarded) ask(from, path, authorization string) (int, string, http.Header) {
	g.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext}
	req, err := http.NewRequest(http.MethodGet, "http://"+g.address+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Cookie", "a=b")
	req.Header.Set("X-Forwarded-For", "203.0.113.7")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(raw), res.Header
}

func TestWrongKeysBanTheirAddressAndNobodyElse(t *testing.T) {
	g := startGuarded(t, spec("good", nil))
	good, wrong := "Bearer "+keyOf("good"), "Bearer sk-wrong"
	for i, want := range []int{401, 401, 401, 429, 429} {
		if status, text, header := g.ask("127.0.0.1", "/", wrong); status != want || (status == 429) != (header.Get("Retry-After") == "60") {
			t.Errorf("wrong key %d: %d %s, Retry-After %q", i+1, status, text, header.Get("Retry-After"))
		}
	}
	if status, text, _ := g.ask("127.0.0.1", "/", ""); status != 429 {
		t.Errorf("without a key: %d %s", status, text)
	}
	for range 30 { // more than the address may do without a key
		if status, text, _ := g.ask("127.0.0.1", "/", good); status != 200 {
			t.Fatalf("a valid key: %d %s", status, text)
		}
	}
	if status, _, _ := g.ask("127.0.0.2", "/", wrong); status != 401 {
		t.Errorf("another address: %d", status)
	}
	_, metrics, _ := g.ask("127.0.0.1", "/metrics", "")
	if n := sumOf(metrics, "gateway_addresses_banned", []string{t.Name()}); n != 1 {
		t.Errorf("%v addresses are banned", n)
	}
	if n := sumOf(metrics, "gateway_address_refused_total", []string{t.Name(), `reason="ban"`}); n != 3 {
		t.Errorf("%v requests are counted as refused", n)
	}
}

func TestAReloadForgivesNobody(t *testing.T) {
	g := startGuarded(t, spec("good", nil))
	for range 3 {
		g.ask("127.0.0.1", "/", "Bearer sk-wrong")
	}
	g.address = serve(t, g.server)
	if status, text, _ := g.ask("127.0.0.1", "/", "Bearer sk-wrong"); status != 429 {
		t.Errorf("after a reload: %d %s", status, text)
	}
}

func TestNoKeyIsNoFailureButCounts(t *testing.T) {
	g := startGuarded(t, spec("good", nil))
	for i := range 20 {
		if status, _, _ := g.ask("127.0.0.1", "/", ""); status != 401 {
			t.Fatalf("request %d: %d", i+1, status)
		}
	}
	if status, _, header := g.ask("127.0.0.1", "/", ""); status != 429 || header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", status)
	}
}

func TestAPasswordOfOnesOwnOpensTheDoor(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	g := startGuarded(t, spec("ann", map[string]any{"password_bcrypt": string(hash)}), spec("bob", nil))
	for name, authorization := range map[string]string{"the password": basic("ann", "correct horse"), "the key": basic("ann", keyOf("ann"))} {
		if status, text, _ := g.ask("127.0.0.1", "/pages/x", authorization); status != 200 || text != "cookie=a=b authorization=" {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if _, text, _ := g.ask("127.0.0.1", "/", basic("ann", "correct horse")); text != "cookie= authorization=" {
		t.Errorf("without keep_cookies: %s", text)
	}
	for name, authorization := range map[string]string{
		"another's": basic("bob", "correct horse"), "as a key": "Bearer correct horse", "too long": basic("ann", "correct horse"+strings.Repeat(" ", 72)),
	} {
		status, _, header := g.ask("127.0.0.3", "/", authorization)
		if status != 401 || len(header.Values("Www-Authenticate")) == 0 {
			t.Errorf("%s: %d %v", name, status, header)
		}
	}
	// Whoever is banned may not even show a good password, until it was good before.
	if status, _, _ := g.ask("127.0.0.3", "/", basic("ann", "correct horse!")); status != 429 {
		t.Errorf("a banned address: %d", status)
	}
	if status, _, _ := g.ask("127.0.0.3", "/", basic("ann", "correct horse")); status != 200 {
		t.Errorf("a password that is known to be good: %d", status)
	}
	changed, err := bcrypt.GenerateFromPassword([]byte("another one"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	writeConsumers(t, g.consumers, spec("ann", map[string]any{"password_bcrypt": string(changed)}))
	eventually(t, 2*time.Second, "the old password is out", func() bool {
		status, _, _ := g.ask("127.0.0.1", "/", basic("ann", "correct horse"))
		return status == 401
	})
	if status, _, _ := g.ask("127.0.0.1", "/", basic("ann", "another one")); status != 200 {
		t.Errorf("the new password: %d", status)
	}
}
