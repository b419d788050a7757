package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// voice words an answer in one of the APIs. All methods but whole and refusal append to a stream.
type voice interface {
	mime() string
	// begin is what comes before any text.
	begin(to []byte) []byte
	// part wraps a text that is in JSON's escaped form already.
	part(to []byte, k int, one part, text []byte) []byte
	// end is what comes behind all text. usage: with token counts.
	end(to []byte, t telling, usage bool) []byte
	// trouble is an error inside a stream.
	trouble(to []byte, message string) []byte
	// whole is the answer that is not streamed.
	whole(t telling) any
	// refusal is the body of an error.
	refusal(status int, code, message string) any
}

// telling is an answer that was told: what its end says.
type telling struct {
	plan                   *script
	text, reasoning, calls string // escaped
	started                time.Time
}

type object = map[string]any

func raw(escaped string) json.RawMessage { return json.RawMessage(`"` + escaped + `"`) }

// events are server-sent events.
type events struct {
	ending   string
	comments bool
}

func (e events) mime() string { return "text/event-stream" }

func (e events) open(to []byte, name string) []byte {
	if e.comments {
		to = append(append(append(to, ": still here"...), e.ending...), e.ending...)
	}
	if name != "" {
		to = append(append(append(to, "event: "...), name...), e.ending...)
	}
	return append(to, "data: "...)
}

func (e events) close(to []byte) []byte { return append(append(to, e.ending...), e.ending...) }

func (e events) event(to []byte, name string, value any) []byte {
	text, _ := json.Marshal(value)
	return e.close(append(e.open(to, name), text...))
}

func openAIError(status int, code, message string) any {
	kind := "invalid_request_error"
	if status >= 500 {
		kind = "server_error"
	}
	return object{"error": object{"message": message, "type": kind, "param": nil, "code": code}}
}

func openAIUsage(p *script) object {
	thought := 0
	for _, one := range p.parts {
		if one.kind == partReasoning {
			thought += one.tokens
		}
	}
	made := object{
		"prompt_tokens": p.prompt, "completion_tokens": p.tokens, "total_tokens": p.prompt + p.tokens,
		"completion_tokens_details": object{"reasoning_tokens": thought},
	}
	if p.cached >= 0 {
		made["prompt_tokens_details"] = object{"cached_tokens": p.cached}
	}
	return made
}

// completions is OpenAI's chat and its older text API.
type completions struct {
	events
	chat      bool
	id        string
	model     string
	created   int64
	role      bool
	signature *signature
}

func (c *completions) head(to []byte) []byte {
	kind := "text_completion"
	if c.chat {
		kind = "chat.completion.chunk"
	}
	to = append(c.open(to, ""), `{"id":"`...)
	to = append(append(to, c.id...), `","object":"`...)
	to = append(append(to, kind...), `","created":`...)
	to = append(strconv.AppendInt(to, c.created, 10), `,"model":"`...)
	return append(append(to, escaped(c.model)...), `","choices":[{"index":0,`...)
}

func (c *completions) begin(to []byte) []byte {
	if !c.chat || !c.role {
		return to
	}
	return c.close(append(c.head(to), `"delta":{"role":"assistant","content":""},"finish_reason":null}]}`...))
}

func (c *completions) part(to []byte, k int, one part, text []byte) []byte {
	to = c.head(to)
	end := `"},"finish_reason":null}]}`
	switch {
	case !c.chat:
		to, end = append(to, `"text":"`...), `","finish_reason":null}]}`
	case one.kind == partReasoning:
		to = append(to, `"delta":{"reasoning_content":"`...)
	case one.kind == partCall:
		to = append(to, `"delta":{"tool_calls":[{"index":0,`...)
		if k == 0 {
			to = append(to, fmt.Sprintf(`"id":"call_%s","type":"function",`, c.id)...)
			to = append(append(append(to, `"function":{"name":"`...), escaped(c.signature.Name)...), `","arguments":"`...)
		} else {
			to = append(to, `"function":{"arguments":"`...)
		}
		end = `"}}]},"finish_reason":null}]}`
	default:
		to = append(to, `"delta":{"content":"`...)
	}
	return c.close(append(append(to, text...), end...))
}

