package bus

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"tasktracer/pkg/frame"
)

// Stored is a chunk as the log holds it.
type Stored struct {
	Key       frame.Key
	StreamSeq uint64
	Prev      uint64 // stream sequence of the previous chunk of the run, 0 if none, or not known
	Chunk     *frame.Chunk
}

// Client names one client of a task.
type Client struct{ Namespace, Task, Client string }

// Handler is called by a subscription, one call at a time; it must return at once.
type Handler struct {
	// Chunk: a chunk was stored. May come twice, and may be missed: only Chunk.First tells.
	Chunk func(Stored)
	// Advanced: the owner of a run says that its last seq is last: whoever has less after a moment should Read.
	Advanced func(run string, last uint64)
	// Unreadable: a chunk was stored that this program cannot read; a later version's, most likely.
	Unreadable func(run string)
	// Lagged: chunks may have been missed for any of the client's runs (slow consumer, reconnect).
	Lagged func()
}

// What a subscription may hold before the handler has taken it; beyond, chunks are dropped and Lagged is called.
const (
	followMsgs  = 4096
	followBytes = 16 << 20
)

// Subscription is the live feed of one client's runs.
type Subscription struct {
	b      *Bus
	client Client
	prefix string // of the paths of the client's runs, with the last dot
	h      Handler
	sub    *nats.Subscription
	cancel context.CancelFunc
	undo   []func()

	calls  sync.Mutex // one call of the handler at a time
	closed atomic.Bool

	mu   sync.Mutex // not held while the handler is called: a slow one must not keep watch from seeing that it is slow
	runs map[string]*followed
}

// followed is what a subscription has heard of one run.
type followed struct {
	owner string
	at    time.Time // when a chunk came
}

// Subscribe delivers what is stored from now on for all runs of one client. It returns when the server has the subscription.
func (b *Bus) Subscribe(ctx context.Context, c Client, h Handler) (*Subscription, error) {
	p := clientPath(c.Namespace, c.Task, c.Client)
	s := &Subscription{b: b, client: c, prefix: p + ".", h: h, runs: map[string]*followed{}}
	if err := b.beats.listen(); err != nil {
		return nil, err
	}
	sub, err := b.live.nc.Subscribe(prefixOut+p+".*", s.received)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.sub = sub
	if err := sub.SetPendingLimits(followMsgs, followBytes); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	slow := sub.StatusChanged(nats.SubscriptionSlowConsumer)
	sctx, cancel := context.WithCancel(b.ctx)
	s.cancel = cancel
	s.undo = []func(){b.live.onReconnect(s.lagged), b.beats.add(s)}
	b.spawn(func() { s.watchSlow(sctx, slow) })
	b.spawn(func() { s.watchTails(sctx) })
	if err := b.live.nc.FlushWithContext(withDeadline(ctx, attemptWithin)); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return s, nil
}

// Close ends the subscription. No call of the handler begins once it has returned; one under way may end later. A handler may call it.
func (s *Subscription) Close() {
	s.closed.Store(true)
	for _, u := range s.undo {
		u()
	}
	if s.cancel != nil {
		s.cancel()
	}
	_ = s.sub.Unsubscribe() // fails where the connection is closed, and with it the subscription
}

func (s *Subscription) received(m *nats.Msg) {
	run, _, ok := decodeToken(strings.TrimPrefix(m.Subject, prefixOut+s.prefix))
	if !ok {
		return
	}
	st, err := storedFrom(m, parseSeq(m.Header, hdrSeq))
	if err != nil {
		s.b.log.Debug("a chunk that cannot be read", "subject", m.Subject, "err", err)
		s.unreadable(run)
		return
	}
	st.Key = frame.Key{Namespace: s.client.Namespace, Task: s.client.Task, Client: s.client.Client, Run: run}
	st.Prev = parseSeq(m.Header, hdrPrev)
	s.calls.Lock()
	defer s.calls.Unlock()
	if s.closed.Load() {
		return
	}
	s.heardOf(run, st.Chunk.Owner)
	if s.h.Chunk != nil {
		s.h.Chunk(st)
	}
}

func (s *Subscription) unreadable(run string) {
	s.calls.Lock()
	defer s.calls.Unlock()
	if !s.closed.Load() && s.h.Unreadable != nil {
		s.h.Unreadable(run)
	}
}

func (s *Subscription) heardOf(run, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[run] = &followed{owner: owner, at: time.Now()}
}

// advanced is told by heartbeats, and by reading tails where those are missing.
func (s *Subscription) advanced(run string, last uint64) {
	s.calls.Lock()
	defer s.calls.Unlock()
	if !s.closed.Load() && s.h.Advanced != nil {
		s.h.Advanced(run, last)
	}
}

func (s *Subscription) lagged() {
	s.calls.Lock()
	defer s.calls.Unlock()
	if !s.closed.Load() && s.h.Lagged != nil {
		s.h.Lagged()
	}
}

// silentOwner is after how long without a heartbeat the tails of an owner's runs are read; forgetRun is when a run without news is not looked after any more.
const (
	silentOwner = 2 * time.Second
	forgetRun   = time.Minute
)

// watchSlow looks after chunks that were dropped because the handler was too slow.
func (s *Subscription) watchSlow(ctx context.Context, slow <-chan nats.SubStatus) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-slow:
			if !ok {
				return // the subscription was closed
			}
			s.b.met.slow.Inc()
			s.lagged()
		}
	}
}

// watchTails looks after a last chunk that never came while heartbeats, which would name it, are missing.
func (s *Subscription) watchTails(ctx context.Context) {
	tick := time.NewTicker(silentOwner)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, run := range s.unheard() {
				s.readTailOf(ctx, run)
			}
		}
	}
}

// unheard are the runs whose owner has not sent a heartbeat lately.
func (s *Subscription) unheard() (runs []string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for run, f := range s.runs {
		if now.Sub(f.at) > forgetRun {
			delete(s.runs, run)
			continue
		}
		if now.Sub(s.b.beats.heard(f.owner)) > silentOwner {
			runs = append(runs, run)
		}
	}
	return runs
}

func (s *Subscription) readTailOf(ctx context.Context, run string) {
	m, err := s.b.fromLeader(ctx, s.b.hist, logStream, getRequest{LastFor: prefixIn + s.prefix + encodeToken(run)})
	if err != nil || m == nil {
		return // the next round tries again
	}
	if c, err := frame.UnmarshalChunk(m.data); err == nil {
		s.advanced(run, c.Next()-1)
	}
}

// withDeadline gives a context of at least some deadline, which a flush insists on; it is let go of when the deadline passes.
func withDeadline(ctx context.Context, d time.Duration) context.Context {
	if _, ok := ctx.Deadline(); ok {
		return ctx
	}
	dctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(dctx, cancel)
	return dctx
}
