package socketio

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Engine.IO packet types.
const (
	pktOpen    = '0'
	pktClose   = '1'
	pktPing    = '2'
	pktPong    = '3'
	pktMessage = '4'
	pktUpgrade = '5'
	pktNoop    = '6'
)

// Socket.IO packet types.
const (
	kindConnect     = '0'
	kindDisconnect  = '1'
	kindEvent       = '2'
	kindAck         = '3'
	kindError       = '4'
	kindBinaryEvent = '5'
	kindBinaryAck   = '6'
)

// packet is a Socket.IO packet: kind, attachments "-", namespace ",", id, body.
type packet struct {
	kind        byte
	attachments int
	namespace   string // "/" is the default one
	id          uint64
	hasID       bool
	body        []byte // JSON, not yet checked; shares the input's memory
}

// parsePacket reads the head of a packet. It checks the counts, not the body. Source: the socket.io-protocol specification, revisions 3 to 5.
func parsePacket(data []byte, maxAttachments int) (packet, error) {
	if len(data) == 0 || data[0] < kindConnect || data[0] > kindBinaryAck {
		return packet{}, fmt.Errorf("%w: packet type", errMalformed)
	}
	p := packet{kind: data[0], namespace: "/"}
	data = data[1:]
	if p.kind == kindBinaryEvent || p.kind == kindBinaryAck {
		n, rest, ok := digits(data)
		if !ok || len(rest) == 0 || rest[0] != '-' || n > uint64(maxAttachments) {
			return packet{}, fmt.Errorf("%w: attachment count", errMalformed)
		}
		p.attachments, data = int(n), rest[1:]
	}
	if len(data) > 0 && data[0] == '/' {
		name, rest, _ := bytes.Cut(data, []byte{','})
		name, _, _ = bytes.Cut(name, []byte{'?'}) // a query, of generation 2
		p.namespace, data = string(name), rest
	}
	if n, rest, ok := digits(data); ok {
		p.id, p.hasID, data = n, true, rest
	}
	p.body = data
	return p, nil
}

// digits reads a decimal number of at most 15 digits.
func digits(b []byte) (n uint64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		if i == 15 {
			return 0, b, false
		}
		n = n*10 + uint64(b[i]-'0')
		i++
	}
	return n, b[i:], i > 0
}

// splitArray gives the elements of a JSON array. They share the memory of one copy of b.
func splitArray(b []byte) ([]json.RawMessage, error) {
	if !json.Valid(b) {
		return nil, fmt.Errorf("%w: not JSON", errMalformed)
	}
	b = bytes.Clone(bytes.TrimSpace(b))
	if b[0] != '[' {
		return nil, fmt.Errorf("%w: not an array", errMalformed)
	}
	var out []json.RawMessage
	depth, start, inString := 0, 1, false
	for i := 0; i < len(b); i++ {
		c := b[i]
		if inString {
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '[', '{':
			depth++
		case ']', '}':
			depth--
			if depth == 0 {
				if el := bytes.TrimSpace(b[start:i]); len(el) > 0 {
					out = append(out, el[:len(el):len(el)])
				}
			}
		case ',':
			if depth == 1 {
				el := bytes.TrimSpace(b[start:i])
				out = append(out, el[:len(el):len(el)])
				start = i + 1
			}
		}
	}
	return out, nil
}

// splitEvent reads the body of an event: an array whose first element is the name.
func splitEvent(body []byte) (name string, args []json.RawMessage, err error) {
	all, err := splitArray(body)
	if err != nil {
		return "", nil, err
	}
	if len(all) == 0 || all[0][0] != '"' {
		return "", nil, fmt.Errorf("%w: event without a name", errMalformed)
	}
	if err := json.Unmarshal(all[0], &name); err != nil {
		return "", nil, fmt.Errorf("%w: event name: %w", errMalformed, err)
	}
	return name, all[1:], nil
}
