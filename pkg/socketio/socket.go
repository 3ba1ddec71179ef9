package socketio

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

// socket is the WebSocket of one connection. One goroutine reads, one at a time writes; frames are written straight to the
// network connection, the library is used for the handshake and for reading.
type socket struct {
	srv      *Server
	ws       *websocket.Conn
	nc       net.Conn
	compress bool
	armed    time.Duration // when the write deadline was last set
}

const (
	joinBelow = 8 << 10  // frames below this size are copied together, larger ones are handed to writev as they are
	joinSize  = 32 << 10 // size of a borrowed buffer
	pieceSize = 64 << 10 // a peer must take so much within WriteTimeout: what is larger is written in pieces
)

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// write writes the frames of ms with as few system calls as there is data for.
func (s *socket) write(ms []*Message) (writes, bytes int, err error) {
	if len(ms) == 1 {
		return s.writeLarge(s.form(ms[0]))
	}
	buf := s.srv.borrow()
	defer s.srv.giveBack(buf)
	joined := (*buf)[:0]
	flush := func() error {
		if len(joined) == 0 {
			return nil
		}
		w, n, e := s.writeLarge(joined)
		writes, bytes, joined = writes+w, bytes+n, joined[:0]
		return e
	}
	for _, m := range ms {
		f := s.form(m)
		if len(joined)+len(f) > joinSize {
			if len(f) > joinBelow && len(joined) > 0 && len(joined)+len(f) <= pieceSize {
				w, n, e := s.writeBoth(joined, f)
				writes, bytes, joined = writes+w, bytes+n, joined[:0]
				if e != nil {
					return writes, bytes, e
				}
				continue
			}
			if err := flush(); err != nil {
				return writes, bytes, err
			}
		}
		if len(f) > joinBelow {
			if err := flush(); err != nil {
				return writes, bytes, err
			}
			w, n, e := s.writeLarge(f)
			writes, bytes = writes+w, bytes+n
			if e != nil {
				return writes, bytes, e
			}
			continue
		}
		joined = append(joined, f...)
	}
	return writes, bytes, flush()
}

// form gives the frame to write for m.
func (s *socket) form(m *Message) []byte {
	if s.compress && len(m.frame) >= compressFrom {
		return m.compressed(s.srv)
	}
	return m.frame
}

func (s *socket) writeLarge(b []byte) (writes, bytes int, err error) {
	for len(b) > 0 {
		n := min(len(b), pieceSize)
		s.arm()
		n, err = s.nc.Write(b[:n])
		writes, bytes = writes+1, bytes+n
		if err != nil {
			return writes, bytes, err
		}
		b = b[n:]
	}
	return writes, bytes, nil
}

func (s *socket) writeBoth(a, b []byte) (writes, bytes int, err error) {
	s.arm()
	v := net.Buffers{a, b}
	n, err := v.WriteTo(s.nc)
	return 1, int(n), err
}

// arm sets the write deadline, unless it was set a moment ago: that costs more than a small frame does.
func (s *socket) arm() {
	now := s.srv.now()
	wait := s.srv.cfg.WriteTimeout
	if s.armed != 0 && now-s.armed < wait/8 {
		return
	}
	s.armed = now
	_ = s.nc.SetWriteDeadline(time.Now().Add(wait + wait/8)) // fails only on a closed connection, as the write will
}

// hangUp says goodbye and lets the peer do the same: closing at once would make the kernel throw away what the peer has not yet read, if
// something from it lies unread here. No writing goroutine runs any more.
func (s *socket) hangUp(code int, linger time.Duration) {
	frame := newControl(opClose, binary.BigEndian.AppendUint16(nil, uint16(code)))
	_ = s.nc.SetWriteDeadline(time.Now().Add(linger))
	if _, err := s.nc.Write(frame.frame); err != nil {
		s.kill()
		return
	}
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the reading goroutine sees what comes of it
	}
	time.AfterFunc(linger, s.kill)
}

// kill closes the network connection; the reading goroutine ends by that.
func (s *socket) kill() { _ = s.nc.Close() }
