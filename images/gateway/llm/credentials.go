package llm

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// maxCredential bounds what is decoded and hashed for somebody unknown, in bytes.
const maxCredential = 1024

// credentialHeaders are all the headers in which API clients put keys. Only
// Authorization is read; the others are removed, and refused beside it, so that no
// engine ever prefers one that nobody checked (CVE-2026-45339).
var credentialHeaders = map[string]struct{}{
	"authorization": {}, "proxy-authorization": {}, "cookie": {},
	"x-api-key": {}, "api-key": {}, "x-goog-api-key": {}, "x-litellm-api-key": {}, "x-litellm-key": {},
	"anthropic-api-key": {}, "openai-api-key": {}, "x-openai-api-key": {}, "ocp-apim-subscription-key": {},
	"x-auth-token": {}, "x-access-token": {}, "x-authorization": {}, "x-forwarded-authorization": {},
	"x-amz-security-token": {},
}

// notKeys are removed like the others but say nothing about who asks: a browser
// sends cookies by itself.
var notKeys = map[string]struct{}{"cookie": {}}

// plainHeader maps the spellings that back ends fold together (CGI turns -, _ and . into
// _) to one.
func plainHeader(name string) string {
	parts := strings.FieldsFunc(name, func(c rune) bool { return strings.ContainsRune("-_.", c) })
	return strings.ToLower(strings.Join(parts, "-"))
}

type scheme int

const (
	schemeNone scheme = iota
	schemeBearer
	schemeBasic
)

// presented is what a request shows to prove who asks.
type presented struct {
	scheme scheme
	user   string // Basic only
	key    string
}

// takeCredentials reads the one credential of a request and removes every header
// that could carry one, cookies unless they are to be kept. The error is an answer: 400
// for more than one credential, 401 for one that cannot be read.
func takeCredentials(h http.Header, keepCookies bool) (presented, *apiError) {
	values := h.Values("Authorization")
	others := 0
	for name := range h {
		plain := plainHeader(name)
		if _, is := credentialHeaders[plain]; !is {
			continue
		}
		_, harmless := notKeys[plain]
		if harmless && keepCookies && name == "Cookie" {
			continue
		}
		if !harmless && name != "Authorization" {
			others++
		}
		delete(h, name)
	}
	switch {
	case len(values) > 1 || len(values) == 1 && others > 0:
		return presented{}, &apiError{Status: http.StatusBadRequest, Code: "several_credentials",
			Message: "The request carries more than one credential header. Send the key once, as \"Authorization: Bearer <key>\"."}
	case len(values) == 0 && others > 0:
		return presented{}, &apiError{Status: http.StatusUnauthorized, Code: "invalid_api_key",
			Message: "The key is in a header that is not read here. Send it as \"Authorization: Bearer <key>\"."}
	case len(values) == 0:
		return presented{}, &apiError{Status: http.StatusUnauthorized, Code: "missing_api_key",
			Message: "No API key. Send it as \"Authorization: Bearer <key>\"."}
	}
	p, ok := parseAuthorization(values[0])
	if !ok {
		return p, errBadKey
	}
	return p, nil
}

// errBadKey says the same for an unknown user, a wrong, an expired and a malformed key.
var errBadKey = &apiError{Status: http.StatusUnauthorized, Code: "invalid_api_key", Message: "The API key is not valid."}

// parseAuthorization reads a Bearer or Basic value. On failure the scheme is still
// told when it was recognised, for the challenge.
func parseAuthorization(value string) (presented, bool) {
	name, rest, found := strings.Cut(strings.TrimSpace(value), " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(name, "bearer"):
		p := presented{scheme: schemeBearer, key: rest}
		return p, found && rest != "" && len(rest) <= maxCredential && !strings.ContainsAny(rest, " \t,")
	case strings.EqualFold(name, "basic"):
		p := presented{scheme: schemeBasic}
		if len(rest) > maxCredential {
			return p, false
		}
		raw, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return p, false
		}
		p.user, p.key, found = strings.Cut(string(raw), ":")
		return p, found && p.user != "" && p.key != ""
	default:
		return presented{}, false
	}
}
