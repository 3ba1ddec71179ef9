package gateway

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// backlog reads the log for viewers that are behind the feed. What was read is kept, within a bound, for the next viewer, and two that want the
// same at once wait for one read: two hundred that attach to a long run together cost little more than one.
type backlog struct {
	ctx   context.Context // of the gateway: a read may outlive the viewer that began it
	bus   *bus.Bus
	m     *Metrics
	limit int

	mu      sync.Mutex
	recent  *list.List // of *entry, the last used one first
	byPlace map[chunkPlace]*list.Element
	bytes   int
	flights map[chunkPlace]*flight // those that may be joined
	wg      sync.WaitGroup
}

// chunkPlace names a chunk by its first seq. Chunk boundaries never change, so a viewer that reads on asks for just these.
type chunkPlace struct {
	key   frame.Key
	first uint64
}

// flight is a read under way.
type flight struct {
	done    chan struct{}
	entries []*entry // set when done is closed
	err     error
	waiters int
	cancel  context.CancelFunc
	dropped bool // the run was deleted meanwhile
}

// windowBytes is how much one read brings at most, beside the chunk that goes beyond it.
const windowBytes = 1 << 20

// maxPrefetch is with how many reads under way none is begun for later.
const maxPrefetch = 8

var errEnough = errors.New("enough was read")

func newBacklog(ctx context.Context, b *bus.Bus, limit int, m *Metrics) *backlog {
	return &backlog{
		ctx: ctx, bus: b, m: m, limit: limit, recent: list.New(), byPlace: map[chunkPlace]*list.Element{}, flights: map[chunkPlace]*flight{},
	}
}

// from gives chunks of a run, in order, the first of which holds seq, or tells that it is gone; none if seq is not stored yet.
// hint is a stream sequence to begin looking at. It waits as long as NATS is away. Errors: bus.ErrDeleted, ctx's, and of chunks that cannot be read.
//
// Who begins with a window has the next one fetched meanwhile, so that a fast viewer need not wait for each.
func (h *backlog) from(ctx context.Context, key frame.Key, seq, hint uint64) ([]*entry, error) {
	got, err := h.fetch(ctx, chunkPlace{key, seq}, hint)
	for _, e := range got {
		if e.then != nil {
			h.prefetch(key, e.then)
		}
	}
	return got, err
}

// prefetch begins to read what will be wanted next, if there is room to keep it until then.
func (h *backlog) prefetch(key frame.Key, t *chunkThen) {
	at := chunkPlace{key, t.seq}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.limit >= 4*4*windowBytes && h.byPlace[at] == nil && h.flights[at] == nil && len(h.flights) < maxPrefetch && h.ctx.Err() == nil {
		h.begin(at, t.place)
	}
}

func (h *backlog) fetch(ctx context.Context, at chunkPlace, hint uint64) ([]*entry, error) {
	h.mu.Lock()
	if got := h.cached(at); len(got) > 0 {
		h.mu.Unlock()
		h.m.cacheHits.Inc()
		return got, nil
	}
	fl := h.flights[at]
	if fl == nil {
		fl = h.begin(at, hint)
	}
	fl.waiters++
	h.mu.Unlock()
	select {
	case <-fl.done:
		return fl.entries, fl.err
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if fl.waiters--; fl.waiters == 0 && h.flights[at] == fl {
		fl.cancel()
		delete(h.flights, at) // nobody is to join it any more
	}
	return nil, ctx.Err()
}

// cached gives what is kept from a place on without a hole, up to a quarter of a window. h.mu is held.
func (h *backlog) cached(at chunkPlace) []*entry {
	var got []*entry
	for n := 0; n < windowBytes/4; {
		el := h.byPlace[at]
		if el == nil {
			break
		}
		h.recent.MoveToFront(el)
		e := el.Value.(*entry)
		got = append(got, e)
		n += size(e.chunk)
		at.first = e.next()
	}
	return got
}

func (h *backlog) begin(at chunkPlace, hint uint64) *flight {
	ctx, cancel := context.WithCancel(h.ctx)
	fl := &flight{done: make(chan struct{}), cancel: cancel}
	h.flights[at] = fl
	h.m.reads.Inc()
	h.wg.Go(func() {
		defer cancel()
		entries, err := h.read(ctx, at.key, at.first-1, hint)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.flights[at] == fl {
			delete(h.flights, at)
		}
		if fl.dropped {
			entries, err = nil, bus.ErrDeleted
		}
		for _, e := range entries {
			h.keep(e)
		}
		fl.entries, fl.err = entries, err
		close(fl.done)
	})
	return fl
}

func (h *backlog) read(ctx context.Context, key frame.Key, after, hint uint64) (got []*entry, err error) {
	n := 0
	err = h.bus.Catch(ctx, key, after, hint, func(s bus.Stored) error {
		s.Key = key
		got = append(got, newEntry(s, h.bus.Life()))
		if n += size(s.Chunk); n >= windowBytes {
			return errEnough
		}
		return nil
	}, func(g bus.Gone) error {
		got = append(got, &entry{key: key, gone: &g})
		return nil
	})
	if last := len(got) - 1; errors.Is(err, errEnough) {
		got[0].then = &chunkThen{got[last].next(), got[last].place}
	}
	if len(got) > 0 {
		err = nil // what came is in order; an error shows again behind it
	}
	return got, err
}

// keep adds an entry to the cache. h.mu is held.
func (h *backlog) keep(e *entry) {
	if e.gone != nil || len(e.chunk.Records) == 0 {
		return
	}
	at := chunkPlace{e.key, e.chunk.First}
	if h.byPlace[at] != nil {
		return
	}
	e.grew = h.grew
	h.byPlace[at] = h.recent.PushFront(e)
	h.charge(e, e.cost())
}

// charge adds to what an entry of the cache is charged with, and makes room. h.mu is held.
func (h *backlog) charge(e *entry, n int) {
	e.charge += n
	h.bytes += n
	for h.bytes > h.limit && h.recent.Len() > 0 {
		h.forget(h.recent.Back())
	}
	h.m.cacheBytes.Set(float64(h.bytes))
}

// grew hears that an entry was encoded.
func (h *backlog) grew(e *entry, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.charge > 0 {
		h.charge(e, n)
	}
}

func (h *backlog) forget(el *list.Element) {
	e := h.recent.Remove(el).(*entry)
	delete(h.byPlace, chunkPlace{e.key, e.chunk.First})
	h.bytes -= e.charge
	e.charge = 0
}

// drop forgets all of a run that was deleted.
func (h *backlog) drop(key frame.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, el := range h.byPlace {
		if at.key == key {
			h.forget(el)
		}
	}
	for at, fl := range h.flights {
		if at.key == key {
			fl.dropped = true
		}
	}
	h.m.cacheBytes.Set(float64(h.bytes))
}

// size is how many bytes of data a chunk holds, and something for each record.
func size(c *frame.Chunk) int {
	n := 64
	for i := range c.Records {
		n += len(c.Records[i].Data) + 32
	}
	return n
}
