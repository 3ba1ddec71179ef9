package socketio

import (
	"encoding/json"
	"strconv"
	"sync/atomic"
)

// Event is something the peer emitted. It may be kept.
type Event struct {
	Name string
	Args []json.RawMessage // binary attachments appear as {"_placeholder":true,"num":i}
	Bins [][]byte

	id    uint64
	reply func(*Message) error // nil: no acknowledgement is wanted
	acked atomic.Bool
}

// WantsAck says whether the peer asked for an acknowledgement.
func (e *Event) WantsAck() bool { return e.reply != nil }

// Ack acknowledges, at most once; it may be called later, from any goroutine. It blocks while the send buffer is full.
// ErrAcked: it was not asked for, or has been given.
func (e *Event) Ack(args ...any) error {
	if e.reply == nil {
		return ErrAcked
	}
	m, err := newPacket("43"+strconv.FormatUint(e.id, 10), "", args)
	if err != nil {
		return err
	}
	if e.acked.Swap(true) {
		return ErrAcked
	}
	return e.reply(m)
}
