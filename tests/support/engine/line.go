package main

import (
	"context"
	"errors"
	"sync"
)

// line is where requests wait for a slot, first come, first served. With a fixed time for
// each answer its capacity is known: slots / time.
type line struct {
	slots chan struct{}
	mu    sync.Mutex
	queue int
	wait  int
}

var errFull = errors.New("server busy, please try again. maximum pending requests exceeded")

func newLine(slots, queue int) *line {
	l := &line{queue: queue}
	if slots > 0 {
		l.slots = make(chan struct{}, slots)
	}
	return l
}

// enter waits for a slot; leave gives it back. errFull: too many wait already.
func (l *line) enter(ctx context.Context) (leave func(), err error) {
	if l.slots == nil {
		return func() {}, nil
	}
	leave = func() { <-l.slots }
	select {
	case l.slots <- struct{}{}:
		return leave, nil
	default:
	}
	if !l.join() {
		return nil, errFull
	}
	defer l.step()
	select {
	// A channel serves its senders in the order in which they came.
	case l.slots <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *line) join() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wait >= l.queue {
		return false
	}
	l.wait++
	return true
}

func (l *line) step() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wait--
}