func (c *completions) end(to []byte, t telling, usage bool) []byte {
	empty := `"text":"",`
	if c.chat {
		empty = `"delta":{},`
	}
	to = c.close(append(c.head(to), fmt.Sprintf(`%s"finish_reason":"%s"}]}`, empty, t.plan.finish)...))
	if usage {
		to = c.event(to, "", object{
			"id": c.id, "object": "chat.completion.chunk", "created": c.created, "model": c.model,
			"choices": []any{}, "usage": openAIUsage(t.plan),
		})
	}
	return c.close(append(c.open(to, ""), "[DONE]"...))
}

func (c *completions) trouble(to []byte, message string) []byte {
	return c.event(to, "", openAIError(500, "server_error", message))
}

func (c *completions) whole(t telling) any {
	choice := object{"index": 0, "finish_reason": t.plan.finish, "text": raw(t.text)}
	kind := "text_completion"
	if c.chat {
		kind = "chat.completion"
		message := object{"role": "assistant", "content": raw(t.text)}
		if t.reasoning != "" {
			message["reasoning_content"] = raw(t.reasoning)
		}
		if t.plan.call != nil {
			message["content"] = nil
			message["tool_calls"] = []any{object{
				"id": "call_" + c.id, "type": "function",
				"function": object{"name": t.plan.call.Name, "arguments": raw(t.calls)},
			}}
		}
		choice = object{"index": 0, "finish_reason": t.plan.finish, "message": message}
	}
	return object{
		"id": c.id, "object": kind, "created": c.created, "model": c.model,
		"choices": []any{choice}, "usage": openAIUsage(t.plan),
	}
}

func (c *completions) refusal(status int, code, message string) any {
	return openAIError(status, code, message)
}

// responses is OpenAI's newest API.
type responses struct {
	events
	id        string
	model     string
	created   int64
	signature *signature
	sequence  int
}

func (r *responses) tell(to []byte, name string, value object) []byte {
	value["type"] = name
	value["sequence_number"] = r.sequence
	r.sequence++
	return r.event(to, name, value)
}

func (r *responses) item(t *telling, status string) object {
	if r.signature != nil {
		arguments := ""
		if t != nil {
			arguments = t.calls
		}
		return object{
			"id": "fc_" + r.id, "call_id": "call_" + r.id, "type": "function_call", "status": status,
			"name": r.signature.Name, "arguments": raw(arguments),
		}
	}
	content := []any{}
	if t != nil {
		content = []any{object{"type": "output_text", "text": raw(t.text), "annotations": []any{}}}
	}
	return object{"id": "msg_" + r.id, "type": "message", "role": "assistant", "status": status, "content": content}
}

func (r *responses) object(t *telling, status string) object {
	made := object{
		"id": "resp_" + r.id, "object": "response", "created_at": r.created, "status": status, "model": r.model,
		"output": []any{}, "error": nil, "incomplete_details": nil, "instructions": nil, "metadata": object{},
		"parallel_tool_calls": true, "tool_choice": "auto", "tools": []any{}, "temperature": 1.0, "top_p": 1.0,
		"usage": nil,
	}
	if t != nil {
		made["output"] = []any{r.item(t, "completed")}
		made["usage"] = object{
			"input_tokens": t.plan.prompt, "output_tokens": t.plan.tokens, "total_tokens": t.plan.prompt + t.plan.tokens,
			"input_tokens_details": object{"cached_tokens": max(t.plan.cached, 0)}, "output_tokens_details": object{"reasoning_tokens": 0},
		}
		if t.plan.finish == "length" {
			made["incomplete_details"] = object{"reason": "max_output_tokens"}
		}
	}
	return made
}

func (r *responses) begin(to []byte) []byte {
	to = r.tell(to, "response.created", object{"response": r.object(nil, "in_progress")})
	to = r.tell(to, "response.output_item.added", object{"output_index": 0, "item": r.item(nil, "in_progress")})
	if r.signature != nil {
		return to
	}
	return r.tell(to, "response.content_part.added", object{
		"item_id": "msg_" + r.id, "output_index": 0, "content_index": 0,
		"part": object{"type": "output_text", "text": "", "annotations": []any{}},
	})
}

func (r *responses) part(to []byte, _ int, one part, text []byte) []byte {
	name, item, content := "response.output_text.delta", "msg_", `"content_index":0,`
	switch one.kind {
	case partCall:
		name, item, content = "response.function_call_arguments.delta", "fc_", ""
	case partReasoning:
		name = "response.reasoning_text.delta"
	}
	to = append(append(append(r.open(to, name), `{"type":"`...), name...), `","sequence_number":`...)
	to = append(strconv.AppendInt(to, int64(r.sequence), 10), `,"item_id":"`...)
	to = append(append(append(to, item...), r.id...), `","output_index":0,`...)
	to = append(append(append(append(to, content...), `"delta":"`...), text...), `"}`...)
	r.sequence++
	return r.close(to)
}

