package llm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// PathMatcher matches paths exactly, below a prefix that ends in "/*" (and not the prefix
// itself), or by segments: "{name}" stands for one of any content. Case counts: Caddy's
// own path matcher takes /OLLAMA/API/CHAT for /ollama/api/chat, and an engine gets what
// was typed.
//
// Its JSON is an array of patterns.
type PathMatcher struct {
	exact     map[string]struct{}
	prefixes  []string
	templates [][]string // segments; "" is one of any content
}

// CaddyModule tells Caddy what this is.
func (PathMatcher) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.llm_path", New: func() caddy.Module { return new(PathMatcher) }}
}

// UnmarshalJSON reads the patterns.
func (m *PathMatcher) UnmarshalJSON(raw []byte) error {
	var patterns []string
	if err := json.Unmarshal(raw, &patterns); err != nil {
		return err
	}
	m.exact = make(map[string]struct{}, len(patterns))
	for _, pattern := range patterns {
		prefix, below := strings.CutSuffix(pattern, "/*")
		if !strings.HasPrefix(pattern, "/") || strings.Contains(prefix, "*") {
			return fmt.Errorf("llm_path: pattern %q: it must begin with / and may have * only as its end, after a /", pattern)
		}
		if strings.Contains(pattern, "{") {
			template, err := parseTemplate(pattern)
			if err != nil {
				return err
			}
			m.templates = append(m.templates, template)
		} else if below {
			m.prefixes = append(m.prefixes, prefix+"/")
		} else {
			m.exact[pattern] = struct{}{}
		}
	}
	return nil
}

func parseTemplate(pattern string) ([]string, error) {
	segments := strings.Split(pattern[1:], "/")
	for i, segment := range segments {
		inner, opened := strings.CutPrefix(segment, "{")
		inner, closed := strings.CutSuffix(inner, "}")
		if opened != closed || segment == "" || segment == "*" || strings.ContainsAny(inner, "{}") {
			return nil, fmt.Errorf("llm_path: pattern %q: {name} must be a whole segment, with no empty one and no * beside it", pattern)
		}
		if opened {
			segments[i] = ""
		}
	}
	return segments, nil
}

// MarshalJSON is for Caddy's own dumps of the configuration.
func (m *PathMatcher) MarshalJSON() ([]byte, error) {
	patterns := []string{}
	for path := range m.exact {
		patterns = append(patterns, path)
	}
	for _, prefix := range m.prefixes {
		patterns = append(patterns, prefix+"*")
	}
	for _, template := range m.templates {
		pattern := ""
		for _, segment := range template {
			if segment == "" {
				segment = "{}"
			}
			pattern += "/" + segment
		}
		patterns = append(patterns, pattern)
	}
	return json.Marshal(patterns)
}

// Match reports whether the request's path is one of them.
func (m *PathMatcher) Match(r *http.Request) bool {
	path := r.URL.Path
	if _, is := m.exact[path]; is {
		return true
	}
	for _, prefix := range m.prefixes {
		if len(path) > len(prefix) && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	if len(m.templates) == 0 || path == "" {
		return false
	}
	segments := strings.Split(path[1:], "/")
	return slices.ContainsFunc(m.templates, func(template []string) bool {
		return slices.EqualFunc(template, segments, func(ours, theirs string) bool {
			if ours == "" {
				return theirs != ""
			}
			return ours == theirs
		})
	})
}

// MatchWithError is Match for Caddy.
func (m *PathMatcher) MatchWithError(r *http.Request) (bool, error) { return m.Match(r), nil }

// plainTarget reports whether a request's target reads the same to everybody: to us,
// to an upstream that decodes it, to one that decodes it again, to one that cleans it.
// authority is what an absolute target ("https://host/path") names, else "".
func plainTarget(target string) (authority string, plain bool) {
	if rest, absolute := cutScheme(target); absolute {
		end := strings.IndexByte(rest, '/')
		if end <= 0 {
			return "", false
		}
		authority, target = rest[:end], rest[end:]
	}
	path, query, _ := strings.Cut(target, "?")
	return authority, plainPath(path) && !strings.Contains(query, "#")
}

func cutScheme(target string) (rest string, found bool) {
	for _, scheme := range []string{"https://", "http://"} {
		if len(target) >= len(scheme) && strings.EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return target, false
}

// plainPath allows segments of letters, digits and what RFC 3986 lets stand in them but
// ";" (path parameters: read by some upstreams, cut by others). Percent-encoding is for
// spaces within a segment, for printable characters beyond ASCII, and for what clients
// encode though it means the same in a path ("qwen3%3A0.6b"): all else has a plain
// spelling, or two upstreams would read two things.
func plainPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	decoded := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' {
			if !inSegment(c) && c != '/' {
				return false
			}
			decoded = append(decoded, c)
			continue
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return false
		}
		c = unHex(path[i+1])<<4 | unHex(path[i+2])
		if c < utf8.RuneSelf && strings.IndexByte(" !$&'()*+,=:@", c) < 0 {
			return false
		}
		decoded = append(decoded, c)
		i += 2
	}
	segments := strings.Split(string(decoded[1:]), "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		if segment == "." || segment == ".." || segment == "" && !last || strings.Trim(segment, " ") != segment {
			return false
		}
	}
	return printable(decoded)
}

// lookAlikes are what Unicode's compatibility forms, or a legacy code page, turn into
// characters that mean something in a path.
const lookAlikes = "\u2024\u2025\u2026\u2044\u2100\u2101\u2105\u2106\u2215\u29f5\u29f8\ufe52\ufe54\ufe5f\ufe68\ufe6a" +
	"\uff03\uff05\uff0e\uff0f\uff1b\uff1f\uff3c\u2488"

func printable(text []byte) bool {
	for len(text) > 0 {
		char, size := utf8.DecodeRune(text)
		if char == utf8.RuneError || !unicode.IsPrint(char) || strings.ContainsRune(lookAlikes, char) {
			return false
		}
		text = text[size:]
	}
	return true
}

func inSegment(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,=:@", c) >= 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unHex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}

// Interface guards.
var (
	_ caddyhttp.RequestMatcher          = (*PathMatcher)(nil)
	_ caddyhttp.RequestMatcherWithError = (*PathMatcher)(nil)
)
