package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"tasktracer/pkg/frame"
)

var (
	// ErrTaken says that another process owns the run now (a higher epoch).
	ErrTaken = errors.New("run is owned by another ingest")
	// ErrDeleted says that the run was deleted; nothing may be appended to it again.
	ErrDeleted = errors.New("run was deleted")
	// ErrNotFound says that neither the log nor the states know the run.
	ErrNotFound = errors.New("no such run")
	// ErrReleased says that the Appender was released.
	ErrReleased = errors.New("run was released")
)

// position is where the next chunk of a run goes.
type position struct {
	epoch        uint64
	next, src    uint64 // seq of the next record; highest src stored
	offset, line uint64
	held         uint64 // what the run's chunks take in the log
	fence        uint64 // stream sequence of the last chunk; 0 where the log holds none
}

// seqJump is what numbering skips where the end of the log is not known: more records than an owner makes between two checkpoints.
// A seq that some viewer has seen must never be given again; a hole in the numbers is only a gap.
const seqJump = 1 << 24

// tailOf is a run's last chunk, as the leader has it.
type tailOf struct {
	seq   uint64
	id    string
	chunk *frame.Chunk
	size  int   // of its message's data
	bad   error // why the chunk, which is nil then, cannot be read: readers go up to it
}

// beyond says that there is something behind seq after, or may be: in a chunk that cannot be read.
func (t *tailOf) beyond(after uint64) bool {
	return t != nil && (t.bad != nil || t.chunk.Next()-1 > after)
}

// messageCost is what a message takes beside its data: JetStream's frame, the subject, the headers of a publish. Names are mostly short.
const messageCost = 256

// takes is what a message with so much data takes in the log.
func takes(data int) uint64 { return uint64(data) + messageCost }

// readTail reads a run's last chunk from the leader, tried until ctx ends; nil where the log holds none.
func (b *Bus) readTail(ctx context.Context, path string) (*tailOf, error) {
	m, err := b.lastMessage(ctx, logStream, prefixIn+path)
	if err != nil || m == nil {
		return nil, err
	}
	c, err := frame.UnmarshalChunk(m.data)
	if err != nil {
		return nil, fmt.Errorf("tail: %w", err)
	}
	return &tailOf{seq: m.seq, id: m.header.Get(hdrID), chunk: c, size: len(m.data)}, nil
}

// positionBehind says where to go on behind what the log and the state tell. unknown says that records may have been stored that neither tells of.
func positionBehind(t *tailOf, st stateEntry) (p position, unknown bool) {
	p.next = 1
	if t != nil {
		p = position{epoch: t.chunk.Epoch, next: t.chunk.Next(), src: t.chunk.LastSrc, fence: t.seq}
		p.offset, p.line = t.chunk.End()
		p.held = max(t.chunk.Held+takes(t.size), p.offset)
	}
	if st.run == nil {
		return p, false
	}
	cp := st.run.Checkpoint
	p.epoch, p.held = max(p.epoch, st.run.Epoch), max(p.held, cp.Held)
	if cp.Seq+1 <= p.next {
		return p, false
	}
	// The log has less than was durable once: retention took the tail, or the log was restored from a copy.
	p.next, p.src, p.offset, p.line = cp.Seq+1, max(p.src, cp.Src), cp.Bytes, cp.Line
	if !st.run.Connected {
		return p, false // the last owner, or who settled for it, wrote down the very end
	}
	p.next += seqJump
	return p, true
}

// Take makes the caller (owner, an incarnation) the run's owner: it stores a claim, and for a new run its START and state.
// It returns when that is durable; it tries until ctx ends. run carries Key, Task, Legacy, Late and, where known, Started; the rest is filled in.
// Errors: ErrDeleted, ErrTaken when somebody else took the run in the meantime, ctx's.
func (b *Bus) Take(ctx context.Context, owner string, run frame.Run) (*Appender, error) {
	if err := checkKey(run.Key); err != nil {
		return nil, err
	}
	if len(run.Task) > maxTask {
		return nil, fmt.Errorf("take %s: %w: a task object of %d bytes, at most %d", run.Key, frame.ErrMalformed, len(run.Task), maxTask)
	}
	a := newAppender(b, owner, run)
	if err := a.take(ctx); err != nil {
		return nil, fmt.Errorf("take %s: %w", run.Key, err)
	}
	if err := b.owned.add(a); err != nil {
		a.cancel()
		return nil, fmt.Errorf("take %s: %w", run.Key, err)
	}
	a.start()
	// What was announced before we listened is looked for once: the run may have been taken or deleted again already.
	st, err := b.readState(ctx, a.path)
	switch {
	case err != nil:
		a.cancel()
	case st.deleted():
		a.fail(ErrDeleted)
	case st.run != nil && st.run.Epoch > a.epoch():
		a.fail(ErrTaken)
	}
	if err == nil {
		err = a.Err()
	}
	if err != nil {
		b.owned.remove(a)
		return nil, fmt.Errorf("take %s: %w", run.Key, err)
	}
	return a, nil
}

// maxTask is the largest task object: it is part of START, which must fit into a message, and of every write of the state.
const maxTask = 128 << 10

// checkKey refuses names that could not be stored.
func checkKey(k frame.Key) error {
	for _, s := range []string{k.Namespace, k.Task, k.Client, k.Run} {
		if !utf8.ValidString(s) {
			return fmt.Errorf("run %q: %w: a name is not UTF-8", k, frame.ErrMalformed)
		}
	}
	if k.Run == "" || len(k.Run) > frame.MaxRun {
		return fmt.Errorf("run id %q: %w: not 1 to %d bytes", k.Run, frame.ErrMalformed, frame.MaxRun)
	}
	return nil
}

