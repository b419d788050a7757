package llm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The benchmark's load: small enough for two cores that also run client and engine.
const (
	benchRounds  = 3
	pacedPieces  = 150
	pacedGap     = 4 * time.Millisecond
	floodPieces  = 20_000
	floodStreams = 8
)

var benchStart = time.Now()

// benchEngine streams pieces that carry the time they were sent, paced or as fast as
// it can.
func benchEngine(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	paced := r.Header.Get("X-Paced") != ""
	pieces := floodPieces
	if paced {
		pieces = pacedPieces
	}
	for i := range pieces {
		if paced {
			time.Sleep(pacedGap)
		}
		fmt.Fprintf(w, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","sent":%d,"choices":[{"index":0,"delta":{"role":"assistant","content":" word%d"},"finish_reason":null}]}`+"\n\n",
			time.Since(benchStart), i)
		if paced || i%32 == 31 {
			_ = flush()
		}
	}
	_, _ = io.WriteString(w, sseDone)
}

// stream reads one stream and returns how late its pieces came.
func stream(b *testing.B, base string, paced bool) (late []time.Duration) {
	req, err := http.NewRequest("POST", base+chat, strings.NewReader(`{"model":"default","stream":true,"messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		b.Error(err)
		return nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+keyOf("bench"))
	if paced {
		req.Header.Set("X-Paced", "1")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		b.Error(res, err)
		return nil
	}
	defer res.Body.Close()
	if !paced {
		_, _ = io.Copy(io.Discard, res.Body)
		return nil
	}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if _, rest, ok := bytes.Cut(lines.Bytes(), []byte(`"sent":`)); ok {
			now := time.Since(benchStart)
			number, _, _ := bytes.Cut(rest, []byte(","))
			sent, _ := strconv.ParseInt(string(number), 10, 64)
			late = append(late, now-time.Duration(sent))
		}
	}
	return late
}

// figures are what one way to the engine did.
type figures struct {
	late []time.Duration
	rate []float64 // pieces per second over all streams
}

func (f *figures) round(b *testing.B, base string) {
	f.late = append(f.late, stream(b, base, true)...)
	start := time.Now()
	var all sync.WaitGroup
	for range floodStreams {
		all.Go(func() { stream(b, base, false) })
	}
	all.Wait()
	f.rate = append(f.rate, floodStreams*floodPieces/time.Since(start).Seconds())
}

func (f *figures) quantile(q float64) float64 {
	slices.Sort(f.late)
	return float64(f.late[int(q*float64(len(f.late)-1))].Microseconds())
}

func (f *figures) median() float64 {
	slices.Sort(f.rate)
	return float64(int(f.rate[len(f.rate)/2]))
}

// BenchmarkGateway shows that the tap does not hold answers back: the same engine
// directly, behind Caddy's plain proxy, and behind all of our handlers, in turn.
// It prints one JSON line; run it with -bench Gateway -run '^$'.
func BenchmarkGateway(b *testing.B) {
	engine := httptest.NewServer(http.HandlerFunc(benchEngine))
	defer engine.Close()
	dial := engine.Listener.Addr().String()
	for range b.N {
		var direct, plain, tapped figures
		for range benchRounds {
			direct.round(b, engine.URL)
			plain.round(b, startGateway(b, dial, false).edge)
			tapped.round(b, startGateway(b, dial, true, spec("bench", nil)).edge)
		}
		if b.Failed() {
			return
		}
		line, err := json.Marshal(map[string]any{
			"piece_late_us_p50": map[string]float64{"direct": direct.quantile(.5), "plain": plain.quantile(.5), "tapped": tapped.quantile(.5)},
			"piece_late_us_p95": map[string]float64{"direct": direct.quantile(.95), "plain": plain.quantile(.95), "tapped": tapped.quantile(.95)},
			"pieces_per_s":      map[string]float64{"direct": direct.median(), "plain": plain.median(), "tapped": tapped.median()},
			"added_us_p50":      tapped.quantile(.5) - plain.quantile(.5),
			"rate_kept":         tapped.median() / plain.median(),
		})
		if err != nil {
			b.Fatal(err)
		}
		fmt.Printf("\n%s\n", line)
	}
}

// BenchmarkTap is the tap alone, per piece of a stream.
func BenchmarkTap(b *testing.B) {
	piece := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":" word"},"finish_reason":null}]}` + "\n\n")
	for name, hide := range map[string]bool{"pass": false, "hide-usage": true} {
		b.Run(name, func(b *testing.B) {
			w := newTap(discard{http.Header{"Content-Type": {"text/event-stream"}}}, dialectChat, hide, func(time.Duration) {})
			w.WriteHeader(200)
			b.SetBytes(int64(len(piece)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = w.Write(piece)
			}
		})
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header       { return d.h }
func (discard) WriteHeader(int)             {}
func (discard) Write(p []byte) (int, error) { return len(p), nil }
