package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// order is what the client is told to do.
type order struct {
	url, method, key, basic, body string
	connect                       string
	streams                       int
	last, warm, stagger           time.Duration
	rate                          float64
	patience                      time.Duration
}

// load keeps a number of streams busy for a while, each with one request after the other, and prints what it
// measured as one JSON object. Times are in milliseconds.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	var o order
	flags.StringVar(&o.url, "url", "", "address of the requests")
	flags.StringVar(&o.method, "method", "POST", "their method")
	flags.StringVar(&o.key, "key-in", "", "variable of the environment that holds a Bearer key")
	flags.StringVar(&o.basic, "basic-in", "", "variable of the environment that holds name:password")
	model := flags.String("model", "qwen3:0.6b", "model that is asked")
	tokens := flags.Int("tokens", 0, "longest answer that is asked for; 0: what the engine does")
	usage := flags.Bool("usage", true, "ask for token counts")
	flags.StringVar(&o.body, "body", "", "another body")
	flags.StringVar(&o.connect, "connect", "", "host:port to connect to, whatever the address of the requests says")
	ca := flags.String("ca", "", "PEM file of the authority that is trusted")
	flags.IntVar(&o.streams, "streams", 1, "requests at a time, each on a connection of its own")
	seconds := flags.Float64("seconds", 5, "how long requests are begun")
	warm := flags.Float64("warm", 0.5, "seconds before that which are not counted")
	stagger := flags.Float64("stagger", 0, "seconds over which the streams start, one by one")
	flags.Float64Var(&o.rate, "rate", 0, "most requests a second over all streams; 0: no bound")
	patience := flags.Float64("patience", 60, "seconds after which a request has failed")
	detail := flags.String("detail", "", "file for a line of JSON about each request")
	_ = flags.Parse(arguments)
	if o.body == "" && o.method == http.MethodPost {
		o.body = chatBody(*model, *tokens, *usage)
	}
	o.last, o.warm = time.Duration(*seconds*1e9), time.Duration(*warm*1e9)
	o.stagger, o.patience = time.Duration(*stagger*1e9), time.Duration(*patience*1e9)
	o.key, o.basic = os.Getenv(o.key), os.Getenv(o.basic)
	trust := &tls.Config{}
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			return err
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("-ca: there is no certificate in %s", *ca)
		}
	}
	outcomes, took, err := run(o, trust)
	if err != nil {
		return err
	}
	if *detail != "" {
		if err := writeDetail(*detail, outcomes); err != nil {
			return err
		}
	}
	text, err := json.Marshal(summary(outcomes, took))
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	return nil
}

func chatBody(model string, tokens int, usage bool) string {
	body := object{
		"model": model, "stream": true,
		"messages": []any{object{"role": "user", "content": "Tell me about colours, please."}},
	}
	if tokens > 0 {
		body["max_tokens"] = tokens
	}
	if usage {
		body["stream_options"] = object{"include_usage": true}
	}
	text, _ := json.Marshal(body)
	return string(text)
}

// outcome is one request. Moments are nanoseconds of CLOCK_MONOTONIC.
type outcome struct {
	Start  int64  `json:"start"`
	First  int64  `json:"first"` // when the first token was there
	End    int64  `json:"end"`
	Status int    `json:"status"`
	Tokens int    `json:"tokens"` // chunks with a stamp
	Usage  int    `json:"usage"`  // what the answer says of itself; -1: nothing
	Error  string `json:"error,omitempty"`

	lags *histogram
}

// run returns the outcomes of the requests that were begun in time, and how long that took.
func run(o order, trust *tls.Config) ([]outcome, time.Duration, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, cmp.Or(o.connect, address))
		},
		TLSClientConfig:     trust,
		MaxIdleConnsPerHost: o.streams, DisableCompression: true,
		// An empty map keeps HTTP/2 off: a stream has a connection of its own.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	defer transport.CloseIdleConnections()
	start := time.Now().Add(o.stagger + o.warm)
	stop := start.Add(o.last)
	pace := newPace(o.rate)
	var wait sync.WaitGroup
	all := make([][]outcome, o.streams)
	for i := range o.streams {
		wait.Go(func() {
			time.Sleep(o.stagger * time.Duration(i) / time.Duration(o.streams))
			r := &reader{buffer: make([]byte, 64<<10)}
			for time.Now().Before(stop) && pace.wait(stop) {
				one := r.request(transport, o)
				one.lags = &r.lags
				if one.Start < stampOf(start) {
					r.lags = histogram{}
				} else {
					all[i] = append(all[i], one)
				}
				if one.Error != "" {
					time.Sleep(10 * time.Millisecond) // no storm where nothing listens
				}
			}
		})
	}
	wait.Wait()
	took := time.Since(start)
	outcomes := slices.Concat(all...)
	if len(outcomes) == 0 {
		return nil, 0, errors.New("no request was begun in time")
	}
	return outcomes, took, nil
}

// pace spreads requests over time, for all streams together.
type pace struct {
	each  time.Duration
	start time.Time
	taken atomic.Int64
}

func newPace(rate float64) *pace {
	p := &pace{start: time.Now()}
	if rate > 0 {
		p.each = time.Duration(float64(time.Second) / rate)
	}
	return p
}

