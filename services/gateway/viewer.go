package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/socketio"
)

// viewer is one viewer's socket. Its handler (socket.go) says what is wanted; its pump, one goroutine, does all the sending, and owns all
// that it knows. The pump takes from feeds and history when the transport has room, and never queues: a slow viewer is a viewer far behind.
type viewer struct {
	s    *Service
	conn *socketio.Conn
	ctx  context.Context

	// Of the socket's handler, one call at a time.
	current          taskKey // of the last authenticate: what attach and detach mean
	v2               bool
	started, leaving bool

	v2sure atomic.Bool // v2, for others
	grants grants
	cmds   chan func()
	wake   chan struct{}

	mu      sync.Mutex
	changed map[frame.Key]change // runs of watched tasks that changed
	flooded bool                 // more changed than is kept: look at everything
	marked  map[*attachment]*marks

	// Of the pump.
	told     map[taskKey]map[string]struct{} // clients that the viewer was told are in
	attached map[bus.Client]*attachment      // those detached from as well, to go on where they were
	queue    []*attachment                   // those with something to do
	out      []*socketio.Message
	outBytes int
	behind   int       // attachments whose output is read from the log
	newest   time.Time // when the newest live chunk in out was stored
}

// marks says which of a client's runs have news.
type marks struct {
	runs map[string]bool // true: with the run's first chunk
	all  bool
}

const (
	// stepBytes is how much a pump takes in hand before it writes, and before another client of the viewer has its turn.
	stepBytes = 256 << 10
	// maxChanged and maxMarked bound what is remembered of news for a viewer that takes nothing; beyond, it looks at everything once it does.
	maxChanged = 10_000
	maxMarked  = 1_000
)

func newViewer(s *Service, c *socketio.Conn) *viewer {
	return &viewer{
		s: s, conn: c, ctx: c.Context(), cmds: make(chan func()), wake: make(chan struct{}, 1),
		changed: map[frame.Key]change{}, marked: map[*attachment]*marks{},
		told: map[taskKey]map[string]struct{}{}, attached: map[bus.Client]*attachment{},
	}
}

// log says which connection it is.
func (v *viewer) log() *slog.Logger { return v.s.log.With("conn", v.conn.ID()) }

// start begins the pump, once. The connection's end stops it; Service.end waits for it.
func (v *viewer) start() bool {
	v.v2sure.Store(v.v2)
	if v.started {
		return true
	}
	if !v.s.add(v) {
		return false
	}
	v.started = true
	go v.pump()
	return true
}

// do has the pump do something, in the order of the calls. It waits while the pump waits for the transport: that is the back-pressure.
func (v *viewer) do(fn func()) {
	select {
	case v.cmds <- fn:
	case <-v.ctx.Done():
	}
}

func (v *viewer) pump() {
	defer v.end()
	select {
	case <-v.s.roster.synced: // before that nobody knows who runs
	case <-v.ctx.Done():
		return
	}
	for v.ctx.Err() == nil {
		v.takeNews()
		if len(v.queue) == 0 {
			v.flush()
			select {
			case <-v.ctx.Done():
				return
			case fn := <-v.cmds:
				fn()
			case <-v.wake:
			}
			continue
		}
		select {
		case fn := <-v.cmds:
			fn()
		default:
			v.turn()
		}
	}
}

// turn gives the next client its turn.
func (v *viewer) turn() {
	a := v.queue[0]
	v.queue = v.queue[1:]
	a.queued = false
	if a.step() {
		v.enqueue(a)
	}
	if len(v.queue) == 0 || v.outBytes >= stepBytes/4 {
		v.flush()
	}
}

func (v *viewer) end() {
	v.dropGrants()
	for k := range v.told {
		v.s.roster.unwatch(k, v)
	}
	for _, a := range v.attached {
		a.park()
	}
	v.s.remove(v)
}

