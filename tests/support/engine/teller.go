package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// teller tells one answer at its pace.
type teller struct {
	*exchange
	s    *Scenario
	v    voice
	plan *script
	dues []time.Duration
	line *line

	text, reasoning, calls []byte // what was said, in JSON's escaped form
	token                  int
	scratch                []byte
}

// say words a part and remembers its text.
func (t *teller) say(k int) []byte {
	one := t.plan.parts[k]
	t.scratch = t.plan.say(t.scratch[:0], k, t.token)
	t.token += one.tokens
	switch one.kind {
	case partReasoning:
		t.reasoning = append(t.reasoning, t.scratch...)
	case partCall:
		t.calls = append(t.calls, t.scratch...)
	default:
		t.text = append(t.text, t.scratch...)
	}
	return t.scratch
}

func (t *teller) telling() telling {
	return telling{
		plan: t.plan, text: string(t.text), reasoning: string(t.reasoning), calls: string(t.calls), started: t.start,
	}
}

// stream sends each chunk when it is due. A late chunk does not move the ones behind it.
func (t *teller) stream(usageAsked bool) {
	t.head(t.v.mime(), t.s.Headers)
	t.status(http.StatusOK)
	flush := http.NewResponseController(t.w).Flush
	// An engine's head is out when its answer begins, not when its first token is there.
	if !t.send(t.v.begin(nil), flush) {
		return
	}
	parts := t.plan.parts
	var out []byte
	var beside time.Duration // what the answers at work meanwhile have cost
	for from := 0; from < len(parts); from += t.s.ChunksPerWrite {
		to := min(from+t.s.ChunksPerWrite, len(parts))
		out = out[:0]
		if from > 0 {
			beside += milliseconds(t.s.Beside * float64(t.line.working.Load()-1) * float64(to-from))
		}
		if due := t.dues[to-1] + beside; (due > 0 && !sleepUntil(t.r.Context(), t.start.Add(due))) || !t.gate.pass(t.r.Context()) {
			t.gone()
			return
		}
		for k := from; k < to; k++ {
			if t.faulty(k) {
				t.send(out, flush)
				t.fail(flush)
				return
			}
			out = t.v.part(out, k, parts[k], t.say(k))
		}
		at := stamp()
		if !t.send(out, flush) {
			return
		}
		t.sent(at)
	}
	if t.faulty(len(parts)) {
		t.fail(flush)
		return
	}
	usage := t.s.Usage == "always" || t.s.Usage == "asked" && usageAsked
	t.send(t.v.end(nil, t.telling(), usage), flush)
}

func (t *teller) faulty(k int) bool {
	switch t.s.Fault {
	case "hang", "cut", "reset", "no_done", "garbage", "stream_error":
		return k >= t.s.FaultAfter
	}
	return false
}

// fail plays a fault in the middle of a stream.
func (t *teller) fail(flush func() error) {
	switch t.s.Fault {
	case "hang":
		<-t.r.Context().Done()
		t.gone()
	case "cut":
		panic(http.ErrAbortHandler)
	case "reset":
		reset(t.w)
	case "garbage":
		t.send([]byte("data: {\"choices\": [ oh no\x00\xff\n\n: \n\n{{{\n\n"), flush)
	case "stream_error":
		t.send(t.v.trouble(nil, "the fake engine was told to fail"), flush)
	}
}

// sent notes the tokens that are out, and when they went.
func (t *teller) sent(at int64) {
	token := t.token
	t.record.change(func() {
		t.seen.Tokens = token
		if t.seen.FirstAt == 0 {
			t.seen.FirstAt = stamp()
		}
		t.seen.Told = append(t.seen.Told, at)
	})
}

// send writes and flushes, in two pieces where that is asked for; false: the client is gone.
func (t *teller) send(out []byte, flush func() error) bool {
	pieces := [][]byte{out}
	if t.s.Split {
		pieces = [][]byte{out[:len(out)/2], out[len(out)/2:]}
	}
	for _, piece := range pieces {
		if len(piece) > 0 {
			if _, err := t.w.Write(piece); err != nil {
				t.gone()
				return false
			}
		}
		if flush() != nil {
			t.gone()
			return false
		}
	}
	return true
}

// whole answers at once, when the last part is due.
func (t *teller) whole() {
	if last := len(t.dues) - 1; last >= 0 && !sleepUntil(t.r.Context(), t.start.Add(t.dues[last])) {
		t.gone()
		return
	}
	for k := range t.plan.parts {
		t.say(k)
	}
	t.sent(stamp())
	if t.s.Fault == "" {
		t.json(http.StatusOK, t.v.whole(t.telling()), t.s.Headers...)
		return
	}
	text, _ := json.Marshal(t.v.whole(t.telling()))
	t.head("application/json", t.s.Headers)
	t.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	t.status(http.StatusOK)
	flush := http.NewResponseController(t.w).Flush
	switch t.s.Fault {
	case "garbage", "no_done", "stream_error":
		text[0] = '<'
		t.send(text, flush)
	default:
		t.send(text[:len(text)/2], flush)
		t.fail(flush)
	}
}
