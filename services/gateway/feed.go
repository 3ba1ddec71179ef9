package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sort"
	"sync"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// feeds holds one feed per watched client. The first viewer makes it, the last one ends it.
type feeds struct {
	ctx  context.Context
	bus  *bus.Bus
	log  *slog.Logger
	m    *Metrics
	ring int

	mu  sync.Mutex
	all map[bus.Client]*feed
	wg  sync.WaitGroup
}

// feed is what this gateway hears of one client's runs: one subscription, and a ring of recent chunks, shared by all viewers of the client.
// It only ever says "here is the chunk with that seq", "there is more than that" or "that is all"; who does not find a chunk here reads the log.
type feed struct {
	fs     *feeds
	client bus.Client
	ctx    context.Context
	stop   context.CancelFunc

	refs int // of feeds.mu

	mu        sync.Mutex
	ready     bool // the subscription stands: nothing stored from now on goes unheard
	listeners map[*attachment]struct{}
	runs      map[string]*feedRun
	ring      []*entry // in order of arrival
	bytes     int
}

// feedRun is what the feed knows of one run.
type feedRun struct {
	entries []*entry // those in the ring, by seq
	tail    uint64   // the highest seq known to be stored
	// certain says that tail was read from the log when the subscription stood already.
	certain, asking bool
	unreadable      bool // the log ends with what this program cannot read: no end can be told, and who wants more tries to read
	lags            int  // how often chunks may have been missed; what was asked before that proves nothing
}

func newFeeds(ctx context.Context, b *bus.Bus, ring int, log *slog.Logger, m *Metrics) *feeds {
	return &feeds{ctx: ctx, bus: b, log: log, m: m, ring: ring, all: map[bus.Client]*feed{}}
}

// join gives the client's feed, and has it tell a of what is new. Every join is followed by one leave.
func (fs *feeds) join(c bus.Client, a *attachment) *feed {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.all[c]
	if f == nil {
		f = &feed{fs: fs, client: c, listeners: map[*attachment]struct{}{}, runs: map[string]*feedRun{}}
		f.ctx, f.stop = context.WithCancel(fs.ctx)
		fs.all[c] = f
		fs.m.feeds.Inc()
		fs.wg.Go(f.subscribe)
	}
	f.refs++
	f.mu.Lock()
	f.listeners[a] = struct{}{}
	f.mu.Unlock()
	return f
}

func (fs *feeds) leave(f *feed, a *attachment) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.mu.Lock()
	delete(f.listeners, a)
	f.mu.Unlock()
	if f.refs--; f.refs > 0 {
		return
	}
	delete(fs.all, f.client)
	fs.m.feeds.Dec()
	f.stop()
}

// drop forgets what is kept of a run that was deleted.
func (fs *feeds) drop(key frame.Key) {
	fs.mu.Lock()
	f := fs.all[bus.Client{Namespace: key.Namespace, Task: key.Task, Client: key.Client}]
	fs.mu.Unlock()
	if f != nil {
		f.drop(key.Run)
	}
}

const (
	retryFirst = 50 * time.Millisecond
	retryLast  = 2 * time.Second
)

// subscribe keeps the subscription until the last viewer has gone.
func (f *feed) subscribe() {
	h := bus.Handler{Chunk: f.push, Unreadable: f.unreadable, Advanced: f.advanced, Lagged: f.lagged}
	for wait := retryFirst; f.ctx.Err() == nil; wait = min(2*wait, retryLast) {
		sub, err := f.fs.bus.Subscribe(f.ctx, f.client, h)
		if err != nil {
			if f.ctx.Err() == nil {
				f.fs.log.Warn("subscribe to a client's output", "ns", f.client.Namespace, "task", f.client.Task, "client", f.client.Client, "err", err)
				f.fs.m.retries.WithLabelValues("subscribe").Inc()
			}
			pause(f.ctx, wait)
			continue
		}
		f.mu.Lock()
		f.ready = true
		f.wakeAll()
		f.mu.Unlock()
		<-f.ctx.Done()
		sub.Close()
	}
	f.mu.Lock()
	f.evict(0)
	f.mu.Unlock()
}

