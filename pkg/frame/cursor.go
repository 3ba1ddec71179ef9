package frame

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Cursor is a viewer's place in one run. Viewers carry it as opaque text.
type Cursor struct {
	Run string
	// Seq is the last record the viewer has; 0 before the first.
	Seq uint64
	// Hint is the stream sequence of the chunk that held it. It may be wrong after a restore, and is never trusted.
	Hint uint64
	// Life is the log's, in which the place was seen: 0 until the log is restored from a backup.
	Life uint32
}

// The first byte of an encoded cursor: without and with a life.
const (
	cursorVersion     = 1
	cursorLifeVersion = 2
)

// String is the cursor's form on the wire: URL-safe base64 of version, seq and hint as varints, the life as four bytes unless it is 0, and the run.
func (c Cursor) String() string {
	b := make([]byte, 0, 1+2*binary.MaxVarintLen64+4+len(c.Run))
	b = append(b, cursorVersion)
	b = binary.AppendUvarint(b, c.Seq)
	b = binary.AppendUvarint(b, c.Hint)
	if c.Life != 0 {
		b[0] = cursorLifeVersion
		b = binary.BigEndian.AppendUint32(b, c.Life)
	}
	b = append(b, c.Run...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor reads the form that String gives. Its error wraps ErrMalformed.
func ParseCursor(s string) (Cursor, error) {
	bad := func(why string) (Cursor, error) { return Cursor{}, fmt.Errorf("cursor: %w: %s", ErrMalformed, why) }
	if len(s) > 4*(1+2*binary.MaxVarintLen64+4+MaxRun)/3+4 {
		return bad("too long")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return bad("not base64")
	}
	if len(b) < 1 || b[0] != cursorVersion && b[0] != cursorLifeVersion {
		return bad("unknown version")
	}
	var c Cursor
	version := b[0]
	b = b[1:]
	for _, to := range []*uint64{&c.Seq, &c.Hint} {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return bad("truncated")
		}
		*to, b = v, b[n:]
	}
	if version == cursorLifeVersion {
		if len(b) < 4 || binary.BigEndian.Uint32(b) == 0 {
			return bad("no life")
		}
		c.Life, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if len(b) == 0 || len(b) > MaxRun {
		return bad("no run")
	}
	c.Run = string(b)
	return c, nil
}
