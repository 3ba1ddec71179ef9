package trace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/socketio"
	"tasktracer/pkg/trace/spool"
)

// Sizes of what is sent.
const (
	// packetBytes is how much data a packet holds at most, if it holds more than one record; encoded it stays below the server's 1 MiB.
	packetBytes = 256 << 10
	// packetRecords bounds the same by number.
	packetRecords = 1000
	// smallPacket is waited with while another packet is not yet acknowledged: what comes meanwhile goes with it.
	smallPacket = 16 << 10
	// defaultWindow is how much may be unacknowledged where the server does not say.
	defaultWindow = 1 << 20
)

var (
	errSilent = errors.New("the server has said nothing for too long")
	errDone   = errors.New("all is delivered")
	errTaken  = errors.New("another connection owns the run")
	errGap    = errors.New("the server misses records")
)

// session is one connection's life: authenticate, go on where the server wants it, send, hear acknowledgements.
type session struct {
	s      *sender
	c      *socketio.Client
	reader *spool.Reader
	buf    []byte

	wake chan struct{} // holds a token when something below changed

	mu       sync.Mutex
	answer   *authenticated
	flights  []flight  // sent and not yet acknowledged, oldest first
	inFlight int       // bytes of them
	owed     time.Time // since when there is any
	err      error     // why the session must end
}

// flight is one packet under way.
type flight struct {
	first, last uint64
	bytes       int
	offset      int64    // the run's output bytes before it, or -1
	sizes       []uint32 // output bytes of each of its records
}

// authenticated is the server's answer.
type authenticated struct {
	URL     string `json:"httpUrl"`
	V       int    `json:"v"`
	Run     string `json:"run"`
	Next    uint64 `json:"next"`
	Window  int    `json:"window"`
	Error   string `json:"error"`
	Code    string `json:"code"`
	RetryMs int64  `json:"retryMs"`
	Ended   bool   `json:"ended"`
}

func newSession(s *sender, c *socketio.Client) *session {
	return &session{s: s, c: c, wake: make(chan struct{}, 1)}
}

// place is where a record begins in the run's output.
type place struct {
	src    uint64
	offset int64 // -1 where unknown
}

// at is where record src begins, if the packet covers it or ends just before it.
func (f *flight) at(src uint64) (place, bool) {
	if src < f.first || src > f.last+1 || f.offset < 0 {
		return place{}, false
	}
	p := place{src, f.offset}
	for _, size := range f.sizes[:min(int(src-f.first), len(f.sizes))] {
		p.offset += int64(size)
	}
	return p, true
}

func (f *flight) end() place {
	p, ok := f.at(f.last + 1)
	if !ok {
		return place{f.last + 1, -1}
	}
	return p
}

// run returns why the session ended; errDone when all was delivered, the run's EXIT included.
func (n *session) run(ctx context.Context) error {
	n.c.OnEvent(n.event)
	defer func() {
		n.mu.Lock()
		n.s.unsure = n.flights
		n.mu.Unlock()
	}()
	answer, err := n.authenticate(ctx)
	if err != nil {
		return err
	}
	n.accept(answer)
	window := answer.Window
	if window <= 0 {
		window = defaultWindow
	}
	for {
		more, err := n.send(ctx, window)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if err := n.wait(ctx); err != nil {
			return err
		}
	}
}

