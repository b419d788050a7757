package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// Defaults and bounds of a probe.
const (
	defaultHealthCache  = 3 * time.Second
	defaultProbeTimeout = 2 * time.Second
)

// Health answers 200 {"status":"ok"} when a client's request could be answered now:
// some engine is reachable and has a model that the configuration names (a chat
// model, where there is one). Else 503 {"status":"unavailable"}. It names nothing
// and nobody, so it needs no key. However often it is asked, engines are asked at
// most once per cache time.
type Health struct {
	Catalog
	// Cache is how long an answer holds. Default: 3s.
	Cache caddy.Duration `json:"cache,omitempty"`
	// ProbeTimeout bounds one question to one engine. Default: 2s.
	ProbeTimeout caddy.Duration `json:"probe_timeout,omitempty"`

	log *zap.Logger

	mu    sync.Mutex // held while engines are asked: the others wait for that answer
	asked time.Time
	ok    bool
}

// CaddyModule tells Caddy what this is.
func (*Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_health", New: func() caddy.Module { return new(Health) }}
}

// Provision checks the settings and fills defaults.
func (h *Health) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if h.Cache == 0 {
		h.Cache = caddy.Duration(defaultHealthCache)
	}
	if h.ProbeTimeout == 0 {
		h.ProbeTimeout = caddy.Duration(defaultProbeTimeout)
	}
	if h.Cache < 0 || h.ProbeTimeout < 0 {
		return configError("llm_health", "cache and probe_timeout must not be negative")
	}
	if err := h.provisionWithEngines(); err != nil {
		return configError("llm_health", "%w", err)
	}
	return nil
}

// ServeHTTP answers and never calls the next handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	if h.healthy(time.Now) {
		return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	w.Header().Set("Retry-After", fmt.Sprint(wholeSeconds(time.Duration(h.Cache))))
	return writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "unavailable"})
}

func (h *Health) healthy(now func() time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked.IsZero() && now().Sub(h.asked) < time.Duration(h.Cache) {
		return h.ok
	}
	was := h.ok
	h.ok = h.probe()
	if h.asked.IsZero() || was != h.ok {
		h.log.Info("health", zap.Bool("a_model_can_answer", h.ok))
	}
	h.asked = now()
	return h.ok
}

// probe asks all instances of all engines at once. Nobody's request context is used:
// the answer is for everybody who waits.
func (h *Health) probe() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(h.ProbeTimeout))
	defer cancel()
	asked := 0
	answers := make(chan bool)
	for name, engine := range h.Engines {
		for _, address := range engine.Instances {
			asked++
			go func() {
				has, err := engine.models(ctx, address)
				if err != nil {
					h.log.Debug("probe", zap.String("engine", name), zap.String("instance", address), zap.Error(err))
				}
				select {
				case answers <- err == nil && h.anyOf(name, has):
				case <-ctx.Done(): // another one was enough
				}
			}()
		}
	}
	for range asked {
		select {
		case ok := <-answers:
			if ok {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// anyOf reports whether an engine has a model that counts.
func (h *Health) anyOf(engine string, has map[string]bool) bool {
	role := roleEmbedding
	for _, m := range h.Models {
		if m.Role == roleChat {
			role = roleChat
		}
	}
	for _, m := range h.Models {
		if m.Engine == engine && m.Role == role && (has[m.UpstreamName] || has[m.UpstreamName+":latest"]) {
			return true
		}
	}
	return false
}

// models asks an instance for the names of its models.
func (e *Engine) models(ctx context.Context, address string) (map[string]bool, error) {
	path := "/api/tags"
	if e.Kind == kindOpenAI {
		path = modelsPath
	}
	answer, err := e.ask(ctx, address, path)
	if err != nil {
		return nil, err
	}
	var list struct {
		Models []struct {
			Name string `json:"name"`
		} `json:"models"` // Ollama
		Data []struct {
			ID string `json:"id"`
		} `json:"data"` // OpenAI
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	names := make(map[string]bool, len(list.Models)+len(list.Data))
	for _, m := range list.Models {
		names[m.Name] = true
	}
	for _, m := range list.Data {
		names[m.ID] = true
	}
	return names, nil
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Health)(nil)
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
)
