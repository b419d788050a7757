package llm

import "bytes"

// Bounds of what the tap remembers of an answer, in bytes. Beyond them it lets the
// bytes pass unread: a figure may be lost, an answer never is.
const (
	maxLine  = 1 << 20   // one line of a stream
	maxEvent = 256 << 10 // one event that may have to be left out
)

// lines cuts a stream into lines, however its writes are split.
type lines struct {
	rest     []byte // the line so far, without its end
	overlong bool
}

// feed calls take with every line that p completes, without its line end.
func (l *lines) feed(p []byte, take func(line []byte)) {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.keep(p)
			return
		}
		line := p[:i]
		if len(l.rest) > 0 || l.overlong {
			l.keep(line)
			line = l.rest
		}
		if !l.overlong {
			take(bytes.TrimSuffix(line, []byte{'\r'}))
		}
		l.rest, l.overlong = l.rest[:0], false
		p = p[i+1:]
	}
}

// finish calls take with a last line that has no end.
func (l *lines) finish(take func(line []byte)) {
	if len(l.rest) > 0 && !l.overlong {
		take(bytes.TrimSuffix(l.rest, []byte{'\r'}))
	}
	l.rest = nil
}

func (l *lines) keep(p []byte) {
	if l.overlong || len(l.rest)+len(p) > maxLine {
		l.rest, l.overlong = l.rest[:0], true
		return
	}
	l.rest = append(l.rest, p...)
}

// events cuts a stream of server-sent events at its blank lines and decides for each
// event whether it passes. What an unfinished event has so far is held, which costs
// no time: clients act on an event at its blank line.
type events struct {
	held    []byte
	scanned int  // bytes of held in which no event ends
	open    bool // an event was too long: everything passes from here on
}

// feed returns the bytes of p, and of what was held, that may go on now. The result
// is valid until the next call.
func (e *events) feed(p []byte, drop func(event []byte) bool) [][]byte {
	if e.open {
		return [][]byte{p}
	}
	data, scan := p, 0
	if len(e.held) > 0 {
		e.held = append(e.held, p...)
		data, scan = e.held, e.scanned
	}
	var out [][]byte
	from, at := 0, 0
	for {
		end, next := eventEnd(data, at, scan)
		if end < 0 {
			e.scanned = next - at
			break
		}
		if drop(data[at:end]) {
			if at > from {
				out = append(out, data[from:at])
			}
			from = end
		}
		at, scan = end, end
	}
	if at > from {
		out = append(out, data[from:at])
	}
	if len(data)-at > maxEvent {
		e.open = true
		return append(out, data[at:])
	}
	if at > 0 || len(e.held) == 0 {
		// A copy of its own: what is handed out must stay as it is.
		e.held = append([]byte(nil), data[at:]...)
	}
	return out
}

// finish returns what is still held: an event that the engine never finished.
func (e *events) finish() []byte {
	held := e.held
	e.held = nil
	return held
}

// eventEnd finds the end of the event that begins at at: the place after its blank
// line. Without one it returns -1 and the place from which to scan on next time.
func eventEnd(data []byte, at, scan int) (end, next int) {
	for i := scan; ; i++ {
		j := bytes.IndexByte(data[i:], '\n')
		if j < 0 {
			return -1, len(data)
		}
		i += j
		blank := i == at || i == at+1 && data[at] == '\r'
		if blank {
			return i + 1, 0
		}
		switch {
		case i+1 == len(data):
			return -1, i
		case data[i+1] == '\n':
			return i + 2, 0
		case data[i+1] == '\r' && i+2 == len(data):
			return -1, i
		case data[i+1] == '\r' && data[i+2] == '\n':
			return i + 3, 0
		}
	}
}

// dataOf returns what a line of a server-sent event carries, if it carries data.
func dataOf(line []byte) ([]byte, bool) {
	data, is := bytes.CutPrefix(line, []byte("data:"))
	return bytes.TrimSpace(data), is
}
