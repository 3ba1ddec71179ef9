package bus

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"tasktracer/pkg/frame"
)

// A run's state is one key of the state bucket. Every write names the revision it was made from, so that of two writers one must look again.

// Why a state was removed; the value of the marker's Tt-Reason.
const (
	whyDeleted = "deleted" // by somebody's wish: nothing may be appended to the run again
	whyEvicted = "evicted" // by retention: the run may come back, and goes on counting where it was
)

// stateEntry is a run's state as read. rev is 0 where there is none.
type stateEntry struct {
	rev uint64
	run *frame.Run // nil where there is none; on a marker what is left: key, epoch, checkpoint
	why string     // on a marker: why it was removed
}

func (e *stateEntry) deleted() bool { return e.why == whyDeleted }

// live is the run's state, nil where it was removed or never was.
func (e *stateEntry) live() *frame.Run {
	if e.why != "" {
		return nil
	}
	return e.run
}

func stateSubject(path string) string { return prefixKV + stateBucket + "." + path }

func decodeState(seq uint64, h nats.Header, data []byte) (stateEntry, error) {
	e := stateEntry{rev: seq}
	if h.Get(hdrKVOp) != "" {
		if e.why = h.Get(hdrWhy); e.why == "" {
			e.why = whyDeleted // made by hand with NATS's own tool: somebody's wish
		}
		if len(data) == 0 {
			return e, nil
		}
	}
	run, err := frame.UnmarshalRun(data)
	if err != nil {
		return e, err
	}
	e.run = run
	return e, nil
}

// readState reads a run's state from the leader, tried until ctx ends.
func (b *Bus) readState(ctx context.Context, path string) (stateEntry, error) {
	m, err := b.lastMessage(ctx, stateStream, stateSubject(path))
	if err != nil {
		return stateEntry{}, fmt.Errorf("read state: %w", err)
	}
	if m == nil {
		return stateEntry{}, nil
	}
	return decodeState(m.seq, m.header, m.data)
}

// writeState stores e in the place of revision e.rev, and sets e.rev.
func (b *Bus) writeState(ctx context.Context, path string, e *stateEntry) error {
	data, err := e.run.Marshal()
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	h := nats.Header{}
	if e.why != "" {
		h.Set(hdrKVOp, "DEL")
		h.Set(hdrWhy, e.why)
	}
	rev, err := b.publish(ctx, stateSubject(path), e.rev, h, data)
	if err != nil {
		return err
	}
	b.met.stateWrites.Inc()
	e.rev = rev
	return nil
}

// changeState reads the state, lets change make the new one from it, and stores that, again and again until it held or ctx ends.
// known is the state as last read, or nil. change may be called several times, also with what an earlier call made; it returns
// nil to leave the state as it is, and its error ends the whole.
func (b *Bus) changeState(ctx context.Context, path string, known *stateEntry, change func(stateEntry) (*stateEntry, error)) (stateEntry, error) {
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		var cur stateEntry
		if known != nil {
			cur, known = *known, nil
		} else {
			var err error
			if cur, err = b.readState(ctx, path); err != nil {
				return stateEntry{}, err
			}
		}
		next, err := change(cur)
		if err != nil || next == nil {
			return cur, err
		}
		next.rev = cur.rev
		if err = b.writeState(ctx, path, next); err == nil {
			return *next, nil
		}
		if fenced(err) {
			b.met.stateConflicts.Inc()
			wait = retryFirst / 10
		}
		if serr := sleep(ctx, wait); serr != nil {
			return stateEntry{}, fmt.Errorf("write state: %w: %w", serr, err)
		}
		if b.ctx.Err() != nil {
			return stateEntry{}, fmt.Errorf("write state: %w", err)
		}
	}
}

func parseSeq(h nats.Header, name string) uint64 {
	n, _ := strconv.ParseUint(h.Get(name), 10, 64) // absent or rubbish is 0: no such place
	return n
}
