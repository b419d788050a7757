package llm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// healthTimeout bounds one health check from the dial to the last byte.
const healthTimeout = 2 * time.Second

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "health",
		Usage: "[--url <address>]",
		Short: "Asks a running server whether it is well (the container's health check)",
		Long: `Sends one GET to the address and exits 0 when the answer is 200 within 2 seconds,
else 1 with the reason. The image has no other program that could do this.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().String("url", "http://127.0.0.1:8081/live", "Address to ask")
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(healthCommand)
		},
	})
}

func healthCommand(flags caddycmd.Flags) (int, error) {
	if err := checkHealth(flags.String("url"), healthTimeout); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}

// checkHealth returns nil when a GET of the address is answered with 200 in time.
func checkHealth(url string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Without Proxy: a proxy set for the container must not answer for the server.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, res.Status)
	}
	return nil
}
