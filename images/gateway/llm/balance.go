package llm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// instance is one of an engine's identical servers: what it has to do, and whether it
// is well. It is shared by all handlers and outlives reloads of the configuration.
type instance struct {
	engine, address string

	// Under balance.
	inFlight int
	down     bool
}

// balance guards what is known of all instances. Requests hold it for nanoseconds.
var balance = struct {
	sync.Mutex
	instances map[[2]string]*instance // by engine and address
	turn      int
}{instances: map[[2]string]*instance{}}

// instancesOf returns the instances of an engine at these addresses.
func instancesOf(engine string, addresses []string) []*instance {
	balance.Lock()
	defer balance.Unlock()
	members := make([]*instance, len(addresses))
	for i, address := range addresses {
		at := [2]string{engine, address}
		if balance.instances[at] == nil {
			balance.instances[at] = &instance{engine: engine, address: address}
		}
		members[i] = balance.instances[at]
	}
	return members
}

// take counts a request at the healthy instance with the least to do, or returns nil
// when the engine has no room. Where none is healthy any may be tried: a wrong health
// check must not close the gateway.
func (e *Engine) take() *instance {
	balance.Lock()
	defer balance.Unlock()
	if e.full() {
		return nil
	}
	least := e.least(nil, false)
	if least == nil {
		least = e.least(nil, true)
	}
	least.count(1)
	return least
}

// move hands a request from one instance to another healthy one that is not to be
// avoided, or returns nil when there is none.
func (e *Engine) move(from *instance, avoid []*instance) *instance {
	balance.Lock()
	defer balance.Unlock()
	to := e.least(avoid, false)
	if to == nil {
		return nil
	}
	from.count(-1)
	to.count(1)
	return to
}

// others reports whether there is another instance to move to.
func (e *Engine) others(avoid []*instance) bool {
	if len(e.members) == 1 {
		return false
	}
	balance.Lock()
	defer balance.Unlock()
	return e.least(avoid, false) != nil
}

// share is how many of its requests one consumer may have: half of them, so that nobody
// has all. 0 is no bound.
func (e *Engine) share() int { return (e.MaxInFlight + 1) / 2 }

// full needs the lock.
func (e *Engine) full() bool {
	if e.MaxInFlight <= 0 {
		return false
	}
	running := 0
	for _, member := range e.members {
		running += member.inFlight
	}
	return running >= e.MaxInFlight
}

// least needs the lock. Equals take turns. Whom to avoid does not matter when anybody
// will do.
func (e *Engine) least(avoid []*instance, anybody bool) *instance {
	var best *instance
	balance.turn++
	for i := range e.members {
		member := e.members[(balance.turn+i)%len(e.members)]
		if !anybody && (member.down || slices.Contains(avoid, member)) {
			continue
		}
		if best == nil || member.inFlight < best.inFlight {
			best = member
		}
	}
	return best
}

// count needs the lock.
func (i *instance) count(change int) {
	i.inFlight += change
	metrics.engineInFlight.WithLabelValues(i.engine, i.address).Set(float64(i.inFlight))
}

func (i *instance) release() {
	balance.Lock()
	defer balance.Unlock()
	i.count(-1)
}

// setDown tells whether requests should go elsewhere, and whether that is news.
func (i *instance) setDown(down bool) (changed bool) {
	balance.Lock()
	defer balance.Unlock()
	changed = i.down != down
	i.down = down
	metrics.engineHealthy.WithLabelValues(i.engine, i.address).Set(map[bool]float64{false: 1, true: 0}[down])
	return changed
}

// Active health checks. Two in a row must fail, since an engine that loads a model may
// miss one; one that succeeds is enough.
const (
	checkInterval = 5 * time.Second
	checkTimeout  = 2 * time.Second
	checkFailures = 2
)

// watches are the running checks, each shared by all handlers that name the instance
// in the same way, and kept over reloads of the configuration.
var watches = caddy.NewUsagePool()

// watchKey is what makes two checks the same one.
type watchKey struct {
	engine, address, kind, keyFile string
	tls                            bool
}

// watch is the check of one instance.
type watch struct {
	of    *instance
	check func(ctx context.Context) error
	stop  context.CancelFunc
	done  chan struct{}
}

// watchInstances starts to check an engine's instances, if there is a choice between
// them. Each call needs one unwatchInstances.
func (e *Engine) watchInstances() error {
	for _, key := range e.watchKeys() {
		if _, _, err := watches.LoadOrNew(key, func() (caddy.Destructor, error) {
			of := instancesOf(e.name, []string{key.address})[0]
			return newWatch(of, func(ctx context.Context) error { return e.check(ctx, of.address) }), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// newWatch starts a check; Destruct ends it.
func newWatch(of *instance, check func(ctx context.Context) error) *watch {
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{of: of, check: check, stop: stop, done: make(chan struct{})}
	of.setDown(false)
	go w.run(ctx)
	return w
}

func (e *Engine) unwatchInstances() error {
	var errs []error
	for _, key := range e.watchKeys() {
		_, err := watches.Delete(key)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (e *Engine) watchKeys() []watchKey {
	if len(e.Instances) < 2 {
		return nil
	}
	var keys []watchKey
	for _, address := range e.Instances {
		keys = append(keys, watchKey{engine: e.name, address: address, kind: e.Kind, keyFile: e.KeyFile, tls: e.TLS})
	}
	return keys
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	failures := 0
	for ctx.Err() == nil {
		w.once(ctx, &failures)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// once checks the instance; failures are those in a row.
func (w *watch) once(ctx context.Context, failures *int) {
	err := w.check(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		*failures = 0
	default:
		*failures++
	}
	if (err == nil || *failures >= checkFailures) && w.of.setDown(err != nil) {
		logInstance(w.of, err)
	}
}

// Destruct ends the check. What nobody checks is taken for well.
func (w *watch) Destruct() error {
	w.stop()
	<-w.done
	w.of.setDown(false)
	metrics.engineHealthy.DeleteLabelValues(w.of.engine, w.of.address)
	metrics.engineInFlight.DeleteLabelValues(w.of.engine, w.of.address)
	return nil
}

// logInstance uses Caddy's logger of the moment: instances outlive configurations.
func logInstance(i *instance, err error) {
	log := caddy.Log().Named("http.handlers.llm").With(zap.String("engine", i.engine), zap.String("instance", i.address))
	if err != nil {
		log.Warn("an engine's instance does not answer: requests go to the others", zap.Error(err))
		return
	}
	log.Info("an engine's instance answers again")
}

// check asks one instance whether it is there.
func (e *Engine) check(ctx context.Context, address string) error {
	path := "/api/version"
	if e.Kind == kindOpenAI {
		path = modelsPath
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := e.ask(ctx, address, path)
	return err
}

// Bounds of an answer to a question of our own, in bytes.
const (
	maxAnswer = 8 << 20 // a list of models
	maxKey    = 4 << 10
)

// asker puts our own questions to engines: no proxy and no redirects, they go to the
// engine and nowhere else.
var asker = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ask puts a question of our own to one instance and returns the whole answer; any
// status but 200 is an error.
func (e *Engine) ask(ctx context.Context, address, path string) ([]byte, error) {
	scheme := "http://"
	if e.TLS {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+address+path, nil)
	if err != nil {
		return nil, err
	}
	if e.KeyFile != "" {
		key, err := readBounded(e.KeyFile, maxKey)
		if err != nil {
			return nil, fmt.Errorf("key_file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	}
	res, err := asker.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d", path, res.StatusCode)
	}
	return io.ReadAll(io.LimitReader(res.Body, maxAnswer))
}
