package llm

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

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
	// Proto is how clients reach this listener, "http" or "https": what upstreams are told,
	// and which port goes without saying. Default: "https".
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
	if e.Proto == "" {
		e.Proto = "https"
	}
	usual, known := map[string]string{"https": ":443", "http": ":80"}[e.Proto]
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
	if refusal := e.refusal(r); refusal != nil {
		refusal.write(w)
		return nil
	}
	r.Host = lower(r.Host)
	client := e.client(r)
	cleanHeaders(r)
	e.tell(r, client)
	caddyhttp.SetVar(r.Context(), varAddress, client.String())
	caddyhttp.SetVar(r.Context(), varClient, networkOf(client))
	return next.ServeHTTP(w, r)
}

func (e *Edge) refusal(r *http.Request) *apiError {
	bad := func(code, message string) *apiError {
		return &apiError{Status: http.StatusBadRequest, Code: code, Message: message}
	}
	authority, plain := plainTarget(r.RequestURI)
	switch {
	case !plain || r.Method == http.MethodConnect:
		return bad("invalid_path", "The path is not in its plain form.")
	case !e.knows(r.Host) || authority != "" && !e.knows(authority):
		return errorForStatus(http.StatusMisdirectedRequest)
	case headerSize(r) > maxHeader:
		return errorForStatus(http.StatusRequestHeaderFieldsTooLarge)
	case keyInTarget(r.RequestURI):
		return bad("key_in_query",
			"A key is in the address, where logs keep it. Send it as \"Authorization: Bearer <key>\", and replace this one.")
	case len(r.Header["Origin"]) > 1:
		// A matcher is content with any of two origins; an upstream may read the other one.
		return bad("duplicate_header", "The request has more than one Origin.")
	}
	return nil
}

// maxHeader bounds a request's target and headers, in bytes. The server's own bound must
// be larger: what that refuses gets an answer that is not in OpenAI's shape.
const maxHeader = 16 << 10

func headerSize(r *http.Request) int {
	size := len(r.RequestURI)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + 4 // ": " and the line's end
		}
	}
	return size
}

func (e *Edge) knows(host string) bool {
	if len(e.hosts) == 0 {
		return true
	}
	_, known := e.hosts[lower(host)]
	return known
}

// lower is for ASCII alone: the Kelvin sign is no k in a host name.
func lower(host string) string {
	for i := range len(host) {
		if host[i] >= utf8.RuneSelf {
			return host
		}
	}
	return strings.ToLower(host)
}

// client is the address that asks: the connection's, or what a trusted proxy says.
func (e *Edge) client(r *http.Request) netip.Addr {
	peer := addressOf(r.RemoteAddr)
	if !slices.ContainsFunc(e.trusted, func(proxy netip.Prefix) bool { return proxy.Contains(peer) }) {
		return peer
	}
	hops := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	if said := addressOf(strings.TrimSpace(hops[strings.LastIndexByte(hops, ',')+1:])); said.IsValid() {
		return said
	}
	return peer
}

// tell puts the truth where reverse_proxy looks for it, for upstreams: it adds no other
// address than RemoteAddr's, and takes protocol and host over from whom it trusts.
func (e *Edge) tell(r *http.Request, client netip.Addr) {
	ctx := r.Context()
	if client.IsValid() {
		caddyhttp.SetVar(ctx, caddyhttp.ClientIPVarKey, client.String())
		r.RemoteAddr = net.JoinHostPort(client.String(), portOf(r.RemoteAddr))
	}
	caddyhttp.SetVar(ctx, caddyhttp.TrustedProxyVarKey, true)
	r.Header["X-Forwarded-Proto"] = []string{e.Proto}
	r.Header["X-Forwarded-Host"] = []string{r.Host}
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

// forged are headers that claim who or where a client is, or what it really asks: only
// the gateway knows. A name that ends in "-" stands for all that begin so.
var forged = []string{
	"forwarded", "forwarded-", "x-forwarded", "x-forwarded-", "via", "host", "proxy", "expect", "trailer", "sec-websocket-protocol",
	"client-ip", "true-client-ip", "x-client-ip", "x-client-cert", "x-client-verify", "x-cluster-client-ip", "x-proxyuser-ip",
	"x-host", "x-originating-ip", "x-real-", "x-scheme", "x-url-scheme", "front-end-https", "x-wap-profile",
	"x-original-", "x-rewrite-", "x-http-method", "x-http-method-", "x-method-override", "x-accel-", "x-sendfile", "x-middleware-",
	"x-consumer", "x-consumer-", "x-user", "x-user-", "remote-", "x-remote-", "x-webauth-", "x-auth-request-", "x-authenticated-",
	"x-authentik-", "x-openwebui-", "tailscale-", "x-tailscale-", "ssl-client", "ssl-client-", "x-ssl-", "x-envoy-",
	"cf-", "fastly-client-", "x-azure-", "x-appengine-", "x-amzn-oidc-", "x-goog-authenticated-", "x-goog-iap-", "x-ms-client-",
}

// cleanHeaders removes what must not be believed, in every spelling.
func cleanHeaders(r *http.Request) {
	upgrade := hasToken(r.Header["Connection"], "upgrade")
	for name, values := range r.Header {
		// Names of headers stand in Connection too, for whoever comes next to remove.
		if name == "Connection" || !plainName(name) || isForged(strings.ToLower(name)) ||
			slices.ContainsFunc(values, holdsKey) && !forKeys(name) {
			delete(r.Header, name)
		}
	}
	if upgrade {
		r.Header.Set("Connection", "Upgrade")
	}
	r.Trailer = nil
}

// plainName reports whether a name is of letters, digits and single dashes: with _ or .
// or a dash more it is another name to us, and the same to some upstreams.
func plainName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-' && 0 < i && i < len(name)-1 && name[i-1] != '-':
		default:
			return false
		}
	}
	return true
}

func isForged(name string) bool {
	return slices.ContainsFunc(forged, func(claim string) bool {
		return name == claim || strings.HasSuffix(claim, "-") && strings.HasPrefix(name, claim)
	})
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
