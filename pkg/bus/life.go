package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// lives is how the log came to be what it is: each restore began a life, in which places up to the backup's last hold what they always held, and later ones
// something new. It stands in the stream's metadata. The oldest comes first; none for a log that was never restored.
type lives []life

type life struct {
	id   uint32 // made at random, for the same backup may be restored twice; not 0
	upto uint64 // the last place that the backup held
}

const (
	// livesKey is where the stream's metadata has them, as "id:upto,id:upto".
	livesKey = "tasktracer_lives"
	// mostLives bounds them: what is older than so many restores is not known any more, and its cursors are refused.
	mostLives = 100
)

func parseLives(text string) (lives, error) {
	var all lives
	for part := range strings.SplitSeq(text, ",") {
		if text == "" {
			break
		}
		id, upto, _ := strings.Cut(part, ":")
		i, err := strconv.ParseUint(id, 16, 32)
		u, err2 := strconv.ParseUint(upto, 10, 64)
		if err = errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("metadata %s of stream %s: %w", livesKey, logStream, err)
		}
		all = append(all, life{uint32(i), u})
	}
	return all, nil
}

func (l lives) String() string {
	var parts []string
	for _, x := range l {
		parts = append(parts, fmt.Sprintf("%08x:%d", x.id, x.upto))
	}
	return strings.Join(parts, ",")
}

// begin adds a life.
func (l lives) begin(upto uint64) lives {
	var id [4]byte
	for binary.BigEndian.Uint32(id[:]) == 0 {
		_, _ = rand.Read(id[:]) // never fails
	}
	if len(l) >= mostLives {
		l = l[len(l)-mostLives+1:]
	}
	return append(l[:len(l):len(l)], life{binary.BigEndian.Uint32(id[:]), upto})
}

// now is the id of the present life, 0 for the first.
func (l lives) now() uint32 {
	if len(l) == 0 {
		return 0
	}
	return l[len(l)-1].id
}

// kept tells whether the log holds at place what it held there in a life. Place 0 stands for one that is not known.
func (l lives) kept(id uint32, place uint64) bool {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].id == id {
			return true
		}
		if place == 0 || place > l[i].upto {
			return false
		}
	}
	return id == 0 && len(l) < mostLives
}

// Life names the log as it is since its last restore from a backup; 0 where there was none.
func (b *Bus) Life() uint32 { return b.lives.now() }

// Kept tells whether the log holds at a place (a stream sequence; 0: not known) what it held there in the life so named. Where it does not, what a
// viewer has seen up to there may be something that the log knows nothing of.
func (b *Bus) Kept(life uint32, place uint64) bool { return b.lives.kept(life, place) }

// ErrRestored says that the log was restored from a backup while the process ran: what it has in memory is of another life.
var ErrRestored = errors.New("the log was restored from a backup while this process ran: start it again")

// WatchRestore returns ErrRestored when the log was restored behind the process's back, and nil when ctx ends. It looks whenever the connection comes back.
func (b *Bus) WatchRestore(ctx context.Context) error {
	again := make(chan struct{}, 1)
	defer b.live.onReconnect(func() {
		select {
		case again <- struct{}{}:
		default: // one look is asked for already
		}
	})()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		}
		now, err := b.livesNow(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case now.String() != b.lives.String():
			return ErrRestored
		}
	}
}

// livesNow asks until it is told. A stream that is not there may be about to be restored.
func (b *Bus) livesNow(ctx context.Context) (l lives, err error) {
	err = retry(ctx, func() error {
		actx, cancel := context.WithTimeout(ctx, setupWithin)
		defer cancel()
		s, err := b.js.Stream(actx, logStream)
		if err == nil {
			l, err = parseLives(s.CachedInfo().Config.Metadata[livesKey])
		}
		return err
	}, func(err error) bool { return transient(err) || errors.Is(err, jetstream.ErrStreamNotFound) })
	return l, err
}
