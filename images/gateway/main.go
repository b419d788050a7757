// Command caddy is Caddy with its standard modules and the handlers of the llm
// package: the only process of the platform that publishes a port. Root
// certificates come with Caddy's own command package.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "private-llm/gateway/llm"
)

func main() { caddycmd.Main() }
