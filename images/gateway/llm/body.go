package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxMembers bounds the members of the outermost object; real requests have about 40 at most.
const maxMembers = 512

// ruledMembers are the members that decide what a request may do. They are taken in
// this spelling alone: engines written in Go would also read "MODEL" or "ſtream".
var ruledMembers = []string{"model", "stream", "stream_options", "options", "keep_alive", "num_predict", "n_predict",
	"max_tokens", "max_completion_tokens", "max_output_tokens", "n", "n_cmpl", "best_of"}

// document is a request body: its bytes, and where the members of its outermost
// object are. The bytes are only ever edited in place of a value, so that an engine
// sees what the client sent and nothing is lost in translation.
type document struct {
	fields
	raw []byte
}

// fields are the members of one object.
type fields struct {
	open    int // just after the {
	end     int // just after the }
	members map[string]span
}

// span is a value's place in the bytes.
type span struct{ start, end int }

func badBody(code, param, format string, args ...any) *apiError {
	return &apiError{Status: http.StatusBadRequest, Code: code, Param: param, Message: fmt.Sprintf(format, args...)}
}

// readDocument reads a request's body once: JSON only, at most maxBody bytes and
// maxDepth levels, every name at most once. The memory it takes is counted in room.
func readDocument(w http.ResponseWriter, r *http.Request, maxBody int64, maxDepth int, room *room) (*document, *apiError) {
	if refusal := checkMediaType(r.Header); refusal != nil {
		return nil, refusal
	}
	raw, refusal := readBody(w, r, maxBody, room)
	if refusal != nil {
		return nil, refusal
	}
	return parseDocument(raw, maxDepth)
}

// Bodies get memory as they come, not as they are announced: announcing costs nothing.
const (
	firstBuffer     = 64 << 10
	firstBufferOpen = 4 << 10 // where no length is announced
)

// A body must be there as a whole after bodyGrace and a second for every bodyPace of
// its bytes: what has come of it takes memory until then.
const bodyPace = 64 << 10 // bytes a second

var bodyGrace = 30 * time.Second

// readBody reads a body of at most maxBody bytes.
func readBody(w http.ResponseWriter, r *http.Request, maxBody int64, room *room) ([]byte, *apiError) {
	tooLarge := &apiError{Status: http.StatusRequestEntityTooLarge, Code: "request_too_large",
		Message: fmt.Sprintf("The request body may have %d bytes at most.", maxBody)}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	most, size := maxBody+1, int64(firstBufferOpen)
	if r.ContentLength >= 0 {
		most, size = r.ContentLength+1, firstBuffer
	}
	size = min(size, most)
	if refusal := room.grow(size); refusal != nil {
		return nil, refusal
	}
	// Caddy's own deadline moves on with every byte; it keeps to this one where this is sooner.
	deadline := http.NewResponseController(w).SetReadDeadline
	_ = deadline(time.Now().Add(bodyGrace + time.Duration(most)*time.Second/bodyPace))
	buf := make([]byte, 0, size)
	for {
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > maxBody:
			return nil, tooLarge
		case errors.Is(err, io.EOF):
			_ = deadline(time.Time{}) // or it would end the answer
			return buf, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errorForStatus(http.StatusRequestTimeout)
		case err != nil:
			return nil, badBody("incomplete_body", "", "The request body could not be read to its end.")
		}
		if len(buf) == cap(buf) {
			size = min(2*size, most)
			if refusal := room.grow(size); refusal != nil {
				return nil, refusal
			}
			buf = append(make([]byte, 0, size), buf...)
		}
	}
}

// errNoRoom: the bodies of all requests together take as much memory as they may.
var errNoRoom = &apiError{Status: http.StatusServiceUnavailable, Code: "gateway_busy", RetryAfter: time.Second,
	Message: "The gateway holds as many requests as it has memory for. Try again shortly."}

// errShareOfRoom: the bodies of one consumer take as much of it as they may.
var errShareOfRoom = &apiError{Status: http.StatusTooManyRequests, Code: "gateway_share_exceeded", RetryAfter: time.Second,
	Message: "The requests of this key take as much of the gateway's memory as one key may have. Wait for one to end."}

// buffered is what the bodies of all running requests take, in bytes.
var buffered atomic.Int64