func (r *responses) end(to []byte, t telling, _ bool) []byte {
	if r.signature != nil {
		to = r.tell(to, "response.function_call_arguments.done", object{
			"item_id": "fc_" + r.id, "output_index": 0, "name": r.signature.Name, "arguments": raw(t.calls),
		})
	} else {
		to = r.tell(to, "response.output_text.done", object{
			"item_id": "msg_" + r.id, "output_index": 0, "content_index": 0, "text": raw(t.text),
		})
		to = r.tell(to, "response.content_part.done", object{
			"item_id": "msg_" + r.id, "output_index": 0, "content_index": 0,
			"part": object{"type": "output_text", "text": raw(t.text), "annotations": []any{}},
		})
	}
	to = r.tell(to, "response.output_item.done", object{"output_index": 0, "item": r.item(&t, "completed")})
	last := r.ended(t)
	return r.tell(to, "response."+last, object{"response": r.object(&t, last)})
}

func (r *responses) ended(t telling) string {
	if t.plan.finish == "length" {
		return "incomplete"
	}
	return "completed"
}

func (r *responses) trouble(to []byte, message string) []byte {
	return r.tell(to, "error", object{"code": "server_error", "message": message, "param": nil})
}

func (r *responses) whole(t telling) any { return r.object(&t, r.ended(t)) }

func (r *responses) refusal(status int, code, message string) any {
	return openAIError(status, code, message)
}

// native is Ollama's own API: one JSON object a line.
type native struct {
	chat      bool
	model     string
	created   string
	signature *signature
}

func (n *native) mime() string { return "application/x-ndjson" }

func (n *native) begin(to []byte) []byte { return to }

func (n *native) head(to []byte) []byte {
	to = append(append(append(to, `{"model":"`...), escaped(n.model)...), `","created_at":"`...)
	return append(append(to, n.created...), `",`...)
}

func (n *native) part(to []byte, _ int, one part, text []byte) []byte {
	field := "content"
	if one.kind == partReasoning {
		field = "thinking"
	}
	switch {
	case one.kind == partCall:
		// A call comes whole, at the end.
		return to
	case n.chat && field == "content":
		to = append(n.head(to), `"message":{"role":"assistant","content":"`...)
		return append(append(to, text...), "\"},\"done\":false}\n"...)
	case n.chat:
		to = append(n.head(to), `"message":{"role":"assistant","content":"","thinking":"`...)
		return append(append(to, text...), "\"},\"done\":false}\n"...)
	case field == "thinking":
		to = append(n.head(to), `"response":"","thinking":"`...)
	default:
		to = append(n.head(to), `"response":"`...)
	}
	return append(append(to, text...), "\",\"done\":false}\n"...)
}

func (n *native) last(t telling, text, reasoning string) object {
	reason := t.plan.finish
	if reason == "tool_calls" {
		reason = "stop"
	}
	took := time.Since(t.started).Nanoseconds()
	made := object{
		"model": n.model, "created_at": n.created, "done": true, "done_reason": reason, "total_duration": took,
		"load_duration": 1000, "prompt_eval_count": t.plan.prompt, "prompt_eval_duration": 1000,
		"eval_count": t.plan.tokens, "eval_duration": took,
	}
	if !n.chat {
		made["response"] = raw(text)
		return made
	}
	said := object{"role": "assistant", "content": raw(text)}
	if reasoning != "" {
		said["thinking"] = raw(reasoning)
	}
	if n.signature != nil {
		var arguments any
		var text string
		_ = json.Unmarshal([]byte(raw(t.calls)), &text)
		_ = json.Unmarshal([]byte(text), &arguments)
		said["tool_calls"] = []any{object{"function": object{"name": n.signature.Name, "arguments": arguments}}}
	}
	made["message"] = said
	return made
}

func (n *native) end(to []byte, t telling, _ bool) []byte {
	text, _ := json.Marshal(n.last(t, "", ""))
	return append(append(to, text...), '\n')
}

func (n *native) trouble(to []byte, message string) []byte {
	text, _ := json.Marshal(n.refusal(500, "", message))
	return append(append(to, text...), '\n')
}

func (n *native) whole(t telling) any { return n.last(t, t.text, t.reasoning) }

func (n *native) refusal(_ int, _, message string) any { return object{"error": message} }
