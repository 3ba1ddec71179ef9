package gateway

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// attachment is a viewer's interest in one client, and its places in the client's runs. It belongs to the viewer's pump.
type attachment struct {
	v       *viewer
	client  bus.Client
	feed    *feed // nil while the viewer has detached
	flavour flavour
	history history
	queued  bool
	behind  bool // what is sent is read from the log

	places map[string]*place // by run
	active []*place          // those of which more may come, the oldest first
	// newest is the log place of the client's latest run when the viewer attached: ended runs up to there are yesterday's.
	newest uint64
}

// maxIdle bounds how many ended runs an attachment remembers, lest they be delivered again should they come back.
const maxIdle = 1000

// attach takes a client up, or up again. runs are the client's, the oldest first.
func (v *viewer) attach(c bus.Client, f flavour, w want, runs []standing) {
	a := v.attached[c]
	fresh := a == nil
	if fresh {
		if len(v.attached) >= v.s.cfg.MaxAttached {
			v.complain(complaint{"bad_request", "more clients than one viewer may be attached to: " + strconv.Itoa(v.s.cfg.MaxAttached), c.Client})
			return
		}
		a = &attachment{v: v, client: c, places: map[string]*place{}, history: w.history}
		v.attached[c] = a
	}
	back := !fresh && a.feed == nil
	if !fresh && !back && !w.given {
		return
	}
	if w.given {
		a.history = w.history
	}
	a.flavour = f
	if a.feed == nil {
		a.feed = v.s.feeds.join(c, a)
	}
	a.refresh(runs)
	a.resume(w.after[c.Client])
	a.choose(runs)
	a.tellPresence()
	v.enqueue(a)
}

// detach stops the delivery. Its places stay, for the viewer may come back to them.
func (v *viewer) detach(c bus.Client) {
	a := v.attached[c]
	if a == nil || a.feed == nil {
		return
	}
	a.park()
	v.presenceOf(c, change{})
}

func (a *attachment) park() {
	if a.feed == nil {
		return
	}
	a.v.s.feeds.leave(a.feed, a)
	a.feed = nil
	a.setBehind(false)
	a.v.mu.Lock()
	delete(a.v.marked, a)
	a.v.mu.Unlock()
}

// setBehind notes whether this client's output is read from the log for the viewer. A viewer is behind while one of its clients' is.
func (a *attachment) setBehind(behind bool) {
	if a.behind == behind {
		return
	}
	if a.behind = behind; behind {
		if a.v.behind++; a.v.behind == 1 {
			a.v.s.m.behind.Inc()
		}
		return
	}
	if a.v.behind--; a.v.behind == 0 {
		a.v.s.m.behind.Dec()
	}
}

// refresh brings the places up to date after an absence.
func (a *attachment) refresh(runs []standing) {
	known := map[string]standing{}
	for _, st := range runs {
		known[st.run.Key.Run] = st
	}
	for id, p := range a.places {
		st, ok := known[id]
		if !ok && p.st.run != nil {
			a.deleted(id)
			continue
		}
		if ok {
			a.update(p, st)
		}
	}
}

// maxUnheard bounds the runs that a viewer may have cursors of and the roster has not heard of, for one client: each is asked for.
const maxUnheard = 8

// resume takes up the runs that the viewer has cursors of. A place that this socket has itself is better than what the viewer says.
//
// The roster may lag behind the log by seconds: another gateway may have shown more of a run than is known of it here, or a run that is not known at all.
// So it is the log that tells whether a cursor is good, where the roster alone would refuse it.
func (a *attachment) resume(cursors []frame.Cursor) {
	unheard := 0
	for _, c := range cursors {
		if a.places[c.Run] != nil {
			continue
		}
		st, ok := a.v.s.roster.get(a.key(c.Run))
		p := &place{key: a.key(c.Run), next: c.Seq + 1, hint: c.Hint, started: c.Seq > 0, settleAt: checkCursor}
		// What was stored behind a backup that was restored is gone, and the same seq now names something else.
		kept := c.Seq == 0 || a.v.s.bus.Kept(c.Life, c.Hint)
		switch {
		case !kept, !ok && unheard == maxUnheard:
			a.v.complain(badCursor(a.client.Client))
			continue
		case !ok:
			unheard++
			a.places[c.Run] = p
			a.activate(p)
			continue
		case st.run.Phase.Ended() && c.Seq <= st.run.Checkpoint.Seq:
			p.settleAt = settled
		}
		a.add(p, st)
	}
}

