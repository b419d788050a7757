package llm

import (
	"testing"
	"time"
)

func TestABucketLetsThroughLimitAndBurstAndThenThePace(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	for name, steps := range map[string][]struct {
		at              float64
		perMinute, more int
		wait            time.Duration // 0: allowed
	}{
		"limit + burst at once, then one in each 20 s": {
			{0, 3, 1, 0}, {0, 3, 1, 0}, {0, 3, 1, 0}, {0, 3, 1, 0}, {0, 3, 1, 20 * time.Second}, {15, 3, 1, 5 * time.Second},
			{20, 3, 1, 0}, {20, 3, 1, 20 * time.Second},
		},
		"a raised limit forgives nothing":      {{0, 1, 0, 0}, {0, 2, 0, 30 * time.Second}, {30, 2, 0, 0}},
		"a lowered limit binds at once":        {{0, 60, 0, 0}, {0, 1, 0, 0}, {0, 1, 0, time.Minute}},
		"no limit counts nothing":              {{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 1, 0, 0}, {0, 1, 0, time.Minute}},
		"what was earned is kept to the depth": {{0, 2, 0, 0}, {600, 2, 0, 0}, {600, 2, 0, 0}, {600, 2, 0, 30 * time.Second}},
	} {
		var b bucket
		for i, s := range steps {
			wait, ok := b.take(at(s.at), s.perMinute, s.more)
			if wait.Round(time.Millisecond) != s.wait || ok != (s.wait == 0) {
				t.Errorf("%s, step %d: wait %v, allowed %v, want %v", name, i, wait, ok, s.wait)
			}
		}
	}
}
