package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"tasktracer/pkg/frame"
)

// Gone is what retention took: records From up to and including To cannot be had any more. Bytes is what they held, -1 where unknown.
type Gone struct {
	From, To uint64
	Bytes    int64
}

// readerHold is how long one reader may keep its place, and what it has fetched, while its callback is slow; then others come first.
const readerHold = 250 * time.Millisecond

// doubtTries is how often an answer that says "gone" without proof is asked for again.
const doubtTries = 5

// Read calls chunk with each stored chunk of the run that holds records after seq after, in order, up to what was durable when it was called,
// and gone where retention left a hole. hint is a stream sequence to start looking at, or 0. A chunk may begin before after+1.
// It returns nil at the end, an error of a callback as it is, ErrDeleted, or ctx's error; trouble with NATS is retried with back-off.
// frame.ErrMalformed, of which frame.ErrVersion is one kind, comes behind all chunks that lie before the one that cannot be read.
//
// At most Config.Readers reads fetch at a time, first in, first out, each at most 1 MiB. A callback may block: after 250 ms what was fetched behind
// its chunk is let go of, and the reader queues again when it returns.
func (b *Bus) Read(ctx context.Context, key frame.Key, after, hint uint64, chunk func(Stored) error, gone func(Gone) error) error {
	r := &reader{b: b, key: key, path: path(key), next: after + 1, chunk: chunk, gone: gone, endKnown: after == 0}
	t, err := r.tail(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return r.read(ctx, t, after, hint)
}

// Catch is Read for who reads on and on: where any replica has something behind after, that is delivered, and the log's leader is not asked. So it
// goes on while there is none. It may end sooner than Read does, never with a hole that gone was not told of.
func (b *Bus) Catch(ctx context.Context, key frame.Key, after, hint uint64, chunk func(Stored) error, gone func(Gone) error) error {
	r := &reader{b: b, key: key, path: path(key), next: after + 1, chunk: chunk, gone: gone, endKnown: after == 0}
	t, err := r.catchTail(ctx, after)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return r.read(ctx, t, after, hint)
}

// read reads up to tail t.
func (r *reader) read(ctx context.Context, t *tailOf, after, hint uint64) (err error) {
	if t == nil {
		return r.nothing(ctx)
	}
	r.last, r.lastPlace = math.MaxUint64, t.seq
	if t.bad == nil {
		r.last = t.chunk.Next() - 1
		if after >= r.last {
			return nil
		}
		if t.chunk.First <= r.next {
			return r.deliver(Stored{StreamSeq: t.seq, Chunk: t.chunk})
		}
	}
	if r.place, err = r.find(ctx, t, after, hint); err != nil {
		return fmt.Errorf("read %s: %w", r.key, err)
	}
	for r.next <= r.last {
		if err := r.round(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reader is one Read under way.
type reader struct {
	b     *Bus
	key   frame.Key
	path  string
	chunk func(Stored) error
	gone  func(Gone) error

	next, last       uint64 // seqs: the one wanted, and the last one; the largest number where the tail cannot be read
	place, lastPlace uint64 // stream sequences: where to look on, and the tail's
	prev             uint64 // stream sequence of the chunk delivered last
	end              uint64 // byte offset behind what was delivered
	endKnown         bool
}

func (r *reader) tail(ctx context.Context) (*tailOf, error) {
	var t *tailOf
	err := retry(ctx, func() (err error) {
		t, err = r.leaderTail(ctx)
		return err
	}, r.again(ctx))
	return t, err
}

func (r *reader) leaderTail(ctx context.Context) (*tailOf, error) {
	m, err := r.b.fromLeader(ctx, r.b.hist, logStream, getRequest{LastFor: prefixIn + r.path})
	if err != nil || m == nil {
		return nil, err
	}
	c, err := frame.UnmarshalChunk(m.data)
	return &tailOf{seq: m.seq, chunk: c, bad: err}, nil
}

// nearTries is how often any replica is asked, while NATS is away for a moment, before the leader is, whose answer may take long.
const nearTries = 5

// catchTail is a tail behind after, from any replica; where none has one, the leader's.
func (r *reader) catchTail(ctx context.Context, after uint64) (t *tailOf, err error) {
	tries := 0
	err = retry(ctx, func() error {
		t, err = r.b.nearTail(ctx, r.path)
		if tries++; err != nil && tries <= nearTries {
			return err
		}
		if err == nil && t.beyond(after) {
			return nil
		}
		t, err = r.leaderTail(ctx)
		return err
	}, r.again(ctx))
	return t, err
}

// nearTail is the run's last chunk as some replica has it, which may lag behind the log; nil where that one has none. It is not retried.
func (b *Bus) nearTail(ctx context.Context, path string) (*tailOf, error) {
	body, err := json.Marshal(getRequest{LastFor: prefixIn + path})
	if err != nil {
		return nil, err
	}
	s, err := b.direct(ctx, b.hist, body)
	if errors.Is(err, frame.ErrMalformed) {
		return &tailOf{seq: s.StreamSeq, bad: err}, nil
	}
	if err != nil || s == nil {
		return nil, err
	}
	return &tailOf{seq: s.StreamSeq, chunk: s.Chunk}, nil
}

// again tells which errors are worth another try: all but those of the data itself, as long as anybody waits.
func (r *reader) again(ctx context.Context) func(error) bool {
	return func(err error) bool {
		r.b.met.readRetries.Inc()
		return !errors.Is(err, frame.ErrMalformed) && ctx.Err() == nil && r.b.ctx.Err() == nil
	}
}

// find gives a stream sequence at or before the chunk that holds the first wanted record.
func (r *reader) find(ctx context.Context, t *tailOf, after, hint uint64) (uint64, error) {
	if after == 0 {
		return 1, nil
	}
	from := uint64(0)
	if hint != 0 && hint <= t.seq {
		s, err := r.b.probe(ctx, r.b.hist, r.path, hint)
		if err != nil {
			return 0, err
		}
		if s != nil && s.Chunk != nil && s.Chunk.First <= r.next {
			if s.Chunk.Next() >= r.next {
				return s.StreamSeq, nil
			}
			from = s.StreamSeq
		}
	}
	s, err := r.b.seek(ctx, r.b.hist, r.path, t, from, func(c *frame.Chunk) bool { return c.First <= r.next })
	if err != nil || s == nil {
		return 1, err
	}
	return s.StreamSeq, nil
}

// round fetches and delivers once.
func (r *reader) round(ctx context.Context) error {
	if err := r.b.readers.Acquire(ctx, 1); err != nil {
		return err
	}
	r.b.met.reading.Inc()
	batch, err := r.fetch(ctx)
	h := &holding{batch: batch, release: func() { r.b.met.reading.Dec(); r.b.readers.Release(1) }}
	defer h.end()
	if err != nil {
		return err
	}
	if len(batch) == 0 {
		h.end()
		return r.rest(ctx)
	}
	slow := time.AfterFunc(readerHold, func() {
		if h.end() {
			r.b.met.yields.Inc()
		}
	})
	defer slow.Stop()
	for s, ok := h.pop(); ok; s, ok = h.pop() {
		if err := r.deliver(s); err != nil {
			return err
		}
	}
	return nil
}

// fetch reads the next batch, at last from the leader; nothing is returned only when the leader says that there is nothing.
func (r *reader) fetch(ctx context.Context) (got []Stored, err error) {
	tries := 0
	err = retry(ctx, func() error {
		got, err = r.b.batch(ctx, r.b.hist, r.path, r.place, r.lastPlace)
		if len(got) > 0 {
			return nil // what came is in order; a hole behind it is read next
		}
		if tries++; err == nil && tries <= 2 {
			return errIncomplete // the replica may lag
		}
		if err != nil && tries <= 2*doubtTries {
			return err
		}
		s, err := r.b.leaderChunkFrom(ctx, r.b.hist, r.path, r.place)
		if s != nil {
			got = []Stored{*s}
		}
		return err
	}, r.again(ctx))
	return got, err
}

// deliver passes one chunk on, behind the gap that it may show.
func (r *reader) deliver(s Stored) error {
	c := s.Chunk
	s.Key, s.Prev = r.key, r.prev
	r.place, r.prev = s.StreamSeq+1, s.StreamSeq
	if c.First > r.next {
		g := Gone{From: r.next, To: c.First - 1, Bytes: -1}
		if r.endKnown && c.Offset >= r.end {
			g.Bytes = int64(c.Offset - r.end)
		}
		if err := r.tellGone(g); err != nil {
			return err
		}
	}
	if err := checkNames(r.key, c); err != nil {
		return err
	}
	r.end, _ = c.End()
	r.endKnown = true
	if c.Next() <= r.next {
		return nil
	}
	r.next = c.Next()
	return r.chunk(s)
}

func (r *reader) tellGone(g Gone) error {
	r.next = g.To + 1
	r.b.met.goneRecords.Add(float64(g.To - g.From + 1))
	if r.gone == nil {
		return nil
	}
	return r.gone(g)
}

// checkNames compares a START's names with those asked for: a subject may carry only their hash.
func checkNames(k frame.Key, c *frame.Chunk) error {
	if len(c.Records) == 0 || c.Records[0].Kind != frame.Start {
		return nil
	}
	info, err := frame.UnmarshalStart(c.Records[0].Data)
	if err != nil {
		return err
	}
	if info.Key != k {
		return fmt.Errorf("the log of %s begins with the names of %s: %w", k, info.Key, frame.ErrMalformed)
	}
	return nil
}

// rest is for a run that ended sooner than its tail said: what is missing was removed since.
func (r *reader) rest(ctx context.Context) error {
	st, err := r.b.readState(ctx, r.path)
	if err != nil {
		return err
	}
	if st.deleted() {
		return ErrDeleted
	}
	if r.last == math.MaxUint64 {
		return nil // the tail that could not be read is not there any more
	}
	return r.tellGone(Gone{From: r.next, To: r.last, Bytes: -1})
}

// nothing is for a run of which the log holds no chunk at all.
func (r *reader) nothing(ctx context.Context) error {
	for tries := 0; ; tries++ {
		st, err := r.b.readState(ctx, r.path)
		if err != nil {
			return fmt.Errorf("read %s: %w", r.key, err)
		}
		if st.deleted() {
			return ErrDeleted
		}
		if st.run == nil || st.run.Checkpoint.Seq < r.next {
			return nil
		}
		cp := st.run.Checkpoint
		sure := st.why != "" || tries >= doubtTries
		if !sure {
			info, err := r.b.logInfo(ctx, r.b.hist)
			sure = err == nil && (info.first > cp.StreamSeq || info.last < cp.StreamSeq)
		}
		if sure {
			g := Gone{From: r.next, To: cp.Seq, Bytes: -1}
			if r.endKnown {
				g.Bytes = int64(cp.Bytes)
			}
			return r.tellGone(g)
		}
		if err := sleep(ctx, retryFirst<<tries); err != nil {
			return err
		}
	}
}

// holding is what a reader has fetched and not delivered, and its place among the readers.
type holding struct {
	release func()

	mu    sync.Mutex
	batch []Stored
	over  bool
}

func (h *holding) pop() (Stored, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.batch) == 0 {
		return Stored{}, false
	}
	s := h.batch[0]
	h.batch[0] = Stored{}
	h.batch = h.batch[1:]
	return s, true
}

// end gives up the place and drops what was fetched; it tells whether that was still to be done.
func (h *holding) end() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return false
	}
	h.over, h.batch = true, nil
	h.release()
	return true
}

// Tail is the run's end: the last chunk, from the log's leader. Errors: ErrNotFound where the log has nothing of the run, ErrDeleted, ctx's.
func (b *Bus) Tail(ctx context.Context, key frame.Key) (Stored, error) {
	r := &reader{b: b, key: key, path: path(key)}
	t, err := r.tail(ctx)
	if err != nil {
		return Stored{}, fmt.Errorf("tail of %s: %w", key, err)
	}
	if t != nil && t.bad != nil {
		return Stored{}, fmt.Errorf("tail of %s: %w", key, t.bad)
	}
	if t != nil {
		return Stored{Key: key, StreamSeq: t.seq, Chunk: t.chunk}, nil
	}
	st, err := b.readState(ctx, r.path)
	switch {
	case err != nil:
		return Stored{}, fmt.Errorf("tail of %s: %w", key, err)
	case st.deleted():
		return Stored{}, ErrDeleted
	}
	return Stored{}, fmt.Errorf("tail of %s: %w", key, ErrNotFound)
}

// NearTail is Tail by any replica, also while the log has no leader: the run has at least this much. It asks once.
// Errors: ErrNotFound where the replica has nothing of the run, that NATS does not answer, ctx's.
func (b *Bus) NearTail(ctx context.Context, key frame.Key) (Stored, error) {
	t, err := b.nearTail(ctx, path(key))
	switch {
	case err != nil:
	case t == nil:
		err = ErrNotFound
	default:
		err = t.bad
	}
	if err != nil {
		return Stored{}, fmt.Errorf("tail of %s: %w", key, err)
	}
	return Stored{Key: key, StreamSeq: t.seq, Chunk: t.chunk}, nil
}

// TailWithin is Tail; where the leader does not answer within patience, for the log may be electing one, it is what the first replica tells: the run
// has at least this much. Errors: those of Tail.
func (b *Bus) TailWithin(ctx context.Context, key frame.Key, patience time.Duration) (Stored, error) {
	type answer struct {
		Stored
		err error
	}
	sure := make(chan answer, 1)
	lctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		s, err := b.Tail(lctx, key)
		sure <- answer{s, err}
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		select {
		case a := <-sure:
			return a.Stored, a.err
		case <-t.C:
		}
		if s, err := b.NearTail(ctx, key); err == nil {
			return s, nil // that it has nothing proves nothing
		}
		t.Reset(wait)
	}
}

