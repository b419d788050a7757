package llm

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Auth lets known consumers pass and nobody else. It reads Bearer keys, and Basic
// with the consumer's name as user and its key, or a password of its own choice, as
// password; removes everything that looks like a credential; and counts requests per
// consumer. Whoever shows a valid key is known by it; everybody else is known by
// address, and limited before any password is hashed.
//
// It sets {http.vars.llm_consumer}, {http.vars.llm_scopes} and
// {http.auth.user.id} (user_id in the access log).
type Auth struct {
	// ConsumersFile is the absolute path of the consumers file. It may be missing at
	// start: then everybody is refused until it is there. Changes are followed within
	// a second; a bad file leaves the last good one in force.
	ConsumersFile string `json:"consumers_file"`
	// Realm is named in the challenge of a 401. Default: "private-llm".
	Realm string `json:"realm,omitempty"`
	// Scope is what a consumer needs for the routes behind this handler: "chat",
	// "embeddings", "native", "show", "services" or "admin". Default: none, any consumer
	// may pass.
	Scope string `json:"scope,omitempty"`
	// Addresses bounds what an address may do that has shown no valid key. It needs
	// llm_edge before this handler. Default: no bound.
	Addresses *AddressLimits `json:"addresses,omitempty"`
	// KeepCookies leaves cookies for the pages behind (they are removed otherwise).
	KeepCookies bool `json:"keep_cookies,omitempty"`

	source *source
	zone   *zone // nil without Addresses
}

// AddressLimits is what one address may do before it has shown a valid key.
type AddressLimits struct {
	// Zone names what is counted together.
	Zone string `json:"zone"`
	// Rate is how many requests without a valid key are answered.
	Rate Pace `json:"rate"`
	// Failures are wrong keys and passwords.
	Failures Failures `json:"failures"`
}

func (a *AddressLimits) check() error {
	if a.Zone == "" {
		return errors.New("addresses.zone is empty")
	}
	if err := a.Rate.check(); err != nil {
		return fmt.Errorf("addresses.rate: %w", err)
	}
	if err := a.Failures.check(); err != nil {
		return fmt.Errorf("addresses.%w", err)
	}
	return nil
}

// CaddyModule tells Caddy what this is.
func (Auth) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_auth", New: func() caddy.Module { return new(Auth) }}
}

// configError words a mistake in the configuration, with the handler it is in.
func configError(handler, format string, args ...any) error {
	return fmt.Errorf(handler+": "+format, args...)
}

// Provision checks the settings and starts to follow the consumers file. The checks
// stand here, not in Validate, because what must not run on bad settings starts here.
func (a *Auth) Provision(ctx caddy.Context) error {
	if a.Realm == "" {
		a.Realm = "private-llm"
	}
	if !filepath.IsAbs(a.ConsumersFile) {
		return configError("llm_auth", "consumers_file is %q: it must be an absolute path", a.ConsumersFile)
	}
	if strings.ContainsAny(a.Realm, "\"\\\r\n") {
		return configError("llm_auth", "realm %q must not hold quotes, backslashes or line ends", a.Realm)
	}
	if a.Scope != "" && !slices.Contains(knownScopes, a.Scope) {
		return configError("llm_auth", "scope is %q: allowed are %s", a.Scope, strings.Join(knownScopes, ", "))
	}
	if a.Addresses != nil {
		if err := a.Addresses.check(); err != nil {
			return configError("llm_auth", "%w", err)
		}
		a.zone = zoneOf(a.Addresses.Zone)
	}
	for _, register := range []func(*prometheus.Registry) error{metrics.register, addressMetrics.register} {
		if err := register(ctx.GetMetricsRegistry()); err != nil {
			return configError("llm_auth", "%w", err)
		}
	}
	source, err := openSource(filepath.Clean(a.ConsumersFile))
	if err != nil {
		return configError("llm_auth", "%w", err)
	}
	a.source = source
	return nil
}

// Cleanup stops following the file when no other handler does.
func (a *Auth) Cleanup() error {
	if a.source == nil {
		return nil
	}
	return closeSource(a.source.path)
}

// ServeHTTP answers 400, 401, 403 or 429 itself, or passes the request on in the
// consumer's name.
func (a *Auth) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	now := a.source.now()
	shown, refusal := takeCredentials(r.Header, a.KeepCookies)
	var cred *credential
	if refusal == nil {
		cred = a.byKey(shown, now)
	}
	if cred == nil {
		if cred, refusal = a.byAddress(r, shown, refusal, now); refusal != nil {
			metrics.authFailures.WithLabelValues(refusal.Code).Inc()
			if refusal.Status == http.StatusUnauthorized {
				a.challenge(w.Header(), shown.scheme)
			}
			refusal.write(w)
			return nil
		}
	}

	ctx, sess, leave := a.source.enter(r.Context(), cred, now)
	defer leave()
	r = r.WithContext(ctx)
	who := cred.consumer
	caddyhttp.SetVar(ctx, varConsumer, who.Name)
	caddyhttp.SetVar(ctx, varScopes, strings.Join(who.Scopes, " "))
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(userIDPlaceholder, who.Name)
	}
	logField(ctx, zap.String("consumer", who.Name))

	if refusal = a.admit(sess, now); refusal != nil {
		metrics.refused.WithLabelValues(who.Name, refusal.Code).Inc()
		refusal.write(w)
		return nil
	}
	return next.ServeHTTP(w, r)
}

