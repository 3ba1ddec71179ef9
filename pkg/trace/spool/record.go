package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"tasktracer/pkg/frame"
)

// Record is one record of a run, as its client made it.
type Record struct {
	// Src is the client's number of the record, consecutive from 1 on.
	Src uint64
	// At is in milliseconds since 1970 UTC.
	At   int64
	Kind frame.Kind
	Data []byte
}

// MaxRecord is the largest data of one record in bytes.
const MaxRecord = frame.MaxRecord

// The stored form of a record: length of data (4 bytes), CRC-32C of the run's id, the length and all that follows (4), src (8), at (8), kind (1), data. Little endian.
const recordHeader = 4 + 4 + 8 + 8 + 1

// errTorn says that the bytes do not hold a whole, sound record.
var errTorn = errors.New("torn record")

// checksum is the CRC-32C with which one run's records are checked. It begins with the run's id, so that another run's records are not taken for this one's.
type checksum struct {
	table *crc32.Table
	run   uint32
}

func checksumOf(run string) checksum {
	table := crc32.MakeTable(crc32.Castagnoli)
	return checksum{table, crc32.Checksum([]byte(run), table)}
}

// of is the checksum of a stored record.
func (c checksum) of(stored []byte) uint32 {
	return crc32.Update(crc32.Update(c.run, c.table, stored[:4]), c.table, stored[8:])
}

// header is the checksum of a segment's header.
func (c checksum) header(b []byte) uint32 { return crc32.Update(c.run, c.table, b) }

func (c checksum) append(b []byte, r Record) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Data)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.Src)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.At))
	b = append(b, byte(r.Kind))
	b = append(b, r.Data...)
	binary.LittleEndian.PutUint32(b[start+4:], c.of(b[start:]))
	return b
}

// parse reads the record at the start of b; its Data points into b. short tells that b ends before the record does.
func (c checksum) parse(b []byte) (r Record, size int, short bool, err error) {
	if len(b) < recordHeader {
		return Record{}, 0, true, nil
	}
	n := binary.LittleEndian.Uint32(b)
	if n > MaxRecord {
		return Record{}, 0, false, errTorn
	}
	size = recordHeader + int(n)
	if len(b) < size {
		return Record{}, size, true, nil
	}
	if c.of(b[:size]) != binary.LittleEndian.Uint32(b[4:]) {
		return Record{}, 0, false, errTorn
	}
	return Record{
		Src:  binary.LittleEndian.Uint64(b[8:]),
		At:   int64(binary.LittleEndian.Uint64(b[16:])),
		Kind: frame.Kind(b[24]),
		Data: b[recordHeader:size:size],
	}, size, false, nil
}
