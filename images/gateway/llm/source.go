package llm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// pollInterval is how often the consumers file is read. The file is compared by
// content: what writes into volumes sets neither a new time nor a new size reliably.
const pollInterval = 500 * time.Millisecond

// errRevoked is the cause with which an open request of a revoked key is ended.
var errRevoked = errors.New("the key was revoked or has expired")

// sources holds one source per consumers file, shared by every llm_auth handler
// that names it and kept over reloads of the configuration.
var sources = caddy.NewUsagePool()

// source follows one consumers file and knows who is using the gateway now.
type source struct {
	path   string
	stop   context.CancelFunc
	done   chan struct{}
	now    func() time.Time
	active atomic.Pointer[directory]

	// Of the polling goroutine only.
	lastRaw   []byte
	lastError string
	series    series

	mu       sync.Mutex
	usages   map[string]*usage
	sessions map[*session]struct{}
}

// openSource returns the source of a file and starts to follow it. Each call needs
// one closeSource.
func openSource(path string) (*source, error) {
	value, _, err := sources.LoadOrNew(path, func() (caddy.Destructor, error) {
		s := newSource(path, time.Now)
		ctx, stop := context.WithCancel(context.Background())
		s.stop = stop
		s.poll()
		go s.follow(ctx)
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	s, ok := value.(*source)
	if !ok {
		return nil, fmt.Errorf("the pool holds a %T", value)
	}
	return s, nil
}

func closeSource(path string) error {
	_, err := sources.Delete(path)
	return err
}

func newSource(path string, now func() time.Time) *source {
	s := &source{
		path: path, now: now, done: make(chan struct{}),
		usages: map[string]*usage{}, sessions: map[*session]struct{}{},
	}
	s.active.Store(emptyDirectory)
	return s
}

// sourceLog is Caddy's logger of the moment: a source outlives the configuration, and
// with it the loggers, under which it was opened.
func sourceLog() *zap.Logger { return caddy.Log().Named("http.handlers.llm_auth") }

// Destruct stops following the file.
func (s *source) Destruct() error {
	s.stop()
	<-s.done
	return nil
}

func (s *source) follow(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.poll()
		}
	}
}

// poll takes over a changed file, keeps the old one when the new one is bad, and
// ends the requests of keys that are no longer good.
func (s *source) poll() {
	raw, err := readBounded(s.path, maxConsumersFile)
	if err == nil && (s.lastRaw == nil || !bytes.Equal(raw, s.lastRaw)) {
		var next *directory
		if next, err = parseConsumers(raw); err == nil {
			s.active.Store(next)
			s.lastRaw = raw
			metrics.consumers.Set(float64(len(next.consumers)))
			metrics.consumersLoads.WithLabelValues("ok").Inc()
			metrics.consumersLoaded.SetToCurrentTime()
			sourceLog().Info("consumers file loaded",
				zap.String("file", s.path), zap.Int("consumers", len(next.consumers)), zap.Int("keys", len(next.keys)))
		}
	}
	s.report(err)
	s.endRevoked()
	s.series.follow(s.active.Load().consumers, s.now())
}

// report logs a fault once, not twice a second, and sets the metric to alert on.
func (s *source) report(err error) {
	if err == nil {
		metrics.consumersFileOK.Set(1)
		s.lastError = ""
		return
	}
	metrics.consumersFileOK.Set(0)
	if err.Error() == s.lastError {
		return
	}
	s.lastError = err.Error()
	metrics.consumersLoads.WithLabelValues("refused").Inc()
	kept := len(s.active.Load().consumers)
	log := sourceLog().With(zap.String("file", s.path), zap.Int("consumers_kept", kept))
	if errors.Is(err, fs.ErrNotExist) && kept == 0 {
		log.Warn("no consumers file yet: every request is refused until it is there")
		return
	}
	log.Error("consumers file refused: the last good one stays in force", zap.Error(err))
}

// readBounded reads a file of at most most+1 bytes; the byte more lets the parser
// tell "too large".
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most+1))
}

// session is one authenticated request while it runs.
type session struct {
	consumer *consumer
	usage    *usage
	started  time.Time

	key    keyHash
	cancel context.CancelCauseFunc
}

type sessionKey struct{}

// sessionOf returns the session that llm_auth opened for this request, or nil.
func sessionOf(ctx context.Context) *session {
	s, _ := ctx.Value(sessionKey{}).(*session)
	return s
}

// enter opens a session. The returned context ends when the key is revoked; leave
// must be called when the request is over.
func (s *source) enter(ctx context.Context, cred *credential, started time.Time) (next context.Context, sess *session, leave func()) {
	next, cancel := context.WithCancelCause(ctx)
	sess = &session{consumer: cred.consumer, started: started, key: cred.hash, cancel: cancel}
	s.mu.Lock()
	sess.usage = s.usageOf(cred.consumer.Name)
	s.sessions[sess] = struct{}{}
	s.mu.Unlock()
	return context.WithValue(next, sessionKey{}, sess), sess, func() {
		s.mu.Lock()
		delete(s.sessions, sess)
		s.mu.Unlock()
		cancel(nil)
	}
}

// usageOf needs s.mu.
func (s *source) usageOf(name string) *usage {
	u := s.usages[name]
	if u == nil {
		u = new(usage)
		s.usages[name] = u
	}
	return u
}

// endRevoked ends the requests whose key is gone, has expired or changed hands.
func (s *source) endRevoked() {
	current, now := s.active.Load(), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.sessions {
		if cred := current.find(sess.key, now); cred == nil || cred.consumer.Name != sess.consumer.Name {
			sess.cancel(errRevoked)
		}
	}
}
