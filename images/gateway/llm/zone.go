package llm

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// maxAddresses bounds what is remembered in one zone: 14 MB, 20 MB with failures, and more
// addresses than a small service ever meets but in an attack. The one that asked last longest ago is
// forgotten first.
const maxAddresses = 65_536

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
	addresses map[string]*address
	recent    address // the ring of all addresses: next is the latest to ask, before the one to forget
}

// address is what is known of one address in a zone. There can be many: it is kept small.
type address struct {
	key          string
	requests     rate.Limiter
	failures     *rate.Limiter // nil without failures
	banned       int64         // until when, in Unix nanoseconds
	forgiven     int64         // when its failures are forgotten
	nextBan      time.Duration
	next, before *address
}

// zones outlive reloads of the configuration: reloading forgives nobody.
var zones sync.Map

func zoneOf(name string) *zone {
	made, _ := zones.LoadOrStore(name, newZone(name))
	return made.(*zone)
}

func newZone(name string) *zone {
	z := &zone{name: name, addresses: map[string]*address{}}
	z.recent.next, z.recent.before = &z.recent, &z.recent
	return z
}

// of returns what is known of an address; it needs z.mu.
func (z *zone) of(key string) *address {
	a := z.addresses[key]
	switch {
	case a != nil:
		a.before.next, a.next.before = a.next, a.before
	case len(z.addresses) < maxAddresses:
		a = &address{key: key}
		z.addresses[key] = a
	default:
		a = z.recent.before
		a.before.next, a.next.before = a.next, a.before
		delete(z.addresses, a.key)
		*a = address{key: key}
		z.addresses[key] = a
	}
	a.next, a.before = z.recent.next, &z.recent
	a.next.before, a.before.next = a, a
	return a
}

// admit counts a request of an address, or says how long it has to wait and why.
func (z *zone) admit(key string, now time.Time, pace Pace) *apiError {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := z.of(key)
	if refusal := z.refuseBanned(a, now); refusal != nil {
		return refusal
	}
	wait, ok := pace.take(&a.requests, now)
	if ok {
		return nil
	}
	addressMetrics.refused.WithLabelValues(z.name, "rate").Inc()
	return &apiError{Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded", RetryAfter: wait,
		Message: fmt.Sprintf("Too many requests from this address. Wait %d seconds.", wholeSeconds(wait))}
}

// stillAdmit is for what has waited since admit: a ban may have come in between.
func (z *zone) stillAdmit(key string, now time.Time) *apiError {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.refuseBanned(z.of(key), now)
}

func (z *zone) refuseBanned(a *address, now time.Time) *apiError {
	wait := time.Duration(a.banned - now.UnixNano())
	if wait <= 0 {
		return nil
	}
	addressMetrics.refused.WithLabelValues(z.name, "ban").Inc()
	return &apiError{Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded", RetryAfter: wait,
		Message: fmt.Sprintf("Too many failed attempts from this address. Wait %d seconds.", wholeSeconds(wait))}
}

// fail counts a failure of an address, and bans it when it was the last one allowed.
func (z *zone) fail(key string, now time.Time, f *Failures) {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := z.of(key)
	if a.failures == nil || now.UnixNano() >= a.forgiven {
		a.failures, a.nextBan = new(rate.Limiter), time.Duration(f.Ban)
	}
	f.Rate.bring(a.failures, now)
	a.failures.AllowN(now, 1)
	over := now
	if a.failures.TokensAt(now) < 1 && a.banned <= now.UnixNano() {
		over = now.Add(a.nextBan)
		a.banned = over.UnixNano()
		a.nextBan = min(2*a.nextBan, time.Duration(f.LongestBan))
	}
	a.forgiven = max(a.forgiven, over.Add(time.Duration(f.LongestBan)).UnixNano())
}

// failed is how many failures of an address count now.
func (z *zone) failed(key string, now time.Time) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := z.addresses[key]
	if a == nil || a.failures == nil {
		return 0
	}
	return a.failures.Burst() - int(a.failures.TokensAt(now))
}

// bans counts the addresses that are turned away now.
func (z *zone) bans(now time.Time) (count int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, a := range z.addresses {
		if a.banned > now.UnixNano() {
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
