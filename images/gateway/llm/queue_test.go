package llm

import (
	"context"
	"testing"
	"time"
)

// queued lets a client wait for its turn, which it then tells.
func queued(t *testing.T, q *hashQueue, client string, failures int, order chan<- string) {
	t.Helper()
	before := q.length()
	go func() {
		if q.enter(t.Context(), client, failures) {
			order <- client
		}
	}()
	eventually(t, time.Second, client+" waits", func() bool { return q.length() == before+1 })
}

func (q *hashQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func TestWhoFailedLeastIsNextAndNobodyTwiceAtOnce(t *testing.T) {
	q, order := newHashQueue(1), make(chan string, 8)
	if !q.enter(t.Context(), "first", 9) {
		t.Fatal("an empty queue makes wait")
	}
	queued(t, q, "first", 0, order)
	queued(t, q, "guesser", 3, order)
	queued(t, q, "honest", 0, order)
	queued(t, q, "honest too", 0, order)
	last := "first"
	for _, want := range []string{"first", "honest", "honest too", "guesser"} {
		q.leave(last)
		if last = <-order; last != want {
			t.Fatalf("next is %q, want %q", last, want)
		}
	}
	q.leave(last)

	wide := newHashQueue(2)
	wide.enter(t.Context(), "a", 0)
	queued(t, wide, "a", 0, order)
	if !wide.enter(t.Context(), "b", 5) {
		t.Error("a free place is kept from another address")
	}
	wide.leave("a")
	if next := <-order; next != "a" {
		t.Error(next)
	}
}

func TestWhoLeavesTheQueueTakesNoTurn(t *testing.T) {
	q := newHashQueue(1)
	q.enter(t.Context(), "a", 0)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if q.enter(gone, "b", 0) {
		t.Error("a client that has gone has a turn")
	}
	q.leave("a")
	if !q.enter(t.Context(), "c", 0) || q.length() != 0 {
		t.Error("its turn is lost")
	}
}

// It may leave at the very moment at which its turn begins.
func TestATurnThatNobodyTakesIsNotLost(t *testing.T) {
	q := newHashQueue(1)
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 100 {
		if q.enter(gone, "a", 0) {
			q.leave("a")
		}
		if q.free != 1 || len(q.running) != 0 || q.length() != 0 {
			t.Fatalf("%d free, %d running, %d waiting", q.free, len(q.running), q.length())
		}
	}
}

func TestTheQueueHasABound(t *testing.T) {
	q := newHashQueue(0)
	q.waiting = make([]*hashTurn, maxWaiting)
	if q.enter(t.Context(), "a", 0) {
		t.Error("one more waits")
	}
}