// choose takes up those of the client's runs that the viewer's history asks for.
func (a *attachment) choose(runs []standing) {
	latest, inFlight := "", false
	for _, st := range runs { // the oldest first
		inFlight = inFlight || !st.run.Past()
		if st.run.Past() {
			latest = st.run.Key.Run
		}
		a.newest = max(a.newest, st.run.FirstStreamSeq)
	}
	for _, st := range runs {
		id, ended := st.run.Key.Run, st.run.Past()
		if a.places[id] != nil {
			continue
		}
		p := &place{next: 1}
		switch a.history.mode {
		case histRun:
			if id != a.history.run {
				continue
			}
		case histAll:
			if ended && id != latest {
				p = nil
			}
		case histTail:
			if ended && (inFlight || id != latest) {
				p = nil
				break
			}
			p.settleAt = atTail
		case histNone:
			p.settleAt = atEnd
			if ended {
				p = nil
			}
		case histLive:
			if ended {
				p = nil
			}
		}
		if p == nil && st.run.Present() { // it has ended and its client is still there: what comes from now on is not yesterday's
			p = &place{next: 1, settleAt: atEnd}
		}
		if p != nil {
			a.add(p, st)
		}
	}
}

func (a *attachment) key(run string) frame.Key {
	return frame.Key{Namespace: a.client.Namespace, Task: a.client.Task, Client: a.client.Client, Run: run}
}

func (a *attachment) add(p *place, st standing) {
	p.key, p.st = st.run.Key, st
	p.past = st.run.Past() && !st.run.Present()
	p.in = st.run.Present()
	a.places[p.key.Run] = p
	a.activate(p)
}

func (a *attachment) activate(p *place) {
	if p.active {
		return
	}
	p.active = true
	a.active = append(a.active, p)
}

// minds tells whether a run is the attachment's business.
func (a *attachment) minds(run string) bool {
	return a.history.mode != histRun || run == a.history.run || a.places[run] != nil
}

// news takes what the feed marked.
func (a *attachment) news(m *marks) {
	if a.feed == nil {
		return
	}
	if m.all {
		a.considerAll()
	}
	for run, first := range m.runs {
		a.consider(run, first)
	}
}

func (a *attachment) considerAll() {
	runs := a.v.s.roster.ofClient(a.client)
	a.refresh(runs)
	for _, st := range runs {
		a.consider(st.run.Key.Run, false)
	}
}

// consider looks at a run that changed, and takes it up if it is new, or back. begun: its first chunk was heard; the roster may hear of it later.
func (a *attachment) consider(run string, begun bool) {
	if !a.minds(run) {
		return
	}
	st, known := a.v.s.roster.get(a.key(run))
	if p := a.places[run]; p != nil {
		if known {
			a.update(p, st)
		}
		a.activate(p) // until it is settled again
		return
	}
	switch {
	case known && st.run.Late:
		if a.history.mode == histRun || a.history.mode == histAll && st.run.FirstStreamSeq > a.newest {
			a.add(&place{next: 1}, st) // to those who ask for history; nobody came or went
		}
	case known && (!st.run.Phase.Ended() || st.run.FirstStreamSeq > a.newest):
		p := &place{next: 1}
		a.add(p, st)
		p.past, p.in = false, false // it comes, or came and went, before the viewer's eyes: workerIn stands before its start
	case !known && begun:
		p := &place{next: 1, key: a.key(run)}
		a.places[run] = p
		a.activate(p)
	}
}

