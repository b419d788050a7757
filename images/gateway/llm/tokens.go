package llm

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// tokenBook is what one consumer has used of tokens, prompt and answer together.
// Answers are booked when they end: whoever is below the limit may begin one, however
// long it gets.
type tokenBook struct {
	mu          sync.Mutex
	minute, day tokenWindow
}

// The windows and how finely they are kept: a limit holds for any span of that length,
// and what was used is forgotten at most one step later than it could be.
const (
	minuteSpan, minuteStep = time.Minute, time.Second
	daySpan, dayStep       = 24 * time.Hour, 5 * time.Minute
)

// book adds what an answer took.
func (b *tokenBook) book(now time.Time, tokens int) {
	if tokens <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.minute.add(now, tokens, minuteStep)
	b.day.add(now, tokens, dayStep)
	// Also where nothing ever asks: it must not grow.
	b.minute.forget(now, minuteSpan, minuteStep)
	b.day.forget(now, daySpan, dayStep)
}

// check refuses a consumer that has used up its tokens. A limit of 0 is none.
func (b *tokenBook) check(now time.Time, perMinute, perDay int) *apiError {
	if perMinute <= 0 && perDay <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait := b.day.wait(now, perDay, daySpan, dayStep); wait > 0 {
		return &apiError{Status: http.StatusTooManyRequests, Code: "tokens_per_day_exceeded", RetryAfter: wait,
			Message: fmt.Sprintf("This key may use %d tokens in 24 hours and has. Wait %v.", perDay, wait.Round(time.Minute))}
	}
	if wait := b.minute.wait(now, perMinute, minuteSpan, minuteStep); wait > 0 {
		return &apiError{Status: http.StatusTooManyRequests, Code: "tokens_per_minute_exceeded", RetryAfter: wait,
			Message: fmt.Sprintf("This key may use %d tokens a minute and has. Wait %d seconds.", perMinute, wholeSeconds(wait))}
	}
	return nil
}

// tokenWindow sums the tokens of a span of time that ends now.
type tokenWindow struct {
	steps []tokenStep // oldest first, at most span/step + 2
	sum   int
}

// tokenStep is what was used between number*step and (number+1)*step.
type tokenStep struct {
	number int64
	tokens int
}

func (w *tokenWindow) add(now time.Time, tokens int, step time.Duration) {
	number := now.UnixNano() / int64(step)
	if last := len(w.steps) - 1; last >= 0 && w.steps[last].number >= number { // a clock that was set back
		w.steps[last].tokens += tokens
	} else {
		w.steps = append(w.steps, tokenStep{number, tokens})
	}
	w.sum += tokens
}

// forget drops the steps that lie before the span as a whole.
func (w *tokenWindow) forget(now time.Time, span, step time.Duration) {
	gone := 0
	for gone < len(w.steps) && w.steps[gone].leaves(now, span, step) <= 0 {
		w.sum -= w.steps[gone].tokens
		gone++
	}
	if gone > 0 {
		w.steps = append(w.steps[:0], w.steps[gone:]...)
	}
}

// leaves is how long a step still counts.
func (s tokenStep) leaves(now time.Time, span, step time.Duration) time.Duration {
	return time.Unix(0, (s.number+1)*int64(step)).Add(span).Sub(now)
}

// wait is how long it takes until less than most is used; 0 when it is so already.
func (w *tokenWindow) wait(now time.Time, most int, span, step time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	w.forget(now, span, step)
	left := w.sum
	for _, s := range w.steps {
		if left < most {
			break
		}
		if left -= s.tokens; left < most {
			return s.leaves(now, span, step)
		}
	}
	return 0
}
