package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tasktracer/pkg/frame"
)

// RunChange is one change of a run's state; Deleted runs carry only their Key (names as stored in the deletion marker).
// A run that retention removed is Deleted, too.
type RunChange struct {
	Run     frame.Run
	Deleted bool
}

// WatchRuns calls fn with every run's state, then (synced) once, then with each change, until ctx ends; then it returns nil. It heals itself across reconnects.
// Changes of one run arrive in order; intermediate ones may be skipped. Calls of fn do not overlap; it must return soon.
func (b *Bus) WatchRuns(ctx context.Context, fn func(RunChange), synced func()) error {
	return b.watchBucket(ctx, stateBucket, prefixState, func(v watched) {
		e, err := decodeState(v.seq, v.header, v.data)
		if err != nil {
			b.log.Warn("a run's state that cannot be read", "run", v.path, "err", err)
			return
		}
		if e.why == "" {
			fn(RunChange{Run: *e.run})
			return
		}
		k, err := parsePath(v.path)
		if err != nil {
			return // nothing that this package wrote
		}
		if e.run != nil {
			k = e.run.Key
		}
		fn(RunChange{Run: frame.Run{Key: k}, Deleted: true})
	}, synced)
}

// DeleteRun removes a run's log and state for good, on every replica, and announces it (WatchRuns: Deleted). What is left is a marker that keeps the
// run from coming back. The log's bytes are overwritten in the servers' files, which takes milliseconds for each chunk; where ctx ends before that is over
// it goes on, and ErrErasing is returned. Deleting a run again is no error. Errors: ErrNotFound where the run is not known, ErrErasing, ctx's.
func (b *Bus) DeleteRun(ctx context.Context, key frame.Key) error {
	if err := checkKey(key); err != nil {
		return err
	}
	p := path(key)
	t, err := b.readTail(ctx, p)
	if err != nil && !errors.Is(err, frame.ErrMalformed) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	known := t != nil || err != nil
	// The marker first: an owner that appends from now on looks at it before it begins a log anew, and again afterwards.
	if err := b.markRemoved(ctx, key, whyDeleted, known); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	erased := make(chan error, 1)
	if !b.spawn(func() { erased <- b.eraseUntilEmpty(b.ctx, p) }) {
		return ErrErasing // the janitor does it
	}
	select {
	case err = <-erased:
	case <-ctx.Done():
		err = ErrErasing
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// markRemoved writes the marker in the place of a run's state.
func (b *Bus) markRemoved(ctx context.Context, key frame.Key, why string, known bool) error {
	_, err := b.changeState(ctx, path(key), nil, func(cur stateEntry) (*stateEntry, error) {
		if cur.rev == 0 && !known {
			return nil, ErrNotFound
		}
		if cur.deleted() {
			return nil, nil
		}
		left := frame.Run{Key: key, Phase: frame.Gone, Changed: time.Now()}
		if cur.run != nil {
			left.Epoch, left.Checkpoint = cur.run.Epoch, cur.run.Checkpoint
		}
		return &stateEntry{run: &left, why: why}, nil
	})
	return err
}

// purgeSettle is how long a deleted run's log is looked at again: a publish that the leader had let in before the purge is stored behind it.
const purgeSettle = 200 * time.Millisecond

// eraseDeleted is for an owner that finds its run deleted: its last publish may have got in behind the removal.
func (b *Bus) eraseDeleted(path string) {
	b.spawn(func() {
		if err := b.eraseUntilEmpty(b.ctx, path); err != nil && b.ctx.Err() == nil {
			b.log.Warn("removal of a deleted run", "run", path, "err", err)
		}
	})
}
