package llm

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// tapped sends an answer through a tap in pieces and returns what came out.
func tapped(kind string, d *dialect, hide bool, pieces ...string) (string, *tap) {
	w := httptest.NewRecorder()
	tp := newTap(w, d, hide, nil)
	tp.Header().Set("Content-Type", kind)
	tp.WriteHeader(http.StatusOK)
	for _, piece := range pieces {
		_, _ = tp.Write([]byte(piece))
	}
	tp.close()
	return w.Body.String(), tp
}

// bytewise is the worst way to split an answer.
func bytewise(s string) []string { return strings.Split(s, "") }

func TestTheTapReadsEveryDialect(t *testing.T) {
	crlf := strings.NewReplacer("\n", "\r\n")
	spaced := strings.NewReplacer(`":`, `": `, `,"`, `, "`)
	responses := "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"usage\":null,\"error\":null}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n" +
		"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n"
	generate := `{"response":"a \"done\":true","done":false}` + "\n" + `{"thinking":"b","response":"","done":false}` + "\n" +
		`{"response":"","done":true,"done_reason":"length","prompt_eval_count":4,"eval_count":2}` + "\n"
	tools := `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}` + "\n\n" +
		`data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":2,"completion_tokens":5}}` + "\n\n" + sseDone
	for _, c := range []struct {
		name, kind    string
		d             *dialect
		text          string
		pieces        int
		input, output int
		finish        string
		ended, failed bool
	}{
		{"chat", "text/event-stream", dialectChat, sseHello + sseUsage + sseDone, 2, 7, 2, "stop", true, false},
		{"chat, CRLF", "text/event-stream; charset=utf-8", dialectChat, crlf.Replace(sseHello + sseUsage + sseDone), 2, 7, 2, "stop", true, false},
		{"chat, spaces", "text/event-stream", dialectChat, spaced.Replace(sseHello+sseUsage) + sseDone, 2, 7, 2, "stop", true, false},
		{"chat without usage", "text/event-stream", dialectChat, sseHello + sseDone, 2, -1, -1, "stop", true, false},
		{"chat, cut", "text/event-stream", dialectChat, sseHello, 2, -1, -1, "stop", false, false},
		{"chat, error inside", "text/event-stream", dialectChat, sseHello + `data: {"error":{"message":"out of memory"}}` + "\n\n", 2, -1, -1, "stop", false, true},
		{"tools", "text/event-stream", dialectChat, tools, 1, 2, 5, "tool_calls", true, false},
		{"pings", "text/event-stream", dialectChat, ": ping\n\n" + sseHello + ": ping\n\n" + sseDone, 2, -1, -1, "stop", true, false},
		{"completion", "text/event-stream", dialectText, `data: {"choices":[{"text":"x","finish_reason":null}]}` + "\n\n" + sseDone, 1, -1, -1, "", true, false},
		{"responses", "text/event-stream", dialectResponses, responses, 1, 3, 1, "completed", true, false},
		{"generate", "application/x-ndjson", dialectOllama, generate, 2, 4, 2, "length", true, false},
		{"generate, cut", "application/x-ndjson", dialectOllama, generate[:50], 1, -1, -1, "", false, false},
		{"generate, error", "application/x-ndjson", dialectOllama, `{"error":"boom"}` + "\n", 0, -1, -1, "", false, true},
	} {
		for split, pieces := range map[string][]string{"whole": {c.text}, "bytewise": bytewise(c.text)} {
			out, tp := tapped(c.kind, c.d, false, pieces...)
			if out != c.text {
				t.Errorf("%s, %s: changed to %q", c.name, split, out)
			}
			if tp.pieces != c.pieces || tp.input != c.input || tp.output != c.output || tp.tally.finish != c.finish || tp.ended != c.ended || tp.failed != c.failed {
				t.Errorf("%s, %s: %+v", c.name, split, tp.tally)
			}
		}
	}
}

func TestAWholeAnswerIsReadWhileItPasses(t *testing.T) {
	text := `{"id":"x","usage_note":{"usage":{"prompt_tokens":99}},"choices":[{"index":0,"message":{"content":"a \"usage\":{\"prompt_tokens\":98} \\","tool":{"finish_reason":"no"}},"finish_reason":"stop"}],` +
		"\n \"usage\" : {\"prompt_tokens\":5, \"completion_tokens\": 4} }"
	for split, pieces := range map[string][]string{"whole": {text}, "bytewise": bytewise(text)} {
		out, tp := tapped("application/json", dialectChat, true, pieces...)
		if out != text || tp.input != 5 || tp.output != 4 || tp.tally.finish != "stop" || tp.streamed || !tp.ended {
			t.Errorf("%s: %+v", split, tp.tally)
		}
	}
	native := `{"model":"m","response":"hello","done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}`
	if _, tp := tapped("application/json", dialectOllama, false, native); tp.input != 3 || tp.output != 2 || tp.tally.finish != "stop" {
		t.Errorf("%+v", tp.tally)
	}
}

