package bus

import (
	"context"
	"errors"
	"time"

	"tasktracer/pkg/frame"
)

// checkpointWithin is how long the state may lag behind the log.
const checkpointWithin = 5 * time.Second

// keepState writes the run's state, at once when the run ended, else at most 5 s after the log advanced. It is a loop of its own, for the
// state bucket may be without a leader while the log has one.
func (a *Appender) keepState() {
	defer close(a.kept)
	tick := time.NewTicker(checkpointWithin / 5)
	defer tick.Stop()
	for {
		select {
		case <-a.dirty:
		case <-tick.C:
			if !a.checkpointDue() {
				continue
			}
		case <-a.ctx.Done():
			return
		}
		if err := a.saveState(a.ctx, false); err != nil {
			if a.ctx.Err() == nil {
				a.fail(err)
			}
			return
		}
	}
}

func (a *Appender) checkpointDue() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.uncheckpoined.IsZero() && time.Since(a.uncheckpoined) >= checkpointWithin*3/5
}

// touch has the state written soon.
func (a *Appender) touch() { signal(a.dirty) }

// snapshot is the state as it should be now.
func (a *Appender) snapshot() *frame.Run {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cp.Epoch != 0 {
		a.run.Checkpoint = a.cp
	}
	a.uncheckpoined = time.Time{}
	r := a.run
	return &r
}

// saveState writes the state; last is for Release, when the connection is gone.
func (a *Appender) saveState(ctx context.Context, last bool) error {
	known := &a.state
	e, err := a.b.changeState(ctx, a.path, known, func(cur stateEntry) (*stateEntry, error) {
		if cur.deleted() {
			return nil, ErrDeleted
		}
		next := a.snapshot()
		if cur.run != nil {
			if cur.run.Epoch > next.Epoch {
				return nil, ErrTaken
			}
			next.FirstStreamSeq = orDefault(cur.run.FirstStreamSeq, next.FirstStreamSeq)
		}
		if last {
			a.disconnect(next)
		}
		return &stateEntry{run: next}, nil
	})
	if err == nil {
		a.state = e
	}
	return err
}

func (a *Appender) disconnect(r *frame.Run) {
	r.Connected = false
	if r.Phase == frame.Running {
		r.Phase, r.Changed = frame.Detached, time.Now()
	}
}

// Release lets go of the run when its connection is gone: what was submitted is made durable, then the state is written:
// Connected false, and Detached if the run was Running (a Legacy run that was still Running gets its LOST record instead, and is Gone).
// When ctx ends before, what was not durable is dropped and the state is written later. A run that was taken or deleted is simply let go of.
func (a *Appender) Release(ctx context.Context) error {
	if err := a.beginRelease(); err != nil {
		return err
	}
	var err error
	select {
	case <-a.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	a.cancel()
	<-a.done
	<-a.kept
	if err == nil {
		if err = a.finish(ctx); err == nil {
			return nil
		}
	}
	a.b.spawn(func() { // a state that says "connected" while its owner lives would stand for good
		if err := a.finish(a.b.ctx); err != nil && a.b.ctx.Err() == nil {
			a.b.log.Error("release", "run", a.path, "err", err)
		}
	})
	return err
}

// finish writes the last state.
func (a *Appender) finish(ctx context.Context) error {
	var err error
	if !errors.Is(a.Err(), ErrDeleted) {
		// Also where the run was taken: the taker may have died between its claim and its state, and then this state is the one that is settled.
		err = a.saveState(ctx, true)
	}
	if err != nil && !errors.Is(err, ErrTaken) && !errors.Is(err, ErrDeleted) {
		return err
	}
	a.b.owned.remove(a)
	return nil
}

func (a *Appender) beginRelease() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.releasing {
		return ErrReleased
	}
	if a.run.Legacy && !a.ended && a.run.Phase == frame.Running && a.err == nil {
		data, err := lostInfo(a.run.Key).Marshal()
		if err != nil {
			return err
		}
		if err := a.enqueue(&frame.Record{Kind: frame.Lost, At: time.Now().UnixMilli(), Data: data}, len(data)+recordCost); err != nil {
			return err
		}
	}
	a.releasing, a.hurry = true, true
	a.broadcast()
	signal(a.wake)
	return nil
}
