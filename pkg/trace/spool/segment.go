package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tasktracer/pkg/frame"
)

// The header of a segment file: magic and version (8 bytes; another version is another last byte), the first src (8), the run's output bytes before it (8), CRC-32C of the run's id and these (4).
const (
	segmentMagic  = "ttspool2"
	segmentHeader = len(segmentMagic) + 8 + 8 + 4
	segmentExt    = ".seg"
)

// segment is a piece of a spool: a file, or memory where the disk refuses. Its fields are guarded by the spool's mutex, but for the
// bytes below size, which never change.
type segment struct {
	number uint64
	first  uint64     // src of the first record, or of the next one to come
	last   uint64     // src of the last record; first-1 while there is none
	offset int64      // output bytes of the run before the first record; -1 where unknown
	output uint64     // output bytes held
	kind   frame.Kind // of the last record; set by openSegment
	at     int64      // of the first record, as Record.At
	lastAt int64      // of the last one; set by openSegment
	start  int64      // where the first record begins
	size   int64      // where the last record ends

	hurt   bool  // what is missing before it was lost by damage
	sealed bool  // nothing is appended
	torn   int64 // damaged bytes behind the last record

	path string   // empty: the file belongs to a later piece of the same segment
	file *os.File // nil for memory
	mem  []byte
	gone bool // deleted: readers must look for their place anew
	// unsynced tells that bytes were written since the last sync.
	unsynced bool
}

// held is how many bytes the records take.
func (s *segment) held() int64 { return s.size - s.start }

func segmentName(number uint64) string { return fmt.Sprintf("%08d%s", number, segmentExt) }

func (s *Spool) createSegment(number, first uint64, offset int64) (*segment, error) {
	path := filepath.Join(s.dir, segmentName(number))
	if err := s.cfg.fault("create", path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	h := make([]byte, 0, segmentHeader)
	h = append(h, segmentMagic...)
	h = binary.LittleEndian.AppendUint64(h, first)
	h = binary.LittleEndian.AppendUint64(h, uint64(offset))
	h = binary.LittleEndian.AppendUint32(h, s.sum.header(h))
	if err = s.cfg.fault("write", path); err == nil {
		_, err = f.Write(h)
	}
	if err != nil {
		f.Close()
		s.cfg.remove(path) //nolint:errcheck // without a header it is no segment either
		return nil, err
	}
	return &segment{number: number, first: first, last: first - 1, offset: offset, start: int64(segmentHeader), size: int64(segmentHeader), path: path, file: f, unsynced: true}, nil
}

// memorySegment uses spare, if it is not nil: a command that prints a lot should not make a lot of garbage.
func memorySegment(number, first uint64, offset int64, spare []byte) *segment {
	if spare == nil {
		spare = make([]byte, 0, 64<<10)
	}
	return &segment{number: number, first: first, last: first - 1, offset: offset, start: int64(segmentHeader), size: int64(segmentHeader), mem: append(spare[:0], make([]byte, segmentHeader)...)}
}

// openSegment reads a segment that another process left behind: the sound records in it, in pieces where some are damaged. Before it comes record last, and offset
// output bytes of the run, or -1 where that is not known. The error is errTorn where nothing in the file is sound, ErrVersion where that may be since another tt wrote it.
func openSegment(path string, sum checksum, last uint64, offset int64) (segs []*segment, err error) {
	number, ok := segmentNumber(path)
	if !ok {
		return nil, errTorn
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	b, err := readAll(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	at, begins := 0, number == 1 || last > 0
	if first, before, ok := parseHeader(b, sum); ok && first > last {
		at, begins, last, offset = segmentHeader, true, first-1, before
	}
	whole := &segment{number: number, path: path, file: f}
	segs = whole.parts(sum.pieces(b, at, segmentHeader, last, begins), segmentHeader, offset)
	if len(segs) == 0 {
		f.Close()
		if otherVersion(b) {
			return nil, fmt.Errorf("%w: %s", ErrVersion, path)
		}
		return nil, errTorn
	}
	segs[len(segs)-1].torn = int64(len(b)) - segs[len(segs)-1].size
	return segs, nil
}

// otherVersion tells that a segment begins as one of another version does.
func otherVersion(b []byte) bool {
	const name = len(segmentMagic) - 1
	return len(b) > name && string(b[:name]) == segmentMagic[:name] && b[name] != segmentMagic[name] && b[name] >= '0' && b[name] <= '9'
}

func parseHeader(b []byte, sum checksum) (first uint64, offset int64, ok bool) {
	const end = segmentHeader - 4
	if len(b) < segmentHeader || string(b[:len(segmentMagic)]) != segmentMagic || sum.header(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[len(segmentMagic):]), int64(binary.LittleEndian.Uint64(b[len(segmentMagic)+8:])), true
}

// parts makes segments of the pieces that were found in s from start on, where offset output bytes come before them.
func (s *segment) parts(pieces []piece, start int, offset int64) (segs []*segment) {
	for i, p := range pieces {
		if offset < 0 || p.lost < 0 {
			offset = -1
		} else {
			offset += p.lost
		}
		part := &segment{
			number: s.number, first: p.first, last: p.last, offset: offset, output: p.output, kind: p.kind, at: p.at, lastAt: p.lastAt, start: int64(p.start), size: int64(p.end),
			hurt: s.hurt || i > 0 || p.start > start, sealed: true, file: s.file, unsynced: s.unsynced,
		}
		if i == len(pieces)-1 {
			part.path = s.path // the file goes with the last one
		}
		if offset >= 0 {
			offset += int64(p.output)
		}
		segs = append(segs, part)
	}
	return segs
}

// segmentNumber is what a segment's name says; false where it is none's.
func segmentNumber(path string) (uint64, bool) {
	name, ok := strings.CutSuffix(filepath.Base(path), segmentExt)
	number, err := strconv.ParseUint(name, 10, 64)
	return number, ok && err == nil && segmentName(number) == filepath.Base(path)
}

// readAll reads a segment's file. Where the disk cannot read, there are zeroes, which are no record. A file that is larger than a segment can be is none.
func readAll(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 2*maxSegment {
		return nil, errTorn
	}
	b := make([]byte, info.Size())
	if n, err := f.ReadAt(b, 0); err == nil || errors.Is(err, io.EOF) {
		return b[:n], nil
	}
	const page = 4 << 10
	for at := 0; at < len(b); at += page {
		p := b[at:min(at+page, len(b))]
		if _, err := f.ReadAt(p, int64(at)); err != nil {
			clear(p)
		}
	}
	return b, nil
}

// write appends bytes that hold whole records. On an error nothing counts as written.
func (s *segment) write(c *Config, b []byte) error {
	if s.file == nil {
		s.mem = append(s.mem, b...)
		return nil
	}
	err := c.fault("write", s.file.Name())
	if err == nil {
		_, err = s.file.WriteAt(b, s.size)
	}
	if err != nil {
		if c.fault("truncate", s.file.Name()) == nil {
			s.file.Truncate(s.size) //nolint:errcheck // a torn end is found by its checksum, too
		}
		return err
	}
	s.unsynced = true
	return nil
}

// remove deletes the segment. The caller holds the mutex.
func (s *segment) remove(c *Config) {
	s.gone = true
	s.mem = nil
	if s.file != nil && s.path != "" {
		s.file.Close()
		c.remove(s.path) //nolint:errcheck // who opens the spool later is told by the server what it has already
	}
}
