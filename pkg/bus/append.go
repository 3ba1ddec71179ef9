package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tasktracer/pkg/frame"
)

// GapError says that a record's src is ahead of what the log wants next; nothing of the call was taken.
type GapError struct{ Next uint64 }

func (e *GapError) Error() string { return fmt.Sprintf("gap: next is %d", e.Next) }

const (
	stalledAfter = 2 * time.Second
	// recordCost is added to a record's size where memory and messages are reckoned, so that a million empty records are not free.
	recordCost = 32
)

// Appender appends to one run, as its owner. At most one publish is in flight; what is submitted meanwhile is merged into the next chunk.
// Safe for concurrent use; records of concurrent Submits are interleaved.
type Appender struct {
	b           *Bus
	path, owner string
	nonce       string // tells this Appender's messages from those of every other, also of the same owner
	ctx         context.Context
	cancel      context.CancelFunc
	taken       chan struct{}
	done        chan struct{} // the append loop has ended
	kept        chan struct{} // the checkpoint loop has ended
	wake        chan struct{} // there is something to append; capacity 1
	dirty       chan struct{} // the state must be written now; capacity 1

	// Used by take, then by the append loop alone.
	pos   position
	count uint64
	pace  pace
	state stateEntry // as last read or written; take, then the checkpoint loop, then Release

	mu            sync.Mutex
	pending       []frame.Record
	queued        int           // cost of what is submitted and not durable
	moved         chan struct{} // closed and replaced when queued shrinks, the run is taken, or it is released
	submitted     uint64        // records ever submitted
	stored        uint64        // of them durable
	accepted      uint64        // highest src submitted
	durable       uint64        // highest src stored
	ended         bool          // an EXIT or a LOST was submitted
	hurry         bool          // do not wait for a chunk to fill
	releasing     bool
	flightSince   time.Time // zero while nothing is in flight
	run           frame.Run
	cp            frame.Checkpoint // where the log stands; run.Checkpoint follows at each write
	uncheckpoined time.Time        // since when cp is ahead of the state; zero where it is not
	err           error
}

func newAppender(b *Bus, owner string, run frame.Run) *Appender {
	if run.Started.IsZero() {
		run.Started = time.Now()
	}
	a := &Appender{
		b: b, path: path(run.Key), owner: owner, nonce: newID(), run: run,
		taken: make(chan struct{}), done: make(chan struct{}), kept: make(chan struct{}), moved: make(chan struct{}),
		wake: make(chan struct{}, 1), dirty: make(chan struct{}, 1), pace: newPace(),
	}
	a.ctx, a.cancel = context.WithCancel(b.ctx)
	return a
}

// start begins the loops that end with Release, with the run's being taken, or with the Bus.
func (a *Appender) start() {
	if !a.b.spawn(a.loop) {
		close(a.done)
	}
	if !a.b.spawn(a.keepState) {
		close(a.kept)
	}
}

func (a *Appender) subject() string { return prefixIn + a.path }

func (a *Appender) nextID() string {
	a.count++
	return a.nonce + "-" + strconv.FormatUint(a.count, 10)
}

// epoch is our number among the run's owners.
func (a *Appender) epoch() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.run.Epoch
}

func (a *Appender) isReleasing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.releasing
}

// Next is the first src that is not yet accepted (after Take: the first one not durable).
func (a *Appender) Next() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.accepted + 1
}

// Exited tells that the run's EXIT is stored (a LOST is none: that run may come back).
func (a *Appender) Exited() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.run.Phase == frame.Exited
}

// Durable is the highest src that is durable; stalled says that a publish has been under way for more than 2 s.
func (a *Appender) Durable() (src uint64, stalled bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable, !a.flightSince.IsZero() && time.Since(a.flightSince) > stalledAfter
}

// Taken is closed when another owner has the run, or it was deleted; Err then says which.
func (a *Appender) Taken() <-chan struct{} { return a.taken }