func (a *attachment) update(p *place, st standing) {
	if p.st.run != nil && sameToViewers(p.st.run, st.run) && p.st.suspect == st.suspect {
		p.st = st
		return
	}
	p.st = st
	if p.past = p.past && st.run.Past(); !p.past || st.run.Late {
		a.activate(p)
	}
}

// deleted forgets a run, and tells the viewer to do so. One that waits for the run's end gets one.
func (a *attachment) deleted(run string) {
	p := a.places[run]
	if p == nil {
		return
	}
	a.drop(p)
	delete(a.places, run)
	if a.feed == nil {
		return
	}
	e := &encoder{f: a.flavour, from: a.client.Client, at: a.at(p)}
	if p.started && !p.ended && !p.past {
		e.begin(p.next - 1)
		e.buf = append(e.buf, `,"code":999,"message":"The run was deleted"`...)
		e.send("eof", nil)
		a.v.put(e.out[0].msg, e.out[0].size)
	}
	if a.flavour != legacy {
		a.v.sendDeleted(p.key)
	}
	a.tellPresence()
}

// drop takes a place out of the active ones.
func (a *attachment) drop(p *place) {
	p.active = false
	for i, o := range a.active {
		if o == p {
			a.active = append(a.active[:i], a.active[i+1:]...)
			return
		}
	}
}

// tellPresence says whether the client is in, as far as the viewer has come.
func (a *attachment) tellPresence() {
	if a.history.mode == histRun {
		a.v.presenceOf(a.client, change{})
		return
	}
	in := false
	for _, p := range a.active {
		in = in || p.in
	}
	a.v.presence(a.client, in)
}

// step sends what is at hand of this client, in the order of the log, up to a bound. It tells whether there is more.
func (a *attachment) step() (more bool) {
	if a.feed == nil {
		return false
	}
	defer func() {
		for _, p := range a.active {
			p.window = nil // the history's cache has it, if anybody
		}
	}()
	for a.v.outBytes < stepBytes && a.v.ctx.Err() == nil {
		p, e := a.pick()
		if p == nil {
			a.settle()
			return false
		}
		a.deliver(p, e)
	}
	return true
}

// pick finds the chunk that comes next in the log, over all of the client's runs.
func (a *attachment) pick() (next *place, chunk *entry) {
	now := time.Now()
	refused := false
	for _, p := range a.active {
		p.current = false
		if p.settleAt != settled && !a.locate(p) {
			refused = refused || p.settleAt == nowhere
			continue
		}
		e := p.ahead()
		if e == nil {
			var behind bool
			e, behind, p.current = a.feed.find(p.key.Run, p.next, p.least(), p.final())
			p.live = e != nil
			if behind && now.After(p.retryAt) {
				e = a.read(p)
			}
		}
		if e != nil && (chunk == nil || e.place < chunk.place) {
			next, chunk = p, e
		}
	}
	if refused {
		a.forgetRefused()
		return a.pick()
	}
	return next, chunk
}

// forgetRefused lets go of the places whose cursors the log knows nothing of. The viewer gets of these runs what it gets without a cursor.
func (a *attachment) forgetRefused() {
	for _, p := range slices.Clone(a.active) {
		if p.settleAt == nowhere {
			a.drop(p)
			delete(a.places, p.key.Run)
		}
	}
	a.choose(a.v.s.roster.ofClient(a.client))
	a.tellPresence()
}

// read gets a place's next chunks from the log.
func (a *attachment) read(p *place) *entry {
	a.setBehind(true)
	got, err := a.v.s.backlog.from(a.v.ctx, p.key, p.next, p.hint)
	if len(got) == 0 {
		if a.v.ctx.Err() == nil {
			a.unread(p, err)
		}
		return nil
	}
	n, share := 0, stepBytes/len(a.active)
	for i, e := range got {
		if e.chunk != nil {
			n += size(e.chunk)
		}
		if n >= share {
			got = got[:i+1]
			break
		}
	}
	p.window = got
	return p.ahead()
}

