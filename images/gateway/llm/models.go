package llm

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// modelsPath is the list; below it is one model each.
const modelsPath = "/v1/models"

// Models answers GET /v1/models and /v1/models/{name} with what this consumer may
// use: aliases first, then ids. Where a route before has pinned a model there is that
// one alone. It must come after llm_auth.
type Models struct {
	Catalog
}

// CaddyModule tells Caddy what this is.
func (Models) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_models", New: func() caddy.Module { return new(Models) }}
}

// Provision checks the settings.
func (m *Models) Provision(caddy.Context) error {
	if err := m.Catalog.provision(); err != nil {
		return configError("llm_models", "%w", err)
	}
	return nil
}

// modelCard is a model in OpenAI's shape.
type modelCard struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func cardOf(name string) modelCard {
	return modelCard{ID: name, Object: "model", OwnedBy: "private-llm"}
}

// ServeHTTP answers and never calls the next handler.
func (m *Models) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	answer, refusal := m.answer(r)
	return writeRead(w, answer, refusal)
}

func (m *Models) answer(r *http.Request) (any, *apiError) {
	sess := sessionOf(r.Context())
	name, one := strings.CutPrefix(r.URL.Path, modelsPath+"/")
	pinned, _ := caddyhttp.GetVar(r.Context(), varPinned).(string)
	switch {
	case sess == nil:
		return nil, errorForStatus(http.StatusInternalServerError)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return nil, errorForStatus(http.StatusMethodNotAllowed)
	case one && pinned != "" && name != pinned:
		return nil, unknownModel(shorten(name))
	case one:
		if _, refusal := m.lookup(shorten(name), sess.consumer); refusal != nil {
			return nil, refusal
		}
		return cardOf(name), nil
	case r.URL.Path != modelsPath:
		return nil, errorForStatus(http.StatusNotFound)
	}
	cards := []modelCard{}
	for _, name := range m.allowed(sess.consumer) {
		if pinned == "" || name == pinned {
			cards = append(cards, cardOf(name))
		}
	}
	return struct {
		Object string      `json:"object"`
		Data   []modelCard `json:"data"`
	}{"list", cards}, nil
}

// writeRead sends the answer of what can only be read, or the refusal instead.
func writeRead(w http.ResponseWriter, answer any, refusal *apiError) error {
	if refusal != nil {
		if refusal.Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", "GET, HEAD")
		}
		refusal.write(w)
		return nil
	}
	return writeJSON(w, http.StatusOK, answer)
}

// writeJSON sends a small answer that must not be cached.
func writeJSON(w http.ResponseWriter, status int, answer any) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Models)(nil)
	_ caddyhttp.MiddlewareHandler = (*Models)(nil)
)
