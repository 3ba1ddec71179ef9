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
	chunk *frame.Chunk
	// gone, in place of a chunk, is what retention took.
	gone *bus.Gone
	// then is set on the first chunk of a read that stopped at its bound: where the next one goes on.
	then *chunkThen

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
func newEntry(s bus.Stored) *entry {
	return &entry{key: s.Key, place: s.StreamSeq, chunk: s.Chunk}
}

// next is the seq behind the entry.
func (e *entry) next() uint64 {
	if e.gone != nil {
		return e.gone.To + 1
	}
	return e.chunk.Next()
}

// cost is what an entry is charged with, in bytes: its data, and about as much for each encoding.
func (e *entry) cost() int {
	n := 256
	for i := range e.chunk.Records {
		n += 4*len(e.chunk.Records[i].Data) + 128
	}
	return n
}

// pieces gives the entry's encoding from seq on. Whole entries are encoded once for all.
func (e *entry) pieces(f flavour, seq uint64, held carry, m *Metrics) ([]piece, carry) {
	if seq > e.chunk.First {
		m.encodings.Inc()
		return encode(f, e.key.Client, e.key.Run, e.place, e.chunk, int(seq-e.chunk.First), held)
	}
	if f != legacy {
		held = carry{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.forms {
		if v := &e.forms[i]; v.f == f && v.held == held {
			return v.pieces, v.left
		}
	}
	m.encodings.Inc()
	pieces, left := encode(f, e.key.Client, e.key.Run, e.place, e.chunk, 0, held)
	if len(e.forms) < maxForms {
		e.forms = append(e.forms, form{f, held, left, pieces})
	}
	return pieces, left
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
