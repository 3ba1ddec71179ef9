package gateway

import (
	"bytes"
	"sync"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// entry is a chunk of the log in this process's memory, with its encodings. Many viewers share one; it is never changed but by encoding.
type entry struct {
	key   frame.Key
	place uint64 // stream sequence
	life  uint32 // of the log
	chunk *frame.Chunk
	// gone, in place of a chunk, is what retention took.
	gone *bus.Gone
	// then is set on the first chunk of a read that stopped at its bound: where the next one goes on.
	then *chunkThen

	// Of whoever keeps the entry, guarded by its lock: what the entry is charged with, 0 while it is not kept. grew, set before others see the entry, is told
	// how many bytes an encoding added; it is called without e.mu.
	charge int
	grew   func(e *entry, n int)

	mu    sync.Mutex
	forms []form
}

// chunkThen is a place in a run: a seq and, as a hint, the stream sequence before it.
type chunkThen struct{ seq, place uint64 }

// form is one encoding of an entry.
type form struct {
	f          flavour
	held, left carry
	pieces     []piece
}

// maxForms bounds the encodings of one entry: three flavours, and legacy viewers that came in the middle of a character.
const maxForms = 4

// newEntry keeps nothing of what the chunk's decoding allocated beside it.
func newEntry(s bus.Stored, life uint32) *entry {
	return &entry{key: s.Key, place: s.StreamSeq, life: life, chunk: s.Chunk}
}

// at is the entry's place, for cursors.
func (e *entry) at() frame.Cursor { return frame.Cursor{Run: e.key.Run, Hint: e.place, Life: e.life} }

// next is the seq behind the entry.
func (e *entry) next() uint64 {
	if e.gone != nil {
		return e.gone.To + 1
	}
	return e.chunk.Next()
}

// cost is what an entry is charged with before it is encoded, in bytes. Encodings are charged as they are made: the log chooses how large they are.
func (e *entry) cost() int {
	n := 256
	for i := range e.chunk.Records {
		n += len(e.chunk.Records[i].Data) + 128
	}
	return n
}

// pieceCost is what a piece costs beside its text.
const pieceCost = 192

// pieces gives the entry's encoding from seq on. Whole entries are encoded once for all.
func (e *entry) pieces(f flavour, seq uint64, held carry, m *Metrics) ([]piece, carry) {
	if seq > e.chunk.First {
		m.encodings.Inc()
		return encode(f, e.key.Client, e.at(), e.chunk, int(seq-e.chunk.First), held)
	}
	if f != legacy {
		held = carry{}
	}
	whole, fresh := e.form(f, held, m)
	if fresh > 0 && e.grew != nil {
		e.grew(e, fresh)
	}
	return whole.pieces, whole.left
}

// form gives one encoding of the whole entry, and what it costs if it was made just now and is kept.
func (e *entry) form(f flavour, held carry, m *Metrics) (made form, fresh int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.forms {
		if v.f == f && v.held == held {
			return v, 0
		}
	}
	m.encodings.Inc()
	pieces, left := encode(f, e.key.Client, e.at(), e.chunk, 0, held)
	made = form{f, held, left, pieces}
	if len(e.forms) < maxForms {
		e.forms = append(e.forms, made)
		for i := range pieces {
			fresh += pieces[i].size + pieceCost
		}
	}
	return made, fresh
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