func (n *session) authenticate(ctx context.Context) (*authenticated, error) {
	meta := n.s.spool.Meta()
	hello := map[string]any{
		"type": "client", "token": n.s.cfg.tokens[n.s.token], "id": meta.ID, "task": meta.Task,
		"v": 2, "run": meta.Run, "next": n.s.spool.Status().First, "now": time.Now().UnixMilli(),
	}
	if n.s.cfg.late {
		hello["late"] = true
	}
	err := n.c.Emit(ctx, "authenticate", hello)
	if err != nil {
		return nil, err
	}
	deadline := time.NewTimer(firstAnswer)
	defer deadline.Stop()
	for {
		n.mu.Lock()
		answer := n.answer
		n.mu.Unlock()
		if answer != nil {
			return answer, answer.refusal()
		}
		select {
		case <-n.wake:
		case <-deadline.C:
			return nil, errSilent
		case <-n.c.Done():
			return nil, n.ended()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ended is why the connection is gone. A server of the older kind that refuses a token says no more than that.
func (n *session) ended() error {
	err := n.c.Err()
	if errors.Is(err, socketio.ErrServerDisconnect) {
		return &refusedError{code: "token_invalid", text: "the server ended the connection"}
	}
	if err == nil {
		err = socketio.ErrClosed
	}
	return err
}

func (a *authenticated) refusal() error {
	if a.Error != "" || a.Code != "" {
		return &refusedError{code: a.Code, text: a.Error, retry: time.Duration(a.RetryMs) * time.Millisecond}
	}
	if a.V < 2 || a.Next == 0 {
		return &refusedError{code: "too_old", text: "the server is too old for this tt: it does not acknowledge what it stores"}
	}
	return nil
}

// accept goes on where the server wants it.
func (n *session) accept(a *authenticated) {
	n.s.failures = 0
	n.s.warned = ""
	n.s.spool.Ack(a.Next - 1)
	if n.s.cfg.complete != nil {
		n.s.cfg.complete(a.Next, a.Ended)
	}
	n.reader = n.s.spool.Reader()
	n.reader.Seek(a.Next, n.s.offsetAt(a.Next))
	n.s.set(func() { n.s.connected = true; n.s.progress = time.Now() })
	if n.s.told {
		return
	}
	n.s.told = true
	close(n.s.accepted)
	if n.s.cfg.accepted != nil && a.URL != "" {
		n.s.cfg.accepted(a.URL)
	}
}

// send sends one packet, where there is something to send and the window has room. It tells whether there may be more.
func (n *session) send(ctx context.Context, window int) (more bool, err error) {
	n.mu.Lock()
	inFlight, err := n.inFlight, n.err
	n.mu.Unlock()
	if err != nil {
		return false, err
	}
	if inFlight >= window {
		return false, nil
	}
	from, limit := n.reader.Next(), packetRecords
	if from <= n.s.careful {
		limit = 1
	}
	recs, gap, err := n.reader.Read(limit, min(packetBytes, window-inFlight))
	switch {
	case err != nil:
		return false, err
	case gap != nil:
		if gap.Damaged {
			return true, n.sendGap(ctx, gap, "were lost: what tt had kept on the disk was damaged")
		}
		if gap.From <= n.s.spool.Status().Acked { // what it had is gone: a log that was restored from a backup
			return true, n.sendGap(ctx, gap, "were stored by the server, which does not have them any more")
		}
		return true, n.sendGap(ctx, gap, "were dropped: the spool's limit was reached while the server could not be reached")
	case len(recs) == 0:
		return false, nil
	}
	if recs[0].Src == n.s.oversized {
		skipped := spool.Gap{From: from, To: from, Bytes: int64(outputBytes(recs[0].Kind, recs[0].Data)), At: recs[0].At}
		n.reader.Back()
		n.reader.Seek(from+1, -1)
		return true, n.sendGap(ctx, &skipped, "were refused by the server for their size")
	}
	if len(recs) > 1 && recs[len(recs)-1].Kind == frame.Exit {
		n.reader.Back()
		recs, _, err = n.reader.Read(len(recs)-1, packetBytes)
		if err != nil {
			return false, err
		}
	}
	f := flight{first: from, last: recs[len(recs)-1].Src, offset: n.reader.Offset(), sizes: make([]uint32, len(recs))}
	for i := range recs {
		f.bytes += len(recs[i].Data)
		size := outputBytes(recs[i].Kind, recs[i].Data)
		f.sizes[i] = uint32(size)
		f.offset -= int64(size) // the reader stands behind the packet
	}
	ending := recs[0].Kind == frame.Exit
	if inFlight > 0 && (inFlight+f.bytes > window || f.bytes < smallPacket && !ending && !n.s.spool.Status().Ended) {
		n.reader.Back()
		return false, nil
	}
	if ending {
		n.buf = appendEOF(n.buf[:0], &recs[0])
		return true, n.emit(ctx, "eof", f)
	}
	n.buf = appendData(n.buf[:0], recs)
	return true, n.emit(ctx, "data", f)
}

func (n *session) sendGap(ctx context.Context, gap *spool.Gap, why string) error {
	n.buf = appendLost(n.buf[:0], gap, why)
	return n.emit(ctx, "data", flight{first: gap.From, last: gap.To, offset: n.reader.Offset()})
}

// emit sends what buf holds.
func (n *session) emit(ctx context.Context, event string, f flight) error {
	n.mu.Lock()
	if len(n.flights) == 0 {
		n.owed = time.Now()
	}
	n.flights = append(n.flights, f)
	n.inFlight += f.bytes
	n.mu.Unlock()
	return n.c.EmitFunc(ctx, event, n.buf, func(args []json.RawMessage) { n.acknowledged(f, args) })
}

// event hears what the server says of itself. It is called by the connection's reader.
func (n *session) event(e *socketio.Event) {
	if len(e.Args) == 0 {
		return
	}
	switch e.Name {
	case "authenticated":
		var a authenticated
		if err := json.Unmarshal(e.Args[0], &a); err != nil {
			n.fail(fmt.Errorf("answer to authenticate: %w", err))
			return
		}
		n.mu.Lock()
		n.answer = &a
		n.mu.Unlock()
		n.poke()
	case "progress":
		var p struct{ Durable uint64 }
		if err := json.Unmarshal(e.Args[0], &p); err == nil {
			n.durable(p.Durable)
		}
	}
}

// acknowledged hears the answer to one packet.
func (n *session) acknowledged(f flight, args []json.RawMessage) {
	var a struct {
		Durable     uint64
		Error, Code string
		Next        uint64
	}
	if len(args) > 0 {
		if err := json.Unmarshal(args[0], &a); err != nil {
			n.fail(fmt.Errorf("acknowledgement: %w", err))
			return
		}
	}
	switch {
	case a.Code == "taken":
		n.fail(errTaken)
	case a.Code == "gap":
		n.fail(errGap)
	case a.Code == "too_large":
		n.s.tooLarge(f)
		n.fail(&refusedError{code: a.Code, text: fmt.Sprintf("records %d to %d are too large", f.first, f.last), retry: backoffMin})
	case a.Code != "" || a.Error != "":
		n.fail(&refusedError{code: a.Code, text: a.Error})
	default:
		n.durable(a.Durable)
	}
}

// durable forgets what the server has for good.
func (n *session) durable(src uint64) {
	n.mu.Lock()
	advanced := false
	for len(n.flights) > 0 && n.flights[0].last <= src {
		n.inFlight -= n.flights[0].bytes
		n.s.place = n.flights[0].end()
		n.flights = n.flights[1:]
		advanced = true
	}
	n.mu.Unlock()
	n.s.spool.Ack(src)
	if advanced {
		n.s.set(func() { n.s.progress = time.Now() })
	}
	n.poke()
}

func (n *session) fail(err error) {
	n.mu.Lock()
	if n.err == nil {
		n.err = err
	}
	n.mu.Unlock()
	n.poke()
}

func (n *session) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// wait returns when there may be something to do, or with why the session must end.
func (n *session) wait(ctx context.Context) error {
	if st := n.s.spool.Status(); st.Ended && st.Acked >= st.Last {
		return errDone
	}
	n.mu.Lock()
	waiting, since := len(n.flights) > 0, n.owed
	n.mu.Unlock()
	var deadline <-chan time.Time
	if waiting {
		if heard := n.c.LastHeard(); heard.After(since) {
			since = heard
		}
		left := silence - time.Since(since)
		if left <= 0 {
			return errSilent
		}
		t := time.NewTimer(left + time.Millisecond)
		defer t.Stop()
		deadline = t.C
	}
	select {
	case <-n.wake:
	case <-deadline:
	case <-n.s.spool.More():
	case <-n.c.Done():
		return n.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
