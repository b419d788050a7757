package llm

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestTokensOfAMinuteAndOfADay(t *testing.T) {
	start := time.Unix(7200, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	var b tokenBook
	refused := func(s float64, perMinute, perDay int, code string, wait time.Duration) {
		t.Helper()
		refusal := b.check(at(s), perMinute, perDay)
		switch {
		case refusal == nil && code != "":
			t.Errorf("at %v s: allowed, want %s", s, code)
		case refusal != nil && (refusal.Code != code || refusal.RetryAfter != wait || refusal.Status != 429):
			t.Errorf("at %v s: %s after %v, want %q after %v", s, refusal.Code, refusal.RetryAfter, code, wait)
		}
	}
	refused(0, 100, 100, "", 0)
	b.book(at(0), 60)
	refused(0, 100, 1000, "", 0)
	b.book(at(10), 50)
	refused(10, 100, 1000, "tokens_per_minute_exceeded", 51*time.Second) // until the 60 are out of the window
	refused(60.9, 100, 1000, "tokens_per_minute_exceeded", 100*time.Millisecond)
	refused(61, 100, 1000, "", 0)
	refused(10, 0, 110, "tokens_per_day_exceeded", 24*time.Hour+5*time.Minute-10*time.Second)
	refused(10, 0, 111, "", 0)
	refused(24*3600+300, 0, 110, "", 0)
	b.book(at(0), 0)
	b.book(at(600), 1)
	b.book(at(-5), 7) // a clock that was set back
	refused(600, 0, 8, "tokens_per_day_exceeded", 24*time.Hour+5*time.Minute)
	refused(600, 0, 9, "", 0)
}

// What a window says is never below what was really used in any span, and it never
// keeps more steps than fit.
func TestAWindowForgetsNeitherTooEarlyNorTooLate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type event struct {
		at time.Time
		n  int
	}
	var w tokenWindow
	var all []event
	now := time.Unix(1000, 0)
	for range 5000 {
		now = now.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
		n := rng.IntN(50)
		w.add(now, n, minuteStep)
		all = append(all, event{now, n})
		inside, around := 0, 0
		for _, e := range all {
			if age := now.Sub(e.at); age < minuteSpan {
				inside += e.n
			}
			if age := now.Sub(e.at); age < minuteSpan+minuteStep {
				around += e.n
			}
		}
		w.forget(now, minuteSpan, minuteStep)
		if w.sum < inside || w.sum > around {
			t.Fatalf("the window has %d, the last minute had %d, with a step more %d", w.sum, inside, around)
		}
		if len(w.steps) > int(minuteSpan/minuteStep)+2 {
			t.Fatalf("%d steps are kept", len(w.steps))
		}
	}
}
