package llm

import (
	"fmt"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"golang.org/x/time/rate"
)

// Pace is a token bucket: Events in each Per on average, and Burst more at once. It
// starts full.
type Pace struct {
	// Events is how many on average.
	Events int `json:"events"`
	// Per is in which time.
	Per caddy.Duration `json:"per"`
	// Burst is how many more at once.
	Burst int `json:"burst,omitempty"`
}

func (p Pace) limit() rate.Limit {
	return rate.Limit(float64(p.Events) / time.Duration(p.Per).Seconds())
}
func (p Pace) depth() int { return p.Events + p.Burst }

func (p Pace) check() error {
	if p.Events < 1 || p.Per <= 0 || p.Burst < 0 {
		return fmt.Errorf("%d events in %s with a burst of %d: events and per must be more than 0, burst not less",
			p.Events, time.Duration(p.Per), p.Burst)
	}
	return nil
}

// bring sets a bucket to a pace: editing one neither forgives nor invents events.
func (p Pace) bring(bucket *rate.Limiter, now time.Time) {
	if bucket.Limit() == p.limit() && bucket.Burst() == p.depth() {
		return
	}
	if bucket.Burst() == 0 {
		now = time.Time{} // a new one: it has been filling since the beginning of time
	}
	bucket.SetBurstAt(now, p.depth())
	bucket.SetLimitAt(now, p.limit())
}

// take counts one event, or says how long to wait until one is allowed.
func (p Pace) take(bucket *rate.Limiter, now time.Time) (wait time.Duration, ok bool) {
	p.bring(bucket, now)
	if bucket.AllowN(now, 1) {
		return 0, true
	}
	// Never zero: whoever waits for nothing comes back at once.
	missing := 1 - bucket.TokensAt(now)
	return max(time.Duration(missing/float64(p.limit())*float64(time.Second)), time.Millisecond), false
}
