package llm

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// maxWaiting bounds the passwords that wait to be hashed.
const maxWaiting = 1024

// hashQueue says whose password is hashed next: one at a time for each address, and
// addresses with few failures before others, so that whoever guesses passwords waits
// and whoever knows one does not.
type hashQueue struct {
	mu      sync.Mutex
	free    int // how many may be hashed at the same time
	running map[string]struct{}
	waiting []*hashTurn // in order of arrival
}

type hashTurn struct {
	client   string
	failures int
	begins   chan struct{}
}

// hashing leaves half of the processors to those who need no hashing.
var hashing = newHashQueue(max(1, runtime.GOMAXPROCS(0)/2))

func newHashQueue(most int) *hashQueue {
	return &hashQueue{free: most, running: map[string]struct{}{}}
}

// enter waits for its turn; leave ends it. It returns false, without a turn, when the
// queue is full or the client has gone.
func (q *hashQueue) enter(ctx context.Context, client string, failures int) bool {
	turn := &hashTurn{client: client, failures: failures, begins: make(chan struct{})}
	q.mu.Lock()
	if len(q.waiting) >= maxWaiting {
		q.mu.Unlock()
		return false
	}
	q.waiting = append(q.waiting, turn)
	q.next()
	q.mu.Unlock()
	select {
	case <-turn.begins:
		return true
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if at := slices.Index(q.waiting, turn); at >= 0 {
		q.waiting = slices.Delete(q.waiting, at, at+1)
	} else { // it began at the same moment
		q.end(client)
	}
	return false
}

func (q *hashQueue) leave(client string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end(client)
}

// end and next need q.mu.
func (q *hashQueue) end(client string) {
	delete(q.running, client)
	q.free++
	q.next()
}

func (q *hashQueue) next() {
	for q.free > 0 {
		best := -1
		for i, turn := range q.waiting {
			if _, busy := q.running[turn.client]; !busy && (best < 0 || turn.failures < q.waiting[best].failures) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		turn := q.waiting[best]
		q.waiting = slices.Delete(q.waiting, best, best+1)
		q.running[turn.client] = struct{}{}
		q.free--
		close(turn.begins)
	}
}
