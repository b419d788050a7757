package llm

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func every(per time.Duration, events, burst int) Pace {
	return Pace{Events: events, Per: caddy.Duration(per), Burst: burst}
}

func TestAnAddressHasItsEventsAndItsBurstAtOnceAndThenThePace(t *testing.T) {
	z, now, pace := zoneOf(t.Name()), time.Unix(1000, 0), every(time.Minute, 30, 10)
	for i := range 40 {
		if refusal := z.admit("a", now, pace); refusal != nil {
			t.Fatalf("request %d: %v", i+1, refusal)
		}
	}
	refusal := z.admit("a", now, pace)
	if refusal == nil || refusal.Status != 429 || refusal.RetryAfter < 1990*time.Millisecond || refusal.RetryAfter > 2010*time.Millisecond {
		t.Fatalf("request 41: %+v", refusal)
	}
	if z.admit("b", now, pace) != nil {
		t.Error("another address is refused too")
	}
	if z.admit("a", now.Add(refusal.RetryAfter), pace) != nil {
		t.Error("waiting as told did not help")
	}
	if z.admit("a", now.Add(refusal.RetryAfter), pace) == nil {
		t.Error("one more passed")
	}
}

func TestBansGrowAndAreForgotten(t *testing.T) {
	z, now := zoneOf(t.Name()), time.Unix(1000, 0)
	wide := every(time.Second, 1000, 0)
	f := &Failures{Rate: every(time.Hour, 3, 0), Ban: caddy.Duration(time.Minute), LongestBan: caddy.Duration(3 * time.Minute)}
	fail := func() { z.fail("a", now, f) }
	banned := func() time.Duration {
		if refusal := z.admit("a", now, wide); refusal != nil {
			return refusal.RetryAfter
		}
		return 0
	}
	fail()
	fail()
	if banned() != 0 {
		t.Fatal("banned before the last failure")
	}
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute, 3 * time.Minute} {
		fail()
		if got := banned(); got != want {
			t.Fatalf("banned for %s, want %s", got, want)
		}
		if z.bans(now) != 1 {
			t.Error("the ban is not counted")
		}
		now = now.Add(want)
		if banned() != 0 {
			t.Fatal("still banned after it")
		}
	}
	now = now.Add(3 * time.Minute) // without failures, counted from the end of the ban
	fail()
	if banned() != 0 {
		t.Fatal("nothing was forgotten")
	}
}

func TestAZoneHasABound(t *testing.T) {
	z, now, pace := zoneOf(t.Name()), time.Unix(1000, 0), every(time.Minute, 1, 0)
	z.admit("first", now, pace)
	z.admit("kept", now, pace)
	for i := range maxAddresses - 1 {
		z.admit(fmt.Sprint(i), now, pace)
		if i%1000 == 0 {
			z.admit("kept", now, pace)
		}
	}
	ring := 0
	for a := z.recent.next; a != &z.recent; a = a.next {
		if ring++; a.next.before != a || z.addresses[a.key] != a {
			t.Fatalf("the ring is broken at %q", a.key)
		}
	}
	if ring != maxAddresses || len(z.addresses) != maxAddresses {
		t.Errorf("%d addresses, %d in the ring", len(z.addresses), ring)
	}
	if z.admit("kept", now, pace) == nil || z.admit("first", now, pace) != nil {
		t.Error("not the one that asked last longest ago was forgotten")
	}
}

func TestAnotherPaceForgivesNothing(t *testing.T) {
	z, now := zoneOf(t.Name()), time.Unix(1000, 0)
	for range 10 {
		z.admit("a", now, every(time.Minute, 10, 0))
	}
	if z.admit("a", now, every(time.Minute, 20, 0)) == nil {
		t.Error("the new bucket is full")
	}
}

func TestFailingAnswersBanTheirAddress(t *testing.T) {
	l := &Limit{Zone: t.Name(), Rate: every(time.Minute, 100, 0),
		Failures: &Failures{Rate: every(time.Minute, 2, 0), Statuses: []int{400}, Ban: caddy.Duration(time.Minute), LongestBan: caddy.Duration(time.Hour)}}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := l.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	send := func(client string, answer int) int {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodPost, "/", nil), caddy.NewReplacer(), w, nil)
		caddyhttp.SetVar(r.Context(), varClient, client)
		_ = l.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(answer)
			return nil
		}))
		return w.Code
	}
	for i, want := range []int{200, 400, 500, 400, 429, 429} {
		answer := []int{200, 400, 500, 400, 200, 200}[i]
		if got := send("a", answer); got != want {
			t.Errorf("answer %d: %d, want %d", i, got, want)
		}
	}
	if send("b", 200) != 200 {
		t.Error("another address is banned too")
	}
}

func TestHintsAreNotTheAnswer(t *testing.T) {
	w := &statusWatch{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: httptest.NewRecorder()}}
	w.WriteHeader(http.StatusEarlyHints)
	w.WriteHeader(http.StatusBadRequest)
	if w.status != http.StatusBadRequest {
		t.Error(w.status)
	}
}

func TestWrongLimitsAreToldAtStart(t *testing.T) {
	good, ban := every(time.Second, 1, 0), caddy.Duration(time.Second)
	for name, l := range map[string]*Limit{
		"zone":     {Rate: good},
		"events":   {Zone: "x", Rate: every(time.Second, 0, 0)},
		"per":      {Zone: "x", Rate: every(0, 1, 0)},
		"burst":    {Zone: "x", Rate: every(time.Second, 1, -1)},
		"statuses": {Zone: "x", Rate: good, Failures: &Failures{Rate: good, Ban: ban, LongestBan: ban}},
		"ban":      {Zone: "x", Rate: good, Failures: &Failures{Rate: good, Statuses: []int{400}, Ban: ban, LongestBan: ban - 1}},
	} {
		if err := l.Provision(caddy.Context{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// BenchmarkZone is what a request pays for its address.
func BenchmarkZone(b *testing.B) {
	z, pace, now := zoneOf(b.Name()), every(time.Second, 1_000_000, 0), time.Now()
	for b.Loop() {
		z.admit("192.0.2.7", now, pace)
	}
}
