package gateway

import (
	"bytes"
	"context"
	"testing"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// TestWhatIsKeptIsCharged: a log chooses its own bytes, and some take six times as much when they are encoded. What ring and cache hold must stay within
// their limits all the same.
func TestWhatIsKeptIsCharged(t *testing.T) {
	const limit = 1 << 20
	for name, data := range map[string][]byte{
		"text":           bytes.Repeat([]byte("x"), 64<<10),
		"controls":       bytes.Repeat([]byte{1}, 64<<10),
		"no text at all": bytes.Repeat([]byte{0xff}, 64<<10),
		"one byte":       {'x'},
	} {
		t.Run(name, func(t *testing.T) {
			chunkAt := func(i int) bus.Stored {
				c := &frame.Chunk{First: uint64(64*i + 1)}
				for k := range 64 {
					c.Records = append(c.Records, frame.Record{Seq: c.First + uint64(k), Kind: frame.Stdout, Data: data[:min(len(data), 1<<10)]})
				}
				return bus.Stored{Key: key("a client with a long name"), StreamSeq: uint64(i + 1), Chunk: c}
			}
			m := NewMetrics(nil)
			f := &feed{
				fs: &feeds{bus: &bus.Bus{}, m: m, ring: limit}, client: bus.Client{Namespace: "ns", Task: "t", Client: "c"}, ctx: context.Background(),
				listeners: map[*attachment]struct{}{}, runs: map[string]*feedRun{},
			}
			h := newBacklog(context.Background(), nil, limit, m)
			for i := range 60 {
				f.push(chunkAt(i))
				e := newEntry(chunkAt(i), 0)
				h.mu.Lock()
				h.keep(e)
				h.mu.Unlock()
				encodeAll(e, m)
				if len(f.ring) > 0 {
					encodeAll(f.ring[len(f.ring)-1], m)
				}
			}
			held := 0
			for _, e := range f.ring {
				held += holds(e)
			}
			if held > limit || float64(f.bytes) != value(t, m.ringBytes) {
				t.Errorf("the ring holds %d bytes and is charged with %d, the limit is %d; the metric says %v", held, f.bytes, limit, value(t, m.ringBytes))
			}
			held = 0
			for el := h.recent.Front(); el != nil; el = el.Next() {
				held += holds(el.Value.(*entry))
			}
			if held > limit || float64(h.bytes) != value(t, m.cacheBytes) {
				t.Errorf("the cache holds %d bytes and is charged with %d, the limit is %d; the metric says %v", held, h.bytes, limit, value(t, m.cacheBytes))
			}
			f.mu.Lock()
			f.evict(0)
			f.mu.Unlock()
			if f.bytes != 0 || value(t, m.ringBytes) != 0 {
				t.Errorf("an empty ring is charged with %d", f.bytes)
			}
			h.drop(key("a client with a long name"))
			if h.bytes != 0 || value(t, m.cacheBytes) != 0 {
				t.Errorf("an empty cache is charged with %d", h.bytes)
			}
		})
	}
}

func encodeAll(e *entry, m *Metrics) {
	for _, f := range []flavour{legacy, single, batched} {
		e.pieces(f, e.chunk.First, carry{}, m)
	}
}

// holds is what an entry keeps in memory, but for what each slice and object costs.
func holds(e *entry) (n int) {
	for i := range e.chunk.Records {
		n += len(e.chunk.Records[i].Data)
	}
	for _, f := range e.forms {
		for _, p := range f.pieces {
			n += p.size
		}
	}
	return n
}
