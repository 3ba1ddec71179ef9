package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tasktracer/pkg/frame"
)

// The header of a segment file: magic and version (8 bytes), the first src (8), the run's output bytes before it (8).
const (
	segmentMagic  = "ttspool1"
	segmentHeader = len(segmentMagic) + 8 + 8
	segmentExt    = ".seg"
)

// segment is a piece of a spool: a file, or memory where the disk refuses. Its fields are guarded by the spool's mutex, but for the
// bytes below size, which never change.
type segment struct {
	number uint64
	first  uint64     // src of the first record, or of the next one to come
	last   uint64     // src of the last record; first-1 while there is none
	offset uint64     // output bytes of the run before the first record
	output uint64     // output bytes held
	kind   frame.Kind // of the last record; set by recover
	size   int64      // bytes stored, header included

	path string
	file *os.File // nil for memory
	mem  []byte
	gone bool // deleted: readers must look for their place anew
	// unsynced tells that bytes were written since the last sync.
	unsynced bool
}

func segmentName(number uint64) string { return fmt.Sprintf("%08d%s", number, segmentExt) }

func createSegment(dir string, number, first, offset uint64) (*segment, error) {
	path := filepath.Join(dir, segmentName(number))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	h := make([]byte, 0, segmentHeader)
	h = append(h, segmentMagic...)
	h = binary.LittleEndian.AppendUint64(h, first)
	h = binary.LittleEndian.AppendUint64(h, offset)
	if _, err := f.Write(h); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return &segment{number: number, first: first, last: first - 1, offset: offset, size: int64(segmentHeader), path: path, file: f, unsynced: true}, nil
}

// memorySegment uses spare, if it is not nil: a command that prints a lot should not make a lot of garbage.
func memorySegment(number, first, offset uint64, spare []byte) *segment {
	if spare == nil {
		spare = make([]byte, 0, 64<<10)
	}
	return &segment{number: number, first: first, last: first - 1, offset: offset, size: int64(segmentHeader), mem: append(spare[:0], make([]byte, segmentHeader)...)}
}

// openSegment reads a segment that another process left behind, up to its first torn record; what follows it is cut off.
func openSegment(path string, table *crc32.Table) (*segment, error) {
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), segmentExt), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("segment name %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	h := make([]byte, segmentHeader)
	if _, err := io.ReadFull(f, h); err != nil || string(h[:len(segmentMagic)]) != segmentMagic {
		f.Close()
		return nil, errTorn
	}
	s := &segment{number: number, path: path, file: f, size: int64(segmentHeader)}
	s.first = binary.LittleEndian.Uint64(h[len(segmentMagic):])
	s.offset = binary.LittleEndian.Uint64(h[len(segmentMagic)+8:])
	s.last = s.first - 1
	if s.first == 0 {
		f.Close()
		return nil, errTorn
	}
	if err := s.recover(table); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// recover walks the records, to find where the sound ones end.
func (s *segment) recover(table *crc32.Table) error {
	buf := make([]byte, recordHeader+MaxRecord)
	for {
		n, err := s.file.ReadAt(buf, s.size)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", s.path, err)
		}
		used := 0
		for {
			r, size, short, err := parseRecord(buf[used:n], table)
			if err != nil || (!short && r.Src != s.last+1) {
				s.size += int64(used)
				return s.file.Truncate(s.size)
			}
			if short {
				break
			}
			used += size
			s.last, s.kind = r.Src, r.Kind
			if r.Kind.Output() {
				s.output += uint64(len(r.Data))
			}
		}
		s.size += int64(used)
		if used == 0 {
			return s.file.Truncate(s.size)
		}
	}
}

// write appends bytes that hold whole records. On an error nothing counts as written.
func (s *segment) write(b []byte) error {
	if s.file == nil {
		s.mem = append(s.mem, b...)
		return nil
	}
	if _, err := s.file.WriteAt(b, s.size); err != nil {
		s.file.Truncate(s.size) //nolint:errcheck // a torn end is found by its checksum, too
		return err
	}
	s.unsynced = true
	return nil
}

// remove deletes the segment. The caller holds the mutex.
func (s *segment) remove() {
	s.gone = true
	s.mem = nil
	if s.file != nil {
		s.file.Close()
		os.Remove(s.path)
	}
}
