package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/socketio"
)

// Deps are what the gateway is given.
type Deps struct {
	Bus     *bus.Bus
	Tokens  *auth.Remote
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Service is the gateway of one process. Its methods are safe for concurrent use.
type Service struct {
	cfg    Config
	bus    *bus.Bus
	tokens *auth.Remote
	log    *slog.Logger
	m      *Metrics

	ctx  context.Context // ends when Run does
	stop context.CancelFunc

	roster    *roster
	feeds     *feeds
	backlog   *backlog
	processes atomic.Pointer[bus.Processes]
	downloads chan struct{}
	searches  chan struct{}

	mu      sync.Mutex
	stopped bool
	viewers map[*viewer]struct{}
	wg      sync.WaitGroup // pumps
}

// New checks the configuration. Nothing runs before Run; viewers that come before it wait.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	m := NewMetrics(deps.Metrics)
	s := &Service{
		cfg: cfg, bus: deps.Bus, tokens: deps.Tokens, log: deps.Log, m: m, viewers: map[*viewer]struct{}{},
		downloads: make(chan struct{}, cfg.MaxDownloads), searches: make(chan struct{}, cfg.MaxSearches),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.roster = newRoster(s.condition, m)
	s.feeds = newFeeds(s.ctx, deps.Bus, cfg.Ring, deps.Log, m)
	s.backlog = newBacklog(s.ctx, deps.Bus, cfg.HistoryCache, m)
	return s, nil
}

// Run keeps the gateway going until ctx ends; it returns when all viewers are closed and all that it started has stopped.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.tokens.OnRevoked(s.revoked)()
	var wg sync.WaitGroup
	wg.Go(func() { s.watchProcesses(ctx) })
	err := s.bus.WatchRuns(ctx, s.runChanged, func() { close(s.roster.synced) })
	cancel()
	wg.Wait()
	s.end()
	if err != nil {
		return fmt.Errorf("watch runs: %w", err)
	}
	return nil
}

// Ready is nil once the gateway knows the runs.
func (s *Service) Ready(context.Context) error {
	if !s.roster.isSynced() {
		return errors.New("the list of runs is still being read")
	}
	return nil
}

// Serve makes the connection a viewer's: it answers its first authenticate (nil where there was no argument) and takes over its events.
// It is called in the connection's event handler.
func (s *Service) Serve(c *socketio.Conn, authenticate json.RawMessage) {
	v := newViewer(s, c)
	c.OnEvent(v.event)
	c.OnClose(func(string) {}) // the pump hears of it by the connection's context
	v.authenticate(authenticate)
}

// Mount adds the page and the read API.
func (s *Service) Mount(mux *http.ServeMux) {
	s.mountPage(mux)
	s.mountAPI(mux)
}

func (s *Service) runChanged(c bus.RunChange) {
	if c.Deleted {
		s.feeds.drop(c.Run.Key)
		s.backlog.drop(c.Run.Key)
	}
	s.roster.apply(c)
}

// watchProcesses learns which owners of runs are not heard of.
func (s *Service) watchProcesses(ctx context.Context) {
	for wait := retryFirst; ctx.Err() == nil; wait = min(2*wait, retryLast) {
		p, err := s.bus.WatchProcesses(ctx, s.roster.recheck)
		if err == nil {
			s.processes.Store(p)
			s.roster.recheck()
			return
		}
		if ctx.Err() == nil {
			s.log.Warn("watch processes", "err", err)
			s.m.retries.WithLabelValues("processes").Inc()
		}
		pause(ctx, wait)
	}
}

func (s *Service) condition(incarnation string) bus.Condition {
	p := s.processes.Load()
	if p == nil {
		return bus.Live
	}
	_, c := p.Lookup(incarnation)
	return c
}

// add registers a viewer whose pump is about to begin; false when the gateway is stopping.
func (s *Service) add(v *viewer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.viewers[v] = struct{}{}
	s.wg.Add(1)
	s.m.viewers.Inc()
	return true
}

func (s *Service) remove(v *viewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.viewers, v)
	s.m.viewers.Dec()
	s.wg.Done()
}

func (s *Service) each(fn func(*viewer)) {
	s.mu.Lock()
	all := make([]*viewer, 0, len(s.viewers))
	for v := range s.viewers {
		all = append(all, v)
	}
	s.mu.Unlock()
	for _, v := range all {
		fn(v)
	}
}

// revoked ends the sockets of a token that was revoked.
func (s *Service) revoked(jti string) {
	s.each(func(v *viewer) { v.revoked(jti) })
}

// end closes the viewers, who go on elsewhere, and waits for all that runs.
func (s *Service) end() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.each(func(v *viewer) { v.conn.Close("shutdown") })
	s.stop()
	s.wg.Wait()
	s.feeds.wg.Wait()
	s.backlog.wg.Wait()
}

// verify asks for a verdict on a token, within a bound.
func (s *Service) verify(ctx context.Context, token string, want auth.Type) (auth.Claims, error) {
	if token == "" {
		return auth.Claims{}, auth.ErrMissing
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.VerifyWithin)
	defer cancel()
	return s.tokens.Verify(ctx, token, want)
}

// goneIn is how long a peer has to read why it is disconnected.
const goneIn = time.Second