// room is one request's share of the memory for bodies.
type room struct {
	most  int64         // for all requests together
	share int64         // for those of one consumer
	ours  *atomic.Int64 // what the consumer's requests take
	held  int64
}

// grow makes the share as large as that, unless there is no memory left.
func (r *room) grow(to int64) *apiError {
	more := to - r.held
	if more <= 0 {
		return nil
	}
	if r.ours.Add(more) > r.share {
		r.ours.Add(-more)
		return errShareOfRoom
	}
	if buffered.Add(more) > r.most {
		buffered.Add(-more)
		r.ours.Add(-more)
		return errNoRoom
	}
	r.held = to
	return nil
}

// leave gives the share back. It may be called again.
func (r *room) leave() {
	if r.held == 0 {
		return
	}
	buffered.Add(-r.held)
	r.ours.Add(-r.held)
	r.held = 0
}

func checkMediaType(h http.Header) *apiError {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/json" || len(h.Values("Content-Type")) != 1 {
		return errorForStatus(http.StatusUnsupportedMediaType)
	}
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return &apiError{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
			Message: "Send the body without Content-Encoding."}
	}
	return nil
}

// parseDocument finds the members of a JSON object.
func parseDocument(raw []byte, maxDepth int) (*document, *apiError) {
	// Readers disagree about bytes that are no text: a member's name may be another one to an engine.
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, badBody("invalid_json", "", "The request body is not valid JSON.")
	}
	at := skipSpace(raw, 0)
	if raw[at] != '{' {
		return nil, badBody("invalid_json", "", "The request body must be a JSON object.")
	}
	outermost, refusal := findFields(raw, at, maxDepth)
	if refusal != nil {
		return nil, refusal
	}
	return &document{fields: outermost, raw: raw}, nil
}

// findFields finds the members of the object that begins at a place. Each name may be
// there once.
func findFields(raw []byte, at, maxDepth int) (fields, *apiError) {
	f := fields{open: at + 1, members: make(map[string]span, 16)}
	folded := make(map[string]struct{}, 16)
	i := skipSpace(raw, f.open)
	for raw[i] != '}' {
		if len(f.members) == maxMembers {
			return f, badBody("too_many_members", "", "The request body has more than %d members in one object.", maxMembers)
		}
		end := skipString(raw, i)
		name := decodeString(raw[i:end])
		if refusal := checkName(name, folded); refusal != nil {
			return f, refusal
		}
		start := skipSpace(raw, skipSpace(raw, end)+1) // over the colon
		end, ok := skipValue(raw, start, maxDepth-1)
		if !ok {
			return f, badBody("too_deep", "", "The request body is nested deeper than %d levels.", maxDepth)
		}
		f.members[name] = span{start, end}
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	f.end = i + 1
	return f, nil
}

// checkName refuses a name that two readers could understand as two things.
func checkName(name string, folded map[string]struct{}) *apiError {
	fold := foldName(name)
	for _, ruled := range ruledMembers {
		if fold == ruled && name != ruled {
			return badBody("misspelt_member", ruled, "Write %q exactly so, in lower case.", ruled)
		}
	}
	if _, twice := folded[fold]; twice {
		return badBody("duplicate_member", shorten(name), "The request body has %q twice.", shorten(name))
	}
	folded[fold] = struct{}{}
	return nil
}

// foldName gives one form to all names that a case-insensitive reader takes for equal.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			return unicode.ToLower(r)
		}
		// The orbit's smallest upper-case letter may be ASCII: K is one of the Kelvin sign's.
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return unicode.ToLower(least)
	}, name)
}

// shorten bounds what an answer or a log line repeats of a request.
func shorten(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// The scanners below rely on json.Valid having accepted the bytes.

func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r' {
		i++
	}
	return i
}

