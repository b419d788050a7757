package llm

import (
	"maps"
	"mime"
	"net/http"
	"time"
)

// tap passes an answer on, byte by byte as it comes, and takes figures on the way.
// Whole pieces are left out in one case only: token counts that the client did not
// ask for. It deliberately has no ReadFrom: that would let bytes pass unseen.
//
// An answer that says that somebody else should be asked is held until that is decided:
// release lets it pass, discard forgets it. Every other answer passes at once.
type tap struct {
	http.ResponseWriter
	tally
	dialect *dialect
	// endedByUs tells whether the request was ended by us, and not by its client.
	endedByUs func() bool
	// holds tells whether an answer of that status is to be held; may be nil.
	holds func(status int) bool
	// passes is told when the answer is the client's; may be nil.
	passes func()
	// hideUsage leaves pieces out that tell only token counts.
	hideUsage bool

	header   http.Header // until it passes
	passed   bool
	held     bool
	kept     []byte // of a held answer
	status   int
	streamed bool // the answer came as a stream
	broken   bool // the client could not be written to
	read     func(p []byte) error
	lines    lines
	events   events
	members  memberTap
}

// maxHeld bounds what is kept of an answer that may be nobody's, in bytes. One that is
// larger is no error message, and passes.
const maxHeld = 64 << 10

func newTap(w http.ResponseWriter, d *dialect, hideUsage bool, gap func(time.Duration)) *tap {
	return &tap{ResponseWriter: w, tally: newTally(gap), dialect: d, hideUsage: hideUsage,
		header: w.Header().Clone(), endedByUs: func() bool { return false }}
}

// Unwrap lets http.ResponseController reach what it asks for.
func (t *tap) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// Header is the client's once the answer passes. Until then nobody's answer may leave
// a trace in it.
func (t *tap) Header() http.Header {
	if t.passed {
		return t.ResponseWriter.Header()
	}
	return t.header
}

// FlushError sends on what has passed.
func (t *tap) FlushError() error {
	if !t.passed {
		return nil
	}
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// statusClientGone is what Caddy's proxy notes when a request was cancelled.
const statusClientGone = 499

// WriteHeader decides whether the answer passes, and by its media type how it is read.
func (t *tap) WriteHeader(status int) {
	switch {
	case status == statusClientGone && t.endedByUs():
		return // the client is still there: it gets an answer instead
	case status < 200 || t.status != 0:
		return // an early hint of an engine is nothing to a client
	}
	t.status = status
	if t.held = t.holds != nil && t.holds(status); !t.held {
		t.pass()
	}
}

func (t *tap) pass() {
	to := t.ResponseWriter.Header()
	clear(to)
	maps.Copy(to, t.header)
	t.passed, t.held = true, false
	if t.passes != nil {
		t.passes()
	}
	t.choose()
	t.ResponseWriter.WriteHeader(t.status)
}

// release lets a held answer pass.
func (t *tap) release() {
	if t.held {
		t.pass()
		_ = t.read(t.kept) // a client that has gone shows when the books are closed
		t.kept = nil
	}
}

// discard forgets an answer that has not passed, and makes ready for another one.
func (t *tap) discard() {
	t.header = t.ResponseWriter.Header().Clone()
	t.held, t.kept, t.status = false, nil, 0
}

func (t *tap) choose() {
	h := t.Header()
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	coded := h.Get("Content-Encoding") != ""
	t.read = t.send
	switch {
	case coded: // asked for identity, given something else: nothing can be read
	case kind == "text/event-stream" && t.hideUsage:
		t.streamed = true
		h.Del("Content-Length")
		t.read = t.filterEvents
	case kind == "text/event-stream":
		t.streamed = true
		t.read = t.passEvents
	case kind == "application/x-ndjson":
		t.streamed = true
		t.read = t.passLines
	case kind == "application/json":
		t.read = t.passObject
	}
}

// Write passes p on.
func (t *tap) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.WriteHeader(http.StatusOK)
	}
	if t.held && len(t.kept)+len(p) <= maxHeld {
		t.kept = append(t.kept, p...)
		return len(p), nil
	}
	t.release()
	if !t.passed { // only after a 499 that nobody is to see
		return len(p), nil
	}
	if err := t.read(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *tap) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := t.ResponseWriter.Write(p)
	t.broken = t.broken || err != nil
	return err
}

func (t *tap) passEvents(p []byte) error {
	now := time.Now()
	err := t.send(p)
	t.lines.feed(p, func(line []byte) { t.eventLine(line, now) })
	return err
}

func (t *tap) passLines(p []byte) error {
	now := time.Now()
	err := t.send(p)
	t.lines.feed(p, func(line []byte) { t.piece(line, t.dialect, now) })
	return err
}

func (t *tap) passObject(p []byte) error {
	if t.pieces == 0 {
		t.content(time.Now()) // the first byte: all of the answer comes at once
	}
	err := t.send(p)
	t.members.feed(p)
	return err
}

func (t *tap) filterEvents(p []byte) error {
	now := time.Now()
	for _, part := range t.events.feed(p, func(event []byte) bool { return t.event(event, now) }) {
		if err := t.send(part); err != nil {
			return err
		}
	}
	return nil
}

// event reads one whole event and reports whether it is to be left out.
func (t *tap) event(event []byte, now time.Time) (drop bool) {
	var l lines
	take := func(line []byte) { drop = t.eventLine(line, now) || drop }
	l.feed(event, take)
	l.finish(take)
	return drop
}

func (t *tap) eventLine(line []byte, now time.Time) (usageOnly bool) {
	data, is := dataOf(line)
	return is && t.piece(data, t.dialect, now)
}

// close lets go of what is held and closes the books. It must be called once, also
// when the answer was broken off.
func (t *tap) close() {
	now := time.Now()
	if held := t.events.finish(); len(held) > 0 {
		t.event(held, now)
		_ = t.send(held) // an event without its end: clients ignore it, so order is all that matters
	}
	t.lines.finish(func(line []byte) {
		if t.dialect == dialectOllama {
			t.piece(line, t.dialect, now)
		} else {
			t.eventLine(line, now)
		}
	})
	if !t.streamed {
		t.members.finish(&t.tally)
		t.pieces = 0 // one answer in one piece says nothing about tokens
	}
}