// Err is ErrTaken, ErrDeleted, or nil while the run is ours.
func (a *Appender) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Submit takes records in order. It blocks while more than the window (Config.Window) is not durable. Records whose Src is not 0 and at or below
// what was accepted are dropped; a Src ahead of Next is a *GapError. A NOTE that stands for dropped records LostFrom to LostTo covers their numbers, too.
// Errors: ErrTaken, ErrDeleted, ErrReleased, *GapError, ctx's; when ctx ends, Next tells how far it came.
// A record of kind Exit or Lost also ends the run's state (Exited, Gone); records may still follow it.
func (a *Appender) Submit(ctx context.Context, recs ...frame.Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.checkSrcs(recs); err != nil {
		return err
	}
	for i := range recs {
		if err := a.admit(ctx, &recs[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkSrcs walks through a whole call before anything of it is taken. a.mu is held.
func (a *Appender) checkSrcs(recs []frame.Record) error {
	at := a.accepted
	for i := range recs {
		r := &recs[i]
		if len(r.Data) > frame.MaxRecord {
			return fmt.Errorf("record of %d bytes: larger than %d", len(r.Data), frame.MaxRecord)
		}
		to, err := follow(r, at)
		if err != nil {
			return err
		}
		at = to
	}
	return nil
}

// follow gives the highest src after r, where at is the highest one before it.
func follow(r *frame.Record, at uint64) (uint64, error) {
	if r.Src <= at {
		return at, nil
	}
	if r.Src == at+1 && r.Kind != frame.Note {
		return r.Src, nil
	}
	if r.Kind == frame.Note {
		n, err := frame.UnmarshalNote(r.Data)
		if err != nil {
			return at, err
		}
		covers := n.LostTo >= n.LostFrom && n.LostFrom > 0 && n.LostFrom <= at+1 && r.Src <= n.LostTo+1
		if covers || r.Src == at+1 {
			if covers {
				return max(r.Src, n.LostTo), nil
			}
			return r.Src, nil
		}
	}
	return at, &GapError{Next: at + 1}
}

// admit takes one record once there is room. a.mu is held, and let go of while waiting.
func (a *Appender) admit(ctx context.Context, r *frame.Record) error {
	cost := len(r.Data) + recordCost
	for {
		if a.err != nil {
			return a.err
		}
		if a.releasing {
			return ErrReleased
		}
		if r.Src != 0 && r.Src <= a.accepted {
			a.b.met.repeated.Inc()
			return nil
		}
		if a.queued == 0 || a.queued+cost <= a.b.cfg.Window {
			break
		}
		if err := a.wait(ctx); err != nil {
			return err
		}
	}
	return a.enqueue(r, cost)
}

func (a *Appender) enqueue(r *frame.Record, cost int) error {
	to, err := follow(r, a.accepted)
	if err != nil {
		return err // a concurrent Submit came in between
	}
	if r.Kind == frame.Exit || r.Kind == frame.Lost {
		a.ended, a.hurry = true, true
	}
	a.accepted = to
	a.pending = append(a.pending, *r)
	a.queued += cost
	a.submitted++
	signal(a.wake)
	return nil
}

// wait lets go of a.mu until something moved.
func (a *Appender) wait(ctx context.Context) error {
	moved := a.moved
	a.mu.Unlock()
	defer a.mu.Lock()
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-a.ctx.Done():
		return a.closedErr()
	}
}

// closedErr says why the Appender ended, where nobody took the run.
func (a *Appender) closedErr() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	return ErrReleased
}

// Sync returns when all that was submitted before the call is durable. Errors: ErrTaken, ErrDeleted, ErrReleased, ctx's.
func (a *Appender) Sync(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	target := a.submitted
	for a.stored < target {
		if a.err != nil {
			return a.err
		}
		a.hurry = true
		signal(a.wake)
		if err := a.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// loop appends, one chunk at a time, until the Appender is released or the run is lost to us.
func (a *Appender) loop() {
	defer close(a.done)
	young := time.NewTimer(a.youngEvery())
	defer young.Stop()
	for {
		recs, ok := a.await(young.C)
		if !ok {
			return
		}
		if err := a.store(a.chunk(recs)); err != nil {
			a.fail(err)
			return
		}
		young.Reset(a.youngEvery())
	}
}

// youngEvery is after how long without a chunk the tail is stored again: it must not age out under a run that is silent.
func (a *Appender) youngEvery() time.Duration {
	if a.b.maxAge == 0 {
		return time.Duration(1<<63 - 1) // kept for ever
	}
	return a.b.maxAge / 4
}

// await returns the records of the next chunk, none when the tail must be kept young; ok is false when it is time to end.
func (a *Appender) await(young <-chan time.Time) (recs []frame.Record, ok bool) {
	fill := time.NewTimer(time.Hour)
	defer fill.Stop()
	for {
		recs, wait, end := a.next()
		if end {
			return nil, false
		}
		if recs != nil {
			return recs, true
		}
		fill.Reset(wait)
		select {
		case <-a.wake:
		case <-fill.C:
		case <-young:
			return nil, true
		case <-a.ctx.Done():
			return nil, false
		}
	}
}

// next takes a chunk's worth of records, or says how long to wait for more.
func (a *Appender) next() (recs []frame.Record, wait time.Duration, end bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil || a.ctx.Err() != nil {
		return nil, 0, true
	}
	if len(a.pending) == 0 {
		a.hurry = false
		return nil, time.Hour, a.releasing
	}
	n, full := fit(a.pending)
	now := time.Now()
	if wait := a.pace.wait(now); wait > 0 && !full && !a.hurry {
		return nil, wait, false
	}
	a.pace.take(now)
	recs, a.pending = a.pending[:n:n], a.pending[n:]
	if len(a.pending) == 0 {
		a.pending = nil // let go of the array
	}
	a.flightSince = now
	return recs, 0, false
}

// fit tells how many of the records make up the next chunk, and whether it is full.
func fit(recs []frame.Record) (n int, full bool) {
	size := 0
	for i := range recs {
		size += len(recs[i].Data) + recordCost
		if size > frame.MaxChunk && i > 0 {
			return i, true
		}
	}
	return len(recs), size >= frame.MaxChunk
}

// chunk makes the next chunk from records, and numbers them.
func (a *Appender) chunk(recs []frame.Record) *frame.Chunk {
	c := &frame.Chunk{
		Epoch: a.pos.epoch, Owner: a.owner, First: a.pos.next, LastSrc: a.pos.src,
		Offset: a.pos.offset, Line: a.pos.line, Stored: time.Now(), Records: recs, Held: a.pos.held,
	}
	for i := range recs {
		recs[i].Seq = a.pos.next + uint64(i)
		if to, err := follow(&recs[i], c.LastSrc); err == nil {
			c.LastSrc = to
		}
	}
	return c
}

// store publishes c until it is in the log exactly once, or the run is not ours any more.
func (a *Appender) store(c *frame.Chunk) error {
	data, err := c.Marshal()
	if err != nil {
		return fmt.Errorf("chunk: %w", err)
	}
	id, begun := a.nextID(), time.Now()
	for wait := retryFirst / 5; ; wait = min(2*wait, retryLast) {
		seq, err := a.b.publish(a.ctx, a.subject(), a.pos.fence, nats.Header{hdrID: {id}}, data)
		if err != nil {
			a.b.met.retries.WithLabelValues(retryReason(err)).Inc()
			seq, err = a.resolve(id)
		}
		if err != nil {
			return err
		}
		if seq != 0 {
			a.pos.fence = seq
			break
		}
		if err := sleep(a.ctx, wait); err != nil {
			return err
		}
	}
	a.b.met.append.Observe(time.Since(begun).Seconds())
	a.b.met.size.Observe(float64(len(data)))
	a.pos.held = c.Held + takes(len(data))
	a.advance(c)
	return nil
}

func retryReason(err error) string {
	var api *apiError
	switch {
	case fenced(err):
		return "fence"
	case errors.As(err, &api):
		return "refused"
	}
	return "timeout"
}

// resolve finds out from the leader what became of message id: its stream sequence where it is stored, 0 where it must be published (again)
// with the fence that a.pos now has. It may still turn up then, and the fence lets only one copy in.
func (a *Appender) resolve(id string) (seq uint64, err error) {
	answer := func(what string) { a.b.met.resolved.WithLabelValues(what).Inc() }
	for tries := 0; ; tries++ {
		t, err := a.b.readTail(a.ctx, a.path)
		if errors.Is(err, frame.ErrMalformed) {
			answer("taken")
			return 0, fmt.Errorf("%w: %w", ErrTaken, err) // by a later version of this program
		}
		if err != nil {
			return 0, err
		}
		switch {
		case t == nil && a.pos.fence == 0:
			answer("absent")
			return 0, nil
		case t == nil:
			answer("tail_gone")
			return 0, a.tailGone()
		case t.id == id:
			answer("mine")
			return t.seq, nil
		case t.chunk.Epoch > a.pos.epoch, t.chunk.Epoch == a.pos.epoch && !a.sent(t.id):
			answer("taken")
			return 0, ErrTaken
		case t.seq == a.pos.fence:
			answer("absent")
			return 0, nil
		case t.seq > a.pos.fence, tries >= 3:
			// The log's end is not where it was: our tail was gone for a moment, or the log was restored from a copy. The numbers go on.
			answer("rebased")
			a.b.log.Warn("the log of a run has changed its end", "run", a.path, "was", a.pos.fence, "is", t.seq)
			a.pos.fence = t.seq
			return 0, nil
		}
		// Older than what was acknowledged: a deposed leader may answer like that for a moment.
		if err := sleep(a.ctx, retryFirst<<tries); err != nil {
			return 0, err
		}
	}
}

// sent tells whether a message is this Appender's.
func (a *Appender) sent(id string) bool {
	return len(id) > len(a.nonce) && id[:len(a.nonce)] == a.nonce
}

// tailGone is for a run whose chunks have all left the log: by retention, then this Appender goes on where it was, or because the run was deleted.
func (a *Appender) tailGone() error {
	st, err := a.b.readState(a.ctx, a.path)
	if err != nil {
		return err
	}
	if st.deleted() {
		return ErrDeleted
	}
	if st.run != nil && st.run.Epoch > a.pos.epoch {
		return ErrTaken
	}
	a.pos.fence = 0
	a.touch() // and look at the state once more behind the append: a deletion may be under way
	return nil
}

// advance takes note that c is durable.
func (a *Appender) advance(c *frame.Chunk) {
	a.pos.next, a.pos.src = c.Next(), c.LastSrc
	a.pos.offset, a.pos.line = c.End()
	if len(c.Records) > 0 {
		a.b.tails.note(a.path, c.Next()-1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	urgent := false
	for i := range c.Records {
		r := &c.Records[i]
		a.b.met.bytes.Add(float64(len(r.Data)))
		urgent = a.noteEnd(r) || urgent
		if a.stored < a.submitted { // not so for what take and keeping young make
			a.queued -= len(r.Data) + recordCost
			a.stored++
		}
	}
	a.b.met.chunks.Inc()
	a.b.met.records.Add(float64(len(c.Records)))
	a.durable, a.accepted = a.pos.src, max(a.accepted, a.pos.src)
	a.flightSince = time.Time{}
	a.cp = a.checkpoint()
	if a.uncheckpoined.IsZero() {
		a.uncheckpoined = time.Now()
	}
	if urgent {
		signal(a.dirty)
	}
	a.broadcast()
}

// noteEnd takes an EXIT or a LOST into the state. a.mu is held.
func (a *Appender) noteEnd(r *frame.Record) bool {
	if r.Kind != frame.Exit && r.Kind != frame.Lost || a.run.Phase == frame.Exited {
		return false
	}
	info, err := frame.UnmarshalExit(r.Data)
	if err != nil {
		a.b.log.Warn("an end of a run that cannot be read", "run", a.path, "err", err)
	}
	now := time.Now()
	a.run.Phase, a.run.Exit, a.run.Ended, a.run.Changed = frame.Exited, info, now, now
	if r.Kind == frame.Lost {
		a.run.Phase = frame.Gone
	}
	return true
}

func (a *Appender) checkpoint() frame.Checkpoint {
	return frame.Checkpoint{Epoch: a.pos.epoch, Seq: a.pos.next - 1, Src: a.pos.src, Bytes: a.pos.offset, Line: a.pos.line, StreamSeq: a.pos.fence, Held: a.pos.held}
}

// fail ends the Appender: the run is not ours any more.
func (a *Appender) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil || a.ctx.Err() != nil {
		return
	}
	switch {
	case errors.Is(err, ErrDeleted):
		a.b.eraseDeleted(a.path) // a publish of ours may have got in behind the deletion
	case errors.Is(err, ErrTaken):
		a.b.met.taken.Inc()
	default:
		a.b.log.Error("append", "run", a.path, "err", err) // only what cannot be encoded comes here
	}
	a.err = err
	a.pending = nil
	close(a.taken)
	a.broadcast()
	a.cancel()
}

// broadcast wakes all who wait. a.mu is held.
func (a *Appender) broadcast() {
	close(a.moved)
	a.moved = make(chan struct{})
}

// signal wakes the one reader of c, which has a capacity of 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake already
	}
}
