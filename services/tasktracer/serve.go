package main

import (
	"context"
	"errors"

	"tasktracer/pkg/bus"
)

// work is what a server command does once it is connected.
type work struct {
	sockets  drainer // nil: no Socket.IO
	lease    bool    // siblings may look for this process
	parts    []func(context.Context) error
	announce func(context.Context) // called when all parts run; may wait
}

// serve runs a server command: a host, a bus, what build makes of them, and a stop in good order when ctx ends.
func serve(ctx context.Context, c *call, role string, hostCfg hostConfig, busCfg bus.Config, build func(*base) (work, error)) error {
	h, err := newHost(c, hostCfg, role)
	if err != nil {
		return err
	}
	b, err := newBase(ctx, h, busCfg)
	if err != nil {
		h.abandon()
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // asked to stop while it still waited for NATS
		}
		return err
	}
	defer b.close()
	w, err := build(b)
	if err != nil {
		h.abandon()
		return err
	}
	w.parts = append(w.parts, b.bus.WatchRestore)
	lease := noLease
	if w.lease {
		lease = b.hold
	}
	if w.announce != nil {
		w.parts = append(w.parts, func(ctx context.Context) error { w.announce(ctx); <-ctx.Done(); return nil })
	}
	return h.run(ctx, w.sockets, lease, w.parts...)
}