// LocateByte finds the chunk that holds the byte offset, by binary search; used to start a range read. It returns the seq before the chunk
// and the chunk's place as hint for Read. An offset beyond the end gives the last chunk; one that retention took, the first that is left.
func (b *Bus) LocateByte(ctx context.Context, key frame.Key, offset uint64) (after, hint uint64, err error) {
	return b.locate(ctx, key, func(c *frame.Chunk) bool { return c.Offset <= offset })
}

// LocateLine is LocateByte for a line, counted from 0: reading from there passes the line feed before it (or, for line 0, begins with it).
func (b *Bus) LocateLine(ctx context.Context, key frame.Key, line uint64) (after, hint uint64, err error) {
	return b.locate(ctx, key, func(c *frame.Chunk) bool { return c.Line < line || c.Offset == 0 })
}

func (b *Bus) locate(ctx context.Context, key frame.Key, before func(*frame.Chunk) bool) (after, hint uint64, err error) {
	r := &reader{b: b, key: key, path: path(key)}
	t, err := b.nearTail(ctx, r.path) // what lies beyond is read from there on
	if err != nil || t == nil {
		t, err = r.tail(ctx)
	}
	if err != nil || t == nil {
		return 0, 0, err
	}
	s, err := b.seek(ctx, b.hist, r.path, t, 0, before)
	if err != nil || s == nil {
		return 0, 0, err
	}
	return s.Chunk.First - 1, s.StreamSeq, nil
}
