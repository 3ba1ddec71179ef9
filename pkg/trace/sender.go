package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"tasktracer/pkg/trace/spool"
)

// Times of a sender.
const (
	// backoffMin and backoffMax bound the wait before the next try to connect; the wait is random below a bound that doubles.
	backoffMin = 200 * time.Millisecond
	backoffMax = 10 * time.Second
	// refusedWait is how long a sender leaves a server alone that refused it.
	refusedWait = 30 * time.Second
	// dialTimeout bounds one try to connect.
	dialTimeout = 10 * time.Second
	// silence is how long a server that owes an answer may say nothing at all before the sender leaves it.
	silence = 5 * time.Second
	// firstAnswer is how long the answer to authenticate may take: a log that elects a leader needs up to 10 s.
	firstAnswer = 20 * time.Second
	// firstTry is how long a run that has just begun may wait at its end for its first connection.
	firstTry = 2 * time.Second
	// stuck is how long nothing may have become durable before lingering ends.
	stuck = 5 * time.Second
)

type senderConfig struct {
	target   target
	tokens   []string // the first one is used until the server refuses it
	accepted func(url string)
	warn     func(text string)
	log      *slog.Logger
	// late says that the run's own process has ended: what is sent is history, not live.
	late bool
	// complete, if set, is called when the server has said what it has, and whether that is the whole run; it may append.
	complete func(next uint64, ended bool)
}

// sender brings a spool to the server: it connects, and connects again, for as long as it runs.
type sender struct {
	cfg      senderConfig
	spool    *spool.Spool
	started  time.Time
	changed  chan struct{} // holds a token when something below changed
	accepted chan struct{} // closed when a server has accepted the run

	token     int  // index of the token in use
	told      bool // accepted is closed
	warned    string
	failures  int
	place     place    // behind the newest record known to be durable
	unsure    []flight // what the last connection left unacknowledged
	careful   uint64   // records up to here are sent one by one, since a packet was refused for its size
	oversized uint64   // src of a record that was refused for its size

	mu        sync.Mutex
	connected bool
	tries     int // that have ended without an answer
	progress  time.Time
	lastErr   error
}

func newSender(cfg senderConfig, s *spool.Spool) *sender {
	if cfg.log == nil {
		cfg.log = slog.New(slog.DiscardHandler)
	}
	if cfg.warn == nil {
		cfg.warn = func(string) {}
	}
	return &sender{cfg: cfg, spool: s, started: time.Now(), changed: make(chan struct{}, 1), accepted: make(chan struct{})}
}

// run sends until ctx ends, or the run's EXIT is durable.
func (s *sender) run(ctx context.Context) {
	for {
		err := s.connect(ctx)
		s.set(func() { s.connected = false; s.tries++; s.lastErr = err })
		if st := s.spool.Status(); st.Ended && st.Acked >= st.Last || ctx.Err() != nil {
			return
		}
		s.cfg.log.Debug("connection ended", "err", err)
		s.explain(err)
		if !wait(ctx, s.delay(err)) {
			return
		}
	}
}

// connect makes one connection, and sends on it until it ends.
func (s *sender) connect(ctx context.Context) error {
	c, err := s.cfg.target.dial(ctx)
	if err != nil {
		return &unreachableError{err}
	}
	defer c.Close() //nolint:errcheck // it is gone or going
	return newSession(s, c).run(ctx)
}

// delay is how long to wait after a connection that ended with err.
func (s *sender) delay(err error) time.Duration {
	var refused *refusedError
	if errors.As(err, &refused) {
		if refused.retry > 0 {
			return refused.retry + rand.N(refused.retry/2+1)
		}
		if refused.token() && s.token+1 < len(s.cfg.tokens) {
			s.token++
			return 0
		}
		return refusedWait/2 + rand.N(refusedWait/2)
	}
	bound := backoffMax
	if s.failures < 6 {
		bound = min(backoffMin<<s.failures, backoffMax)
	}
	s.failures++
	return backoffMin/4 + rand.N(bound)
}

// explain tells the user about trouble, once per kind of it.
func (s *sender) explain(err error) {
	text := sentence(err)
	if text == "" || text == s.warned {
		return
	}
	s.warned = text
	s.cfg.warn(text)
}

func (s *sender) set(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// linger returns when all is durable, or when waiting has no sense: for longer than limit, without a connection, or without progress.
func (s *sender) linger(limit time.Duration) {
	began := time.Now()
	for {
		st := s.spool.Status()
		if st.Acked >= st.Last {
			return
		}
		until, ok := s.patience(began)
		if end := began.Add(limit); end.Before(until) {
			until = end
		}
		if !ok || !time.Now().Before(until) {
			return
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-s.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// patience is until when it makes sense to wait as things are now.
func (s *sender) patience(began time.Time) (until time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected {
		last := s.progress
		if began.After(last) {
			last = began
		}
		return last.Add(stuck), true
	}
	if s.tries == 0 {
		return s.started.Add(firstTry), true
	}
	return time.Time{}, false
}

// offsetAt is how many output bytes come before record src, or -1 where that is not known.
func (s *sender) offsetAt(src uint64) int64 {
	for i := range s.unsure {
		if p, ok := s.unsure[i].at(src); ok {
			return p.offset
		}
	}
	if s.place.src == src {
		return s.place.offset
	}
	if src == 1 {
		return 0
	}
	return -1
}

// tooLarge remembers a packet that the server refused for its size.
func (s *sender) tooLarge(f flight) {
	if f.first == f.last {
		s.oversized = f.first
		return
	}
	s.careful = f.last
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// unreachableError says that no connection could be made.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return fmt.Sprintf("connect: %v", e.err) }
func (e *unreachableError) Unwrap() error { return e.err }

// refusedError is an answer to authenticate that is an error.
type refusedError struct {
	code, text string
	retry      time.Duration
}

func (e *refusedError) Error() string { return fmt.Sprintf("server refused: %s (%s)", e.text, e.code) }

func (e *refusedError) token() bool {
	switch e.code {
	case "token_missing", "token_invalid", "token_expired", "token_revoked":
		return true
	}
	return false
}
