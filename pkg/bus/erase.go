package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Purging a subject only marks its messages as removed: their bytes stay in the file that they share with others until NATS compacts it, which it may
// never do. A message that is deleted by its sequence is overwritten on every replica. That costs the server a rewrite of the file, of some megabytes, for
// each message, and everybody else waits meanwhile.
const (
	eraseAtMost = 20_000           // messages of one run; what lies beyond is purged only
	eraseWithin = 30 * time.Second // for one message: an election takes less; a server that does not let us do it never answers
)

// ErrErasing says that the run is deleted and nobody reads it any more, while its bytes are still being overwritten.
var ErrErasing = errors.New("the run's output is still being overwritten")

// eraseUntilEmpty overwrites a run's chunks, and looks again until nothing of them is left.
func (b *Bus) eraseUntilEmpty(ctx context.Context, path string) error {
	begun := time.Now()
	erased := 0
	for empty := 0; empty < 2; {
		n, err := b.erase(ctx, path, eraseAtMost-erased)
		erased += n
		if err != nil {
			b.log.Warn("output of a deleted run was removed, and not overwritten", "run", path, "overwritten", erased, "err", err)
		}
		if err := b.purge(ctx, logStream, prefixIn+path, 0); err != nil {
			return fmt.Errorf("purge %s: %w", path, err)
		}
		if err := sleep(ctx, purgeSettle/2); err != nil {
			return err
		}
		m, err := b.lastMessage(ctx, logStream, prefixIn+path)
		if err != nil {
			return fmt.Errorf("purge %s: %w", path, err)
		}
		if empty++; m != nil {
			empty = 0
		}
	}
	if erased > 0 {
		b.met.erased.Add(float64(erased))
		b.log.Info("output of a deleted run was overwritten", "run", path, "messages", erased, "took", time.Since(begun).Round(time.Millisecond))
	}
	return nil
}

// erase overwrites the run's messages, one after the other, at most so many, and tells how many it were. Between two of them it leaves the server as much
// time for others as one took.
func (b *Bus) erase(ctx context.Context, path string, most int) (n int, err error) {
	for at := uint64(1); ; n++ {
		var m *message
		if err := b.eraseTry(ctx, func() (err error) {
			m, err = b.fromLeader(ctx, b.live, logStream, getRequest{Seq: at, NextFor: prefixIn + path})
			return err
		}); err != nil || m == nil {
			return n, err
		}
		if n >= most {
			return n, fmt.Errorf("more than %d messages", n)
		}
		begun := time.Now()
		if err := b.eraseTry(ctx, func() error { return b.eraseMessage(ctx, m.seq) }); err != nil {
			return n, err
		}
		if err := sleep(ctx, min(time.Since(begun), time.Second)); err != nil {
			return n, err
		}
		at = m.seq + 1
	}
}

func (b *Bus) eraseTry(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, eraseWithin)
	defer cancel()
	return retry(ctx, try, func(error) bool { return ctx.Err() == nil && b.ctx.Err() == nil })
}

func (b *Bus) eraseMessage(ctx context.Context, seq uint64) error {
	body, err := json.Marshal(getRequest{Seq: seq})
	if err != nil {
		return err
	}
	r, err := b.live.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.DELETE." + logStream, Data: body}, 5*attemptWithin)
	if err != nil {
		return err
	}
	var resp struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(r.Data, &resp); err != nil {
		return err
	}
	if resp.Error == nil || resp.Error.ErrCode == codeNoSequence {
		return nil
	}
	if m, err := b.fromLeader(ctx, b.live, logStream, getRequest{Seq: seq}); err == nil && m == nil {
		return nil // an answer that was lost, or another one of us, has done it
	}
	return resp.Error
}
