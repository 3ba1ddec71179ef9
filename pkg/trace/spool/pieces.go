package spool

import (
	"encoding/binary"

	"tasktracer/pkg/frame"
)

// piece is consecutive sound records in the bytes of a segment.
type piece struct {
	start, end  int // where in the bytes
	first, last uint64
	output      uint64     // output bytes
	kind        frame.Kind // of the last record
	at, lastAt  int64      // of the first record and of the last one
	// lost is how many bytes of data the records missing before it held; -1 where that is not known.
	lost int64
}

// pieces finds the sound records in b, from position at on, with numbers above last; where begins tells, the record behind last would begin at start.
// What is damaged is passed over: a damaged record costs the records whose bytes it took, and no others.
func (c checksum) pieces(b []byte, at, start int, last uint64, begins bool) (found []piece) {
	end := start
	for at < len(b) {
		r, size, short, err := c.parse(b[at:])
		if short || err != nil || r.Src <= last {
			if at = c.next(b, at+1, last); at < 0 {
				break
			}
			continue
		}
		if len(found) == 0 || r.Src != last+1 || at != end {
			p := piece{start: at, first: r.Src, at: r.At, lost: -1}
			if len(found) > 0 || begins {
				p.lost = lostBetween(last, r.Src, at-end)
			}
			found = append(found, p)
		}
		p := &found[len(found)-1]
		at += size
		end, last = at, r.Src
		p.end, p.last, p.kind, p.lastAt = at, r.Src, r.Kind, r.At
		if r.Kind.Output() {
			p.output += uint64(len(r.Data))
		}
	}
	return found
}

// lostBetween is how much data the records between two others held that stood in size bytes.
func lostBetween(last, next uint64, size int) int64 {
	missing := next - last - 1
	if missing == 0 {
		return 0
	}
	if size < 0 || missing > uint64(size/recordHeader) {
		return -1 // bytes were taken out
	}
	return int64(size) - int64(missing*recordHeader)
}

// next is where behind at a sound record with a number above last begins; -1 where none does.
func (c checksum) next(b []byte, at int, last uint64) int {
	for ; at+recordHeader <= len(b); at++ {
		n := binary.LittleEndian.Uint32(b[at:])
		if n > MaxRecord || at+recordHeader+int(n) > len(b) {
			continue
		}
		// What cannot be a header is passed over at little cost: wrong kinds, and numbers that so few bytes cannot hold.
		kind, src := frame.Kind(b[at+24]), binary.LittleEndian.Uint64(b[at+8:])
		if !stored(kind) || src <= last || src-last > maxMissing {
			continue
		}
		if _, _, short, err := c.parse(b[at:]); !short && err == nil {
			return at
		}
	}
	return -1
}

// maxMissing is how many records in a row a damaged spool may lack: more than a spool holds.
const maxMissing = 1 << 32

// stored tells that a spool holds records of the kind.
func stored(k frame.Kind) bool { return k.Output() || k == frame.Note || k == frame.Exit }
