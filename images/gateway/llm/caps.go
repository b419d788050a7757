package llm

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"strconv"
)

// maxChoices is how many answers one request may ask for at the same time.
const maxChoices = 8

// choices reads how many answers a request asks for, 1 to maxChoices.
func (d *document) choices(op *operation) (int, *apiError) {
	most := 1
	for _, name := range op.choices {
		raw := d.value(name)
		if raw == nil {
			continue
		}
		n, err := strconv.Atoi(string(raw))
		if err != nil || n < 1 || n > maxChoices {
			return 0, badBody("invalid_"+name, name, "%q must be a whole number from 1 to %d.", name, maxChoices)
		}
		most = max(most, n)
	}
	return most, nil
}

// prompts counts what /v1/completions is to answer: a text, or a list of texts or of
// token lists, each of which gets an answer of its own.
func (d *document) prompts() int {
	raw := d.value("prompt")
	if raw == nil || raw[0] != '[' {
		return 1
	}
	first := raw[skipSpace(raw, 1)]
	if first != '"' && first != '[' {
		return 1 // tokens of one prompt, or nothing
	}
	n := 0
	for i := skipSpace(raw, 1); raw[i] != ']'; n++ {
		i, _ = skipValue(raw, i, len(raw))
		if i = skipSpace(raw, i); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return max(n, 1)
}

// cap makes sure that an answer gets at most so many tokens, over all its choices:
// what asks for more, for none or for any number gets that number, and what asks for
// less keeps it. 0 is no cap. Engines of the kind are what the members mean something to.
func (c *changes) cap(op *operation, kind string, most int) *apiError {
	if most <= 0 || len(op.caps) == 0 && !op.nested {
		return nil
	}
	n, refusal := c.doc.choices(op)
	if refusal != nil {
		return refusal
	}
	if op.prompts {
		n *= c.doc.prompts()
	}
	if most /= n; most == 0 {
		return &apiError{Status: http.StatusBadRequest, Code: "too_many_choices",
			Message: "This key may not have that many answers at the same time: each would have less than one token."}
	}
	if op.nested {
		return c.capOptions(most)
	}
	least, known := most, false
	for _, name := range op.caps {
		value, there, refusal := c.doc.capped(c.doc.fields, name, most)
		if refusal != nil {
			return refusal
		}
		if !there {
			continue
		}
		least = min(least, value.tokens)
		if value.changed {
			c.set(name, number(value.tokens))
		}
		// Ollama reads the first spelling alone; n_predict is llama.cpp's own word, which
		// others do not know.
		known = known || name == op.caps[0] || kind != kindOllama && name != "n_predict"
	}
	if !known {
		c.set(op.caps[0], number(least))
	}
	return nil
}

// mostTokens is how many tokens an answer may have at most, over all its choices: what
// the client asked for, but no more than that. 0 is not known.
func (d *document) mostTokens(op *operation, most int) int {
	in, names := d.fields, op.caps
	if op.nested {
		names = []string{"num_predict"}
		in = fields{}
		if at, there := d.members["options"]; there && d.raw[at.start] == '{' {
			in, _ = findFields(d.raw, at.start, maxOptionsDepth)
		}
	}
	asked := 0
	for _, name := range names {
		// What is changed asks for any number, and what is refused for nothing.
		if value, there, refusal := d.capped(in, name, math.MaxInt32); there && refusal == nil && !value.changed {
			asked = max(asked, value.tokens)
		}
	}
	n, _ := d.choices(op)
	if op.prompts {
		n *= d.prompts()
	}
	if asked *= n; asked == 0 || most > 0 && asked > most {
		return max(most, 0)
	}
	return asked
}

var errBadOptions = badBody("invalid_options", "options", "\"options\" must be an object.")

// maxOptionsDepth is no bound: the whole body's depth was checked when it was read.
const maxOptionsDepth = math.MaxInt

// capOptions is cap for Ollama's own API, which has the number among its options.
func (c *changes) capOptions(most int) *apiError {
	const name = "num_predict"
	at, there := c.doc.members["options"]
	if c.doc.value("options") == nil {
		c.set("options", []byte("{"+string(member(name, number(most)))+"}"))
		return nil
	}
	if !there || c.doc.raw[at.start] != '{' {
		return errBadOptions
	}
	options, refusal := findFields(c.doc.raw, at.start, maxOptionsDepth)
	if refusal != nil {
		return refusal
	}
	value, there, refusal := c.doc.capped(options, name, most)
	switch {
	case refusal != nil:
		return refusal
	case !there:
		c.edits = append(c.edits, insertion(options, member(name, number(most))))
	case value.changed:
		c.edits = append(c.edits, edit{options.members[name], number(value.tokens)})
	}
	return nil
}

func number(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }

// capped is a number of tokens as an engine is to get it.
type capped struct {
	tokens  int
	changed bool
}

// capped reads a number of tokens. Zero and less mean endless to engines.
func (d *document) capped(in fields, name string, most int) (value capped, there bool, refusal *apiError) {
	at, there := in.members[name]
	if !there {
		return value, false, nil
	}
	raw := d.raw[at.start:at.end]
	if bytes.Equal(raw, []byte("null")) {
		return capped{most, true}, true, nil
	}
	asked, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return value, true, badBody("invalid_"+name, name, "%q must be a number.", name)
	}
	if asked >= 1 && asked <= float64(most) {
		return capped{int(asked), false}, true, nil
	}
	return capped{most, true}, true, nil
}
