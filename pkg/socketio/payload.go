package socketio

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"unicode/utf8"
)

// payloadFunc is called for each packet of a polling body. text is false for a binary message, whose data comes without its packet type.
// data shares the body's memory.
type payloadFunc func(text bool, data []byte) error

// separator stands between the packets of an Engine.IO 4 polling body.
const separator = 0x1e

// decodePayload4 reads the body of an Engine.IO 4 polling request: packets with a separator between them, binary ones as "b" and base64.
func decodePayload4(body []byte, maxPackets int, fn payloadFunc) error {
	for n := 0; ; n++ {
		if n == maxPackets {
			return fmt.Errorf("%w: more than %d packets in a body", errTooLarge, maxPackets)
		}
		one, rest, more := bytes.Cut(body, []byte{separator})
		if err := decodePacket(one, false, fn); err != nil {
			return err
		}
		if !more {
			return nil
		}
		body = rest
	}
}

// decodePacket hands on one packet of a text body, or a text frame. With typed, base64 has the packet type in front (Engine.IO 3).
func decodePacket(one []byte, typed bool, fn payloadFunc) error {
	if len(one) == 0 {
		return fmt.Errorf("%w: empty packet", errMalformed)
	}
	if one[0] != 'b' {
		return fn(true, one)
	}
	one = one[1:]
	if typed {
		if len(one) == 0 || one[0] != pktMessage {
			return fmt.Errorf("%w: binary packet type", errMalformed)
		}
		one = one[1:]
	}
	n, err := base64.StdEncoding.Decode(one, one) // decoding never overtakes its input
	if err != nil {
		return fmt.Errorf("%w: base64", errMalformed)
	}
	return fn(false, one[:n])
}

// decodePayload3 reads a text body of Engine.IO 3: length ":" packet, again and again. The length counts UTF-16 units.
//
// Generation 1 clients encode text to UTF-8 by hand before the browser does it again; raw says that this session has shown not to
// be one of those. It returns what is known after this body.
func decodePayload3(body []byte, raw bool, maxPackets int, fn payloadFunc) (bool, error) {
	if len(body) == 0 {
		return raw, fmt.Errorf("%w: empty body", errMalformed)
	}
	for n := 0; len(body) > 0; n++ {
		if n == maxPackets {
			return raw, fmt.Errorf("%w: more than %d packets in a body", errTooLarge, maxPackets)
		}
		units, rest, ok := digits(body)
		if !ok || len(rest) == 0 || rest[0] != ':' {
			return raw, fmt.Errorf("%w: length", errMalformed)
		}
		rest = rest[1:]
		size, ok := utf16Prefix(rest, units)
		if !ok {
			return raw, fmt.Errorf("%w: length", errMalformed)
		}
		one := rest[:size]
		body = rest[size:]
		if len(one) == 0 {
			continue
		}
		if !raw {
			one, raw = undoDouble(one)
		}
		if err := decodePacket(one, true, fn); err != nil {
			return raw, err
		}
	}
	return raw, nil
}

// utf16Prefix gives the length in bytes of the first units UTF-16 units of b.
func utf16Prefix(b []byte, units uint64) (int, bool) {
	i := 0
	for units > 0 && i < len(b) {
		if b[i] < utf8.RuneSelf {
			i++
			units--
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		i += n
		units--
		if r >= 0x10000 {
			if units == 0 {
				return 0, false // the length ends within a pair
			}
			units--
		}
	}
	return i, units == 0
}

// undoDouble undoes the second UTF-8 encoding of generation 1 clients, in place. A text that cannot have come about that way
// proves that the client does not do it (raw). A generation 2 client whose first text beyond ASCII looks exactly like UTF-8 read as Latin-1 is
// taken for generation 1: such text is garbled already, and nothing else tells the two apart.
func undoDouble(b []byte) (text []byte, raw bool) {
	i := 0
	for i < len(b) && b[i] < utf8.RuneSelf {
		i++
	}
	if i == len(b) {
		return b, false
	}
	out := append([]byte(nil), b[:i]...)
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r > 0xFF {
			return b, true
		}
		out = append(out, byte(r))
		i += n
	}
	if !utf8.Valid(out) {
		return b, true
	}
	return out, false
}

// decodeBinaryPayload3 reads a binary body of Engine.IO 3: a byte 0 (text) or 1 (binary), the decimal digits of the length in bytes
// as bytes 0 to 9, a byte 255, the packet.
func decodeBinaryPayload3(body []byte, maxPackets int, fn payloadFunc) error {
	if len(body) == 0 {
		return fmt.Errorf("%w: empty body", errMalformed)
	}
	for n := 0; len(body) > 0; n++ {
		if n == maxPackets {
			return fmt.Errorf("%w: more than %d packets in a body", errTooLarge, maxPackets)
		}
		text := body[0] == 0
		if body[0] > 1 {
			return fmt.Errorf("%w: packet form", errMalformed)
		}
		size, i := 0, 1
		for ; i < len(body) && body[i] <= 9; i++ {
			if i > 10 {
				return fmt.Errorf("%w: length", errMalformed)
			}
			size = size*10 + int(body[i])
		}
		if i == 1 || i >= len(body) || body[i] != 255 || size > len(body)-i-1 {
			return fmt.Errorf("%w: length", errMalformed)
		}
		one := body[i+1 : i+1+size]
		body = body[i+1+size:]
		if len(one) == 0 {
			return fmt.Errorf("%w: empty packet", errMalformed)
		}
		if !text {
			if one[0] != pktMessage-'0' {
				return fmt.Errorf("%w: binary packet type", errMalformed)
			}
			one = one[1:]
		}
		if err := fn(text, one); err != nil {
			return err
		}
	}
	return nil
}