// unread is for a place at which nothing could be read: it is tried again.
func (a *attachment) unread(p *place, err error) {
	a.v.s.m.retries.WithLabelValues("read").Inc()
	if !errors.Is(err, frame.ErrMalformed) {
		if err != nil && !errors.Is(err, bus.ErrDeleted) {
			a.v.log().Warn("read a run's log", "run", p.key, "seq", p.next, "err", err)
		}
		a.again(p, retryLast/2)
		return
	}
	// A later version's, most likely: a gateway of that version knows it, and there the viewer's cursor goes on.
	if !p.unreadable {
		p.unreadable = true
		a.v.log().Error("a run's log cannot be read by this version", "run", p.key, "seq", p.next, "err", err)
		a.v.complain(complaint{"unreadable", "the output goes on in a form that this server does not know", a.client.Client})
	}
	a.again(p, unreadableRetry)
}

// unreadableRetry is how long a chunk that cannot be read is left alone.
const unreadableRetry = 10 * time.Second

// again has another try a little later.
func (a *attachment) again(p *place, after time.Duration) {
	p.retryAt = time.Now().Add(after)
	time.AfterFunc(after+time.Millisecond, func() { a.mark(p.key.Run, false) })
}

// deliver sends one chunk, or what is left of it for this viewer.
func (a *attachment) deliver(p *place, e *entry) {
	if e.gone != nil {
		a.gap(p, e)
		return
	}
	if p.fromLine > 0 {
		p.skipTo(e.chunk)
	}
	if e.chunk.Next() <= p.next {
		p.hint = e.place
		p.next = max(p.next, e.next())
		return
	}
	a.arrive(p, e.chunk)
	pieces, left := e.pieces(a.flavour, p.next, p.carry, a.v.s.m)
	for i := range pieces {
		switch x := &pieces[i]; {
		case x.rec != nil && x.rec.Kind == frame.Start:
			a.start(p, x.rec)
		default:
			a.ensureStarted(p)
			a.v.put(x.msg, x.size)
			if x.rec != nil {
				p.ended, p.lost = true, x.rec.Kind == frame.Lost
			}
		}
	}
	p.carry, p.next, p.hint = left, e.next(), e.place
	if p.live && p.toldLive {
		a.v.newest = e.chunk.Stored
	}
}

// arrive has workerIn come before what a client sends, and an ended run's workerOut before another run's start.
func (a *attachment) arrive(p *place, c *frame.Chunk) {
	if p.past || p.in && p.started || !fromClient(c, p.next) {
		return
	}
	if p.lost {
		p.ended, p.lost = false, false
	}
	if !p.started {
		a.leaveBehind(p)
	}
	p.in = true
	a.tellPresence()
}

// leaveBehind has the client go out, for the viewer, whose earlier runs have had their eof, before run p starts.
func (a *attachment) leaveBehind(p *place) {
	left := false
	for _, o := range a.active {
		if o != p && o.in && o.ended {
			o.in, left = false, true
		}
	}
	if left {
		p.in = false
		a.tellPresence()
	}
}

// fromClient tells whether a chunk holds anything that only a client that is there can have sent.
func fromClient(c *frame.Chunk, from uint64) bool {
	for i := range c.Records {
		if r := &c.Records[i]; r.Seq >= from && r.Kind != frame.Lost && r.Kind != frame.Note {
			return true
		}
	}
	return false
}

func (a *attachment) start(p *place, r *frame.Record) {
	if p.started {
		return
	}
	info, err := frame.UnmarshalStart(r.Data)
	if err != nil {
		a.v.log().Warn("a run's start that cannot be read", "run", p.key, "err", err)
	}
	a.sendStart(p, info.Task, r.Seq, r.At)
}

