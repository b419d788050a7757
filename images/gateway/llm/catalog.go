package llm

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Roles of a model.
const (
	roleChat      = "chat"
	roleEmbedding = "embedding"
)

// Kinds of engine: which question tells its models.
const (
	kindOllama = "ollama" // GET /api/tags
	kindOpenAI = "openai" // GET /v1/models
)

// maxModelName bounds a model's name, in bytes.
const maxModelName = 256

// Catalog says which models there are and which engine serves each. llm, llm_models
// and llm_health take the same two members.
type Catalog struct {
	// Engines are the inference servers, by a name of ours. llm_models asks none and
	// may leave them out.
	Engines map[string]*Engine `json:"engines,omitempty"`
	// Models are what clients may ask for.
	Models []*Model `json:"models,omitempty"`

	byName map[string]*Model // ids and aliases
}

// Engine is one inference server.
type Engine struct {
	// Dial is its address as host:port.
	Dial string `json:"dial"`
	// Kind is "ollama" or "openai": which API llm_health asks for its models.
	// Default: "ollama".
	Kind string `json:"kind,omitempty"`
}

// Model is one model on one engine.
type Model struct {
	// ID is the name clients use.
	ID string `json:"id"`
	// Engine is the name of the engine that serves it.
	Engine string `json:"engine"`
	// UpstreamName is what that engine calls it. Default: the id.
	UpstreamName string `json:"upstream_name,omitempty"`
	// Role is "chat" or "embedding". Default: "chat".
	Role string `json:"role,omitempty"`
	// Aliases are further names for it. They may not clash with any other name.
	Aliases []string `json:"aliases,omitempty"`
}

// provisionWithEngines is provision for those who ask engines.
func (c *Catalog) provisionWithEngines() error {
	if len(c.Engines) == 0 {
		return errors.New("engines is empty: name at least one engine")
	}
	return c.provision()
}

// provision fills defaults, checks everything and builds the index.
func (c *Catalog) provision() error {
	if len(c.Models) == 0 {
		return errors.New("models is empty: name at least one model")
	}
	for name, engine := range c.Engines {
		if err := engine.provision(); err != nil {
			return fmt.Errorf("engines.%s: %w", name, err)
		}
	}
	c.byName = make(map[string]*Model, 2*len(c.Models))
	for i, model := range c.Models {
		if err := c.add(model); err != nil {
			return fmt.Errorf("models[%d]: %w", i, err)
		}
	}
	return nil
}

func (e *Engine) provision() error {
	if e == nil {
		return errors.New("is null")
	}
	if host, port, err := net.SplitHostPort(e.Dial); err != nil || host == "" || port == "" || strings.ContainsAny(e.Dial, "{}/") {
		return fmt.Errorf("dial is %q: it must be host:port", e.Dial)
	}
	if e.Kind == "" {
		e.Kind = kindOllama
	}
	if e.Kind != kindOllama && e.Kind != kindOpenAI {
		return fmt.Errorf("kind is %q: allowed are %s, %s", e.Kind, kindOllama, kindOpenAI)
	}
	return nil
}

func (c *Catalog) add(m *Model) error {
	if m == nil {
		return errors.New("is null")
	}
	if m.UpstreamName == "" {
		m.UpstreamName = m.ID
	}
	if m.Role == "" {
		m.Role = roleChat
	}
	if m.Role != roleChat && m.Role != roleEmbedding {
		return fmt.Errorf("role is %q: allowed are %s, %s", m.Role, roleChat, roleEmbedding)
	}
	if c.Engines != nil && c.Engines[m.Engine] == nil {
		return fmt.Errorf("engine is %q: there is no engine of that name", m.Engine)
	}
	for _, name := range append([]string{m.ID}, m.Aliases...) {
		if name == "" || name == "*" || len(name) > maxModelName {
			return fmt.Errorf("name %q: it must have 1 to %d bytes and not be *", name, maxModelName)
		}
		if c.byName[name] != nil {
			return fmt.Errorf("name %q is taken by model %q", name, c.byName[name].ID)
		}
		c.byName[name] = m
	}
	return nil
}

// resolve finds a model by id or alias. Ollama's clients may add its default tag.
func (c *Catalog) resolve(name string) *Model {
	if m := c.byName[name]; m != nil {
		return m
	}
	if base, cut := strings.CutSuffix(name, ":latest"); cut {
		return c.byName[base]
	}
	return nil
}

// allowed lists the names a consumer may use: aliases first, then ids, each in the
// order of the configuration.
func (c *Catalog) allowed(who *consumer) []string {
	var aliases, ids []string
	for _, m := range c.Models {
		for _, alias := range m.Aliases {
			if who.mayUse(alias, m.ID) {
				aliases = append(aliases, alias)
			}
		}
		if who.mayUse(m.ID, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	return slices.Concat(aliases, ids)
}

// lookup resolves a name for a consumer, or says why not.
func (c *Catalog) lookup(name string, who *consumer) (*Model, *apiError) {
	model := c.resolve(name)
	if model == nil {
		return nil, &apiError{Status: 404, Code: "model_not_found", Param: "model",
			Message: fmt.Sprintf("The model %q does not exist here. GET /v1/models lists what does.", name)}
	}
	if !who.mayUse(name, model.ID) {
		return nil, &apiError{Status: 403, Code: "model_not_allowed", Param: "model",
			Message: fmt.Sprintf("This key may not use the model %q. GET /v1/models lists what it may use.", name)}
	}
	return model, nil
}