func (p *pace) wait(stop time.Time) bool {
	if p.each == 0 {
		return true
	}
	due := p.start.Add(p.each * time.Duration(p.taken.Add(1)))
	if late := time.Since(due); late > time.Second {
		p.taken.Add(int64(late / p.each)) // what could not be sent is not made up for
	}
	if due.After(stop) {
		return false
	}
	time.Sleep(time.Until(due))
	return true
}

// reader reads answers, and in them the stamps.
type reader struct {
	buffer []byte
	number int64 // the stamp so far, -1 outside of one
	digits int
	tail   []byte
	lags   histogram
}

func (r *reader) request(transport http.RoundTripper, o order) outcome {
	one := outcome{Usage: -1}
	ctx, cancel := context.WithTimeout(context.Background(), o.patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, o.method, o.url, strings.NewReader(o.body))
	if err != nil {
		one.Error = err.Error()
		return one
	}
	if o.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if o.key != "" {
		request.Header.Set("Authorization", "Bearer "+o.key)
	}
	if o.basic != "" {
		request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(o.basic)))
	}
	one.Start = stamp()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		one.Error, one.End = plainError(err), stamp()
		return one
	}
	defer answer.Body.Close()
	one.Status = answer.StatusCode
	r.number, r.tail = -1, r.tail[:0]
	for {
		n, err := answer.Body.Read(r.buffer)
		if n > 0 {
			r.take(r.buffer[:n], &one)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			one.Error = plainError(err)
			break
		}
	}
	one.End = stamp()
	streamed := strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream")
	if streamed && one.Error == "" && !bytes.Contains(r.tail, []byte("[DONE]")) {
		one.Error = "no end"
	}
	one.Usage = usageIn(r.tail)
	return one
}

// plainError leaves out what differs from one connection to the next.
func plainError(err error) string {
	for _, known := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, io.ErrUnexpectedEOF, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

const tail = 1024

// take finds the stamps in some bytes of an answer: `@`, digits, and a space or the end of the text.
func (r *reader) take(p []byte, one *outcome) {
	now := stamp()
	if len(p) >= tail {
		r.tail = append(r.tail[:0], p[len(p)-tail:]...)
	} else {
		r.tail = append(r.tail, p...)
		if over := len(r.tail) - tail; over > 0 {
			r.tail = append(r.tail[:0], r.tail[over:]...)
		}
	}
	for len(p) > 0 {
		if r.number < 0 {
			i := bytes.IndexByte(p, '@')
			if i < 0 {
				return
			}
			p, r.number, r.digits = p[i+1:], 0, 0
		}
		i := 0
		for i < len(p) && p[i] >= '0' && p[i] <= '9' {
			r.number = r.number*10 + int64(p[i]-'0')
			i++
		}
		r.digits += i
		p = p[i:]
		if len(p) == 0 {
			return
		}
		if r.digits > 0 {
			if one.Tokens == 0 {
				one.First = now
			}
			one.Tokens++
			r.lags.add(now - r.number)
		}
		r.number = -1
	}
}

// usageIn reads the count of generated tokens at the end of an answer.
func usageIn(tail []byte) int {
	_, rest, found := bytes.Cut(tail, []byte(`"completion_tokens":`))
	if !found {
		return -1
	}
	rest = bytes.TrimLeft(rest, " ")
	end := bytes.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		return -1
	}
	count, err := strconv.Atoi(string(rest[:end]))
	if err != nil {
		return -1
	}
	return count
}

func writeDetail(path string, outcomes []outcome) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, one := range outcomes {
		if err := encoder.Encode(one); err != nil {
			return err
		}
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

func summary(outcomes []outcome, took time.Duration) object {
	statuses, troubles := map[string]int{}, map[string]int{}
	var first, whole []float64
	tokens, ok, wrong := 0, 0, 0
	lags := &histogram{}
	seen := map[*histogram]bool{}
	for _, one := range outcomes {
		statuses[strconv.Itoa(one.Status)]++
		if one.Error != "" {
			troubles[one.Error]++
			continue
		}
		if one.Status == http.StatusOK {
			ok++
			tokens += one.Tokens
			whole = append(whole, float64(one.End-one.Start)/1e6)
			if one.First > 0 {
				first = append(first, float64(one.First-one.Start)/1e6)
			}
			if one.Usage >= 0 && one.Usage != one.Tokens {
				wrong++
			}
		}
		if one.lags != nil && !seen[one.lags] {
			seen[one.lags] = true
			lags.merge(one.lags)
		}
	}
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return object{
		"requests": len(outcomes), "ok": ok, "statuses": statuses, "errors": troubles, "seconds": took.Seconds(),
		"requests_per_second": float64(ok) / took.Seconds(), "sent_per_second": float64(len(outcomes)) / took.Seconds(),
		"tokens": tokens, "tokens_per_second": float64(tokens) / took.Seconds(), "wrong_counts": wrong,
		"ttft_ms": quantiles(first), "request_ms": quantiles(whole), "lag_ms": lags.quantiles(),
		"cpu_seconds": float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9,
	}
}

func quantiles(values []float64) object {
	if len(values) == 0 {
		return object{"n": 0}
	}
	slices.Sort(values)
	at := func(q float64) float64 { return values[min(len(values)-1, int(q*float64(len(values))))] }
	return object{"n": len(values), "p50": at(.5), "p95": at(.95), "p99": at(.99), "max": values[len(values)-1]}
}