func (a *Appender) take(ctx context.Context) error {
	for {
		t, err := a.b.readTail(ctx, a.path)
		if err != nil {
			return err
		}
		st, err := a.b.readState(ctx, a.path) // behind the tail: a checkpoint that is ahead of the tail is then a lost tail, or a lost race
		if err != nil {
			return err
		}
		if st.deleted() {
			return ErrDeleted
		}
		c, err := a.claim(t, st)
		if err != nil {
			return err
		}
		ok, err := a.storeClaim(ctx, c)
		if err != nil {
			return err
		}
		if ok {
			a.advance(c)
			return a.takeState(ctx, t, st)
		}
	}
}

// claim makes the chunk that takes the run. A new run's START is part of it, so that no death can part them.
func (a *Appender) claim(t *tailOf, st stateEntry) (*frame.Chunk, error) {
	pos, unknown := positionBehind(t, st)
	pos.epoch++
	a.pos = pos
	if pos.next == 1 {
		info, err := frame.StartInfo{Key: a.run.Key, Task: a.run.Task, Late: a.run.Late}.Marshal()
		if err != nil {
			return nil, fmt.Errorf("start: %w", err)
		}
		return a.chunk([]frame.Record{{Kind: frame.Start, At: a.run.Started.UnixMilli(), Data: info}}), nil
	}
	if unknown {
		note, err := tailGoneNote()
		if err != nil {
			return nil, err
		}
		return a.chunk([]frame.Record{note}), nil
	}
	return a.chunk(nil), nil
}

func tailGoneNote() (frame.Record, error) {
	data, err := frame.NoteInfo{Text: "The log was cut here before its end was written down; output may be missing."}.Marshal()
	return frame.Record{Kind: frame.Note, At: time.Now().UnixMilli(), Data: data}, err
}

// storeClaim stores c, or finds that the run has moved on meanwhile: then ok is false and the claim must be made anew.
func (a *Appender) storeClaim(ctx context.Context, c *frame.Chunk) (ok bool, err error) {
	data, err := c.Marshal()
	if err != nil {
		return false, fmt.Errorf("claim: %w", err)
	}
	id := a.nextID()
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		seq, err := a.b.publish(ctx, a.subject(), a.pos.fence, nats.Header{hdrID: {id}}, data)
		if err == nil {
			a.pos.fence, a.pos.held = seq, c.Held+takes(len(data))
			return true, nil
		}
		t, terr := a.b.readTail(ctx, a.path)
		switch {
		case terr != nil:
			return false, fmt.Errorf("%w: %w", terr, err)
		case t != nil && t.id == id:
			a.pos.fence, a.pos.held = t.seq, c.Held+takes(len(data))
			return true, nil
		case t == nil && a.pos.fence != 0, t != nil && t.seq != a.pos.fence:
			return false, nil
		}
		if serr := sleep(ctx, wait); serr != nil {
			return false, fmt.Errorf("%w: %w", serr, err)
		}
	}
}

// takeState writes the state of the run just taken. t and before are what the claim was made from.
func (a *Appender) takeState(ctx context.Context, t *tailOf, before stateEntry) error {
	var end ending
	if t != nil {
		from := uint64(0)
		if before.run != nil {
			from = before.run.Checkpoint.Seq
		}
		var err error
		if end, err = a.b.endingBetween(ctx, a.path, from, t); err != nil {
			return err
		}
	}
	first := a.pos.fence
	if t != nil && (before.run == nil || before.run.FirstStreamSeq == 0) {
		s, err := a.b.probe(ctx, a.b.live, a.path, 1)
		if err != nil {
			return err
		}
		if s != nil {
			first = s.StreamSeq
		}
	}
	e, err := a.b.changeState(ctx, a.path, &before, func(cur stateEntry) (*stateEntry, error) {
		if cur.deleted() {
			return nil, ErrDeleted
		}
		if cur.run != nil && cur.run.Epoch > a.pos.epoch {
			return nil, ErrTaken
		}
		a.adopt(cur.run, end, first)
		return &stateEntry{run: a.snapshot()}, nil
	})
	if errors.Is(err, ErrDeleted) {
		a.b.eraseDeleted(a.path) // the claim got in behind the deletion
	}
	a.state = e
	return err
}

// adopt takes over what an earlier state says of the run.
func (a *Appender) adopt(cur *frame.Run, end ending, first uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &a.run
	r.Phase, r.Connected, r.Owner, r.Epoch = frame.Running, true, a.owner, a.pos.epoch
	r.FirstStreamSeq, r.Changed = first, time.Now()
	if r.Late = r.Late || cur != nil && cur.Late; r.Late {
		r.Phase = frame.Detached // its process has ended; only what it left is brought
	}
	if cur != nil {
		r.Later = cur.Later
		if !cur.Started.IsZero() {
			r.Started = cur.Started
		}
		if len(r.Task) == 0 {
			r.Task = cur.Task
		}
		r.FirstStreamSeq = orDefault(cur.FirstStreamSeq, first)
		if cur.Phase == frame.Exited {
			r.Phase, r.Exit, r.Ended = frame.Exited, cur.Exit, cur.Ended
		}
	}
	if end.phase == frame.Exited {
		r.Phase, r.Exit, r.Ended = frame.Exited, end.info, end.at
	}
	r.Checkpoint = a.checkpoint()
}

func newID() string { return rand.Text() }
