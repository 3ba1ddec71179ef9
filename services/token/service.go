// Package token is the token service: it alone holds the keys. It verifies and issues tokens for the other parts over the bus, makes tokens
// for holders of a base token, share links for viewers, and revokes. It refuses to decide what a token may be used for beyond its claims.
package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
)

const (
	// maxRestricted bounds the life of tokens that have a jti, so that a revocation by jti alone knows how long it must be remembered.
	maxRestricted = 366 * 24 * time.Hour
	// maxRevoked bounds the memory of revocations; when it is full of live ones, no more are accepted, for none may be forgotten.
	maxRevoked = 200_000
)

// errFull says that no more revocations can be remembered.
var errFull = errors.New("too many revoked tokens that must be remembered")

// Deps are what the service needs of others.
type Deps struct {
	Bus     *bus.Bus
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Service verifies, issues and revokes. Any number of replicas may run; they share the keys by configuration, and revocations by the bus.
type Service struct {
	cfg     Config
	bus     *bus.Bus
	log     *slog.Logger
	metrics *metrics

	synced     chan struct{} // closed when all revocations are known
	syncedOnce sync.Once

	mu      sync.RWMutex
	revoked map[string]time.Time // by token id: when the revocation may be forgotten; zero: never
}

// New makes a service; Run starts it.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Service{
		cfg: cfg, bus: deps.Bus, log: deps.Log, metrics: newMetrics(deps.Metrics),
		synced: make(chan struct{}), revoked: map[string]time.Time{},
	}, nil
}

// Run answers on the bus until ctx ends. It answers nothing before it knows all revocations: a revoked token must not pass because a replica is new.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.bus.WatchRevoked(ctx, s.learn, func() { s.syncedOnce.Do(func() { close(s.synced) }) }); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch revocations: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-s.synced:
		case <-ctx.Done():
			return nil
		}
		err := s.bus.Serve(ctx, "tokens", "1.0.0",
			bus.Endpoint{Name: "verify", Subject: auth.SubjectVerify, Handle: s.answerVerify},
			bus.Endpoint{Name: "issue", Subject: auth.SubjectIssue, Handle: s.answerIssue})
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve tokens: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// Ready returns nil when the service can answer.
func (s *Service) Ready(context.Context) error {
	select {
	case <-s.synced:
		return nil
	default:
		return errors.New("revocations are still being read")
	}
}

// verify checks a token, revocations included. Of one that has only expired the claims are told, so that a run that was accepted before may go on:
// not of one that was revoked.
func (s *Service) verify(token string, want auth.Type) (auth.Claims, error) {
	c, err := s.cfg.Keys.Verify(token, want)
	if c.ID != "" && s.isRevoked(c.ID) {
		c, err = auth.Claims{}, auth.ErrRevoked
	}
	s.metrics.verified(want, err)
	return c, err
}

// issue signs a token. One with restrictions gets a jti; a plain one keeps the older system's payload. A life of 0 is the type's default.
func (s *Service) issue(c auth.Claims, life time.Duration) (string, auth.Claims, error) {
	if life < 0 || life > auth.MaxPeriod {
		return "", auth.Claims{}, fmt.Errorf("life of %v: want 1 second to 100 years", life)
	}
	if life == 0 {
		life = s.cfg.Life[c.Type]
	}
	c.ID = ""
	if len(c.Tasks) > 0 || c.ReadOnly {
		c.ID = newID(c.Namespace)
		life = min(life, maxRestricted)
	}
	token, issued, err := s.cfg.Keys.Sign(c, life)
	if err != nil {
		return "", auth.Claims{}, err
	}
	s.metrics.issued.WithLabelValues(string(c.Type)).Inc()
	return token, issued, nil
}

// revoke makes a token id worthless on every replica and gateway. It returns when that is stored.
func (s *Service) revoke(ctx context.Context, id string, expires time.Time) error {
	if !s.room(time.Now()) {
		return errFull
	}
	if err := s.bus.Revoke(ctx, id, expires); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	s.mu.Lock()
	if _, ok := s.revoked[id]; !ok {
		s.revoked[id] = time.Time{} // until when, the watch tells
	}
	s.mu.Unlock()
	s.metrics.revocations.Inc()
	return nil
}

func (s *Service) learn(id string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked[id] = until
	s.metrics.revoked.Set(float64(len(s.revoked)))
}

// room tells whether one more revocation can be remembered, after dropping those that are needed no longer.
func (s *Service) room(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.revoked) < maxRevoked {
		return true
	}
	for id, until := range s.revoked {
		if !until.IsZero() && now.After(until) {
			delete(s.revoked, id)
		}
	}
	return len(s.revoked) < maxRevoked
}

func (s *Service) isRevoked(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.revoked[id]
	return ok
}

// newID makes a jti that begins with a mark of the namespace, so that nobody can revoke another namespace's tokens by their ids.
func newID(namespace string) string {
	random := make([]byte, 16)
	rand.Read(random) // never fails, by its documentation
	return namespaceMark(namespace) + hex.EncodeToString(random)
}

func namespaceMark(namespace string) string {
	sum := sha256.Sum256([]byte("namespace:" + namespace))
	return hex.EncodeToString(sum[:8]) + "-"
}
