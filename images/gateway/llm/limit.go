package llm

import (
	"net/http"
	"slices"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Limit bounds what one address may do on the routes behind it, and turns an address
// away for a growing time when too many answers to it are failures. Behind a proxy it needs
// llm_edge before it, which says whose request it is.
type Limit struct {
	// Zone names what is counted together: handlers of the same zone share counters.
	Zone string `json:"zone"`
	// Rate is what one address may do.
	Rate Pace `json:"rate"`
	// Failures says which answers are failures. Default: none are counted.
	Failures *Failures `json:"failures,omitempty"`

	zone *zone
}

// CaddyModule tells Caddy what this is.
func (Limit) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_limit", New: func() caddy.Module { return new(Limit) }}
}

// Provision checks the settings.
func (l *Limit) Provision(ctx caddy.Context) error {
	if l.Zone == "" {
		return configError("llm_limit", "zone is empty")
	}
	if err := l.Rate.check(); err != nil {
		return configError("llm_limit", "rate: %w", err)
	}
	if l.Failures != nil {
		if err := l.Failures.check(); err != nil {
			return configError("llm_limit", "%w", err)
		}
		if len(l.Failures.Statuses) == 0 {
			return configError("llm_limit", "failures.statuses is empty: name the answers that are failures")
		}
	}
	if err := addressMetrics.register(ctx.GetMetricsRegistry()); err != nil {
		return configError("llm_limit", "%w", err)
	}
	l.zone = zoneOf(l.Zone)
	return nil
}

// ServeHTTP answers 429 itself or passes the request on.
func (l *Limit) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	key := clientOf(r)
	if refusal := l.zone.admit(key, time.Now(), l.Rate); refusal != nil {
		refusal.write(w)
		return nil
	}
	if l.Failures == nil {
		return next.ServeHTTP(w, r)
	}
	watched := &statusWatch{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	err := next.ServeHTTP(watched, r)
	if slices.Contains(l.Failures.Statuses, watched.status) {
		l.zone.fail(key, time.Now(), l.Failures)
	}
	return err
}

// clientOf is what llm_edge found out: the address, or its network.
func clientOf(r *http.Request) string {
	if client, known := caddyhttp.GetVar(r.Context(), varClient).(string); known {
		return client
	}
	return networkOf(addressOf(r.RemoteAddr))
}

// statusWatch remembers the status of an answer.
type statusWatch struct {
	*caddyhttp.ResponseWriterWrapper
	status int
}

// WriteHeader notes the first final status.
func (s *statusWatch) WriteHeader(status int) {
	if s.status == 0 && status >= http.StatusOK {
		s.status = status
	}
	s.ResponseWriterWrapper.WriteHeader(status)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Limit)(nil)
	_ caddyhttp.MiddlewareHandler = (*Limit)(nil)
)
