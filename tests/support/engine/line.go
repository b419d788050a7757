package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// line is where requests wait for a slot, first come, first served. With a fixed time for
// each answer its capacity is known: slots / time.
type line struct {
	mu      sync.Mutex
	bounded bool
	free    int
	queue   int
	waiting []chan struct{}
	working atomic.Int64 // answers that are being told
}

var errFull = errors.New("server busy, please try again. maximum pending requests exceeded")

func newLine(slots, queue int) *line { return &line{bounded: slots > 0, free: slots, queue: queue} }

// enter waits for a slot; leave gives it back. errFull: too many wait already.
func (l *line) enter(ctx context.Context) (leave func(), err error) {
	if !l.bounded {
		return func() {}, nil
	}
	turn, err := l.stand()
	if err != nil {
		return nil, err
	}
	select {
	case <-turn:
		return l.leave, nil
	case <-ctx.Done():
		l.step(turn)
		return nil, ctx.Err()
	}
}

// stand returns what is closed when it is one's turn.
func (l *line) stand() (chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	turn := make(chan struct{})
	switch {
	case l.free > 0:
		l.free--
		close(turn)
	case len(l.waiting) >= l.queue:
		return nil, errFull
	default:
		l.waiting = append(l.waiting, turn)
	}
	return turn, nil
}

// step leaves the line, or the slot that was given meanwhile.
func (l *line) step(turn chan struct{}) {
	l.mu.Lock()
	i := slices.Index(l.waiting, turn)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	l.mu.Unlock()
	if i < 0 {
		l.leave()
	}
}

func (l *line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.free++
		return
	}
	close(l.waiting[0])
	l.waiting = l.waiting[1:]
}
