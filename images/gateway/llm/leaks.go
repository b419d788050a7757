package llm

import (
	"net/url"
	"regexp"
	"strings"
)

// apiKey is the form of our keys, as a word of its own: the letters "sk-" stand in one
// of a thousand session tokens by chance.
var apiKey = regexp.MustCompile(`(^|[=,;:&?/"' ])sk-[A-Za-z0-9_-]{20}`)

// holdsKey reports whether a text holds a key of ours in a place where none belongs: a
// cookie, a referrer, a header of some other product.
func holdsKey(text string) bool { return strings.Contains(text, "sk-") && apiKey.MatchString(text) }

// keyInTarget is holdsKey for a path and its query, encoded or not.
func keyInTarget(raw string) bool {
	if holdsKey(raw) {
		return true
	}
	if !strings.Contains(raw, "%") {
		return false
	}
	decoded, err := url.QueryUnescape(raw)
	return err == nil && holdsKey(decoded)
}

// forKeys reports whether a header is one for keys: llm_auth takes those out, and says
// which one is read.
func forKeys(name string) bool {
	plain := plainHeader(name)
	_, credential := credentialHeaders[plain]
	_, other := notKeys[plain]
	return credential && !other
}
