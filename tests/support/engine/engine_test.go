package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fed is what a tap records of bytes that come in pieces.
func fed(pieces ...string) []Seen {
	r := &record{limit: 100}
	t := &tap{Conn: &net.TCPConn{}, record: r, number: 1}
	t.Conn = nowhere{}
	for _, piece := range pieces {
		t.feed([]byte(piece))
	}
	return r.since(0)
}

type nowhere struct{ net.Conn }

func (nowhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func TestHeadsAreFoundHoweverTheyArrive(t *testing.T) {
	stream := "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /GET /two HTTP/1.1\nHost: b\n\n" +
		"POST /three HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 3\r\n\r\n" +
		"a;ext=1\r\nGET / HTTP\r\n3\r\n\r\n\n\r\n0\r\nX: y\r\n\r\n" +
		"DELETE /four five HTTP/1.1\r\nhOST:c\r\n\r\n" +
		"PUT /five HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\nGET /six HTTP/1.1\r\n\r\n"
	wanted := []string{"/one", "/two", "/three", "/four five", "/five", "/six"}
	for size := 1; size <= len(stream); size++ {
		var pieces []string
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		var targets []string
		for _, one := range fed(pieces...) {
			targets = append(targets, one.Target)
			if !strings.Contains(stream, one.Head) {
				t.Fatalf("in pieces of %d: %q was never sent", size, one.Head)
			}
		}
		if !slices.Equal(targets, wanted) {
			t.Fatalf("in pieces of %d: %q", size, targets)
		}
	}
}

func TestHeadersKeepTheirOrderSpellingAndDoubles(t *testing.T) {
	seen := fed("GET / HTTP/1.1\r\nb:1\r\nA: 2\r\nB: \t3 \r\n\r\n")
	if !slices.Equal(seen[0].Headers, Pairs{{"b", "1"}, {"A", "2"}, {"B", "3"}}) {
		t.Fatal(seen[0].Headers)
	}
}

func TestBytesBehindAnUpgradeBelongToIt(t *testing.T) {
	seen := fed("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET /no", " HTTP/1.1\r\n\r\n\xff")
	if len(seen) != 1 || seen[0].After != "GET /no HTTP/1.1\r\n\r\n\u00ff" {
		t.Fatalf("%+v", seen)
	}
}

func FuzzTap(f *testing.F) {
	f.Add("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
	f.Fuzz(func(t *testing.T, one, two string) {
		whole, parts := fed(one+two), fed(one, two)
		if len(whole) != len(parts) {
			t.Fatalf("%d requests at once, %d in two pieces", len(whole), len(parts))
		}
	})
}

func TestDuesDoNotDriftAndTailsKeepTheirMean(t *testing.T) {
	s := usual
	s.TTFT, s.ITL = 200, 20
	for k, due := range s.dues(1000, 1) {
		if due != milliseconds(200+20*float64(k)) {
			t.Fatalf("chunk %d is due at %v", k, due)
		}
	}
	s.HeavyTail, s.Seed = true, 1
	dues := s.dues(20000, 1)
	mean := float64((dues[19999] - dues[0]).Milliseconds()) / 19999
	if mean < 14 || mean > 22 { // the bound of 50 times takes a part of the tail
		t.Fatalf("the mean gap is %.1f ms", mean)
	}
	if !slices.Equal(dues, s.dues(20000, 1)) || slices.Equal(dues, s.dues(20000, 2)) {
		t.Fatal("not the same again, or the same for another request")
	}
}

func TestALineServesInTurnAndRefusesBeyondItsQueue(t *testing.T) {
	l := newLine(1, 2)
	leave, err := l.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, _ := l.stand()
	second, _ := l.stand()
	if _, err := l.enter(t.Context()); !errors.Is(err, errFull) {
		t.Fatalf("a third one gets %v", err)
	}
	leave()
	if !closed(first) || closed(second) {
		t.Fatal("not in turn")
	}
	l.step(first) // gone when it had its slot already
	if !closed(second) {
		t.Fatal("the slot of one who went is lost")
	}
	l.leave()
	gone, cancel := context.WithCancel(t.Context())
	if leave, err = l.enter(gone); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := l.enter(gone); !errors.Is(err, context.Canceled) || len(l.waiting) != 0 {
		t.Fatalf("one who is gone waits: %v", err)
	}
	leave()
}

func closed(turn chan struct{}) bool {
	select {
	case <-turn:
		return true
	default:
		return false
	}
}

func TestStampsAreOnTheKernelsClock(t *testing.T) {
	for range 100 {
		before := kernelNanos()
		now := stamp()
		after := kernelNanos()
		if now < before-20_000 || now > after+20_000 {
			t.Fatalf("%d is not between %d and %d", now, before, after)
		}
	}
}

func TestTheReaderFindsStampsHoweverTheyArrive(t *testing.T) {
	for size := 1; size < 100; size++ {
		past := strconv.FormatInt(stamp()-int64(time.Minute), 10)
		text := `{"content":"amber0@` + past + ` brook1@` + past + ` "} mail@example 7@ "x@` + past + `"}`
		r, one := reader{number: -1}, outcome{}
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			r.take(rest[:n], &one)
			rest = rest[n:]
		}
		if one.Tokens != 3 || r.lags.n != 3 || time.Duration(r.lags.max).Round(time.Second) != time.Minute {
			t.Fatalf("in pieces of %d: %d stamps, the oldest of %v", size, one.Tokens, time.Duration(r.lags.max))
		}
	}
}

func TestQuantilesAreWithinTheirBuckets(t *testing.T) {
	h := &histogram{}
	for value := int64(1); value <= 1_000_000; value += 7 {
		h.add(value)
		if off := float64(middle(bucket(value))) / float64(value); off < .98 || off > 1.02 {
			t.Fatalf("%d is taken for %d", value, middle(bucket(value)))
		}
	}
	for name, wanted := range map[string]float64{"p50": .5, "p95": .95} {
		if got := h.quantiles()[name].(float64); got < wanted*.98 || got > wanted*1.02 {
			t.Fatalf("%s is %v ms", name, got)
		}
	}
}

// clientOf is an engine and orders for a client of it.
func clientOf(t *testing.T, s Scenario) (*engine, order) {
	e := &engine{models: []string{"m"}, play: newPlay(s), record: &record{limit: 10000}}
	server := httptest.NewUnstartedServer(e)
	server.Listener = &tapped{Listener: server.Listener, record: e.record}
	server.Config = e.server()
	server.Start()
	t.Cleanup(server.Close)
	return e, order{
		url: server.URL + "/v1/chat/completions", method: "POST", body: chatBody("m", 0, true), streams: 2,
		last: 300 * time.Millisecond, patience: 10 * time.Second,
	}
}

func TestTheClientCountsWhatTheEngineSent(t *testing.T) {
	s := usual
	s.TTFT, s.ITL, s.Tokens = 20, 2, 10
	e, o := clientOf(t, s)
	outcomes, _, err := run(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range outcomes {
		first := float64(one.First-one.Start) / 1e6
		if one.Error != "" || one.Tokens != 10 || one.Usage != 10 || first < 19 || first > 60 {
			t.Fatalf("%+v", one)
		}
	}
	sent := 0
	for _, one := range e.record.since(0) {
		sent += one.Tokens
	}
	if told := summary(outcomes, time.Second)["tokens"].(int); sent != told || told == 0 {
		t.Fatalf("sent %d, received %d", sent, told)
	}
}

func TestTheClientTellsFailures(t *testing.T) {
	for fault, wanted := range map[string]string{"cut": "unexpected EOF", "no_done": "no end", "reset": "connection reset by peer"} {
		s := usual
		s.Fault, s.FaultAfter = fault, 3
		_, o := clientOf(t, s)
		outcomes, _, err := run(o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if outcomes[0].Error != wanted {
			t.Fatalf("%s: %+v", fault, outcomes[0])
		}
	}
	s := usual
	s.Fault, s.Status = "status", 503
	_, o := clientOf(t, s)
	outcomes, _, _ := run(o, nil)
	if outcomes[0].Status != http.StatusServiceUnavailable {
		t.Fatalf("%+v", outcomes[0])
	}
}

func TestTheClientKeepsToARate(t *testing.T) {
	s := usual
	s.Tokens = 1
	_, o := clientOf(t, s)
	o.rate, o.last = 50, time.Second
	outcomes, _, err := run(o, nil)
	if err != nil || len(outcomes) < 25 || len(outcomes) > 52 {
		t.Fatalf("%d requests, %v", len(outcomes), err)
	}
	first := slices.MinFunc(outcomes, func(a, b outcome) int { return int(a.Start - b.Start) })
	last := slices.MaxFunc(outcomes, func(a, b outcome) int { return int(a.Start - b.Start) })
	if over := time.Duration(last.Start - first.Start); over < 700*time.Millisecond {
		t.Fatalf("all within %v", over)
	}
	o.rate, o.last = 0.1, 10*time.Millisecond
	if _, took, err := run(o, nil); err == nil {
		t.Fatalf("a request that is not due before the end was sent, after %v", took)
	}
}

func TestTheNullServersAnswerIsWhole(t *testing.T) {
	local, far := net.Pipe()
	go nullServe(far, nullAnswer(100))
	defer local.Close()
	go func() { _, _ = local.Write([]byte("POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 2\r\n\r\n{}")) }()
	answer, err := http.ReadResponse(bufio.NewReader(local), nil)
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(answer.Body); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(body.Bytes(), []byte("@")); n != 100 {
		t.Fatalf("%d tokens", n)
	}
}

func TestAnswersBesideEachOtherAreSlower(t *testing.T) {
	s := usual
	s.Tokens, s.ITL, s.Beside = 21, 10, 20 // long, so that all begin before the first is over
	took := func(streams int) time.Duration {
		_, o := clientOf(t, s)
		o.streams, o.last = streams, 100*time.Millisecond
		outcomes, _, err := run(o, nil)
		if err != nil || len(outcomes) != streams {
			t.Fatalf("%+v, %v", outcomes, err)
		}
		return time.Duration(outcomes[0].End - outcomes[0].Start)
	}
	if alone, beside := took(1), took(2); beside < alone+200*time.Millisecond {
		t.Fatalf("20 gaps beside another answer take %v, alone %v", beside, alone)
	}
}