// push takes a chunk that was just stored. It may have come before, and others may be missing.
func (f *feed) push(s bus.Stored) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return
	}
	r := f.run(s.Key.Run)
	r.unreadable = false
	c := s.Chunk
	f.fs.m.chunks.Inc()
	switch {
	case len(c.Records) == 0:
	case r.has(c.First):
		f.fs.m.repeats.Inc()
	default:
		s.Key = frame.Key{Namespace: f.client.Namespace, Task: f.client.Task, Client: f.client.Client, Run: s.Key.Run}
		e := newEntry(s, f.fs.bus.Life())
		e.grew = f.grew
		r.insert(e)
		f.ring = append(f.ring, e)
		f.charge(e, e.cost())
		f.evict(f.fs.ring)
	}
	r.tail = max(r.tail, c.Next()-1)
	begun := c.First == 1 && !startsLate(c)
	for a := range f.listeners {
		a.mark(s.Key.Run, begun)
	}
}

// charge adds to what an entry of the ring is charged with. f.mu is held.
func (f *feed) charge(e *entry, n int) {
	e.charge += n
	f.bytes += n
	f.fs.m.ringBytes.Add(float64(n))
}

// grew hears that an entry was encoded.
func (f *feed) grew(e *entry, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.charge > 0 {
		f.charge(e, n)
		f.evict(f.fs.ring)
	}
}

// startsLate tells whether a chunk begins a run whose process has ended.
func startsLate(c *frame.Chunk) bool {
	if len(c.Records) == 0 || c.Records[0].Kind != frame.Start {
		return false
	}
	info, err := frame.UnmarshalStart(c.Records[0].Data)
	return err == nil && info.Late
}

// evict drops the oldest chunks until at most limit bytes are left.
func (f *feed) evict(limit int) {
	for f.bytes > limit && len(f.ring) > 0 {
		e := f.ring[0]
		f.ring[0] = nil
		f.ring = f.ring[1:]
		f.charge(e, -e.charge)
		if r := f.runs[e.key.Run]; r != nil {
			r.remove(e)
		}
	}
}

// advancedGrace is how long a chunk may take longer than the heartbeat that speaks of it.
const advancedGrace = 300 * time.Millisecond

// advanced hears from the run's owner how far the run is.
func (f *feed) advanced(run string, last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.run(run).tail >= last || f.ctx.Err() != nil {
		return
	}
	time.AfterFunc(advancedGrace, func() { f.raise(run, last) })
}

// raise makes known that the log has last; viewers who have less read it.
func (f *feed) raise(run string, last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.run(run)
	if r.tail >= last || f.ctx.Err() != nil {
		return
	}
	r.tail = last
	f.fs.m.missed.Inc()
	for a := range f.listeners {
		a.mark(run, false)
	}
}

// lagged says that chunks may have been missed, of any run.
func (f *feed) lagged() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fs.m.lagged.Inc()
	for _, r := range f.runs {
		r.certain, r.unreadable = false, false
		r.lags++
	}
	f.wakeAll()
}

// wakeAll has every viewer look at all its runs of this client. f.mu is held.
func (f *feed) wakeAll() {
	for a := range f.listeners {
		a.markAll()
	}
}

// maxFeedRuns bounds what a feed remembers of runs; a forgotten one is asked for again.
const maxFeedRuns = 256

// run gives what is known of a run. f.mu is held.
func (f *feed) run(id string) *feedRun {
	r := f.runs[id]
	if r != nil {
		return r
	}
	if len(f.runs) >= maxFeedRuns {
		for id, o := range f.runs {
			if len(o.entries) == 0 && !o.asking {
				delete(f.runs, id)
				break
			}
		}
	}
	r = &feedRun{}
	f.runs[id] = r
	return r
}

// find is a viewer's question for the chunk with a seq, of a run whose log is known to reach least; final: and to end there, for the run has
// ended and nobody has it. behind: the log has it, the ring has not. current: it is not stored yet. Neither: the feed is finding out, and will say.
func (f *feed) find(run string, seq, least uint64, final bool) (e *entry, behind, current bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.run(run)
	r.tail = max(r.tail, least)
	if e := r.holding(seq); e != nil {
		return e, false, false
	}
	if r.tail >= seq || r.unreadable {
		return nil, true, false
	}
	return nil, false, f.sure(run, r, final)
}

// end tells how far a run's log reaches. Not sure: it may reach further; the feed is finding out, and will say. Unreadable: it does, with what this
// program cannot read.
func (f *feed) end(run string, least uint64, final bool) (last uint64, sure, unreadable bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.run(run)
	r.tail = max(r.tail, least)
	return r.tail, r.unreadable || f.sure(run, r, final), r.unreadable
}

