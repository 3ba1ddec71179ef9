package bus

import (
	"context"
	"fmt"
	"time"

	"tasktracer/pkg/frame"
)

// ending is how the log says that a run ended: phase is 0 where it does not.
type ending struct {
	phase frame.Phase
	info  frame.ExitInfo
	at    time.Time
}

// note takes one chunk into account, in the order of the log. An EXIT stays; a LOST is undone by the next owner's claim.
func (e *ending) note(c *frame.Chunk, lostEpoch *uint64) error {
	if e.phase == frame.Gone && c.Epoch > *lostEpoch {
		*e = ending{}
	}
	for _, r := range c.Records {
		if r.Kind != frame.Exit && r.Kind != frame.Lost || e.phase == frame.Exited {
			continue
		}
		info, err := frame.UnmarshalExit(r.Data)
		if err != nil {
			return err
		}
		*e = ending{phase: frame.Exited, info: info, at: c.Stored}
		if r.Kind == frame.Lost {
			e.phase, *lostEpoch = frame.Gone, c.Epoch
		}
	}
	return nil
}

// endingBetween looks for the run's end in what the log holds behind seq from, up to and including tail t. The state lags behind the log by a few
// seconds when an owner dies; an EXIT that was stored and not yet written to the state is found here.
func (b *Bus) endingBetween(ctx context.Context, path string, from uint64, t *tailOf) (ending, error) {
	var e ending
	var lostEpoch uint64
	if t.chunk.First <= from+1 { // the common case: the tail alone
		err := e.note(t.chunk, &lostEpoch)
		return e, err
	}
	start, err := b.seek(ctx, b.live, path, t, 0, func(c *frame.Chunk) bool { return c.First <= from+1 })
	if err != nil {
		return e, fmt.Errorf("look for the end: %w", err)
	}
	next := uint64(1)
	if start != nil {
		next = start.StreamSeq
	}
	for next <= t.seq {
		batch, err := b.batch(ctx, b.live, path, next, t.seq)
		if err != nil {
			return e, fmt.Errorf("look for the end: %w", err)
		}
		if len(batch) == 0 {
			break
		}
		for _, s := range batch {
			if err := e.note(s.Chunk, &lostEpoch); err != nil {
				return e, err
			}
			next = s.StreamSeq + 1
		}
	}
	return e, nil
}

// lostInfo is what viewers are told when a client stays away; the older system's words.
func lostInfo(k frame.Key) frame.ExitInfo {
	return frame.ExitInfo{Code: []byte("999"), Message: fmt.Sprintf("Lost connection with %s unexpected!", k.Client)}
}
