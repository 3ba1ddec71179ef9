// Package bus owns all of NATS: how runs are appended to the log, followed, read back and deleted; the states of runs, the leases of
// processes, request and reply. It is the only package that knows nats.go.
//
// It promises that what Submit took and Durable names is in the log once, in order, whatever dies; that a reader is told what is
// missing, and never told so of what is merely late; and that nothing in it grows without a bound. It refuses to guess: an ambiguous
// answer is resolved by asking the leader of the stream.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
)

// Bus is one process's access to NATS. Safe for concurrent use.
type Bus struct {
	cfg Config
	log *slog.Logger
	met *metrics

	live *link // appends, subscriptions, states, leases
	hist *link // history, so that reading it back cannot delay what is live
	js   jetstream.JetStream

	maxAge   time.Duration
	maxBytes int64
	lives    lives
	readers  *semaphore.Weighted // first in, first out

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex // nothing is spawned once closed is set
	closed bool
	wg     sync.WaitGroup

	owned *owned
	beats *beats
	tails *tails

	leaderless missing
}

// Open connects, and creates the stream and the buckets where they are missing. It tries until ctx ends.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.URL == "" && cfg.InProcess == nil {
		return nil, fmt.Errorf("-nats: no address given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Window, cfg.Readers, cfg.attempt = orDefault(cfg.Window, defaultWindow), orDefault(cfg.Readers, defaultReaders), orDefault(cfg.attempt, attemptWithin)
	b := &Bus{cfg: cfg, log: cfg.Log, met: newMetrics(cfg.Metrics), readers: semaphore.NewWeighted(int64(cfg.Readers))}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.owned, b.beats, b.tails = newOwned(b), newBeats(b), newTails()
	b.owned.watchOwned(cfg.Metrics)
	var err error
	if b.live, err = dial(ctx, &cfg, "live"); err != nil {
		b.stop()
		return nil, err
	}
	if b.hist, err = dial(ctx, &cfg, "history"); err != nil {
		b.Close()
		return nil, err
	}
	b.live.onReconnect(func() { b.met.reconnects.Inc() })
	if err := b.setup(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close ends everything that was begun on b and waits for it. What an Appender had not yet made durable is dropped: Release it first.
func (b *Bus) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.wg.Wait()
	b.live.close()
	if b.hist != nil {
		b.hist.close()
	}
}

// spawn runs fn, which ends with b.ctx, and has Close wait for it; it tells whether it does.
func (b *Bus) spawn(fn func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.wg.Go(fn)
	}
	return !b.closed
}

// Ready returns nil when what is appended is stored: both connections are there and the stream has a leader.
func (b *Bus) Ready(ctx context.Context) error {
	if !b.live.nc.IsConnected() || !b.hist.nc.IsConnected() {
		return errors.New("not connected to NATS")
	}
	s, err := b.js.Stream(ctx, logStream)
	if err != nil {
		return fmt.Errorf("the log does not answer: %w", err)
	}
	if c := s.CachedInfo().Cluster; c != nil && c.Leader == "" {
		return errors.New("the log has no leader")
	}
	return nil
}

// Readers do without the log's leader while another is elected, which takes 5 to 10 s: any replica answers them. After electionTakes this is something else,
// perhaps a part of the cluster that is cut off, and readers are better off elsewhere. leaderAnswers is short, for who probes has little patience.
const (
	electionTakes = 15 * time.Second
	leaderAnswers = 500 * time.Millisecond
)

// Readable returns nil when the log can be read: both connections are there, and the stream has a leader, or it has not been without one for long since
// this was first asked in vain.
func (b *Bus) Readable(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, leaderAnswers)
	defer cancel()
	err := b.Ready(lctx)
	if b.leaderless.lasts(err != nil, time.Now()) <= electionTakes && b.live.nc.IsConnected() && b.hist.nc.IsConnected() {
		return nil
	}
	return err
}

// missing remembers since when something has been missing.
type missing struct {
	mu    sync.Mutex
	since time.Time // zero while it is there
}

// lasts takes what was found now, and tells for how long it has been missing.
func (m *missing) lasts(is bool, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !is:
		m.since = time.Time{}
		return 0
	case m.since.IsZero():
		m.since = now
	}
	return now.Sub(m.since)
}