func TestOnlyAPieceThatTellsNothingElseIsLeftOut(t *testing.T) {
	both := `data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}` + "\n\n"
	for _, c := range []struct{ name, in, want string }{
		{"usage alone", sseHello + sseUsage + sseDone, sseHello + sseDone},
		{"usage with text", both + sseDone, both + sseDone},
		{"usage null", `data: {"choices":[],"usage":null}` + "\n\n", `data: {"choices":[],"usage":null}` + "\n\n"},
		{"never finished", sseHello + "data: {\"cho", sseHello + "data: {\"cho"},
		{"CRLF", strings.ReplaceAll(sseHello+sseUsage+sseDone, "\n", "\r\n"), strings.ReplaceAll(sseHello+sseDone, "\n", "\r\n")},
		{"with an event line", "event: x\n" + sseUsage + sseDone, sseDone},
		{"blank lines", "\n\n" + sseUsage + "\n" + sseDone, "\n\n\n" + sseDone},
	} {
		for split, pieces := range map[string][]string{"whole": {c.in}, "bytewise": bytewise(c.in)} {
			if out, _ := tapped("text/event-stream", dialectChat, true, pieces...); out != c.want {
				t.Errorf("%s, %s: %q", c.name, split, out)
			}
		}
	}
	long := "data: " + strings.Repeat("x", maxEvent) + "\n\n" + sseDone
	if out, _ := tapped("text/event-stream", dialectChat, true, long[:100], long[100:maxEvent], long[maxEvent:]); out != long {
		t.Errorf("an event over the bound must pass: %d of %d bytes", len(out), len(long))
	}
}

func TestManySmallWritesCostNoMoreThanTheyHold(t *testing.T) {
	event := "data: " + strings.Repeat("x", maxEvent-100) + "\n\n"
	start := time.Now()
	out, _ := tapped("text/event-stream", dialectChat, true, bytewise(event)...)
	if out != event {
		t.Errorf("%d of %d bytes", len(out), len(event))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("one event in single bytes took %v", took)
	}
}

func TestTextThatLooksLikeMembersIsText(t *testing.T) {
	said, _ := json.Marshal(`{"usage":{"prompt_tokens":1},"finish_reason":"stop","done":true,"error":"x"}`)
	text := `data: {"choices":[{"delta":{"content":` + string(said) + `}}]}` + "\n\n"
	out, tp := tapped("text/event-stream", dialectChat, true, text)
	if out != text || tp.pieces != 1 || tp.input != -1 || tp.tally.finish != "" || tp.failed {
		t.Errorf("%q %+v", out, tp.tally)
	}
	line := `{"response":` + string(said) + `,"done":false}` + "\n"
	if _, tp := tapped("application/x-ndjson", dialectOllama, false, line); tp.ended || tp.failed || tp.pieces != 1 {
		t.Errorf("%+v", tp.tally)
	}
}

// FuzzTap: however an answer is split, the client gets the same bytes and the books
// the same figures; unless token counts are hidden, the bytes are the engine's.
func FuzzTap(f *testing.F) {
	f.Add([]byte(sseHello+sseUsage+sseDone), uint16(7))
	f.Add([]byte("data: x\r\n\r\n\n\r\n: c\n\ndata:"), uint16(1))
	f.Add([]byte(`{"response":"a","done":true,"eval_count":2}`+"\n"), uint16(3))
	f.Add([]byte(`{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`), uint16(2))
	f.Fuzz(func(t *testing.T, text []byte, step uint16) {
		size := int(step)%64 + 1
		var pieces []string
		for rest := text; len(rest) > 0; {
			n := min(size, len(rest))
			pieces = append(pieces, string(rest[:n]))
			rest = rest[n:]
		}
		for _, kind := range []string{"text/event-stream", "application/x-ndjson", "application/json", "text/plain"} {
			for _, d := range []*dialect{dialectChat, dialectText, dialectResponses, dialectOllama} {
				for _, hide := range []bool{false, true} {
					whole, one := tapped(kind, d, hide, string(text))
					split, many := tapped(kind, d, hide, pieces...)
					if whole != split {
						t.Fatalf("%s, hidden %v: %q in one piece, %q in many", kind, hide, whole, split)
					}
					if (!hide || kind != "text/event-stream") && !bytes.Equal([]byte(whole), text) {
						t.Fatalf("%s: changed from %q to %q", kind, text, whole)
					}
					a, b := one.tally, many.tally
					if a.pieces != b.pieces || a.input != b.input || a.output != b.output || a.finish != b.finish || a.ended != b.ended || a.failed != b.failed {
						t.Fatalf("%s, hidden %v: %+v in one piece, %+v in many", kind, hide, a, b)
					}
				}
			}
		}
	})
}

func TestAHeldAnswerLeavesNoTraceUntilItIsReleased(t *testing.T) {
	w := httptest.NewRecorder()
	tp := newTap(w, dialectChat, false, nil)
	tp.holds = func(status int) bool { return status == 503 }
	passes := 0
	tp.passes = func() { passes++ }
	answer := func(status int, text string) {
		tp.Header().Set("X-Status", http.StatusText(status))
		tp.WriteHeader(status)
		_, _ = tp.Write([]byte(text))
		if err := http.NewResponseController(tp).Flush(); err != nil {
			t.Fatal(err)
		}
	}
	answer(503, "first")
	if w.Flushed || w.Body.Len() > 0 || len(w.Header()) > 0 || !tp.held || passes != 0 {
		t.Errorf("a held answer is out: %v %q %v", w.Flushed, w.Body, w.Header())
	}
	tp.discard()
	answer(503, "second")
	tp.release()
	tp.release()
	tp.close()
	if w.Code != 503 || w.Body.String() != "second" || len(w.Header().Values("X-Status")) != 1 || passes != 1 {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	// Whatever the proxy says after that: nobody else is asked.
	c := &call{ctx: t.Context(), tap: tp}
	if reason := c.failure(caddyhttp.Error(http.StatusBadGateway, http.ErrAbortHandler)); reason != "" {
		t.Errorf("an answer that has passed is to be repeated: %s", reason)
	}
}
