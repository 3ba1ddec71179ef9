package socketio

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"unicode/utf8"
)

// Message is an event ready to be sent to many connections; it is encoded once per protocol flavour. Immutable, safe for concurrent use.
//
// The flavours: a WebSocket text frame with its header in front, the same for Engine.IO 3 and 4; its payload alone for polling with
// Engine.IO 4; and for polling with Engine.IO 3 an ASCII form with its length in front, made when first asked for.
type Message struct {
	frame []byte // WebSocket header and payload
	head  int    // length of the header
	old   atomic.Pointer[[]byte]
	small atomic.Pointer[[]byte]
}

// maxHead is the longest header of an unmasked WebSocket frame.
const maxHead = 10

const (
	opText  = 1
	opClose = 8
	opPong  = 10
)

// NewMessage encodes an event. Its error is that of encoding/json.
func NewMessage(event string, args ...any) (*Message, error) {
	return newPacket("42", event, args)
}

// NewRawMessage makes a message of an event with one argument, which is valid JSON; it is not checked, and it is copied.
func NewRawMessage(event string, arg json.RawMessage) *Message {
	name := quote(event)
	buf := make([]byte, maxHead, maxHead+len(name)+len(arg)+5)
	buf = append(buf, "42["...)
	buf = append(buf, name...)
	if len(arg) > 0 {
		buf = append(buf, ',')
		buf = append(buf, arg...)
	}
	return newFrame(append(buf, ']'))
}

// newPacket encodes prefix["event",args…]; without an event just prefix[args…].
func newPacket(prefix, event string, args []any) (*Message, error) {
	w := bytes.NewBuffer(make([]byte, maxHead, 256))
	w.WriteString(prefix)
	w.WriteByte('[')
	if event != "" {
		w.Write(quote(event))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for i, a := range args {
		if i > 0 || event != "" {
			w.WriteByte(',')
		}
		if err := enc.Encode(a); err != nil {
			return nil, fmt.Errorf("encode argument %d of %q: %w", i, event, err)
		}
		w.Truncate(w.Len() - 1) // Encode ends with a newline
	}
	w.WriteByte(']')
	return newFrame(w.Bytes()), nil
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string always encodes
	return b
}

// newText makes a message of a packet that is not an event: open, ping, CONNECT.
func newText(packet string) *Message {
	return newFrame(append(make([]byte, maxHead, maxHead+len(packet)), packet...))
}

// newFrame puts the header of a text frame into the maxHead bytes kept free at the start of buf.
func newFrame(buf []byte) *Message {
	h := frameHead(buf[:maxHead], opText, len(buf)-maxHead)
	return &Message{frame: buf[maxHead-h:], head: h}
}

// newControl makes a control frame. It has no form for polling.
func newControl(op byte, payload []byte) *Message {
	buf := append(make([]byte, maxHead, maxHead+len(payload)), payload...)
	h := frameHead(buf[:maxHead], op, len(payload))
	return &Message{frame: buf[maxHead-h:], head: h}
}

// frameHead writes the header of an unmasked, final frame of n bytes so that it ends where dst ends, and returns its length (RFC 6455, 5.2).
func frameHead(dst []byte, op byte, n int) int {
	end := len(dst)
	switch {
	case n < 126:
		dst[end-2], dst[end-1] = 0x80|op, byte(n)
		return 2
	case n < 1<<16:
		dst[end-4], dst[end-3] = 0x80|op, 126
		binary.BigEndian.PutUint16(dst[end-2:], uint16(n))
		return 4
	default:
		dst[end-10], dst[end-9] = 0x80|op, 127
		binary.BigEndian.PutUint64(dst[end-8:], uint64(n))
		return 10
	}
}

// payload is the packet without its frame header.
func (m *Message) payload() []byte { return m.frame[m.head:] }

// cost is what m counts for in a send buffer: its bytes, and what holding it costs.
func (m *Message) cost() int { return len(m.frame) + 64 }

// oldPolling is m as one packet of an Engine.IO 3 polling answer. Generation 1 clients count bytes there and decode UTF-8 by hand, generation 2
// clients count UTF-16 units; with everything beyond ASCII written as \u escapes both read the same.
func (m *Message) oldPolling() []byte {
	if p := m.old.Load(); p != nil {
		return *p
	}
	text := escapeASCII(m.payload())
	out := make([]byte, 0, len(text)+8)
	out = strconv.AppendInt(out, int64(len(text)), 10)
	out = append(out, ':')
	out = append(out, text...)
	m.old.Store(&out)
	return out
}

// escapeASCII replaces what is not ASCII by JSON escapes. Outside of JSON strings packets are ASCII anyway.
func escapeASCII(p []byte) []byte {
	i := 0
	for i < len(p) && p[i] < utf8.RuneSelf {
		i++
	}
	if i == len(p) {
		return p
	}
	const hex = "0123456789abcdef"
	out := append(make([]byte, 0, len(p)*2), p[:i]...)
	unit := func(u rune) {
		out = append(out, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
	}
	for i < len(p) {
		if p[i] < utf8.RuneSelf {
			out = append(out, p[i])
			i++
			continue
		}
		r, n := utf8.DecodeRune(p[i:])
		i += n
		if r < 0x10000 {
			unit(r)
			continue
		}
		r -= 0x10000
		unit(0xD800 + r>>10)
		unit(0xDC00 + r&0x3FF)
	}
	return out
}
