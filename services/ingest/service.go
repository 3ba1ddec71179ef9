// Package ingest takes what clients send: it accepts clients of every generation on their Socket.IO connections, and appends what they say
// to the log.
//
// It owns the client's half of the wire: who may send, which run a connection belongs to, the form of records and their acknowledgement. It
// refuses to know viewers, and it keeps nothing: what it has said to be durable is in the log, and everything else is still with the client.
// A client that does not number its records is the exception that the older wire makes: what it has sent and the log has not, dies with this process.
package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/socketio"
)

// Deps is what an ingest works with. The owner of each outlives the Service.
type Deps struct {
	Bus       *bus.Bus
	Tokens    *auth.Remote
	Processes *bus.Processes
	Self      bus.Process
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Service is one process's ingest. Safe for concurrent use.
type Service struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	met  *metrics

	// work ends when the process must not wait any longer for the log.
	work    context.Context
	endWork context.CancelFunc
	wg      sync.WaitGroup // sessions and delayed disconnects

	mu       sync.Mutex
	sessions map[*session]struct{} // those being accepted included
	stopping bool
}

// New makes a Service; it does nothing before Run but what Serve asks of it.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Log.With("part", "ingest"), met: newMetrics(deps.Metrics),
		sessions: map[*session]struct{}{},
	}
	s.work, s.endWork = context.WithCancel(context.Background())
	return s, nil
}

// Run settles the runs of ingests that died, and keeps the log within its limits, until ctx ends. Then it takes no new clients, ends the connections it has (clients
// go elsewhere), and returns when the log has what they sent, at the latest after the grace period.
func (s *Service) Run(ctx context.Context) error {
	defer s.endWork()
	stopRevoked := s.deps.Tokens.OnRevoked(s.revoked)
	defer stopRevoked()
	err := s.housekeep(ctx)
	s.stop()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return nil
}

// housekeep runs what any ingest may do for all.
func (s *Service) housekeep(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs := []func(context.Context) error{
		func(ctx context.Context) error { return s.deps.Bus.Settle(ctx, s.deps.Processes, s.cfg.Grace) },
		func(ctx context.Context) error { return s.deps.Bus.Janitor(ctx, s.cfg.Keep) },
	}
	ended := make(chan error, len(jobs))
	for _, job := range jobs {
		go func() { ended <- job(ctx) }()
	}
	var errs []error
	for range jobs {
		errs = append(errs, <-ended)
		cancel()
	}
	return errors.Join(errs...)
}

// stop ends all connections and waits for their sessions.
func (s *Service) stop() {
	s.mu.Lock()
	s.stopping = true
	for x := range s.sessions {
		x.conn.Close("stopping")
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	grace := time.NewTimer(s.cfg.StopGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		s.log.Warn("stopped before the log took all that clients sent", "grace", s.cfg.StopGrace)
		s.endWork()
		<-done
	}
}

// Serve takes over a connection whose first authenticate came from a client, with its argument. It is called in the connection's event
// handler and returns when the client is accepted or refused: what the client sends meanwhile waits, in order.
func (s *Service) Serve(c *socketio.Conn, authenticate json.RawMessage) {
	c.OnEvent(func(*socketio.Event) {})
	x := &session{s: s, conn: c, hello: parseHello(authenticate)}
	if !s.enter(x) {
		s.refuse(x, errFull)
		return
	}
	began := false
	defer func() {
		if !began {
			s.leave(x) // also after a panic
		}
	}()
	if err := s.accept(x); err != nil {
		s.refuse(x, err)
		return
	}
	began = true
}

// enter counts x among the sessions, if there is room.
func (s *Service) enter(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || len(s.sessions) >= s.cfg.MaxRuns {
		return false
	}
	s.sessions[x] = struct{}{}
	s.wg.Add(1)
	s.met.clients.WithLabelValues(x.generation()).Inc()
	return true
}

func (s *Service) leave(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, x)
	s.met.clients.WithLabelValues(x.generation()).Dec()
	s.wg.Done()
}

// revoked ends the connections that a revoked token opened; their clients hear why when they come back.
func (s *Service) revoked(jti string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		if jti != "" && x.tokenID.Load() == jti {
			x.conn.Close("revoked")
		}
	}
}

// later does something to a connection after d, unless it ends before.
func (s *Service) later(c *socketio.Conn, d time.Duration, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		c.Close("stopping")
		return
	}
	s.wg.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			do()
		case <-c.Context().Done():
		case <-s.work.Done():
		}
	})
}
