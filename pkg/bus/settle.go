package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tasktracer/pkg/frame"
)

// settleEvery is how often the runs without an owner are looked at.
const settleEvery = 500 * time.Millisecond

// settleAtOnce is how many runs are settled side by side: a process with thousands of runs may die.
const settleAtOnce = 16

// Settle makes the runs of dead owners detached (Connected false), and runs that have been detached for longer than grace lost, with a LOST record in
// their log; a Legacy run is lost at once. It first looks into the log: a run whose EXIT was stored, and not yet written to its state, has exited.
// Every ingest runs it, until ctx ends; many at once are harmless: every step is a compare-and-set. The dead lease is deleted last.
// grace is counted by this process alone, from when it first saw the run detached: clocks differ.
func (b *Bus) Settle(ctx context.Context, p *Processes, grace time.Duration) error {
	s := &settler{b: b, p: p, grace: grace, open: map[string]*unsettled{}}
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	synced, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.WatchRuns(wctx, s.changed, func() { close(synced) }) }()
	select {
	case <-synced:
	case err := <-ended:
		return err
	}
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return <-ended
		case err := <-ended:
			return err
		case <-tick.C:
			s.round(ctx)
		}
	}
}

type settler struct {
	b     *Bus
	p     *Processes
	grace time.Duration

	mu   sync.Mutex
	open map[string]*unsettled // runs that are in, or connected
}

type unsettled struct {
	run           frame.Run
	detachedSince time.Time // by this process's clock; zero while not detached
}

func (s *settler) changed(c RunChange) {
	p := path(c.Run.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Deleted || c.Run.Phase.Ended() && !c.Run.Connected {
		delete(s.open, p)
		return
	}
	u := s.open[p]
	if u == nil {
		u = &unsettled{}
		s.open[p] = u
	}
	u.run = c.Run
	switch {
	case c.Run.Phase != frame.Detached || c.Run.Connected: // connected: what is delivered late
		u.detachedSince = time.Time{}
	case u.detachedSince.IsZero():
		u.detachedSince = time.Now()
	}
}

// due is one step that a run needs.
type due struct {
	run  frame.Run
	lost bool // else detached
}

func (s *settler) round(ctx context.Context) {
	list, orphans := s.list()
	var wg sync.WaitGroup
	places := make(chan struct{}, settleAtOnce)
	for _, d := range list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := s.settle(ctx, d); err != nil && ctx.Err() == nil {
				s.b.log.Warn("settle", "run", d.run.Key.Run, "err", err)
			}
		})
	}
	wg.Wait()
	for _, incarnation := range s.p.deadLeases() {
		if orphans[incarnation] {
			continue // the next round finds them settled
		}
		dctx, cancel := context.WithTimeout(ctx, attemptWithin)
		if err := s.b.dropLease(dctx, incarnation); err != nil && ctx.Err() == nil {
			s.b.log.Warn("delete a dead lease", "incarnation", incarnation, "err", err)
		}
		cancel()
	}
}

// list is what is to be done now, and which owners still have runs that are not settled.
func (s *settler) list() (list []due, orphans map[string]bool) {
	orphans = map[string]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.open {
		if u.run.Connected {
			if _, c := s.p.Lookup(u.run.Owner); c == Dead {
				orphans[u.run.Owner] = true
				list = append(list, due{run: u.run, lost: u.run.Legacy})
			}
			continue
		}
		if u.run.Phase == frame.Detached && (u.run.Legacy || time.Since(u.detachedSince) >= s.grace) {
			list = append(list, due{run: u.run, lost: true})
		}
	}
	return list, orphans
}

// settle does one step for one run.
func (s *settler) settle(ctx context.Context, d due) error {
	ctx, cancel := context.WithTimeout(ctx, 5*attemptWithin)
	defer cancel()
	p := path(d.run.Key)
	t, err := s.b.readTail(ctx, p)
	if errors.Is(err, frame.ErrVersion) {
		return nil // for an ingest that knows it
	}
	if err != nil {
		return err
	}
	st, err := s.b.readState(ctx, p)
	if err != nil {
		return err
	}
	cur := st.live()
	if cur == nil || cur.Epoch != d.run.Epoch || cur.Owner != d.run.Owner || cur.Connected != d.run.Connected {
		return nil // not as it was: whoever changed it settles it, or the next round does
	}
	var end ending
	if t != nil {
		if end, err = s.b.endingBetween(ctx, p, cur.Checkpoint.Seq, t); err != nil {
			return err
		}
	}
	if d.lost && end.phase == 0 && !cur.Phase.Ended() {
		if t, end, err = s.storeLost(ctx, p, t, st); err != nil || t == nil {
			return err
		}
	}
	return s.write(ctx, p, st, t, end)
}

// storeLost appends the LOST record, as the run's next owner, in one chunk with the claim. Nobody may have appended since tail t was read; then t is nil.
func (s *settler) storeLost(ctx context.Context, path string, t *tailOf, st stateEntry) (*tailOf, ending, error) {
	a := newAppender(s.b, s.b.beats.who(), *st.run)
	defer a.cancel()
	a.pos, _ = positionBehind(t, st)
	a.pos.epoch++
	info := lostInfo(st.run.Key)
	data, err := info.Marshal()
	if err != nil {
		return nil, ending{}, err
	}
	c := a.chunk([]frame.Record{{Kind: frame.Lost, At: time.Now().UnixMilli(), Data: data}})
	body, err := c.Marshal()
	if err != nil {
		return nil, ending{}, err
	}
	seq, err := s.b.publish(ctx, prefixIn+path, a.pos.fence, nats.Header{hdrID: {a.nextID()}}, body)
	if fenced(err) {
		return nil, ending{}, nil // the run goes on, or another ingest settles it
	}
	if err != nil {
		return nil, ending{}, fmt.Errorf("append LOST: %w", err) // if it was stored, the next round finds it
	}
	s.b.tails.note(path, c.Next()-1)
	return &tailOf{seq: seq, chunk: c, size: len(body)}, ending{phase: frame.Gone, info: info, at: c.Stored}, nil
}

// write sets the state by what was found. A conflict is left to the next round.
func (s *settler) write(ctx context.Context, path string, st stateEntry, t *tailOf, end ending) error {
	r := *st.run
	r.Connected = false
	what := "disconnected"
	switch {
	case end.phase != 0 && r.Phase != frame.Exited:
		r.Phase, r.Exit, r.Ended, r.Changed = end.phase, end.info, end.at, time.Now()
		what = end.phase.String()
	case r.Phase == frame.Running:
		r.Phase, r.Changed = frame.Detached, time.Now()
		what = "detached"
	}
	// Where the end of the log is not known, numbering goes on behind a jump; the hole in it is a gap to viewers.
	pos, _ := positionBehind(t, st)
	r.Checkpoint = frame.Checkpoint{Epoch: pos.epoch, Seq: pos.next - 1, Src: pos.src, Bytes: pos.offset, Line: pos.line, StreamSeq: pos.fence, Held: pos.held}
	if end.phase == frame.Gone {
		r.Epoch = pos.epoch // LOST was stored as an epoch of its own
	}
	err := s.b.writeState(ctx, path, &stateEntry{rev: st.rev, run: &r})
	if fenced(err) {
		return nil
	}
	if err == nil {
		s.b.met.settled.WithLabelValues(what).Inc()
	}
	return err
}
