package llm

import (
	"mime"
	"net/http"
	"time"
)

// tap passes an answer on, byte by byte as it comes, and takes figures on the way.
// Whole pieces are left out in one case only: token counts that the client did not
// ask for. It deliberately has no ReadFrom: that would let bytes pass unseen.
type tap struct {
	http.ResponseWriter
	tally
	dialect *dialect
	// revoked tells whether the request was ended because its key no longer holds.
	revoked func() bool
	// hideUsage leaves pieces out that tell only token counts.
	hideUsage bool

	status   int
	streamed bool // the answer came as a stream
	broken   bool // the client could not be written to
	read     func(p []byte) error
	lines    lines
	events   events
	members  memberTap
}

func newTap(w http.ResponseWriter, d *dialect, hideUsage bool, gap func(time.Duration)) *tap {
	return &tap{ResponseWriter: w, tally: newTally(gap), dialect: d, hideUsage: hideUsage, revoked: func() bool { return false }}
}

// Unwrap lets http.ResponseController reach Flush.
func (t *tap) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// statusClientGone is what Caddy's proxy notes when a request was cancelled.
const statusClientGone = 499

// WriteHeader decides by the media type how the answer is read.
func (t *tap) WriteHeader(status int) {
	if status == statusClientGone && t.revoked() {
		return // it was us and the client is still there: it gets an answer instead
	}
	if status >= 200 && t.status == 0 {
		t.status = status
		t.choose()
	}
	t.ResponseWriter.WriteHeader(status)
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
