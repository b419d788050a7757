package llm

import (
	"bytes"
	"encoding/json"
)

// maxMember bounds a value that memberTap keeps until it is complete, in bytes.
const maxMember = 4 << 10

// memberTap reads a JSON answer as it passes and keeps nothing but the few small
// members that tell token counts and why the engine stopped.
type memberTap struct {
	depth   int
	kinds   [4]byte // '{' or '[' of the outermost levels
	inText  bool
	escaped bool
	naming  bool // the text is a name
	expect  bool // the next text is a name

	name    []byte
	value   []byte // the value being kept
	keeping bool
	kept    string // its name
	level   int    // its depth

	part         answerPart
	finishReason string
	ended        bool
}

// wanted tells whether a member at a depth is worth keeping. Finish reasons are at
// {"choices":[{"finish_reason": ...}]}, everything else is at the top.
func wanted(name []byte, depth int) bool {
	switch string(name) {
	case "usage", "done", "done_reason", "prompt_eval_count", "eval_count", "error", "status":
		return depth == 1
	case "finish_reason":
		return depth == 3
	}
	return false
}

func (m *memberTap) feed(p []byte) {
	for i := 0; i < len(p); i++ {
		if m.inText {
			i += m.text(p[i:]) - 1
			continue
		}
		c := p[i]
		if m.keeping && (c == ',' || c == '}' || c == ']') && m.depth == m.level {
			m.taken()
		}
		if m.keeping {
			m.keep(p[i : i+1])
		}
		switch c {
		case '"':
			m.inText, m.naming = true, m.expect
			m.expect = false
			m.name = m.name[:0]
		case '{', '[':
			if m.depth < len(m.kinds) {
				m.kinds[m.depth] = c
			}
			m.depth++
			m.expect = c == '{'
		case '}', ']':
			m.depth--
			m.expect = false
			m.ended = m.ended || m.depth == 0
			if m.depth < 0 { // not JSON: read on without hope, and without harm
				m.depth = 0
			}
		case ',':
			m.expect = m.depth > 0 && m.depth <= len(m.kinds) && m.kinds[m.depth-1] == '{'
		case ':':
			if !m.keeping && wanted(m.name, m.depth) {
				m.keeping, m.kept, m.level, m.value = true, string(m.name), m.depth, m.value[:0]
			}
			m.name = m.name[:0]
		}
	}
}

// text reads inside a JSON string and returns how many bytes it read.
func (m *memberTap) text(p []byte) int {
	n := 0
	switch {
	case m.escaped:
		m.escaped = false
		n = 1
	case p[0] == '\\':
		m.escaped = true
		n = 1
	case p[0] == '"':
		m.inText = false
		n = 1
	default:
		if n = bytes.IndexAny(p, `"\`); n < 0 {
			n = len(p)
		}
		if m.naming && len(m.name)+n <= 32 {
			m.name = append(m.name, p[:n]...)
		}
	}
	if m.keeping {
		m.keep(p[:n])
	}
	return n
}

func (m *memberTap) keep(p []byte) {
	if len(m.value)+len(p) <= maxMember {
		m.value = append(m.value, p...)
	}
}

// taken reads a kept value. One that was cut at the bound is not JSON and is ignored.
func (m *memberTap) taken() {
	m.keeping = false
	object := append(append([]byte(`{"`+m.kept+`":`), m.value...), '}')
	if m.level == 1 {
		// Unmarshal adds to what earlier members told; a wrong type is skipped.
		_ = json.Unmarshal(object, &m.part)
		return
	}
	var choice struct {
		FinishReason string `json:"finish_reason"`
	}
	if json.Unmarshal(object, &choice) == nil && choice.FinishReason != "" {
		m.finishReason = choice.FinishReason
	}
}

// finish adds what was learnt to a tally.
func (m *memberTap) finish(t *tally) {
	t.take(&m.part)
	t.ended = m.ended
	for _, reason := range []string{m.part.Status, m.finishReason} {
		if reason != "" {
			t.finish = reason
		}
	}
}
