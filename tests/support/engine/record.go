package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Bounds of what is kept of one request, in bytes.
const (
	keptHead = 256 << 10
	keptBody = 64 << 10
)

// Seen is one request as it came off the wire. Moments are nanoseconds of CLOCK_MONOTONIC, 0 for never.
type Seen struct {
	ID         int    `json:"id"`
	Connection int    `json:"connection"`
	Peer       string `json:"peer"`
	Protocol   string `json:"protocol"`
	At         int64  `json:"at"`
	// Head is every byte up to and with the blank line; a code point for each byte (Latin-1). Empty for HTTP/2.
	Head    string `json:"head"`
	Method  string `json:"method"`
	Target  string `json:"target"`
	Headers Pairs  `json:"headers"`
	// After are the first bytes behind an upgrade, Latin-1 too.
	After string `json:"after,omitempty"`

	// What the engine made of it. A head that it refused to read has Handled false.
	Handled    bool    `json:"handled"`
	BodyLength int64   `json:"body_length"`
	BodySHA256 string  `json:"body_sha256"`
	Body       string  `json:"body"`
	Model      string  `json:"model"`
	Status     int     `json:"status"`
	Tokens     int     `json:"tokens"` // tokens that were sent
	FirstAt    int64   `json:"first_at"`
	Told       []int64 `json:"told,omitempty"` // when each write with text was sent
	EndedAt    int64   `json:"ended_at"`
	GoneAt     int64   `json:"gone_at"` // when the client went away before the end
}

// record keeps the newest requests.
type record struct {
	mu    sync.Mutex
	limit int
	last  int
	seen  []*Seen
}

func (r *record) add(s *Seen) *Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	s.ID = r.last
	if r.limit == 0 {
		return s
	}
	if len(r.seen) == r.limit {
		r.seen = append(r.seen[:0], r.seen[1:]...)
	}
	r.seen = append(r.seen, s)
	return s
}

// change alters an entry that somebody may be reading.
func (r *record) change(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// since returns copies of the requests with a higher number, the oldest first.
func (r *record) since(id int) []Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := []Seen{}
	for _, one := range r.seen {
		if one.ID > id {
			found = append(found, *one)
		}
	}
	return found
}

func (r *record) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// tapped hands out connections whose bytes are read along.
type tapped struct {
	net.Listener
	record *record
	mu     sync.Mutex
	last   int
}

func (t *tapped) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	return &tap{Conn: conn, record: t.record, number: t.last}, nil
}

// tap finds every request on a connection by itself: what the server behind it makes of the bytes
// does not change what is recorded. It reads along and never waits.
type tap struct {
	net.Conn
	record *record
	number int

	mu      sync.Mutex
	head    []byte
	blind   bool   // no requests of HTTP/1 from here on
	after   *Seen  // the upgrade that everything behind belongs to
	skip    int64  // bytes of a body
	chunked bool   // in a chunked body
	size    []byte // of the next chunk, or a trailer, so far
	trailer bool
	pending []*Seen
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.feed(p[:n])
	}
	return n, err
}

func (t *tap) feed(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(p) > 0 {
		switch {
		case t.blind:
			if t.after != nil {
				t.record.change(func() { t.after.After += latin1(p[:min(len(p), keptBody-min(keptBody, len(t.after.After)))]) })
			}
			return
		case t.skip > 0:
			n := min(t.skip, int64(len(p)))
			t.skip -= n
			p = p[n:]
		case t.chunked:
			p = t.chunk(p)
		default:
			p = t.more(p)
		}
	}
}

// more takes bytes of a head and returns the ones behind it.
func (t *tap) more(p []byte) []byte {
	i := bytes.IndexByte(p, '\n')
	if i < 0 || len(t.head)+i >= keptHead {
		t.head = append(t.head, p...)
		t.blind = len(t.head) > keptHead
		if t.blind {
			t.found()
		}
		return nil
	}
	t.head = append(t.head, p[:i+1]...)
	line := t.head[bytes.LastIndexByte(t.head[:len(t.head)-1], '\n')+1:]
	if len(bytes.TrimRight(line, "\r\n")) == 0 && len(bytes.TrimSpace(t.head)) > 0 {
		t.found()
	}
	return p[i+1:]
}

