// Package llm holds the Caddy modules that make a plain reverse proxy understand
// LLM traffic: what comes in at all (llm_edge), how often one address may ask
// (llm_limit), who asks (llm_auth), which model and engine (llm), what may be used
// (llm_models, llm_native), whether anything can answer (llm_health), and errors in
// the shape that OpenAI's clients read (llm_error).
//
// A route for models looks like this:
//
//	llm_edge -> llm_auth -> llm -> reverse_proxy {http.vars.llm_upstream}
//
// Nothing here keeps a prompt or an answer, and nothing here logs a key.
package llm

import (
	caddy "github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(Edge{})
	caddy.RegisterModule(PathMatcher{})
	caddy.RegisterModule(Limit{})
	caddy.RegisterModule(Auth{})
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(Models{})
	caddy.RegisterModule(new(Health))
	caddy.RegisterModule(ErrorResponse{})
}

// Names of the Caddy variables that the handlers set; a configuration reads them
// as {http.vars.<name>}.
const (
	varAddress   = "llm_address"   // the client's address
	varClient    = "llm_client"    // the same, or its /64 network: what limits are counted by
	varConsumer  = "llm_consumer"  // name of the consumer
	varScopes    = "llm_scopes"    // its scopes, separated by spaces
	varModel     = "llm_model"     // id of the model asked for
	varEngine    = "llm_engine"    // name of the engine that serves it
	varUpstream  = "llm_upstream"  // that engine's address, for reverse_proxy's dial
	varOperation = "llm_operation" // chat, text_completion, embeddings, ...
)

// userIDPlaceholder is where Caddy's access log takes user_id from.
const userIDPlaceholder = "http.auth.user.id"
