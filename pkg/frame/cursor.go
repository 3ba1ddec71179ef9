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
}

// cursorVersion is the first byte of an encoded cursor.
const cursorVersion = 1

// String is the cursor's form on the wire: URL-safe base64 of version, seq and hint as varints, and the run.
func (c Cursor) String() string {
	b := make([]byte, 0, 1+2*binary.MaxVarintLen64+len(c.Run))
	b = append(b, cursorVersion)
	b = binary.AppendUvarint(b, c.Seq)
	b = binary.AppendUvarint(b, c.Hint)
	b = append(b, c.Run...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor reads the form that String gives. Its error wraps ErrMalformed.
func ParseCursor(s string) (Cursor, error) {
	bad := func(why string) (Cursor, error) { return Cursor{}, fmt.Errorf("cursor: %w: %s", ErrMalformed, why) }
	if len(s) > 4*(1+2*binary.MaxVarintLen64+MaxRun)/3+4 {
		return bad("too long")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return bad("not base64")
	}
	if len(b) < 1 || b[0] != cursorVersion {
		return bad("unknown version")
	}
	var c Cursor
	b = b[1:]
	for _, to := range []*uint64{&c.Seq, &c.Hint} {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return bad("truncated")
		}
		*to, b = v, b[n:]
	}
	if len(b) == 0 || len(b) > MaxRun {
		return bad("no run")
	}
	c.Run = string(b)
	return c, nil
}
