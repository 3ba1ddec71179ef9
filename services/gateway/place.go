package gateway

import (
	"errors"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// place is where a viewer stands in one run.
type place struct {
	key  frame.Key
	st   standing // as the roster had it last; run is nil while it has not heard of the run
	next uint64   // the seq wanted next
	hint uint64   // the stream sequence of the chunk before it
	// settleAt says that next is still to be found out.
	settleAt where
	fromLine uint64 // records before this line (from 0) are passed over, with tail
	carry    carry

	started  bool // the viewer has had start, or was not to have it
	in       bool // its client is in, as far as the viewer has come
	past     bool // it had ended when it was taken up: nobody came or went
	ended    bool // eof was sent
	lost     bool // the eof was of a LOST, from which a run may come back
	toldLive bool
	// unreadable says that the viewer was told of a chunk that this program cannot read.
	unreadable bool
	told       string // the state told last
	active     bool

	// Of one step of the pump.
	window  []*entry
	current bool // the viewer has all that is stored
	live    bool // the chunk at hand comes from the feed
	retryAt time.Time
}

// where is how a place is found before the first chunk is sent.
type where uint8

const (
	settled     where = iota // next is right
	atEnd                    // behind all that is stored now
	atTail                   // some lines before the end
	checkCursor              // next is from a cursor: it must not be ahead of the log
	nowhere                  // the cursor was ahead of the log, of a run that is over or that there is none of
)

// ahead is the chunk at hand that holds the wanted seq, or tells that it is gone.
func (p *place) ahead() *entry {
	for len(p.window) > 0 && p.window[0].next() <= p.next {
		p.window = p.window[1:]
	}
	if len(p.window) == 0 {
		return nil
	}
	return p.window[0]
}

// least is up to where the log reaches for certain.
func (p *place) least() uint64 {
	if p.st.run == nil {
		return 0
	}
	return p.st.run.Checkpoint.Seq
}

// lines is how many lines the log has at least.
func (p *place) lines() uint64 {
	if p.st.run == nil {
		return 0
	}
	return p.st.run.Checkpoint.Line
}

// final tells whether the log ends there: the run has ended, and who had it wrote down the very end when it let go of it.
func (p *place) final() bool { return p.st.run != nil && complete(p.st.run) }

func complete(run *frame.Run) bool { return run.Phase.Ended() && !run.Connected }

func (p *place) state() string {
	if p.st.run == nil {
		return frame.Running.String()
	}
	return p.st.state()
}

// at is a cursor to where the place is, but for its seq.
func (a *attachment) at(p *place) frame.Cursor {
	return frame.Cursor{Run: p.key.Run, Hint: p.hint, Life: a.v.s.bus.Life()}
}

func (a *attachment) cursor(p *place, seq uint64) string {
	c := a.at(p)
	c.Seq = seq
	return c.String()
}

// skipTo passes over the records before the line that the viewer wants.
func (p *place) skipTo(c *frame.Chunk) {
	line := c.Line
	for i := range c.Records {
		r := &c.Records[i]
		line += lineFeeds(r)
		if r.Seq < p.next {
			continue
		}
		if line > p.fromLine || line == p.fromLine && !endsLine(r) {
			p.fromLine = 0
			return
		}
		p.next = r.Seq + 1
	}
}

// endsLine tells whether what follows the record begins a line.
func endsLine(r *frame.Record) bool {
	n := len(r.Data)
	return r.Kind.Output() && n > 0 && r.Data[n-1] == '\n'
}

// locate finds out where a place is; false if that is to be tried again. It does not wait for the log's leader: the feed does, and says when it knows.
func (a *attachment) locate(p *place) bool {
	// That a cursor is ahead of the log the leader alone tells: the end that a state speaks of may be one that the run came back from.
	final := p.final() && p.settleAt != checkCursor
	last, sure, unreadable := a.feed.end(p.key.Run, p.least(), final)
	switch p.settleAt {
	case atEnd:
		if !sure {
			return false
		}
		p.next, p.started = last+1, true
	case checkCursor:
		unheard := p.st.run == nil
		if (p.next > last+1 || unheard && last == 0) && !unreadable {
			if !sure {
				return false
			}
			a.v.complain(badCursor(a.client.Client))
			if unheard || p.st.run.Phase.Ended() {
				p.settleAt = nowhere
				return false
			}
			p.next, p.hint, p.started = 1, 0, false
		}
	case atTail:
		if time.Now().Before(p.retryAt) {
			return false
		}
		if err := a.locateTail(p, last); err != nil {
			if a.v.ctx.Err() == nil {
				a.v.s.m.retries.WithLabelValues("locate").Inc()
				a.again(p, retryLast/2)
			}
			return false
		}
	}
	p.settleAt = settled
	return true
}

// locateTail finds the last lines of a run that has at least last records.
func (a *attachment) locateTail(p *place, last uint64) error {
	s := a.v.s
	var lines uint64
	tail, err := s.bus.NearTail(a.v.ctx, p.key)
	switch {
	case errors.Is(err, bus.ErrNotFound) && last <= p.least():
		return nil // all of it is gone; what was, the state knows
	case errors.Is(err, frame.ErrVersion):
		lines = p.lines() // where it can be read no further
	case err != nil:
		return err
	default:
		_, lines = tail.Chunk.End()
	}
	n := uint64(a.history.tail)
	if lines <= n {
		return nil
	}
	after, hint, err := s.bus.LocateLine(a.v.ctx, p.key, lines-n)
	if err != nil {
		return err
	}
	p.next, p.hint, p.fromLine = after+1, hint, lines-n
	return nil
}