func (v *viewer) enqueue(a *attachment) {
	if !a.queued && a.feed != nil {
		a.queued = true
		v.queue = append(v.queue, a)
	}
}

// runChanged is called by the roster, at any time.
func (v *viewer) runChanged(key frame.Key, c change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.changed) >= maxChanged {
		v.flooded = true
		clear(v.changed)
	}
	if !v.flooded {
		was := v.changed[key]
		v.changed[key] = change{in: was.in || c.in, out: was.out || c.out, deleted: c.deleted}
	}
	v.signal()
}

// mark is called by a feed, at any time.
func (a *attachment) mark(run string, first bool) {
	v := a.v
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.marks(a)
	if m.runs[run] = m.runs[run] || first; len(m.runs) > maxMarked {
		m.all = true
		clear(m.runs)
	}
	v.signal()
}

func (a *attachment) markAll() {
	v := a.v
	v.mu.Lock()
	defer v.mu.Unlock()
	v.marks(a).all = true
	v.signal()
}

// marks is what is marked of a. v.mu is held.
func (v *viewer) marks(a *attachment) *marks {
	m := v.marked[a]
	if m == nil {
		m = &marks{runs: map[string]bool{}}
		v.marked[a] = m
	}
	return m
}

func (v *viewer) signal() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// takeNews brings what others left for the pump into its own hands.
func (v *viewer) takeNews() {
	v.mu.Lock()
	var changed map[frame.Key]change
	var marked map[*attachment]*marks
	flooded := v.flooded
	if len(v.changed) > 0 || flooded {
		changed, v.changed, v.flooded = v.changed, map[frame.Key]change{}, false
	}
	if len(v.marked) > 0 {
		marked, v.marked = v.marked, map[*attachment]*marks{}
	}
	v.mu.Unlock()
	for a, m := range marked {
		a.news(m)
		v.enqueue(a)
	}
	for key, c := range changed {
		v.tell(key, c)
	}
	if flooded {
		v.lookAround()
	}
}

// tell acts on a change of a run: for attached clients through their attachment, which keeps to the order of the log; for others at once.
func (v *viewer) tell(key frame.Key, ch change) {
	c := bus.Client{Namespace: key.Namespace, Task: key.Task, Client: key.Client}
	a := v.attached[c]
	if a != nil && ch.deleted {
		a.deleted(key.Run)
	}
	if a != nil && a.feed != nil && a.minds(key.Run) {
		a.consider(key.Run, false)
		v.enqueue(a)
		if st, ok := v.s.roster.get(key); ok && a.places[key.Run] == nil && v.v2sure.Load() {
			v.sendState(st) // one that is not delivered here: how it stands is told all the same
		}
		return
	}
	v.presenceOf(c, ch)
	if !v.v2sure.Load() {
		return
	}
	if st, ok := v.s.roster.get(key); ok {
		v.sendState(st)
	} else if a == nil || a.feed == nil {
		v.sendDeleted(key)
	}
}

// lookAround is for a viewer that was so slow that it was not told of every change.
func (v *viewer) lookAround() {
	for task, told := range v.told {
		clients := map[string]bool{}
		for id := range told {
			clients[id] = true
		}
		for _, st := range v.s.roster.ofTask(task) {
			clients[st.run.Key.Client] = true
		}
		for id := range clients {
			c := bus.Client{Namespace: task.ns, Task: task.task, Client: id}
			if a := v.attached[c]; a != nil && a.feed != nil {
				a.considerAll()
				v.enqueue(a)
				continue
			}
			v.presenceOf(c, change{})
		}
	}
}

