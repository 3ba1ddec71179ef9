package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// drainer ends connections that outlive a request: the Socket.IO server.
type drainer interface{ Shutdown(context.Context) error }

// run lets the parts work until ctx ends or one of them fails, then stops everything in the order in which nothing is lost:
// no longer ready, wait until load balancers have noticed, tell the sockets to go elsewhere, finish requests, stop the parts, and last of
// all give up the lease, since siblings pass requests to whoever holds one.
func (h *host) run(ctx context.Context, sockets drainer, lease func(context.Context) error, parts ...func(context.Context) error) error {
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	group, groupCtx := errgroup.WithContext(working)
	for _, part := range parts {
		group.Go(func() error {
			if err := part(groupCtx); err != nil {
				return err
			}
			if groupCtx.Err() == nil {
				return errors.New("a part stopped by itself")
			}
			return nil
		})
	}
	leased, dropLease := context.WithCancel(context.WithoutCancel(ctx))
	defer dropLease()
	leaseEnded := make(chan error, 1)
	go func() { leaseEnded <- lease(leased) }()
	h.started.Store(true)
	h.log.Info("started")

	var cause error
	select {
	case <-ctx.Done():
		h.log.Info("stopping", "drain", h.cfg.Drain)
	case <-groupCtx.Done():
		h.log.Error("a part failed, stopping")
	case cause = <-h.failed:
		h.log.Error("stopping", "err", cause)
	case cause = <-leaseEnded:
		leaseEnded <- cause
		cause = fmt.Errorf("lease ended: %w", errors.Join(cause, errors.New("no longer known to siblings")))
	}
	h.health.Stopping()
	if ctx.Err() != nil && h.cfg.Drain > 0 {
		time.Sleep(h.cfg.Drain) // a second signal ends the process at once
	}
	err := h.close(sockets)
	stopWorking()
	err = errors.Join(cause, group.Wait(), err)
	dropLease()
	if leaseErr := <-leaseEnded; leaseErr != nil && cause == nil {
		err = errors.Join(err, leaseErr)
	}
	h.log.Info("stopped")
	return err
}

// close ends sockets, then requests; what does not end in time is cut.
func (h *host) close(sockets drainer) error {
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.StopWithin)
	defer cancel()
	if sockets != nil {
		if err := sockets.Shutdown(ctx); err != nil {
			h.log.Warn("sockets were cut", "err", err)
		}
	}
	if err := h.server.Shutdown(ctx); err != nil {
		h.log.Warn("requests were cut", "err", err)
		if err := h.server.Close(); err != nil {
			return fmt.Errorf("close the HTTP server: %w", err)
		}
	}
	if h.debug != nil {
		return h.debug.Close()
	}
	return nil
}

// abandon closes what newHost opened, when the command fails before run.
func (h *host) abandon() { _ = h.close(nil) } // the failure that led here is the one to tell

// noLease is for processes that hold no lease.
func noLease(ctx context.Context) error { <-ctx.Done(); return nil }
