package llm

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// Roles of a model.
const (
	roleChat      = "chat"
	roleEmbedding = "embedding"
)

// Kinds of engine: which API it speaks.
const (
	kindOllama = "ollama" // its own below /api, OpenAI's below /v1
	kindOpenAI = "openai" // OpenAI's alone
)

// maxModelName bounds a model's name, in bytes.
const maxModelName = 256

// Catalog says which models there are and which engine serves each. llm, llm_models,
// llm_native and llm_health take the same two members.
type Catalog struct {
	// Engines are the inference servers, by a name of ours. llm_models asks none and
	// may leave them out.
	Engines map[string]*Engine `json:"engines,omitempty"`
	// Models are what clients may ask for.
	Models []*Model `json:"models,omitempty"`

	byName map[string]*Model // ids and aliases
}

// Engine is one inference server, or several identical ones.
type Engine struct {
	// Instances are their addresses, each as host:port. Requests go to the one with
	// the least to do.
	Instances []string `json:"instances"`
	// Kind is "ollama" or "openai": which API it speaks. Default: "ollama".
	Kind string `json:"kind,omitempty"`
	// MaxInFlight bounds the requests that all instances together have at the same
	// time, waiting ones among them; more get 429. Default: 0, no bound.
	MaxInFlight int `json:"max_in_flight,omitempty"`
	// TLS says that our own questions (health, lists) reach it by https, as the proxy
	// behind llm does. Default: false.
	TLS bool `json:"tls,omitempty"`
	// KeyFile is the absolute path of a file with the key that our own questions show,
	// as Bearer. Default: none.
	KeyFile string `json:"key_file,omitempty"`

	name    string
	members []*instance
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
	// Fallback is the id or an alias of another model of the same role, which answers
	// when this one cannot: its engine fails or has no room, or the prompt is too long
	// for it. Default: none.
	Fallback string `json:"fallback,omitempty"`
	// MaxInFlight bounds the requests that it has at the same time, over all consumers.
	// Default: 0, no bound.
	MaxInFlight int `json:"max_in_flight,omitempty"`
	// RequestsPerMinute bounds the requests for it, over all consumers. Default: 0, no
	// bound.
	RequestsPerMinute int `json:"requests_per_minute,omitempty"`

	fallback *Model
	use      *modelUse
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
		if err := engine.provision(name); err != nil {
			return fmt.Errorf("engines.%s: %w", name, err)
		}
	}
	c.byName = make(map[string]*Model, 2*len(c.Models))
	for i, model := range c.Models {
		if err := c.add(model); err != nil {
			return fmt.Errorf("models[%d]: %w", i, err)
		}
	}
	for i, model := range c.Models {
		if err := c.linkFallback(model); err != nil {
			return fmt.Errorf("models[%d]: fallback %w", i, err)
		}
	}
	return nil
}

func (e *Engine) provision(name string) error {
	if e == nil {
		return errors.New("is null")
	}
	if len(e.Instances) == 0 {
		return errors.New("instances is empty: name at least one address")
	}
	for i, address := range e.Instances {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" || strings.ContainsAny(address, "{}/") {
			return fmt.Errorf("instances[%d] is %q: it must be host:port", i, address)
		}
		if slices.Contains(e.Instances[:i], address) {
			return fmt.Errorf("instances[%d]: %s is there twice", i, address)
		}
	}
	if e.Kind == "" {
		e.Kind = kindOllama
	}
	if e.Kind != kindOllama && e.Kind != kindOpenAI {
		return fmt.Errorf("kind is %q: allowed are %s, %s", e.Kind, kindOllama, kindOpenAI)
	}
	if e.MaxInFlight < 0 {
		return fmt.Errorf("max_in_flight is %d: it must not be negative", e.MaxInFlight)
	}
	if e.KeyFile != "" && !filepath.IsAbs(e.KeyFile) {
		return fmt.Errorf("key_file is %q: it must be an absolute path", e.KeyFile)
	}
	e.name = name
	e.members = instancesOf(name, e.Instances)
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
	if m.MaxInFlight < 0 || m.RequestsPerMinute < 0 {
		return errors.New("max_in_flight and requests_per_minute must not be negative")
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
	m.use = useOf(m.ID)
	return nil
}

// linkFallback finds a model's fallback. It must end somewhere, or a request for which
// nobody has room would go round for ever.
func (c *Catalog) linkFallback(m *Model) error {
	if m.Fallback == "" {
		return nil
	}
	m.fallback = c.byName[m.Fallback]
	switch {
	case m.fallback == nil:
		return fmt.Errorf("is %q: there is no model of that name", m.Fallback)
	case m.fallback.Role != m.Role:
		return fmt.Errorf("%q has role %s, this model %s", m.Fallback, m.fallback.Role, m.Role)
	}
	at := m
	for range c.Models {
		if at = c.byName[at.Fallback]; at == nil {
			return nil
		}
	}
	return fmt.Errorf("%q leads back to a model before it", m.Fallback)
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

// names are all names of a model, its id first.
func (m *Model) names() []string { return append([]string{m.ID}, m.Aliases...) }

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
		return nil, unknownModel(name)
	}
	if !who.mayUse(name, model.ID) {
		return nil, &apiError{Status: 403, Code: "model_not_allowed", Param: "model",
			Message: fmt.Sprintf("This key may not use the model %q. GET /v1/models lists what it may use.", name)}
	}
	return model, nil
}

func unknownModel(name string) *apiError {
	return &apiError{Status: 404, Code: "model_not_found", Param: "model",
		Message: fmt.Sprintf("The model %q does not exist here. GET /v1/models lists what does.", name)}
}
