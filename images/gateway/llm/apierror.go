package llm

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// apiError is a refusal that a client can act on, in OpenAI's error shape.
type apiError struct {
	Status     int
	Code       string
	Message    string
	Param      string        // the member of the body at fault, if one is
	RetryAfter time.Duration // sent as whole seconds, rounded up; 0 sends none
}

func (e *apiError) Error() string { return e.Message }

// kind is OpenAI's coarse "type", which their SDKs do not need but people read.
func (e *apiError) kind() string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "authentication_error"
	case e.Status == http.StatusForbidden:
		return "permission_error"
	case e.Status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case e.Status >= http.StatusInternalServerError:
		return "server_error"
	default:
		return "invalid_request_error"
	}
}

// write sends the error. It must be the first thing written to w.
func (e *apiError) write(w http.ResponseWriter) {
	type detail struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	d := detail{Message: e.Message, Type: e.kind()}
	if e.Param != "" {
		d.Param = &e.Param
	}
	if e.Code != "" {
		d.Code = &e.Code
	}
	body, err := json.Marshal(map[string]detail{"error": d})
	if err != nil { // strings only: cannot happen
		body = []byte(`{"error":{"message":"error","type":"server_error","param":null,"code":null}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(wholeSeconds(e.RetryAfter), 10))
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // a client that has gone is nobody's problem
}

// wholeSeconds rounds up, so that a client that waits as told is not refused again.
func wholeSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

// statusTexts are the codes and messages of answers that no handler worded itself.
var statusTexts = map[int]struct{ code, message string }{
	http.StatusBadRequest:                  {"bad_request", "The request is malformed."},
	http.StatusUnauthorized:                {"invalid_api_key", "A valid API key is needed."},
	http.StatusForbidden:                   {"forbidden", "This key may not do that."},
	http.StatusNotFound:                    {"not_found", "There is nothing at this address."},
	http.StatusMethodNotAllowed:            {"method_not_allowed", "This method is not allowed here."},
	http.StatusRequestTimeout:              {"request_timeout", "The request was not sent completely in time."},
	http.StatusRequestEntityTooLarge:       {"request_too_large", "The request body is too large."},
	http.StatusUnsupportedMediaType:        {"unsupported_media_type", "Send the body as application/json."},
	http.StatusMisdirectedRequest:          {"misdirected_request", "This server does not answer for that host name."},
	http.StatusTooManyRequests:             {"rate_limit_exceeded", "Too many requests. Wait and try again."},
	http.StatusRequestHeaderFieldsTooLarge: {"headers_too_large", "The request headers are too large."},
	http.StatusInternalServerError:         {"internal_error", "The gateway failed. Its log says more."},
	http.StatusBadGateway:                  {"engine_unreachable", "The engine that serves this model could not be reached or broke off. Try again."},
	http.StatusServiceUnavailable:          {"engine_unavailable", "The engine that serves this model is not available. Try again shortly."},
	http.StatusGatewayTimeout:              {"engine_timeout", "The engine that serves this model did not answer in time."},
}

// errorForStatus words an answer of which only the status is known.
func errorForStatus(status int) *apiError {
	if text, ok := statusTexts[status]; ok {
		return &apiError{Status: status, Code: text.code, Message: text.message}
	}
	if message := http.StatusText(status); message != "" {
		return &apiError{Status: status, Message: message}
	}
	return &apiError{Status: status, Message: "HTTP status " + strconv.Itoa(status)}
}

// ErrorResponse answers with one error in OpenAI's shape. Headers (security headers,
// Allow, ...) are left to Caddy's own headers handler.
//
// In an error route, {"handler": "llm_error", "status": "{http.error.status_code}"}
// words every error that Caddy itself raises.
type ErrorResponse struct {
	// Status is the HTTP status, 400 to 599, or a placeholder that yields one.
	// Default: 404.
	Status caddyhttp.WeakString `json:"status,omitempty"`
	// Code is the machine-readable code. Default: the house code for the status.
	Code string `json:"code,omitempty"`
	// Message is for people. Default: the house text for the status.
	Message string `json:"message,omitempty"`
	// Allow is the Allow header of a 405, for example "POST". Default: none.
	Allow string `json:"allow,omitempty"`
}

// CaddyModule tells Caddy what this is.
func (ErrorResponse) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_error", New: func() caddy.Module { return new(ErrorResponse) }}
}

// Validate refuses a literal status that is not an error.
func (e *ErrorResponse) Validate() error {
	if status, err := strconv.Atoi(e.Status.String()); err == nil && (status < 400 || status > 599) {
		return configError("llm_error", "status is %d: it must be from 400 to 599", status)
	}
	return nil
}

// ServeHTTP writes the error and never calls the next handler.
func (e *ErrorResponse) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	status := http.StatusNotFound
	if raw := e.Status.String(); raw != "" {
		if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			raw = repl.ReplaceAll(raw, "")
		}
		var err error
		if status, err = strconv.Atoi(raw); err != nil || status < 400 || status > 599 {
			status = http.StatusInternalServerError
		}
	}
	answer := errorForStatus(status)
	if e.Code != "" {
		answer.Code = e.Code
	}
	if e.Message != "" {
		answer.Message = e.Message
	}
	if e.Allow != "" {
		w.Header().Set("Allow", e.Allow)
	}
	answer.write(w)
	return nil
}

// Interface guards.
var (
	_ caddy.Validator             = (*ErrorResponse)(nil)
	_ caddyhttp.MiddlewareHandler = (*ErrorResponse)(nil)
)