// skipString takes the place of an opening quote and returns the one after the closing quote.
func skipString(raw []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(raw[i:], '"')
		slashes := 0
		for raw[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns the place after a value, or false when it is nested deeper than
// depth levels.
func skipValue(raw []byte, i, depth int) (int, bool) {
	level := 0
	for {
		switch raw[i] {
		case '"':
			i = skipString(raw, i)
		case '{', '[':
			if level++; level > depth {
				return i, false
			}
			i++
		case '}', ']':
			level--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			i++
		default: // a number, true, false or null
			for i < len(raw) && !endsScalar(raw[i]) {
				i++
			}
		}
		if level == 0 {
			return i, true
		}
	}
}

func endsScalar(c byte) bool {
	return c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\t' || c == '\r'
}

func decodeString(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted) {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // valid, or json.Valid had refused it
	return s
}

// value returns a member's bytes, or nil when it is absent or null.
func (d *document) value(name string) []byte {
	at, there := d.members[name]
	if !there || string(d.raw[at.start:at.end]) == "null" {
		return nil
	}
	return d.raw[at.start:at.end]
}

// model reads the member that names the model; where it is missing, also the other one.
func (d *document) model(other string) (string, *apiError) {
	raw := d.value("model")
	if raw == nil && other != "" {
		raw = d.value(other)
	}
	if raw == nil {
		return "", badBody("missing_model", "model", "The request body names no model. GET /v1/models lists what there is.")
	}
	if raw[0] != '"' {
		return "", badBody("invalid_model", "model", "\"model\" must be a string.")
	}
	name := decodeString(raw)
	if name == "" || len(name) > maxModelName || strings.ContainsFunc(name, unicode.IsControl) {
		return "", badBody("invalid_model", "model", "\"model\" must have 1 to %d bytes and no control characters.", maxModelName)
	}
	return name, nil
}

// stream reads whether the answer is to be streamed.
func (d *document) stream(absent bool) (bool, *apiError) {
	switch string(d.value("stream")) {
	case "":
		return absent, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, badBody("invalid_stream", "stream", "\"stream\" must be true or false.")
	}
}

// changes are what an engine is to get otherwise than the client sent it.
type changes struct {
	doc   *document
	edits []edit
	added [][]byte // members that the outermost object did not have
}

// edit replaces one place of the document.
type edit struct {
	span
	text []byte
}

// set gives a member of the outermost object a value.
func (c *changes) set(name string, value []byte) {
	if at, there := c.doc.members[name]; there {
		c.edits = append(c.edits, edit{at, value})
		return
	}
	c.added = append(c.added, member(name, value))
}

// member is a member as JSON; the name needs no escaping.
func member(name string, value []byte) []byte {
	return append([]byte(`"`+name+`":`), value...)
}

// insertion is the edit that adds members to an object that has none of them.
func insertion(into fields, added ...[]byte) edit {
	text := bytes.Join(added, []byte(","))
	if len(into.members) > 0 {
		text = append(text, ',')
	}
	return edit{span{into.open, into.open}, text}
}

// apply returns the document with the changes made, in pieces that still share its
// bytes: a large body is never copied. Edits must not overlap.
func (c *changes) apply() [][]byte {
	edits := c.edits
	if len(c.added) > 0 {
		edits = append(edits, insertion(c.doc.fields, c.added...))
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	out := make([][]byte, 0, 2*len(edits)+1)
	from := 0
	for _, e := range edits {
		out = append(out, c.doc.raw[from:e.start], e.text)
		from = e.end
	}
	return append(out, c.doc.raw[from:])
}

// setModel puts an engine's name for the model in a member's place.
func (c *changes) setModel(member, name string) {
	quoted, err := json.Marshal(name)
	if err != nil { // a string: cannot happen
		quoted = []byte(`""`)
	}
	c.set(member, quoted)
}

// usage reads what the client said about token counts at the end of a stream: whether
// it asks for them, and the options that ask for sure.
func (d *document) usage() (options []byte, asked bool, refusal *apiError) {
	wrong := badBody("invalid_stream_options", "stream_options", "\"stream_options\" must be an object with \"include_usage\" true or false.")
	raw := d.value("stream_options")
	if raw == nil {
		return []byte(`{"include_usage":true}`), false, nil
	}
	var told map[string]json.RawMessage
	if raw[0] != '{' || json.Unmarshal(raw, &told) != nil {
		return nil, false, wrong
	}
	for name, value := range told {
		if foldName(name) != "include_usage" {
			continue
		}
		switch {
		case name != "include_usage":
			return nil, false, wrong
		case string(value) == "true":
			asked = true
		case string(value) != "false" && string(value) != "null":
			return nil, false, wrong
		}
	}
	told["include_usage"] = json.RawMessage("true")
	// Also when asked: a doubled include_usage inside is gone after this.
	options, err := json.Marshal(told)
	if err != nil {
		return nil, false, wrong
	}
	return options, asked, nil
}
