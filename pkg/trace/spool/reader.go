package spool

import (
	"errors"
	"io"
	"os"
	"slices"
)

// readBuffer holds at least one record of the largest size.
const readBuffer = 64<<10 + recordHeader + MaxRecord

// Gap is records that the spool does not hold any more.
type Gap struct {
	From, To uint64
	// Bytes is how many output bytes they held; -1 where unknown.
	Bytes int64
	// At is when the record behind them was made, in milliseconds since 1970 UTC.
	At int64
	// Damaged tells that they were lost by damage to the spool, not to its limit.
	Damaged bool
}

// Reader reads a spool's records in order, from any place, any number of times. It is for one goroutine; several may read one spool.
type Reader struct {
	s      *Spool
	next   uint64
	seg    *segment
	at     int64 // where in seg the next record begins, or an earlier one
	offset int64 // the run's output bytes before next; -1 where unknown
	buf    []byte
	recs   []Record
	undo   struct {
		next       uint64
		seg        *segment
		at, offset int64
	}
}

// Reader gives a reader that stands at the oldest record held.
func (s *Spool) Reader() *Reader {
	r := &Reader{s: s, buf: make([]byte, readBuffer)}
	r.Seek(s.Status().First, -1)
	return r
}

// Seek makes src the next record to be read. offset is how many output bytes come before it, or -1 where unknown.
func (r *Reader) Seek(src uint64, offset int64) {
	r.next, r.seg, r.offset = src, nil, offset
}

// Next is the src of the next record to be read.
func (r *Reader) Next() uint64 { return r.next }

// Offset is how many output bytes of the run come before the next record; -1 where unknown. It is known after a Read.
func (r *Reader) Offset() int64 { return r.offset }

// Read gives up to limit records that together hold at most max bytes of data (but at least one record), or a gap, or neither at the end.
// The records are good until the next Read.
func (r *Reader) Read(limit, max int) (recs []Record, gap *Gap, err error) {
	for {
		file, n, gap, ok := r.locate()
		if gap != nil || !ok {
			return nil, gap, nil
		}
		if file != nil {
			n, err = file.ReadAt(r.buf[:n], r.at)
			if errors.Is(err, os.ErrClosed) {
				r.seg = nil // trimmed meanwhile
				continue
			}
			if err != nil && !errors.Is(err, io.EOF) {
				r.s.damaged(r.seg)
				continue
			}
		}
		r.undo.next, r.undo.seg, r.undo.at, r.undo.offset = r.next, r.seg, r.at, r.offset
		recs, sound := r.parse(r.buf[:n], limit, max)
		if len(recs) > 0 {
			return recs, nil, nil
		}
		if !sound {
			r.s.damaged(r.seg)
		}
	}
}

// Back takes back the last Read that gave records.
func (r *Reader) Back() {
	r.next, r.seg, r.at, r.offset = r.undo.next, r.undo.seg, r.undo.at, r.undo.offset
}

// locate finds the segment that holds the next record, and how much of it is to be read. From memory it is read here, under the lock: the memory is used again.
func (r *Reader) locate() (file *os.File, n int, gap *Gap, ok bool) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.next > s.last {
		return nil, 0, nil, false
	}
	if r.seg == nil || r.seg.gone || r.next > r.seg.last {
		r.seg = nil
		for _, seg := range s.segs {
			if seg.last >= r.next {
				r.seg, r.at = seg, seg.start
				break
			}
		}
		if r.seg == nil {
			gap = r.skip(s.last+1, int64(s.output), s.at, s.torn > 0)
			return nil, 0, gap, true
		}
		if r.seg.first > r.next {
			gap = r.skip(r.seg.first, r.seg.offset, r.seg.at, r.seg.hurt)
			return nil, 0, gap, true
		}
		r.offset = r.seg.offset // the segment is read from its beginning
	}
	n = int(min(int64(len(r.buf)), r.seg.size-r.at))
	if r.seg.file == nil {
		copy(r.buf[:n], r.seg.mem[r.at:])
	}
	return r.seg.file, n, nil, true
}

// skip goes on at record to, before which come offset output bytes.
func (r *Reader) skip(to uint64, offset, at int64, damaged bool) *Gap {
	gap := &Gap{From: r.next, To: to - 1, Bytes: -1, At: at, Damaged: damaged}
	if r.offset >= 0 && offset >= r.offset {
		gap.Bytes = offset - r.offset
	}
	r.next, r.offset = to, offset
	return gap
}

// parse takes records from b, which begins at r.at; those before r.next are passed over.
func (r *Reader) parse(b []byte, limit, max int) (recs []Record, sound bool) {
	recs, used, bytes := r.recs[:0], 0, 0
	sound = true
	for len(recs) < limit {
		rec, size, short, err := r.s.sum.parse(b[used:])
		if err != nil || (!short && rec.Src > r.next) || (short && used == 0 && len(recs) == 0) {
			sound = false
			break
		}
		if short {
			break
		}
		if rec.Src == r.next {
			if len(recs) > 0 && bytes+len(rec.Data) > max {
				break
			}
			bytes += len(rec.Data)
			r.next++
			recs = append(recs, rec)
		}
		if rec.Kind.Output() && r.offset >= 0 {
			r.offset += int64(len(rec.Data))
		}
		used += size
	}
	r.at += int64(used)
	r.recs = recs
	return recs, sound
}

// damaged takes a segment apart that cannot be read as it was written. What is sound in it stays, the rest becomes a gap.
func (s *Spool) damaged(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.gone {
		return
	}
	var b []byte
	if seg.file != nil {
		b, _ = readAll(seg.file) // what cannot be read is lost
	}
	b = b[:min(int64(len(b)), seg.size)]
	parts := seg.parts(s.sum.pieces(b, int(seg.start), int(seg.start), seg.first-1, true), int(seg.start), seg.offset)
	i := slices.Index(s.segs, seg)
	s.total -= seg.held()
	if seg.gone = true; len(parts) == 0 {
		seg.remove(&s.cfg)
	}
	for _, p := range parts {
		s.total += p.held()
	}
	s.segs = slices.Replace(s.segs, i, i+1, parts...)
	if i += len(parts); i == len(s.segs) {
		s.rotate()
	}
	s.segs[min(i, len(s.segs)-1)].hurt = true
}