// unreadable hears of a chunk that this program cannot read.
func (f *feed) unreadable(run string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() == nil {
		f.beyond(run, f.run(run))
	}
}

// beyond has viewers read up to what cannot be read. f.mu is held.
func (f *feed) beyond(run string, r *feedRun) {
	if r.unreadable {
		return
	}
	r.unreadable = true
	for a := range f.listeners {
		a.mark(run, false)
	}
}

// sure tells whether nothing is stored behind the known tail; where that is not known, it has it found out. f.mu is held.
func (f *feed) sure(run string, r *feedRun, final bool) bool {
	if r.certain || final && f.ready {
		return true
	}
	if f.ready && !r.asking && f.ctx.Err() == nil {
		r.asking = true
		lags := r.lags
		f.fs.wg.Go(func() { f.ask(run, r, lags) })
	}
	return false
}

// nearAfter is how long the log's leader may take to tell a run's tail before any replica is asked how far it is at least.
const nearAfter = 100 * time.Millisecond

// askNear has viewers read on while the leader does not answer: there may be none, and the replicas have nearly all there is.
func (f *feed) askNear(key frame.Key, r *feedRun, answered <-chan struct{}) {
	tick := time.NewTicker(nearAfter)
	defer tick.Stop()
	for wait := nearAfter; ; wait = min(2*wait, retryLast) {
		tick.Reset(wait)
		select {
		case <-answered:
			return
		case <-f.ctx.Done():
			return
		case <-tick.C:
		}
		s, err := f.fs.bus.NearTail(f.ctx, key)
		if err != nil {
			continue
		}
		f.mu.Lock()
		if last := s.Chunk.Next() - 1; last > r.tail {
			r.tail = last
			for a := range f.listeners {
				a.mark(key.Run, false)
			}
		}
		f.mu.Unlock()
	}
}

// ask reads the run's tail from the log's leader, once for all viewers.
func (f *feed) ask(run string, r *feedRun, lags int) {
	key := frame.Key{Namespace: f.client.Namespace, Task: f.client.Task, Client: f.client.Client, Run: run}
	answered := make(chan struct{})
	defer close(answered)
	f.fs.wg.Go(func() { f.askNear(key, r, answered) })
	for wait := retryFirst; f.ctx.Err() == nil; wait = min(2*wait, retryLast) {
		s, err := f.fs.bus.Tail(f.ctx, key)
		if errors.Is(err, frame.ErrMalformed) {
			f.mu.Lock()
			r.asking = false
			f.beyond(run, r)
			f.mu.Unlock()
			return
		}
		if err != nil && !errors.Is(err, bus.ErrDeleted) && !errors.Is(err, bus.ErrNotFound) {
			if f.ctx.Err() == nil {
				f.fs.log.Warn("read a run's tail", "run", key, "err", err)
				f.fs.m.retries.WithLabelValues("tail").Inc()
			}
			pause(f.ctx, wait)
			continue
		}
		f.mu.Lock()
		if err == nil {
			r.tail = max(r.tail, s.Chunk.Next()-1)
		}
		r.certain, r.asking = r.lags == lags, false
		for a := range f.listeners {
			a.mark(run, false)
		}
		f.mu.Unlock()
		return
	}
}

func (f *feed) drop(run string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.runs, run)
	kept := f.ring[:0:0]
	for _, e := range f.ring {
		if e.key.Run != run {
			kept = append(kept, e)
			continue
		}
		f.charge(e, -e.charge)
	}
	f.ring = kept
}

// holding is the entry with a seq.
func (r *feedRun) holding(seq uint64) *entry {
	i := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].next() > seq })
	if i < len(r.entries) && r.entries[i].chunk.First <= seq {
		return r.entries[i]
	}
	return nil
}

func (r *feedRun) has(seq uint64) bool { return r.holding(seq) != nil }

func (r *feedRun) insert(e *entry) {
	i := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].chunk.First > e.chunk.First })
	r.entries = append(r.entries, nil)
	copy(r.entries[i+1:], r.entries[i:])
	r.entries[i] = e
}

func (r *feedRun) remove(e *entry) {
	for i := range r.entries {
		if r.entries[i] == e {
			r.entries = append(r.entries[:i], r.entries[i+1:]...)
			return
		}
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
