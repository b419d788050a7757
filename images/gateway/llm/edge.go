package llm

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Edge is the first handler of every listener. What passes it has a path that reads
// the same to everybody and one of our own host names, claims no identity and no
// address, and is known by the address that it came from.
//
// It sets {http.vars.llm_address} (the client's address) and {http.vars.llm_client}
// (the same, or the /64 network of an IPv6 address: what limits are counted by).
type Edge struct {
	// Hosts are the names that are answered, as host:port or, for the scheme's own
	// port, as host alone. Default: any.
	Hosts []string `json:"hosts,omitempty"`
	// TrustedProxies are addresses (or networks) whose last X-Forwarded-For entry
	// names the client. Default: none, the peer is the client.
	TrustedProxies []string `json:"trusted_proxies,omitempty"`
	// Proto is "http" or "https": which port goes without saying. Default: "https".
	Proto string `json:"proto,omitempty"`

	hosts   map[string]struct{}
	trusted []netip.Prefix
}

// CaddyModule tells Caddy what this is.
func (Edge) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_edge", New: func() caddy.Module { return new(Edge) }}
}

// Provision checks the settings.
func (e *Edge) Provision(caddy.Context) error {
	usual, known := map[string]string{"": ":443", "https": ":443", "http": ":80"}[e.Proto]
	if !known {
		return configError("llm_edge", "proto is %q: allowed are http, https", e.Proto)
	}
	e.hosts = make(map[string]struct{}, 2*len(e.Hosts))
	for _, host := range e.Hosts {
		host = strings.ToLower(host)
		if host == "" || strings.ContainsAny(host, "/?#@ *{}") {
			return configError("llm_edge", "host %q: it must be host:port or a host alone", host)
		}
		e.hosts[host] = struct{}{}
		if bare, cut := strings.CutSuffix(host, usual); cut {
			e.hosts[bare] = struct{}{}
		} else if _, _, err := net.SplitHostPort(host); err != nil {
			e.hosts[host+usual] = struct{}{}
		}
	}
	for _, proxy := range e.TrustedProxies {
		prefix, err := parsePrefix(proxy)
		if err != nil {
			return configError("llm_edge", "trusted_proxies: %w", err)
		}
		e.trusted = append(e.trusted, prefix)
	}
	return nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
}

// ServeHTTP refuses with 400 or 421, or cleans the request and passes it on.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	authority, plain := plainTarget(r.RequestURI)
	if !plain {
		refusal := apiError{Status: http.StatusBadRequest, Code: "invalid_path", Message: "The path is not in its plain form."}
		refusal.write(w)
		return nil
	}
	if !e.knows(r.Host) || authority != "" && !e.knows(authority) {
		errorForStatus(http.StatusMisdirectedRequest).write(w)
		return nil
	}
	client := e.client(r)
	cleanHeaders(r)
	if client.IsValid() {
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, client.String())
		// reverse_proxy tells upstreams this address, as the only one.
		r.RemoteAddr = net.JoinHostPort(client.String(), portOf(r.RemoteAddr))
	}
	caddyhttp.SetVar(r.Context(), varAddress, client.String())
	caddyhttp.SetVar(r.Context(), varClient, networkOf(client))
	return next.ServeHTTP(w, r)
}

func (e *Edge) knows(host string) bool {
	if len(e.hosts) == 0 {
		return true
	}
	_, known := e.hosts[strings.ToLower(host)]
	return known
}

// client is the address that asks: the connection's, or what a trusted proxy says.
func (e *Edge) client(r *http.Request) netip.Addr {
	peer := addressOf(r.RemoteAddr)
	for _, prefix := range e.trusted {
		if !prefix.Contains(peer) {
			continue
		}
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if said, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1])); err == nil {
			return plainAddress(said)
		}
		break
	}
	return peer
}

// addressOf reads the address of host:port, or of an address alone.
func addressOf(hostPort string) netip.Addr {
	if both, err := netip.ParseAddrPort(hostPort); err == nil {
		return plainAddress(both.Addr())
	}
	addr, _ := netip.ParseAddr(hostPort)
	return plainAddress(addr)
}

// plainAddress gives one spelling to each address: no IPv4 inside IPv6, no zone.
func plainAddress(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// networkOf is what limits are counted by: a household has one IPv4 address, or 2^64
// IPv6 addresses.
func networkOf(addr netip.Addr) string {
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			return network.String()
		}
	}
	return addr.String()
}

func portOf(hostPort string) string {
	if _, port, err := net.SplitHostPort(hostPort); err == nil {
		return port
	}
	return "0"
}

// forged are headers that claim who or where a client is, or what it really asks:
// only the gateway knows. Names as plainHeader writes them.
var forged = map[string]struct{}{
	"forwarded": {}, "via": {}, "host": {}, "proxy": {}, "expect": {}, "trailer": {},
	"x-real-ip": {}, "true-client-ip": {}, "client-ip": {}, "x-client-ip": {}, "x-cluster-client-ip": {},
	"x-originating-ip": {}, "x-remote-ip": {}, "x-remote-addr": {}, "x-host": {}, "x-scheme": {}, "x-url-scheme": {},
	"x-consumer": {}, "x-user": {}, "x-method-override": {}, "x-client-cert": {}, "x-real-host": {}, "front-end-https": {},
	"x-accel-redirect": {}, "x-sendfile": {}, "x-azure-clientip": {}, "x-appengine-user-ip": {}, "x-wap-profile": {},
}

var forgedPrefixes = []string{
	"x-forwarded-", "x-original-", "x-rewrite-", "x-http-method", "x-webauth-", "x-auth-request-", "x-authenticated-",
	"remote-", "x-remote-user", "x-user-", "x-consumer-", "tailscale-", "cf-", "fastly-client-", "x-envoy-", "x-amzn-oidc-",
	"x-goog-authenticated-", "x-goog-iap-", "x-ms-client-principal", "x-openwebui-", "x-ssl-", "ssl-client", "x-client-verify",
	"x-middleware-",
}

// cleanHeaders removes what must not be believed, in every spelling.
func cleanHeaders(r *http.Request) {
	upgrade := false
	for name, values := range r.Header {
		if name == "Connection" {
			// Names of headers stand here too, for whoever comes next to remove.
			upgrade = hasToken(values, "upgrade")
			continue
		}
		// Spelt with _ or . a header is another one to us and the same to some upstreams.
		if strings.ContainsAny(name, "_.") || isForged(plainHeader(name)) {
			delete(r.Header, name)
		}
	}
	delete(r.Header, "Connection")
	if upgrade {
		r.Header.Set("Connection", "Upgrade")
	}
	r.Trailer = nil
}

func isForged(plain string) bool {
	if _, is := forged[plain]; is {
		return true
	}
	for _, prefix := range forgedPrefixes {
		if strings.HasPrefix(plain, prefix) {
			return true
		}
	}
	return false
}

func hasToken(values []string, token string) bool {
	for _, value := range values {
		for _, part := range strings.Split(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Edge)(nil)
	_ caddyhttp.MiddlewareHandler = (*Edge)(nil)
)