// found records the head that is complete and looks at what follows it.
func (t *tap) found() {
	if bytes.HasPrefix(t.head, []byte("PRI * HTTP/2.0\r\n")) {
		t.blind, t.head = true, nil
		return
	}
	one := &Seen{Connection: t.number, Peer: t.RemoteAddr().String(), At: stamp(), Head: latin1(t.head)}
	lines := strings.Split(strings.ReplaceAll(one.Head, "\r\n", "\n"), "\n")
	one.Method, one.Target, one.Protocol = requestLine(lines[0])
	for _, line := range lines[1:] {
		if name, value, is := strings.Cut(line, ":"); is {
			one.Headers = append(one.Headers, [2]string{name, strings.Trim(value, " \t")})
		}
	}
	t.record.add(one)
	t.pending = append(t.pending, one)
	t.head = nil
	for _, header := range one.Headers {
		switch strings.ToLower(header[0]) {
		case "transfer-encoding":
			t.chunked = t.chunked || strings.Contains(strings.ToLower(header[1]), "chunked")
		case "content-length":
			t.skip, _ = strconv.ParseInt(header[1], 10, 64)
		case "upgrade":
			t.blind, t.after = true, one
		}
	}
	if t.chunked {
		t.skip = 0
	}
}

// chunk takes bytes of a chunked body and returns the ones behind what it understood.
func (t *tap) chunk(p []byte) []byte {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		t.size = append(t.size, p...)
		t.blind = len(t.size) > keptHead
		return nil
	}
	line := strings.TrimSpace(string(append(t.size, p[:i]...)))
	t.size = nil
	p = p[i+1:]
	switch {
	case t.trailer:
		if line == "" {
			t.chunked, t.trailer = false, false
		}
	case line == "": // the end of a chunk before
	default:
		digits, _, _ := strings.Cut(line, ";")
		size, err := strconv.ParseInt(strings.TrimSpace(digits), 16, 64)
		t.blind = err != nil || size < 0
		t.skip, t.trailer = size, size == 0
	}
	return p
}

// requestLine cuts at the first and the last space: a target may hold more of them.
func requestLine(line string) (method, target, protocol string) {
	method, rest, _ := strings.Cut(line, " ")
	if i := strings.LastIndexByte(rest, ' '); i >= 0 {
		return method, rest[:i], rest[i+1:]
	}
	return method, rest, ""
}

// latin1 makes a code point of every byte, so that JSON can hold any.
func latin1(raw []byte) string {
	points := make([]rune, len(raw))
	for i, b := range raw {
		points[i] = rune(b)
	}
	return string(points)
}

type tapKey struct{}

func withTap(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, tapKey{}, conn)
}

// of returns the entry of a request that is being handled.
func (r *record) of(request *http.Request) *Seen {
	conn, _ := request.Context().Value(tapKey{}).(*tap)
	if conn != nil {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		if len(conn.pending) > 0 {
			one := conn.pending[0]
			conn.pending = conn.pending[1:]
			return one
		}
	}
	one := &Seen{
		Peer: request.RemoteAddr, Protocol: request.Proto, At: stamp(),
		Method: request.Method, Target: request.RequestURI, Headers: Pairs{{"Host", request.Host}},
	}
	if conn != nil {
		one.Connection = conn.number
	}
	for name, values := range request.Header {
		for _, value := range values {
			one.Headers = append(one.Headers, [2]string{name, value})
		}
	}
	return r.add(one)
}

// body notes what a request carried.
func (r *record) body(one *Seen, raw []byte) {
	sum := sha256.Sum256(raw)
	r.change(func() {
		one.Handled = true
		one.BodyLength = int64(len(raw))
		one.BodySHA256 = hex.EncodeToString(sum[:])
		one.Body = string(raw[:min(len(raw), keptBody)])
	})
}

// total is how many requests there were, forgotten ones included.
func (r *record) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
