package main

import "math/bits"

// Each power of two has so many buckets: a value is known to 1.6 %.
const perOctave = 64

// histogram counts nanoseconds.
type histogram struct {
	counts [64 * perOctave]int64
	n      int64
	max    int64
}

func (h *histogram) add(value int64) {
	value = max(0, value)
	h.counts[bucket(value)]++
	h.n++
	h.max = max(h.max, value)
}

func bucket(value int64) int {
	if value < perOctave {
		return int(value)
	}
	octave := bits.Len64(uint64(value)) - 7 // 0 for 64..127
	return (octave+1)*perOctave + int(value>>octave) - perOctave
}

// middle is a value that falls into a bucket.
func middle(b int) int64 {
	if b < perOctave {
		return int64(b)
	}
	octave := b/perOctave - 1
	return (int64(b%perOctave+perOctave) << octave) + (int64(1)<<octave)/2
}

func (h *histogram) merge(other *histogram) {
	for b, count := range other.counts {
		h.counts[b] += count
	}
	h.n += other.n
	h.max = max(h.max, other.max)
}

// quantiles are in milliseconds.
func (h *histogram) quantiles() object {
	told := object{"n": h.n}
	if h.n == 0 {
		return told
	}
	for name, q := range map[string]float64{"p50": .5, "p95": .95, "p99": .99} {
		rank, sum := int64(q*float64(h.n)), int64(0)
		for b, count := range h.counts {
			if sum += count; sum > rank {
				told[name] = float64(min(middle(b), h.max)) / 1e6
				break
			}
		}
	}
	told["max"] = float64(h.max) / 1e6
	return told
}
