package main

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
)

// base is what the parts of one process share: one bus, one view of the siblings, one cache of token verdicts.
type base struct {
	*host
	bus      *bus.Bus
	tokens   *auth.Remote
	siblings *bus.Processes // nil for the token service, which has no business with them

	stop   context.CancelFunc
	group  *errgroup.Group
	synced chan struct{} // closed when all revocations are known
}

// newBase connects to NATS. It tries until ctx ends: a process may start before its NATS.
func newBase(ctx context.Context, h *host, cfg bus.Config) (*base, error) {
	cfg.Name, cfg.Log, cfg.Metrics = h.self.Incarnation, h.log, h.registry
	b, err := bus.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the bus: %w", err)
	}
	ready := b.Readable
	if h.self.Role == ingestRole {
		ready = b.Ready // who has the others for company must not take in what it cannot store
	}
	h.health.Check("bus", ready)
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	out := &base{host: h, bus: b, tokens: auth.NewRemote(b), stop: stop, group: &errgroup.Group{}, synced: make(chan struct{})}
	watchCache(h.registry, out.tokens)
	out.group.Go(func() error {
		var once sync.Once
		return b.WatchRevoked(lasting, out.tokens.Revoked, func() { once.Do(func() { close(out.synced) }) })
	})
	if h.self.Role == tokenRole {
		return out, nil
	}
	if out.siblings, err = b.WatchProcesses(lasting, nil); err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

// close ends what newBase began.
func (b *base) close() {
	b.stop()
	if err := b.group.Wait(); err != nil {
		b.log.Debug("watch of revocations ended", "err", err)
	}
	b.bus.Close()
}

// hold keeps the process's lease.
func (b *base) hold(ctx context.Context) error { return b.bus.Hold(ctx, b.self) }
