package llm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Limits of the consumers file itself: wide enough for thousands of consumers,
// narrow enough that a wrong file cannot hurt.
const (
	consumersFileVersion = 1
	maxConsumersFile     = 4 << 20 // bytes
	maxRequestsPerMinute = 100_000
	maxConcurrentStreams = 100_000
	maxTokens            = 1_000_000_000_000
	maxBodyBytes         = 1 << 40
	maxSeconds           = 7 * 24 * 3600
)

// knownScopes are the words a consumer's "scopes" may hold.
//   - chat: chat, completions, responses; embeddings: embeddings
//   - native: the engine's own API (Ollama's); show: its model details, system prompts included
//   - services: services of the operator's own; admin: the pages for administrators
var knownScopes = []string{"chat", "embeddings", "native", "show", "services", "admin"}

// consumerName bounds what may become a metric label, a log field and a Basic user.
var consumerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`)

// keyHash is the SHA-256 of a key. Keys themselves are never stored.
type keyHash [sha256.Size]byte

func hashKey(key string) keyHash { return sha256.Sum256([]byte(key)) }

// consumer is somebody who may use the gateway, as the consumers file declares it.
type consumer struct {
	Name    string
	Scopes  []string
	Expires time.Time // zero: never
	// Limits; 0 means none.
	RequestsPerMinute int
	Burst             int // requests at once on top of RequestsPerMinute
	ConcurrentStreams int
	TokensPerMinute   int // prompt and answer
	TokensPerDay      int
	MaxOutputTokens   int           // of one answer
	MaxBody           int64         // bytes of one request
	MaxDuration       time.Duration // of one answer
	// PasswordBcrypt is the hash of a password of its own choice; empty: none.
	PasswordBcrypt []byte

	models    map[string]struct{}
	allModels bool
}

// mayUse reports whether the consumer may use a model under the name it asked for:
// that name, or the id it stands for, is in its list.
func (c *consumer) mayUse(name, id string) bool {
	if c.allModels {
		return true
	}
	_, byName := c.models[name]
	_, byID := c.models[id]
	return byName || byID
}

func (c *consumer) hasScope(scope string) bool { return slices.Contains(c.Scopes, scope) }

// credential is one key of a consumer.
type credential struct {
	consumer *consumer
	hash     keyHash
	expires  time.Time // zero: never
}

func (k *credential) expired(now time.Time) bool {
	return passed(k.expires, now) || passed(k.consumer.Expires, now)
}

func passed(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// directory is one version of the consumers file. It never changes once built.
type directory struct {
	consumers map[string]*consumer
	keys      map[keyHash]*credential
	decoy     []byte // a hash of nobody's password; nil if no consumer has one of its own choice
}

var emptyDirectory = &directory{}

// find returns the live credential of that hash, or nil.
func (d *directory) find(hash keyHash, now time.Time) *credential {
	cred := d.keys[hash]
	if cred == nil || cred.expired(now) {
		return nil
	}
	return cred
}

// The file's schema. Pointers tell "null" or "absent" from a zero that is a mistake.
type consumersFile struct {
	Version   int            `json:"version"`
	Consumers []consumerSpec `json:"consumers"`
}

type consumerSpec struct {
	Name              string     `json:"name"`
	Keys              []keySpec  `json:"keys"`
	Scopes            []string   `json:"scopes"`
	Models            []string   `json:"models"`
	RequestsPerMinute *int       `json:"requests_per_minute"`
	Burst             *int       `json:"burst"`
	ConcurrentStreams *int       `json:"concurrent_streams"`
	TokensPerMinute   *int       `json:"tokens_per_minute"`
	TokensPerDay      *int       `json:"tokens_per_day"`
	MaxOutputTokens   *int       `json:"max_output_tokens"`
	MaxBody           *int       `json:"max_body"`     // bytes
	MaxDuration       *int       `json:"max_duration"` // seconds
	PasswordBcrypt    *string    `json:"password_bcrypt"`
	Expires           *time.Time `json:"expires"`
}

type keySpec struct {
	SHA256  string     `json:"sha256"`
	Expires *time.Time `json:"expires"`
}

// parseConsumers reads a consumers file. It takes the whole file or none of it:
// anything unknown, doubled or out of range is an error that names the place.
func parseConsumers(raw []byte) (*directory, error) {
	if len(raw) > maxConsumersFile {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxConsumersFile)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var file consumersFile
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("not a consumers file: %w", withoutInput(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the JSON object")
	}
	if file.Version != consumersFileVersion {
		return nil, fmt.Errorf("version is %d: this gateway reads version %d", file.Version, consumersFileVersion)
	}
	d := &directory{
		consumers: make(map[string]*consumer, len(file.Consumers)),
		keys:      make(map[keyHash]*credential, len(file.Consumers)),
	}
	for i, spec := range file.Consumers {
		if err := d.add(spec); err != nil {
			return nil, fmt.Errorf("consumers[%d] (%q): %w", i, spec.Name, err)
		}
	}
	return d, nil
}

func (d *directory) add(spec consumerSpec) error {
	if !consumerName.MatchString(spec.Name) {
		return errors.New("name must be 1 to 64 of a-z, 0-9, - and _, and begin and end with a letter or digit")
	}
	if _, taken := d.consumers[spec.Name]; taken {
		return errors.New("the name is there twice")
	}
	c := &consumer{Name: spec.Name, Scopes: spec.Scopes, models: make(map[string]struct{}, len(spec.Models))}
	for _, scope := range spec.Scopes {
		if !slices.Contains(knownScopes, scope) {
			return fmt.Errorf("unknown scope %q: allowed are %s", scope, strings.Join(knownScopes, ", "))
		}
	}
	for _, model := range spec.Models {
		if model == "" {
			return errors.New("a model's name is empty")
		}
		c.allModels = c.allModels || model == "*"
		c.models[model] = struct{}{}
	}
	if err := c.takeLimits(spec); err != nil {
		return err
	}
	if spec.PasswordBcrypt != nil {
		c.PasswordBcrypt = []byte(*spec.PasswordBcrypt)
		if err := checkPasswordHash(c.PasswordBcrypt); err != nil {
			return err
		}
	}
	if spec.Expires != nil {
		c.Expires = *spec.Expires
	}
	for i, key := range spec.Keys {
		hash, err := parseHash(key.SHA256)
		if err != nil {
			return fmt.Errorf("keys[%d]: %w", i, err)
		}
		if other, taken := d.keys[hash]; taken {
			return fmt.Errorf("keys[%d]: consumer %q has the same key", i, other.consumer.Name)
		}
		cred := &credential{consumer: c, hash: hash}
		if key.Expires != nil {
			cred.expires = *key.Expires
		}
		d.keys[hash] = cred
	}
	if len(c.PasswordBcrypt) > 0 {
		hash := passwordKey(c)
		d.keys[hash] = &credential{consumer: c, hash: hash}
		d.decoyFor(c.PasswordBcrypt)
	}
	d.consumers[spec.Name] = c
	return nil
}

func (c *consumer) takeLimits(spec consumerSpec) error {
	var body, seconds int
	for _, one := range []struct {
		name  string
		value *int
		most  int
		into  *int
	}{
		{"requests_per_minute", spec.RequestsPerMinute, maxRequestsPerMinute, &c.RequestsPerMinute},
		{"concurrent_streams", spec.ConcurrentStreams, maxConcurrentStreams, &c.ConcurrentStreams},
		{"tokens_per_minute", spec.TokensPerMinute, maxTokens, &c.TokensPerMinute},
		{"tokens_per_day", spec.TokensPerDay, maxTokens, &c.TokensPerDay},
		{"max_output_tokens", spec.MaxOutputTokens, maxTokens, &c.MaxOutputTokens},
		{"max_body", spec.MaxBody, maxBodyBytes, &body},
		{"max_duration", spec.MaxDuration, maxSeconds, &seconds},
	} {
		var err error
		if *one.into, err = limit(one.name, one.value, one.most); err != nil {
			return err
		}
	}
	if spec.Burst != nil {
		if c.Burst = *spec.Burst; c.Burst < 0 || c.Burst > maxRequestsPerMinute {
			return fmt.Errorf("burst is %d: it must be from 0 to %d", c.Burst, maxRequestsPerMinute)
		}
	}
	c.MaxBody, c.MaxDuration = int64(body), time.Duration(seconds)*time.Second
	return nil
}

// decoyFor makes unknown names cost what the costliest password does.
func (d *directory) decoyFor(hash []byte) {
	cost, _ := bcrypt.Cost(hash) // checked before
	if known, _ := bcrypt.Cost(d.decoy); cost > known {
		d.decoy = decoys[cost]()
	}
}

// maxPasswordCost bounds the work of one attempt: cost 10 takes 60 ms of CPU, 14 takes a second.
const maxPasswordCost = 10

func checkPasswordHash(hash []byte) error {
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return errors.New("password_bcrypt is not a bcrypt hash")
	}
	if cost > maxPasswordCost {
		return fmt.Errorf("password_bcrypt has cost %d: at most %d, or wrong passwords cost the gateway too much", cost, maxPasswordCost)
	}
	return nil
}

// limit reads an optional limit: absent or null is 0, no limit.
func limit(name string, value *int, most int) (int, error) {
	if value == nil {
		return 0, nil
	}
	if *value < 1 || *value > most {
		return 0, fmt.Errorf("%s is %d: it must be from 1 to %d, or null for no limit", name, *value, most)
	}
	return *value, nil
}

// emptyKeyHash is the hash of no key at all, the likeliest slip of a tool that
// writes the file; with it anybody could come in.
var emptyKeyHash = hashKey("")

func parseHash(text string) (keyHash, error) {
	var hash keyHash
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(hash) {
		return hash, errors.New("sha256 must be 64 hexadecimal digits")
	}
	copy(hash[:], raw)
	if hash == emptyKeyHash {
		return hash, errors.New("sha256 is that of an empty key")
	}
	return hash, nil
}

// withoutInput keeps pieces of the file out of the log: time parse errors quote them.
func withoutInput(err error) error {
	var bad *time.ParseError
	if errors.As(err, &bad) {
		return errors.New("a time is not RFC 3339, for example 2027-01-31T00:00:00Z")
	}
	return err
}
