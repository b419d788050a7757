package llm

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

// Why somebody else is asked, as a metric's label.
const (
	reasonUnreachable = "unreachable" // no connection was made
	reasonBroken      = "broken"      // the connection broke before the answer began
	reasonOverloaded  = "overloaded"  // 429 or 503, or no room in front of the engine
	reasonFailed      = "failed"      // any other status from 500
	reasonContext     = "context"     // the prompt is too long for the model
)

// overflows are what engines say, in lower case, when a prompt is too long for a model.
var overflows = [][]byte{
	[]byte("context_length_exceeded"),                 // OpenAI's error code; also vLLM, LM Studio
	[]byte("maximum context length is"),               // OpenAI, vLLM: "This model's maximum context length is 4096 tokens."
	[]byte("longer than the maximum model length"),    // vLLM before 0.11
	[]byte("exceed_context_size_error"),               // llama.cpp's error type (tools/server)
	[]byte("exceeds the available context size"),      // llama.cpp, and Ollama's runner of it
	[]byte("input length exceeds the context length"), // Ollama, embeddings
	[]byte("input length exceeds maximum context"),    // Ollama, embeddings, before 0.11
	[]byte("exceeded max context length"),             // Ollama: "prompt is too long; exceeded max context length"
	[]byte("longer than the model's context length"),  // SGLang
}

// overflow reports whether an error message says that the prompt is too long.
func overflow(message []byte) bool {
	message = bytes.ToLower(message)
	for _, words := range overflows {
		if bytes.Contains(message, words) {
			return true
		}
	}
	return false
}

// failure tells why somebody else should be asked, or "" when the answer stands. After
// the first byte that passed to the client every answer stands.
func (c *call) failure(err error) string {
	switch {
	case c.ctx.Err() != nil || c.tap.passed:
		return ""
	case unreachable(err):
		return reasonUnreachable
	case broke(err) && (!c.tap.held || reasonOf(c.tap.status) == ""):
		return reasonBroken
	case !c.tap.held:
		return ""
	case overflow(c.tap.kept):
		return reasonContext
	default:
		return reasonOf(c.tap.status)
	}
}

// reasonOf tells what a status says of an engine, or "" when it is about the request.
func reasonOf(status int) string {
	switch {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return reasonOverloaded
	case status >= http.StatusInternalServerError:
		return reasonFailed
	default:
		return ""
	}
}

// unreachable tells that no connection was made: the engine has seen nothing.
func unreachable(err error) bool {
	var known caddyhttp.HandlerError
	if !errors.As(err, &known) || known.StatusCode < http.StatusInternalServerError {
		return false
	}
	var dial reverseproxy.DialError
	return errors.As(err, &dial)
}

// broke tells that a connection broke once it was made, and not that an engine thought
// for too long: another one would need as long.
func broke(err error) bool {
	var known caddyhttp.HandlerError
	return errors.As(err, &known) && known.StatusCode == http.StatusBadGateway
}

// holds tells whether an answer of that status may be nobody's, because there is
// somebody else to ask. What is too long for a model is so for its twin too.
func (h *Handler) holds(c *call, status int) bool {
	if status < http.StatusBadRequest {
		return false
	}
	return h.fallbackOf(c, c.model) != nil || reasonOf(status) != "" && h.Engines[c.model.Engine].others(c.tried)
}

// again finds somebody else to ask and makes the call theirs, or reports that there is
// nobody. It counts what it does.
func (h *Handler) again(c *call, reason string) bool {
	engine := h.Engines[c.model.Engine]
	switch reason {
	case reasonUnreachable:
		if len(engine.members) > 1 && c.at.setDown(true) {
			logInstance(c.at, errors.New("no connection"))
		}
		// Costs the engine nothing, so any number of times.
	case reasonBroken:
		// The request itself may have ended the engine: it must not end them all. Whether
		// the instance is well the checks tell.
		if c.crashed {
			return false
		}
		c.crashed = true
		if c.moved {
			return h.fallBack(c, reason)
		}
		c.moved = true
	case reasonContext:
		return h.fallBack(c, reason)
	default:
		if c.moved {
			return h.fallBack(c, reason)
		}
		c.moved = true
	}
	c.tried = append(c.tried, c.at)
	if next := engine.move(c.at, c.tried); next != nil {
		c.at = next
		metrics.retries.WithLabelValues(c.model.ID, reason).Inc()
		return true
	}
	return h.fallBack(c, reason)
}

// fallBack gives the call to the nearest fallback that has room and that the consumer
// may use.
func (h *Handler) fallBack(c *call, reason string) bool {
	for to := h.fallbackOf(c, c.model); to != nil; to = h.fallbackOf(c, to) {
		body, refusal := h.bodyFor(c, to)
		if refusal != nil {
			continue
		}
		if refusal = h.enter(c, to); refusal != nil {
			continue
		}
		h.log.Info("a fallback answers", zap.String("model", c.from.ID), zap.String("fallback", to.ID), zap.String("reason", reason))
		metrics.fallbacks.WithLabelValues(c.from.ID, to.ID, reason).Inc()
		c.body, c.moved, c.tried = body, false, nil
		return true
	}
	return false
}

// fallbackOf is the nearest model after this one that could answer.
func (h *Handler) fallbackOf(c *call, m *Model) *Model {
	for name := m.Fallback; m.fallback != nil; name = m.Fallback {
		m = m.fallback
		if c.sess.consumer.mayUse(name, m.ID) && h.speaks(m, c.op) {
			return m
		}
	}
	return nil
}

// speaks reports whether a model's engine has an operation at all.
func (h *Handler) speaks(m *Model, op *operation) bool {
	return !op.native || h.Engines[m.Engine].Kind == kindOllama
}
