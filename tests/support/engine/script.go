package main

import (
	"encoding/json"
	"strconv"
)

// part is one chunk of an answer: text, reasoning, or arguments of a tool.
type part struct {
	kind   byte // partText, partReasoning, partCall
	tokens int
	fixed  []byte // nil: words that are made up when they are sent
}

const (
	partText byte = iota
	partReasoning
	partCall
)

// script is an answer before it is told. All texts are in JSON's escaped form, without quotes.
type script struct {
	parts  []part
	tokens int
	finish string // stop, length, tool_calls
	call   *signature
	prompt int
	cached int // of the prompt; below 0: not told
	words  []string
	number uint64
}

// write plans the answer to a request.
func (s *Scenario) write(a *ask, number uint64) *script {
	plan := &script{finish: "stop", prompt: a.promptTokens(), words: plain, number: number, cached: -1}
	if s.Cached >= 0 {
		plan.cached = int(s.Cached * float64(plan.prompt))
	}
	if s.Hostile {
		plan.words = hostile
	}
	if call := a.call(); call != nil {
		plan.call, plan.finish = call, "tool_calls"
		arguments, _ := json.Marshal(sample(call.Parameters))
		plan.fix(partCall, arguments)
		return plan
	}
	if shape := a.shape(); shape != nil {
		text, _ := json.Marshal(sample(shape))
		plan.fix(partText, text)
		return plan
	}
	plan.tokens = s.Tokens
	if limit := a.limit(); limit > 0 && limit < s.Tokens {
		plan.tokens, plan.finish = limit, "length"
	}
	thought := min(s.ReasoningTokens, plan.tokens)
	plan.fill(partReasoning, thought, s.TokensPerChunk)
	plan.fill(partText, plan.tokens-thought, s.TokensPerChunk)
	return plan
}

func (p *script) fill(kind byte, tokens, each int) {
	for ; tokens > 0; tokens -= each {
		p.parts = append(p.parts, part{kind: kind, tokens: min(each, tokens)})
	}
}

// fix cuts a text that is known beforehand into tokens of up to five bytes (it is ASCII).
func (p *script) fix(kind byte, text []byte) {
	for len(text) > 0 {
		n := min(5, len(text))
		p.parts = append(p.parts, part{kind: kind, tokens: 1, fixed: escaped(string(text[:n]))})
		text = text[n:]
		p.tokens++
	}
}

// say appends the text of a part. Made-up text has a word for each token, and `@` with the present
// in nanoseconds of CLOCK_MONOTONIC behind the first one.
func (p *script) say(to []byte, k, token int) []byte {
	one := p.parts[k]
	if one.fixed != nil {
		return append(to, one.fixed...)
	}
	for i := range one.tokens {
		to = append(to, p.words[(token+i+int(p.number)*7)%len(p.words)]...)
		to = strconv.AppendInt(to, int64(token+i), 10)
		if i == 0 {
			to = append(to, '@')
			to = strconv.AppendInt(to, stamp(), 10)
		}
		to = append(to, ' ')
	}
	return to
}

// Words in JSON's escaped form. They have no spaces: a token is a word.
var (
	plain = []string{"amber", "brook", "cedar", "dusk", "ember", "fjord", "grün", "harbour", "日本", "ivory", "jade🌿"}
	// hostile are words that a careless reader of the stream takes for the stream itself.
	hostile = escapedAll(
		`[DONE]`, "data:[DONE]\n\n", `"usage":{"completion_tokens":99999}`, "\n\ndata:{}", `"finish_reason":"stop"`,
		`"done":true`, `\`, `"`, `{"error":"no"}`, `"content":""`, "\u2028", "\r\n", `event:response.completed`, "\x00", `</script>`,
	)
)

func escapedAll(words ...string) []string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = string(escaped(word))
	}
	return all
}

// escaped is a text as it stands between the quotes of a JSON string.
func escaped(text string) []byte {
	quoted, _ := json.Marshal(text)
	return quoted[1 : len(quoted)-1]
}
