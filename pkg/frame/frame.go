// Package frame owns the words of the log: Key, Record, Chunk, Cursor and Run, and how they are encoded.
// It knows nothing of NATS, Socket.IO or HTTP, and imports no transport.
package frame

import (
	"errors"
	"fmt"
	"time"
)

// Limits of what is stored. A peer may not make one record or one chunk larger.
const (
	// MaxRecord is the largest data of one record, in bytes. A client splits what is larger.
	MaxRecord = 256 << 10
	// MaxChunk is the size, in bytes of record data, past which a chunk takes no further record. One NATS message
	// (1 MiB by default) always has room for it and for a record of MaxRecord.
	MaxChunk = 256 << 10
	// MaxID is the longest client id, in bytes.
	MaxID = 1024
	// MaxName is the longest task name, in bytes.
	MaxName = 1024
	// MaxRun is the longest run id, in bytes.
	MaxRun = 64
)

// ErrMalformed is wrapped by every error that says that bytes are not an encoding this package made.
var ErrMalformed = errors.New("malformed")

// ErrVersion is wrapped, beside ErrMalformed, where bytes have a format version that this program does not know: another one, of a later version, may.
var ErrVersion = errors.New("unknown format version")

// Key names one run. Namespace comes from the client's token, Task and Client from the client; all three may be any text,
// the empty one included. Run is a random id, unique to one execution.
type Key struct {
	Namespace, Task, Client, Run string
}

// String is for people and logs; it is not reversible.
func (k Key) String() string {
	return fmt.Sprintf("%s/%s/%s/%s", k.Namespace, k.Task, k.Client, k.Run)
}

// Kind says what a record's data is.
type Kind uint8

// The kinds of record. Their numbers are those of the stored form.
const (
	Start  Kind = 1 // the run began; data is a StartInfo
	Stdout Kind = 2 // bytes of standard output
	Stderr Kind = 3 // bytes of standard error
	Raw    Kind = 4 // JSON text of an older client's payload that is not {type, data}; empty where it sent no argument
	Note   Kind = 5 // data is a NoteInfo
	Exit   Kind = 6 // the command ended; data is an ExitInfo
	Lost   Kind = 7 // the client stayed away; data is an ExitInfo; provisional, the run may come back
)

// String is the name used on the wire to viewers.
func (k Kind) String() string {
	switch k {
	case Start:
		return "START"
	case Stdout:
		return "STDOUT"
	case Stderr:
		return "STDERR"
	case Raw:
		return "RAW"
	case Note:
		return "NOTE"
	case Exit:
		return "EXIT"
	case Lost:
		return "LOST"
	}
	return fmt.Sprintf("KIND(%d)", uint8(k))
}

// Output tells whether data of this kind is the command's output: what byte offsets and line numbers count.
func (k Kind) Output() bool { return k == Stdout || k == Stderr || k == Raw }

// Record is the smallest immutable piece of a run.
type Record struct {
	// Seq is dense within the run, from 1 on; the log gives it at append.
	Seq uint64
	// Src is the client's own number; 0 on what the server made and on all records of clients that do not number.
	Src uint64
	// At is in milliseconds since 1970 UTC, by the client's clock where it gave one.
	At   int64
	Kind Kind
	// Data is never changed once the record is made; records share it.
	Data []byte
}

// Chunk is consecutive records of one run in one message of the log. One without records is a claim, or a tail kept young.
type Chunk struct {
	// Epoch counts the owners of the run, from 1 on.
	Epoch uint64
	// Owner is the incarnation of the process that stored the chunk.
	Owner string
	// First is the seq of the first record, or of the next one to come.
	First uint64
	// LastSrc is the highest src stored in the run, this chunk included.
	LastSrc uint64
	// Offset and Line count the bytes and the line feeds of output before this chunk.
	Offset, Line uint64
	// Held is what the run's chunks before this one take in the log, messages and all: at least Offset, which is what an earlier version's chunk has.
	Held uint64
	// Stored is when ingest handed the chunk to the log, by its clock.
	Stored  time.Time
	Records []Record
}

// Next is the seq that follows this chunk.
func (c *Chunk) Next() uint64 { return c.First + uint64(len(c.Records)) }

// End is the run's byte offset and line number behind this chunk.
func (c *Chunk) End() (offset, line uint64) {
	offset, line = c.Offset, c.Line
	for i := range c.Records {
		r := &c.Records[i]
		if r.Kind.Output() {
			offset += uint64(len(r.Data))
			line += countLines(r.Data)
		}
	}
	return offset, line
}
