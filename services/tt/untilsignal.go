package main

import (
	"context"
	"os/signal"
)

// untilSignal ends the context with the first signal that asks tt to stop; the second one ends tt.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, endSignals()...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
