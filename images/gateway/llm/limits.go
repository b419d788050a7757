package llm

import (
	"sync"
	"sync/atomic"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"golang.org/x/time/rate"
)

// bucket is the token bucket of what many requests share. What was used is kept when the
// limits change.
type bucket struct {
	mu      sync.Mutex
	limiter rate.Limiter
}

// take counts one event, or says how long to wait until one is allowed: perMinute on
// average and burst more at once. perMinute <= 0 allows everything.
func (b *bucket) take(now time.Time, perMinute, burst int) (wait time.Duration, ok bool) {
	if perMinute <= 0 {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return Pace{Events: perMinute, Per: caddy.Duration(time.Minute), Burst: burst}.take(&b.limiter, now)
}

// slots counts what runs at the same time.
type slots struct {
	mu   sync.Mutex
	used int
}

// take occupies a slot; most <= 0 has no limit but is still counted, so that a
// limit set later binds at once.
func (s *slots) take(most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if most > 0 && s.used >= most {
		return false
	}
	s.used++
	return true
}

func (s *slots) release() {
	s.mu.Lock()
	s.used--
	s.mu.Unlock()
}

// usage is what one consumer has used; it outlives changes of the file and reloads
// of the configuration.
type usage struct {
	requests bucket
	streams  slots
	tokens   tokenBook
	buffered atomic.Int64 // what the bodies of its requests take, in bytes
	engines  sync.Map     // slots, by the engine's name
}

// at counts the consumer's requests at one engine.
func (u *usage) at(engine string) *slots {
	count, _ := u.engines.LoadOrStore(engine, new(slots))
	return count.(*slots)
}

// modelUse is what all consumers together have used of one model.
type modelUse struct {
	requests bucket
	running  slots
}

// modelUses outlive reloads of the configuration. Their number is bounded by the
// models that the configurations of one process's life have named.
var modelUses sync.Map

func useOf(model string) *modelUse {
	use, _ := modelUses.LoadOrStore(model, new(modelUse))
	return use.(*modelUse)
}
