package socketio

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Backoff bounds the waits between attempts. Zero fields mean 500 ms and 30 s.
type Backoff struct{ Min, Max time.Duration }

// wait is the pause before attempt n (from 0): exponential with full jitter, so that clients which lost one server do not all come back at once.
// It is never below a tenth of Min: a server that accepts and hangs up must not be hammered.
func (b Backoff) wait(n int) time.Duration {
	top := b.Max
	if n < 30 && b.Min<<n < b.Max {
		top = b.Min << n
	}
	return max(time.Duration(rand.Int64N(int64(top)+1)), b.Min/10)
}

// Redial keeps a connection: it dials, calls use with it, and when use returns (or dialling fails) waits (exponential, full jitter) and dials again, until ctx ends
// or use returns an error that wraps ErrStop. The context given to use ends with the connection; the connection is closed when use returns.
// A connection that lasted for longer than the longest wait makes the waits short again. It returns ctx's error, or the one of use.
func Redial(ctx context.Context, cfg DialConfig, b Backoff, use func(context.Context, *Client) error) error {
	if b.Min <= 0 {
		b.Min = 500 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 30 * time.Second
	}
	b.Max = max(b.Max, b.Min)
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for n := 0; ; n++ {
		began := time.Now()
		err := once(ctx, cfg, use)
		if errors.Is(err, ErrStop) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > b.Max {
			n = 0
		}
		pause := b.wait(n)
		log.Debug("connection lost or not made", "err", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func once(ctx context.Context, cfg DialConfig, use func(context.Context, *Client) error) error {
	c, err := Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // says nothing that use has not
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()
	return use(ctx, c)
}