// join watches a task: the viewer hears at once who is in. It gives the task's runs by client, as they were at that moment.
func (v *viewer) join(task taskKey) map[string][]standing {
	runs := map[string][]standing{}
	fresh := v.told[task] == nil
	all := v.s.roster.watch(task, v)
	for _, st := range all {
		runs[st.run.Key.Client] = append(runs[st.run.Key.Client], st)
	}
	if !fresh {
		return runs
	}
	v.told[task] = map[string]struct{}{}
	var in []string
	for _, st := range all {
		if st.run.Present() {
			in = append(in, st.run.Key.Client)
		}
	}
	sort.Strings(in)
	for _, id := range in {
		v.presence(bus.Client{Namespace: task.ns, Task: task.task, Client: id}, true)
	}
	if !v.v2sure.Load() {
		return runs
	}
	for _, st := range all {
		if !st.run.Phase.Ended() {
			v.sendState(st)
		}
	}
	return runs
}

// presenceOf tells what the roster says of a client that the viewer is not attached to. One that came and went meanwhile is told of all the same.
func (v *viewer) presenceOf(c bus.Client, ch change) {
	in := v.s.roster.present(c)
	v.presence(c, in || ch.in)
	v.presence(c, in)
}

// presence tells the viewer that a client is in or out, if that is news.
func (v *viewer) presence(c bus.Client, in bool) {
	told := v.told[taskKey{c.Namespace, c.Task}]
	_, was := told[c.Client]
	if told == nil || was == in {
		return
	}
	event := "workerOut"
	if in {
		event = "workerIn"
		told[c.Client] = struct{}{}
	} else {
		delete(told, c.Client)
	}
	v.send(event, append(appendText([]byte(`{"from":`), c.Client), '}'))
}

func (v *viewer) sendState(st standing) {
	b := appendText([]byte(`{"from":`), st.run.Key.Client)
	b = appendText(append(b, `,"run":`...), st.run.Key.Run)
	b = append(append(append(b, `,"state":"`...), st.state()...), '"')
	if st.run.Phase.Ended() {
		if x := st.run.Exit; len(x.Code) > 0 {
			b = append(append(b, `,"code":`...), x.Code...)
		}
		if x := st.run.Exit; len(x.Signal) > 0 {
			b = append(append(b, `,"signal":`...), x.Signal...)
		}
	}
	v.send("state", append(b, '}'))
}

// sendDeleted has a page forget what it shows of a run.
func (v *viewer) sendDeleted(key frame.Key) {
	b := appendText([]byte(`{"from":`), key.Client)
	b = appendText(append(b, `,"run":`...), key.Run)
	v.send("state", append(b, `,"state":"deleted"}`...))
}

// complain tells viewers that understand it; to the others what was wrong never had an answer.
func (v *viewer) complain(c complaint) {
	v.s.m.refused.WithLabelValues(c.code).Inc()
	if v.v2sure.Load() {
		v.sendAny("problem", problem{c.code, c.message, c.from})
	}
}

func (v *viewer) complainAll(cs []complaint) {
	for _, c := range cs {
		v.complain(c)
	}
}

// send puts an event into the pump's hands; it goes out with the next flush.
func (v *viewer) send(event string, arg []byte) { v.put(socketio.NewRawMessage(event, arg), len(arg)) }

// sendAny sends what encoding/json makes of arg.
func (v *viewer) sendAny(event string, arg any) {
	b, err := json.Marshal(arg)
	if err != nil {
		v.log().Error("encode", "event", event, "err", err) // a mistake in this program
		return
	}
	v.send(event, b)
}

func (v *viewer) put(m *socketio.Message, n int) {
	v.out = append(v.out, m)
	v.outBytes += n
}

// flush writes what is in hand, and waits until the transport has taken it. An error means that the connection is gone, and with it this viewer.
func (v *viewer) flush() {
	if len(v.out) == 0 {
		return
	}
	n, _ := v.conn.SendAll(v.ctx, v.out)
	v.s.m.events.Add(float64(n))
	v.s.m.eventBytes.Add(float64(v.outBytes))
	if !v.newest.IsZero() {
		v.s.m.delay.Observe(max(0, time.Since(v.newest).Seconds()))
		v.newest = time.Time{}
	}
	clear(v.out)
	v.out, v.outBytes = v.out[:0], 0
}
