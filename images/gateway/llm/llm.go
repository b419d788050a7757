// Package llm holds the Caddy modules that understand LLM traffic.
package llm

import (
	_ "github.com/caddyserver/caddy/v2"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "go.uber.org/zap"
	_ "golang.org/x/sync/singleflight"
)
