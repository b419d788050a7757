package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// tally is what the tap learns about one answer. It holds figures, never text.
type tally struct {
	first, last time.Time // when the first and the last piece with content came
	pieces      int       // pieces with content
	input       int       // prompt tokens, -1 while unknown
	output      int       // generated tokens, -1 while unknown
	finish      string    // why the engine stopped
	ended       bool      // the end that the protocol promises was seen
	failed      bool      // the engine reported an error inside the answer

	gap func(time.Duration) // told every gap between two pieces; may be nil
}

func newTally(gap func(time.Duration)) tally { return tally{input: -1, output: -1, gap: gap} }

// outputTokens are the tokens that the engine counted, or else the pieces with content.
func (t *tally) outputTokens() int {
	if t.output >= 0 {
		return t.output
	}
	return t.pieces
}

// answerPart is what an answer, or one piece of it, may say in any of the dialects.
type answerPart struct {
	Usage   *usagePart `json:"usage"`
	Choices *[]struct {
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Error json.RawMessage `json:"error"`
	// OpenAI's responses.
	Type     string `json:"type"`
	Status   string `json:"status"`
	Response *struct {
		Usage  *usagePart `json:"usage"`
		Status string     `json:"status"`
	} `json:"response"`
	// Ollama's own API.
	Done            bool   `json:"done"`
	DoneReason      string `json:"done_reason"`
	PromptEvalCount *int   `json:"prompt_eval_count"`
	EvalCount       *int   `json:"eval_count"`
}

type usagePart struct {
	PromptTokens     *int `json:"prompt_tokens"`
	CompletionTokens *int `json:"completion_tokens"`
	InputTokens      *int `json:"input_tokens"`
	OutputTokens     *int `json:"output_tokens"`
}

// piece looks at one piece of a stream. It reports whether the piece tells nothing
// but token counts, so that it can be left out for a client that did not ask.
func (t *tally) piece(data []byte, d *dialect, now time.Time) (usageOnly bool) {
	if d.done != "" && string(data) == d.done {
		t.ended = true
		return false
	}
	for _, key := range d.content {
		if hasContent(data, key) {
			t.content(now)
			break
		}
	}
	for _, m := range d.final {
		if m.in(data) {
			return t.final(data)
		}
	}
	return false
}

func (t *tally) content(now time.Time) {
	if t.pieces == 0 {
		t.first = now
	} else if t.gap != nil {
		t.gap(now.Sub(t.last))
	}
	t.last = now
	t.pieces++
}

// final parses a piece that ends a stream, tells usage or reports an error.
func (t *tally) final(data []byte) (usageOnly bool) {
	// A member of another type than expected is skipped (Ollama's "response" is text),
	// the rest is read all the same.
	var part answerPart
	var mistyped *json.UnmarshalTypeError
	if err := json.Unmarshal(data, &part); err != nil && !errors.As(err, &mistyped) {
		return false
	}
	t.take(&part)
	return part.Choices != nil && len(*part.Choices) == 0 && part.Usage != nil
}

func (t *tally) take(part *answerPart) {
	if part.Choices != nil {
		for _, choice := range *part.Choices {
			if choice.FinishReason != nil {
				t.finish = *choice.FinishReason
			}
		}
	}
	t.usage(part.Usage)
	if part.Response != nil {
		t.usage(part.Response.Usage)
	}
	switch part.Type {
	case "response.completed", "response.incomplete":
		t.ended = true
		t.finish = part.Type[len("response."):]
	case "response.failed", "error":
		t.failed = true
	}
	if part.Done {
		t.ended = true
		t.finish = part.DoneReason
	}
	setCount(&t.input, part.PromptEvalCount)
	setCount(&t.output, part.EvalCount)
	if len(part.Error) > 0 && string(part.Error) != "null" {
		t.failed = true
	}
}

func (t *tally) usage(u *usagePart) {
	if u == nil {
		return
	}
	for _, count := range []*int{u.PromptTokens, u.InputTokens} {
		setCount(&t.input, count)
	}
	for _, count := range []*int{u.CompletionTokens, u.OutputTokens} {
		setCount(&t.output, count)
	}
}

// setCount takes a count that an engine told, if it is one.
func setCount(to *int, count *int) {
	if count != nil && *count >= 0 {
		*to = *count
	}
}

// The two searches below read JSON text without parsing it. They cannot mistake
// generated text for a member: inside a JSON string every quote has a backslash
// before it, so a bare "name": only stands where a member does.

// hasContent reports whether a member has a value that is text or a list, and not empty.
func hasContent(data, key []byte) bool {
	for {
		value, rest, found := memberValue(data, key)
		if !found {
			return false
		}
		if len(value) >= 2 && (value[0] == '"' && value[1] != '"' || value[0] == '[' && value[1] != ']') {
			return true
		}
		data = rest
	}
}

// in reports whether the member is there with a value that begins as expected.
func (m marker) in(data []byte) bool {
	for {
		value, rest, found := memberValue(data, m.key)
		if !found {
			return false
		}
		if len(value) > 0 && bytes.IndexByte([]byte(m.first), value[0]) >= 0 {
			return true
		}
		data = rest
	}
}

// memberValue finds a quoted key followed by a colon; value begins at its value.
func memberValue(data, key []byte) (value, rest []byte, found bool) {
	for {
		i := bytes.Index(data, key)
		if i < 0 {
			return nil, nil, false
		}
		rest = data[i+len(key):]
		value = trimSpaceLeft(rest)
		if len(value) > 0 && value[0] == ':' {
			return trimSpaceLeft(value[1:]), rest, true
		}
		data = rest
	}
}

func trimSpaceLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}
