package llm

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// maxAddresses bounds what is remembered in one zone: about 30 MB, and more addresses
// than a small service ever meets but in an attack. The one that asked last longest
// ago is forgotten first.
const maxAddresses = 65_536

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

// Failures says how many failures an address may have before it is turned away.
type Failures struct {
	// Rate is the bucket of failures; the one that empties it bans the address.
	Rate Pace `json:"rate"`
	// Statuses are the answers that count as failures (llm_limit alone).
	Statuses []int `json:"statuses,omitempty"`
	// Ban is how long the first ban takes; each further one takes twice as long.
	Ban caddy.Duration `json:"ban"`
	// LongestBan bounds that. After so long without a failure all is forgotten.
	LongestBan caddy.Duration `json:"longest_ban"`
}

func (f *Failures) check() error {
	if err := f.Rate.check(); err != nil {
		return fmt.Errorf("failures: %w", err)
	}
	if f.Ban <= 0 || f.LongestBan < f.Ban {
		return fmt.Errorf("failures: ban is %s and longest_ban %s: they must be more than 0, and longest_ban not shorter",
			time.Duration(f.Ban), time.Duration(f.LongestBan))
	}
	return nil
}

// zone counts what each address does in one part of the service.
type zone struct {
	name string

	mu        sync.Mutex
	addresses map[string]*list.Element
	byUse     *list.List // of *address, the latest first
}

// address is what is known of one address in a zone.
type address struct {
	key                 string
	requests, failures  *rate.Limiter
	lastFailure, banned time.Time // banned: until when
	nextBan             time.Duration
}

// zones outlive reloads of the configuration: reloading forgives nobody.
var zones sync.Map

func zoneOf(name string) *zone {
	made, _ := zones.LoadOrStore(name, &zone{name: name, addresses: map[string]*list.Element{}, byUse: list.New()})
	return made.(*zone)
}

// of returns what is known of an address; it needs z.mu.
func (z *zone) of(key string) *address {
	if element, known := z.addresses[key]; known {
		z.byUse.MoveToFront(element)
		return element.Value.(*address)
	}
	if z.byUse.Len() >= maxAddresses {
		oldest := z.byUse.Back()
		delete(z.addresses, oldest.Value.(*address).key)
		z.byUse.Remove(oldest)
	}
	a := &address{key: key}
	z.addresses[key] = z.byUse.PushFront(a)
	return a
}

// bucketAt brings a bucket to a pace: editing it neither forgives nor invents events.
func bucketAt(b **rate.Limiter, p Pace, now time.Time) *rate.Limiter {
	switch {
	case *b == nil:
		*b = rate.NewLimiter(p.limit(), p.depth())
	case (*b).Limit() != p.limit() || (*b).Burst() != p.depth():
		(*b).SetLimitAt(now, p.limit())
		(*b).SetBurstAt(now, p.depth())
	}
	return *b
}

// admit counts a request of an address, or says how long it has to wait and why.
func (z *zone) admit(key string, now time.Time, pace Pace) *apiError {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := z.of(key)
	if wait := a.banned.Sub(now); wait > 0 {
		addressMetrics.refused.WithLabelValues(z.name, "ban").Inc()
		return &apiError{Status: 429, Code: "address_banned", RetryAfter: wait,
			Message: fmt.Sprintf("Too many failed attempts from this address. Wait %d seconds.", wholeSeconds(wait))}
	}
	bucket := bucketAt(&a.requests, pace, now)
	if bucket.AllowN(now, 1) {
		return nil
	}
	wait := max(time.Duration((1-bucket.TokensAt(now))/float64(pace.limit())*float64(time.Second)), time.Millisecond)
	addressMetrics.refused.WithLabelValues(z.name, "rate").Inc()
	return &apiError{Status: 429, Code: "rate_limit_exceeded", RetryAfter: wait,
		Message: fmt.Sprintf("Too many requests from this address. Wait %d seconds.", wholeSeconds(wait))}
}

// fail counts a failure of an address, and bans it when it was the last one allowed.
func (z *zone) fail(key string, now time.Time, f *Failures) {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := z.of(key)
	if now.Sub(a.lastFailure) > time.Duration(f.LongestBan) {
		a.failures, a.nextBan = nil, time.Duration(f.Ban)
	}
	a.lastFailure = now
	bucket := bucketAt(&a.failures, f.Rate, now)
	bucket.AllowN(now, 1)
	if bucket.TokensAt(now) >= 1 {
		return
	}
	a.banned = now.Add(a.nextBan)
	a.nextBan = min(2*a.nextBan, time.Duration(f.LongestBan))
}

// bans counts the addresses that are turned away now.
func (z *zone) bans(now time.Time) (count int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, element := range z.addresses {
		if element.Value.(*address).banned.After(now) {
			count++
		}
	}
	return count
}

// addressMetricSet holds the metrics of zones.
type addressMetricSet struct {
	refused *prometheus.CounterVec
	banned  *prometheus.Desc
}

var addressMetrics = &addressMetricSet{
	refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gateway_address_refused_total",
		Help: "Requests refused by address: over the rate, or banned after failures."}, []string{"zone", "reason"}),
	banned: prometheus.NewDesc("gateway_addresses_banned", "Addresses that are turned away now.", []string{"zone"}, nil),
}

// Describe and Collect make it a collector.
func (m *addressMetricSet) Describe(ch chan<- *prometheus.Desc) {
	m.refused.Describe(ch)
	ch <- m.banned
}

// Collect counts bans at the time of asking.
func (m *addressMetricSet) Collect(ch chan<- prometheus.Metric) {
	m.refused.Collect(ch)
	now := time.Now()
	zones.Range(func(name, value any) bool {
		ch <- prometheus.MustNewConstMetric(m.banned, prometheus.GaugeValue, float64(value.(*zone).bans(now)), name.(string))
		return true
	})
}

// register adds the metrics to a registry, once.
func (m *addressMetricSet) register(registry *prometheus.Registry) error {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(m); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}
