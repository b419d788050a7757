package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Scenario says how requests for a model are answered. Times are in milliseconds.
type Scenario struct {
	// The pace: piece k of an answer is due at start + ttft + k*itl, whatever happened to the pieces before it.
	TTFT float64 `json:"ttft_ms"`
	ITL  float64 `json:"itl_ms"`
	// Each other answer that is at work makes each gap so much longer, as on a card whose answers share a step.
	Beside float64 `json:"beside_ms"`
	// HeavyTail draws the gaps from a Pareto distribution (shape 1.5, mean itl_ms, at most 50 times that).
	HeavyTail bool   `json:"heavy_tail"`
	Seed      uint64 `json:"seed"`

	// The answer. A request's own limit makes it shorter; what it says is never the same twice in a row.
	Tokens          int  `json:"tokens"`
	TokensPerChunk  int  `json:"tokens_per_chunk"`
	ReasoningTokens int  `json:"reasoning_tokens"` // the first ones, as reasoning
	Hostile         bool `json:"hostile"`          // generated text looks like the protocol
	Dimensions      int  `json:"dimensions"`       // of an embedding

	// Framing.
	ChunksPerWrite int     `json:"chunks_per_write"`
	Split          bool    `json:"split"`       // every write in two, in the middle of a chunk
	Usage          string  `json:"usage"`       // in streams: asked, always, never
	Cached         float64 `json:"cached"`      // the share of a prompt that usage says was cached; below 0: it says nothing
	RoleChunk      bool    `json:"role_chunk"`  // a chat begins with a chunk that has no text
	Headers        Pairs   `json:"headers"`     // more headers of the answer
	LineEnding     string  `json:"line_ending"` // of server-sent events: \n or \r\n
	Comments       bool    `json:"comments"`    // a comment line before each event, as some routers send
	ContextTokens  int     `json:"context"`     // longer prompts overflow; 0: none does
	Slots          int     `json:"slots"`       // answers at a time, the others wait in line; 0: no bound
	Queue          int     `json:"queue"`       // places in that line, beyond it 503
	Fault          string  `json:"fault"`       // see faults
	FaultAfter     int     `json:"fault_after"` // chunks before the fault
	Status         int     `json:"status"`      // of fault "status"
	HeaderDelay    float64 `json:"header_ms"`   // wait before the answer's head; the pace begins after it
}

// Pairs are headers in their order.
type Pairs [][2]string

// faults are all values of Scenario.Fault.
var faults = []string{
	"",
	"status",           // refuses with Scenario.Status
	"echo_key",         // refuses with 401, and repeats the key in it
	"context_overflow", // refuses the prompt as too long
	"never",            // never answers
	"hang",             // says no more after some chunks
	"cut",              // closes the connection after some chunks
	"reset",            // the same, with a TCP reset
	"no_done",          // ends well-formed, but without [DONE] and finish reason
	"garbage",          // sends no JSON after some chunks
	"stream_error",     // reports an error inside the stream after some chunks
	"bad_head",         // answers with something that is not HTTP
}

var usual = Scenario{
	Tokens: 16, TokensPerChunk: 1, Dimensions: 8, ChunksPerWrite: 1, Usage: "asked", Cached: -1, RoleChunk: true,
	LineEnding: "\n", Queue: 512,
}

// read takes a scenario's JSON over what is there: members that are not named stay as they are.
func (s *Scenario) read(from io.Reader) error {
	decoder := json.NewDecoder(from)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(s); err != nil {
		return err
	}
	return s.check()
}

func (s *Scenario) check() error {
	switch {
	case !slices.Contains(faults, s.Fault):
		return fmt.Errorf("fault: %q is none of %s", s.Fault, strings.Join(faults[1:], ", "))
	case s.Fault == "status" && (s.Status < 400 || s.Status > 599):
		return fmt.Errorf("status: %d is no error; 400 to 599", s.Status)
	case s.Tokens < 1 || s.TokensPerChunk < 1 || s.ChunksPerWrite < 1 || s.Dimensions < 1:
		return fmt.Errorf("tokens, tokens_per_chunk, chunks_per_write and dimensions are at least 1")
	case !slices.Contains([]string{"asked", "always", "never"}, s.Usage):
		return fmt.Errorf("usage: %q is none of asked, always, never", s.Usage)
	case s.Cached > 1:
		return fmt.Errorf("cached: %g is no share; 0 to 1, or below 0 to say nothing", s.Cached)
	case s.LineEnding != "\n" && s.LineEnding != "\r\n":
		return fmt.Errorf("line_ending: %q is neither \\n nor \\r\\n", s.LineEnding)
	}
	return nil
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// dues are the moments of all chunks, counted from the start of an answer.
func (s *Scenario) dues(chunks int, number uint64) []time.Duration {
	random := rand.New(rand.NewPCG(s.Seed, number))
	all := make([]time.Duration, chunks)
	at := s.TTFT
	for k := range all {
		all[k] = milliseconds(at)
		at = s.TTFT + float64(k+1)*s.ITL
		if s.HeavyTail {
			at = float64(all[k])/float64(time.Millisecond) + s.ITL*pareto(random)
		}
	}
	return all
}

// pareto has mean 1 before its bound.
func pareto(random *rand.Rand) float64 {
	const shape = 1.5
	return min(50, (shape-1)/shape*math.Pow(1-random.Float64(), -1/shape))
}

// play holds the scenarios of an engine.
type play struct {
	mu      sync.Mutex
	initial Scenario
	usual   Scenario
	models  map[string]Scenario
	next    []Scenario
	lines   map[string]*line
	numbers map[string]uint64
}

func newPlay(initial Scenario) *play {
	p := &play{initial: initial}
	p.reset()
	return p
}

func (p *play) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.usual, p.next = p.initial, nil
	p.models, p.lines, p.numbers = map[string]Scenario{}, map[string]*line{}, map[string]uint64{}
}

// get returns what a model does, without the ones that were ordered for single requests.
func (p *play) get(model string) Scenario {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(model)
}

func (p *play) of(model string) Scenario {
	if s, own := p.models[model]; own {
		return s
	}
	return p.usual
}

// set replaces what a model does; no model: all that have no scenario of their own.
func (p *play) set(model string, s Scenario) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if model == "" {
		p.usual = s
	} else {
		p.models[model] = s
	}
	p.lines = map[string]*line{}
}

// order gives the next requests scenarios of their own, one each.
func (p *play) order(next []Scenario) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = append(p.next, next...)
}

// cast returns the scenario of the next request for a model, its line and its number.
func (p *play) cast(model string) (Scenario, *line, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.of(model)
	if len(p.next) > 0 {
		s, p.next = p.next[0], p.next[1:]
	}
	if p.lines[model] == nil {
		p.lines[model] = newLine(s.Slots, s.Queue)
	}
	p.numbers[model]++
	return s, p.lines[model], p.numbers[model]
}
