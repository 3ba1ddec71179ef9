package socketio

import (
	"bytes"
	"compress/flate"
)

// compressFrom is the size from which a frame is compressed where that was agreed upon: below, it costs more than it saves.
const compressFrom = 1 << 10

// compressed is m's frame by permessage-deflate (RFC 7692) without context takeover, so that it is made once for all receivers.
func (m *Message) compressed(s *Server) []byte {
	if p := m.small.Load(); p != nil {
		return *p
	}
	frame := m.frame
	if m.frame[0]&0x0f == opText {
		frame = deflate(s, m.payload())
	}
	m.small.Store(&frame)
	return frame
}

func deflate(s *Server, payload []byte) []byte {
	out := bytes.NewBuffer(make([]byte, maxHead, maxHead+len(payload)/2))
	w, _ := s.deflaters.Get().(*flate.Writer)
	if w == nil {
		w, _ = flate.NewWriter(out, flate.BestSpeed) // the level is valid
	} else {
		w.Reset(out)
	}
	_, _ = w.Write(payload) // a bytes.Buffer takes everything
	_ = w.Flush()
	s.deflaters.Put(w)
	buf := bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff}) // the receiver appends it again
	h := frameHead(buf[:maxHead], opText, len(buf)-maxHead)
	buf[maxHead-h] |= 0x40 // RSV1: compressed
	return buf[maxHead-h:]
}
