package llm

import (
	"sync"
	"time"
)

// window allows at most a number of events in any span of one minute. It remembers
// when each allowed event happened, so the promise is exact: no burst at the seam of
// two minutes.
type window struct {
	mu   sync.Mutex
	seen []time.Time // a ring of the last allowed events, next is the oldest once full
	next int
}

const windowSpan = time.Minute

// take counts one event, or says how long to wait until one is allowed.
// most <= 0 allows everything.
func (w *window) take(now time.Time, most int) (wait time.Duration, ok bool) {
	if most <= 0 {
		return 0, true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resize(most)
	if len(w.seen) < most {
		w.seen = append(w.seen, now)
		return 0, true
	}
	if wait = w.seen[w.next].Add(windowSpan).Sub(now); wait > 0 {
		return wait, false
	}
	w.seen[w.next] = now
	w.next = (w.next + 1) % most
	return 0, true
}

// resize follows a changed limit and keeps the latest events, so that editing a
// limit neither forgives nor invents requests.
func (w *window) resize(most int) {
	if len(w.seen) <= most && w.next == 0 {
		return // still filling, or exactly full and in order
	}
	if len(w.seen) == most {
		return
	}
	ordered := append(append(make([]time.Time, 0, len(w.seen)), w.seen[w.next:]...), w.seen[:w.next]...)
	if len(ordered) > most {
		ordered = ordered[len(ordered)-most:]
	}
	w.seen, w.next = ordered, 0
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
	requests window
	streams  slots
}