// byKey finds the credential by the hash of the key, or by a password that was found
// good a short time ago. Whoever has no key can not choose hashes, so the look-up tells
// them nothing; names are compared in constant time after it.
func (a *Auth) byKey(shown presented, now time.Time) *credential {
	known := a.source.active.Load()
	hash := hashKey(shown.key)
	cred := known.find(hash, now)
	if cred == nil || subtle.ConstantTimeCompare(hash[:], cred.hash[:]) != 1 {
		if shown.scheme == schemeBasic {
			return known.remembered(shown, now)
		}
		return nil
	}
	if shown.scheme == schemeBasic && subtle.ConstantTimeCompare([]byte(shown.user), []byte(cred.consumer.Name)) != 1 {
		return nil
	}
	return cred
}

// byAddress deals with whoever has shown no valid key: bounded by address first, then
// the password, if one was shown. Exactly one of credential and refusal is returned.
func (a *Auth) byAddress(r *http.Request, shown presented, refusal *apiError, now time.Time) (*credential, *apiError) {
	client := clientOf(r)
	if a.zone != nil {
		if tooOften := a.zone.admit(client, now, a.Addresses.Rate); tooOften != nil {
			return nil, tooOften
		}
	}
	if refusal == nil {
		if a.source.active.Load().mayBePassword(shown) {
			return a.byPassword(r.Context(), client, shown)
		}
		refusal = errBadKey
	}
	if refusal.Code == errBadKey.Code {
		a.failed(client)
	}
	return nil, refusal
}

// failed counts a wrong key or password; none at all is no failure.
func (a *Auth) failed(client string) {
	if a.zone != nil {
		a.zone.fail(client, a.source.now(), &a.Addresses.Failures)
	}
}

// byPassword waits for its turn and compares. A browser asks for many things at once
// with the same password, and others try many: what those before have shown counts.
func (a *Auth) byPassword(ctx context.Context, client string, shown presented) (*credential, *apiError) {
	failures := 0
	if a.zone != nil {
		failures = a.zone.failed(client, a.source.now())
	}
	if !hashing.enter(ctx, client, failures) {
		return nil, errorForStatus(http.StatusTooManyRequests)
	}
	defer hashing.leave(client)
	now, known := a.source.now(), a.source.active.Load()
	if cred := known.remembered(shown, now); cred != nil {
		return cred, nil
	}
	if a.zone != nil {
		if banned := a.zone.stillAdmit(client, now); banned != nil {
			return nil, banned
		}
	}
	if known.mayBePassword(shown) && known.hasPassword(shown) {
		if cred := known.remember(shown, now); cred != nil {
			return cred, nil
		}
	}
	a.failed(client) // before the next one of this address has its turn
	return nil, errBadKey
}

// admit applies what a known consumer may do here: the scope, then the rate.
func (a *Auth) admit(sess *session, now time.Time) *apiError {
	if a.Scope != "" && !sess.consumer.hasScope(a.Scope) {
		return &apiError{Status: http.StatusForbidden, Code: "missing_scope",
			Message: fmt.Sprintf("This key lacks the scope %q.", a.Scope)}
	}
	if wait, ok := sess.usage.requests.take(now, sess.consumer.RequestsPerMinute, sess.consumer.Burst); !ok {
		return &apiError{Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded", RetryAfter: wait,
			Message: fmt.Sprintf("This key may send %d requests a minute. Wait %d seconds.",
				sess.consumer.RequestsPerMinute, wholeSeconds(wait))}
	}
	return nil
}

// challenge names the ways to authenticate. Basic is left out for a client that
// tried Bearer: a browser would answer with a password window.
func (a *Auth) challenge(h http.Header, tried scheme) {
	bearer := `Bearer realm="` + a.Realm + `"`
	if tried == schemeBearer {
		h.Set("WWW-Authenticate", bearer+`, error="invalid_token"`)
		return
	}
	h.Set("WWW-Authenticate", bearer)
	h.Add("WWW-Authenticate", `Basic realm="`+a.Realm+`", charset="UTF-8"`)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Auth)(nil)
	_ caddy.CleanerUpper          = (*Auth)(nil)
	_ caddyhttp.MiddlewareHandler = (*Auth)(nil)
)
