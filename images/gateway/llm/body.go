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
	"unicode"
	"unicode/utf8"
)

// maxMembers bounds the members of the outermost object; real requests have about 40 at most.
const maxMembers = 512

// ruledMembers are the members that decide what a request may do. They are taken in
// this spelling alone: engines written in Go would also read "MODEL" or "ſtream".
var ruledMembers = []string{"model", "stream", "stream_options"}

// document is a request body: its bytes, and where the members of its outermost
// object are. The bytes are only ever edited in place of a value, so that an engine
// sees what the client sent and nothing is lost in translation.
type document struct {
	raw     []byte
	open    int // just after the outermost {
	members map[string]span
}

// span is a value's place in the bytes.
type span struct{ start, end int }

func badBody(code, param, format string, args ...any) *apiError {
	return &apiError{Status: http.StatusBadRequest, Code: code, Param: param, Message: fmt.Sprintf(format, args...)}
}

// readDocument reads a request's body once: JSON only, at most maxBody bytes and
// maxDepth levels, every name at most once.
func readDocument(r *http.Request, maxBody int64, maxDepth int) (*document, *apiError) {
	if refusal := checkMediaType(r.Header); refusal != nil {
		return nil, refusal
	}
	tooLarge := &apiError{Status: http.StatusRequestEntityTooLarge, Code: "request_too_large",
		Message: fmt.Sprintf("The request body may have %d bytes at most.", maxBody)}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	buf, err := readBody(r, maxBody)
	switch {
	case int64(buf.Len()) > maxBody:
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errorForStatus(http.StatusRequestTimeout)
	case err != nil:
		return nil, badBody("incomplete_body", "", "The request body could not be read to its end.")
	}
	return parseDocument(buf.Bytes(), maxDepth)
}

// announcedTrust is how much of an announced length must have come before room is
// made for the rest, so that announcing alone costs no memory.
const announcedTrust = 1 << 20

// readBody reads at most maxBody+1 bytes.
func readBody(r *http.Request, maxBody int64) (*bytes.Buffer, error) {
	var buf bytes.Buffer
	body := io.LimitReader(r.Body, maxBody+1)
	if r.ContentLength > announcedTrust {
		if _, err := buf.ReadFrom(io.LimitReader(body, announcedTrust)); err != nil {
			return &buf, err
		}
		buf.Grow(int(r.ContentLength) - buf.Len() + bytes.MinRead)
	}
	_, err := buf.ReadFrom(body)
	return &buf, err
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
	if !json.Valid(raw) {
		return nil, badBody("invalid_json", "", "The request body is not valid JSON.")
	}
	d := &document{raw: raw, members: make(map[string]span, 16)}
	i := skipSpace(raw, 0)
	if raw[i] != '{' {
		return nil, badBody("invalid_json", "", "The request body must be a JSON object.")
	}
	i++
	d.open = i
	folded := make(map[string]struct{}, 16)
	for i = skipSpace(raw, i); raw[i] != '}'; {
		if len(d.members) == maxMembers {
			return nil, badBody("too_many_members", "", "The request body has more than %d members.", maxMembers)
		}
		end := skipString(raw, i)
		name := decodeString(raw[i:end])
		if refusal := checkName(name, folded); refusal != nil {
			return nil, refusal
		}
		start := skipSpace(raw, skipSpace(raw, end)+1) // over the colon
		end, ok := skipValue(raw, start, maxDepth-1)
		if !ok {
			return nil, badBody("too_deep", "", "The request body is nested deeper than %d levels.", maxDepth)
		}
		d.members[name] = span{start, end}
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return d, nil
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

// model reads the member that names the model.
func (d *document) model() (string, *apiError) {
	raw := d.value("model")
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

// edit replaces one place of the document.
type edit struct {
	span
	text []byte
}

// apply returns the document with the edits made, in pieces that still share its
// bytes: a large body is never copied. Edits must not overlap.
func (d *document) apply(edits ...edit) [][]byte {
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	out := make([][]byte, 0, 2*len(edits)+1)
	from := 0
	for _, e := range edits {
		out = append(out, d.raw[from:e.start], e.text)
		from = e.end
	}
	return append(out, d.raw[from:])
}

// withModel is the edit that puts an engine's name for the model in place.
func (d *document) withModel(name string) edit {
	quoted, err := json.Marshal(name)
	if err != nil { // a string: cannot happen
		quoted = []byte(`""`)
	}
	return edit{d.members["model"], quoted}
}

// withUsage is the edit that asks for token counts at the end of a stream. asked
// says that the client asked already and no edit is needed.
func (d *document) withUsage() (e edit, asked bool, refusal *apiError) {
	wrong := badBody("invalid_stream_options", "stream_options", "\"stream_options\" must be an object with \"include_usage\" true or false.")
	raw := d.value("stream_options")
	if raw == nil {
		if at, null := d.members["stream_options"]; null {
			return edit{at, []byte(`{"include_usage":true}`)}, false, nil
		}
		// The body has a model, so a comma is always right here.
		return edit{span{d.open, d.open}, []byte(`"stream_options":{"include_usage":true},`)}, false, nil
	}
	var options map[string]json.RawMessage
	if raw[0] != '{' || json.Unmarshal(raw, &options) != nil {
		return edit{}, false, wrong
	}
	for name, value := range options {
		if foldName(name) != "include_usage" {
			continue
		}
		switch {
		case name != "include_usage":
			return edit{}, false, wrong
		case string(value) == "true":
			asked = true
		case string(value) != "false" && string(value) != "null":
			return edit{}, false, wrong
		}
	}
	options["include_usage"] = json.RawMessage("true")
	text, err := json.Marshal(options)
	if err != nil {
		return edit{}, false, wrong
	}
	// Also when asked: a doubled include_usage inside is gone after this.
	return edit{d.members["stream_options"], text}, asked, nil
}
