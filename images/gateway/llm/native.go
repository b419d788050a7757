package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

func init() { caddy.RegisterModule(Native{}) }

// Native answers GET /api/tags, /api/ps and /api/version, the lists of Ollama's own
// API, for all engines of kind "ollama" together: only models that this consumer may
// use, under the names it may use. It must come after llm_auth, and after what strips
// the route's prefix.
type Native struct {
	Catalog

	log *zap.Logger
}

// CaddyModule tells Caddy what this is.
func (Native) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_native", New: func() caddy.Module { return new(Native) }}
}

// Provision checks the settings.
func (n *Native) Provision(ctx caddy.Context) error {
	n.log = ctx.Logger()
	if err := n.provisionWithEngines(); err != nil {
		return configError("llm_native", "%w", err)
	}
	return nil
}

// ServeHTTP answers and never calls the next handler.
func (n *Native) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	answer, refusal := n.answer(r)
	return writeRead(w, answer, refusal)
}

func (n *Native) answer(r *http.Request) (any, *apiError) {
	sess := sessionOf(r.Context())
	switch {
	case sess == nil:
		n.log.Error("llm_native is used without llm_auth before it: everything is refused")
		return nil, errorForStatus(http.StatusInternalServerError)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return nil, errorForStatus(http.StatusMethodNotAllowed)
	}
	switch path := r.URL.Path; path {
	case "/api/tags", "/api/ps":
		return n.list(r.Context(), path, sess.consumer)
	case "/api/version":
		return n.version(r.Context(), path)
	}
	return nil, errorForStatus(http.StatusNotFound)
}

// nativeList is what Ollama's lists look like.
type nativeList struct {
	Models []map[string]json.RawMessage `json:"models"`
}

// shown are the members of a list's entry that clients get. Others may tell where a
// model runs.
var shown = []string{"name", "model", "modified_at", "size", "digest", "details", "capabilities", "expires_at", "size_vram", "context_length"}

// list merges the lists of all instances. Configured models stand in the order of the
// configuration. In /api/tags each name is an entry; in /api/ps, which tells what takes
// memory, each model is.
func (n *Native) list(ctx context.Context, path string, who *consumer) (any, *apiError) {
	answers, refusal := n.askAll(ctx, path)
	if refusal != nil {
		return nil, refusal
	}
	found := map[*Model]map[string]json.RawMessage{}
	for _, a := range answers {
		var list nativeList
		if json.Unmarshal(a.body, &list) != nil {
			continue
		}
		for _, entry := range list.Models {
			for _, m := range n.Models {
				if m.Engine == a.engine && found[m] == nil && isModel(entry, m.UpstreamName) {
					found[m] = entry
				}
			}
		}
	}
	merged := nativeList{Models: []map[string]json.RawMessage{}}
	for _, m := range n.Models {
		if found[m] == nil {
			continue
		}
		for _, name := range m.names() {
			if !who.mayUse(name, m.ID) {
				continue
			}
			merged.Models = append(merged.Models, entryFor(name, found[m]))
			if path == "/api/ps" {
				break
			}
		}
	}
	return merged, nil
}

// isModel reports whether an entry is the model that its engine knows by that name.
func isModel(entry map[string]json.RawMessage, upstream string) bool {
	var name string
	if json.Unmarshal(entry["name"], &name) != nil {
		return false
	}
	return name == upstream || name == upstream+":latest"
}

// entryFor is an engine's entry under one of our names.
func entryFor(name string, entry map[string]json.RawMessage) map[string]json.RawMessage {
	quoted, _ := json.Marshal(name) // a string: cannot fail
	ours := map[string]json.RawMessage{"name": quoted, "model": quoted}
	for _, member := range shown {
		if _, set := ours[member]; !set && entry[member] != nil {
			ours[member] = entry[member]
		}
	}
	return ours
}

// version is the oldest of all engines: what it can do, every one can.
func (n *Native) version(ctx context.Context, path string) (any, *apiError) {
	answers, refusal := n.askAll(ctx, path)
	if refusal != nil {
		return nil, refusal
	}
	type versionAnswer struct {
		Version string `json:"version"`
	}
	var versions []versionAnswer
	for _, a := range answers {
		var v versionAnswer
		if json.Unmarshal(a.body, &v) == nil && v.Version != "" {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return nil, errorForStatus(http.StatusBadGateway)
	}
	return slices.MinFunc(versions, func(a, b versionAnswer) int { return compareVersions(a.Version, b.Version) }), nil
}

// compareVersions orders 0.9.1 before 0.35.0.
func compareVersions(a, b string) int {
	numbers := func(version string) (of [3]int) {
		_, _ = fmt.Sscanf(version, "%d.%d.%d", &of[0], &of[1], &of[2]) // what is no number counts as 0
		return of
	}
	x, y := numbers(a), numbers(b)
	return slices.Compare(x[:], y[:])
}

// nativeAnswer is one instance's answer.
type nativeAnswer struct {
	engine string
	body   []byte
}

// nativeTimeout bounds a list as a whole: an instance that does not answer is left out.
const nativeTimeout = 5 * time.Second

// askAll asks all instances of kind "ollama" at once. The answers come in the order of
// the engines' names and instances; without any it is a refusal.
func (n *Native) askAll(ctx context.Context, path string) ([]nativeAnswer, *apiError) {
	ctx, cancel := context.WithTimeout(ctx, nativeTimeout)
	defer cancel()
	var asked []*nativeAnswer
	var all sync.WaitGroup
	for _, name := range n.engineNames() {
		engine := n.Engines[name]
		for _, address := range engine.Instances {
			a := &nativeAnswer{engine: name}
			asked = append(asked, a)
			all.Go(func() {
				body, err := engine.ask(ctx, address, path)
				if err != nil {
					n.log.Warn("engine failed", zap.String("engine", name), zap.String("instance", address), zap.Error(err))
					return
				}
				a.body = body
			})
		}
	}
	all.Wait()
	if len(asked) == 0 {
		return nil, errorForStatus(http.StatusNotFound)
	}
	var answers []nativeAnswer
	for _, a := range asked {
		if a.body != nil {
			answers = append(answers, *a)
		}
	}
	if len(answers) == 0 {
		return nil, errorForStatus(http.StatusBadGateway)
	}
	return answers, nil
}

func (n *Native) engineNames() []string {
	var names []string
	for name, engine := range n.Engines {
		if engine.Kind == kindOllama {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Native)(nil)
	_ caddyhttp.MiddlewareHandler = (*Native)(nil)
)