// ensureStarted is for runs whose START is not to be had, or lies before the tail that the viewer asked for: state has it as well.
func (a *attachment) ensureStarted(p *place) {
	if p.started {
		return
	}
	if p.st.run == nil {
		p.started = true
		return
	}
	a.sendStart(p, p.st.run.Task, p.next-1, p.st.run.Started.UnixMilli())
}

func (a *attachment) sendStart(p *place, task []byte, seq uint64, at int64) {
	p.started = true
	if len(task) == 0 {
		task = []byte("{}")
	}
	b := appendText([]byte(`{"from":`), a.client.Client)
	b = append(append(b, `,"task":`...), task...)
	if a.flavour != legacy {
		b = appendText(append(b, `,"run":`...), p.key.Run)
		b = appendText(append(b, `,"cursor":`...), a.cursor(p, seq))
		if p.st.run != nil && !p.st.run.Started.IsZero() {
			at = p.st.run.Started.UnixMilli()
		}
		b = strconv.AppendInt(append(b, `,"startedAt":`...), at, 10)
		p.told = p.state()
		b = append(append(append(b, `,"state":"`...), p.told...), '"')
	}
	a.v.send("start", append(b, '}'))
}

// gap tells what retention took, and goes on behind it.
func (a *attachment) gap(p *place, e *entry) {
	g := e.gone
	a.v.s.m.gaps.WithLabelValues("retention").Inc()
	a.ensureStarted(p)
	if a.flavour != legacy {
		b := appendText([]byte(`{"from":`), a.client.Client)
		b = appendText(append(b, `,"run":`...), p.key.Run)
		b = strconv.AppendUint(append(b, `,"fromSeq":`...), max(g.From, p.next), 10)
		b = strconv.AppendUint(append(b, `,"toSeq":`...), g.To, 10)
		b = append(b, `,"bytes":`...)
		if g.Bytes >= 0 {
			b = strconv.AppendInt(b, g.Bytes, 10)
		} else {
			b = append(b, "null"...)
		}
		b = appendText(append(b, `,"reason":"retention","cursor":`...), a.cursor(p, g.To))
		a.v.send("gap", append(b, '}'))
	}
	p.next = max(p.next, g.To+1)
	p.carry = carry{}
}

// settle tells, of runs that the viewer has all of, how they stand: live, their state, and that their client has gone.
func (a *attachment) settle() {
	before, all := len(a.active), true
	for _, p := range a.active {
		all = all && p.current
	}
	if all {
		a.setBehind(false)
	}
	for i := 0; i < len(a.active); i++ {
		p := a.active[i]
		if !p.current {
			continue
		}
		if !p.toldLive {
			p.toldLive = true
			if a.flavour != legacy {
				a.ensureStarted(p)
				b := appendText(append(appendText([]byte(`{"from":`), a.client.Client), `,"run":`...), p.key.Run)
				b = appendText(append(b, `,"cursor":`...), a.cursor(p, p.next-1))
				a.v.send("live", append(b, '}'))
			}
		}
		if p.st.run == nil {
			continue
		}
		p.in = p.st.run.Connected && !p.past // one that the viewer followed, and that is now brought to its end, is back for that time
		if s := p.state(); s != p.told {
			p.told = s
			if a.flavour != legacy {
				a.v.sendState(p.st)
			}
		}
		if p.st.run.Phase.Ended() && !p.st.run.Connected {
			a.drop(p)
			i--
		}
	}
	a.tellPresence()
	if before != len(a.active) {
		a.forgetOld()
	}
}

// forgetOld keeps the number of remembered runs within its bound; the oldest go, and are yesterday's from then on.
func (a *attachment) forgetOld() {
	for len(a.places)-len(a.active) > maxIdle {
		var oldest *place
		for _, p := range a.places {
			if !p.active && (oldest == nil || older(p.st.run, oldest.st.run)) {
				oldest = p
			}
		}
		delete(a.places, oldest.key.Run)
		a.newest = max(a.newest, oldest.st.run.FirstStreamSeq)
	}
}
