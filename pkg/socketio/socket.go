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
	direct   *tryWriter // nil where it cannot be had, or frames are to be compressed first
	compress bool
	armed    time.Duration // when the write deadline was last set
}

const (
	joinBelow = 4 << 10  // frames up to this size are copied together, larger ones are handed to writev as they are
	joinSize  = 64 << 10 // what is written at once
	pieceSize = joinSize // a peer must take so much within WriteTimeout: a larger frame is written in pieces
	readSize  = 16 << 10 // size of a borrowed reading buffer
)

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// joiner collects frames for one system call. It is borrowed for the time of a write.
type joiner struct {
	copied []byte   // small frames, one behind the other
	from   int      // where in copied the run of small frames begins that is not yet in parts
	parts  [][]byte // what to write, in order
	size   int
}

func (j *joiner) add(frame []byte) {
	j.size += len(frame)
	if len(frame) <= joinBelow {
		j.copied = append(j.copied, frame...)
		return
	}
	j.endRun()
	j.parts = append(j.parts, frame)
}

func (j *joiner) endRun() {
	if len(j.copied) > j.from {
		j.parts = append(j.parts, j.copied[j.from:])
		j.from = len(j.copied)
	}
}

func (j *joiner) reset() {
	clear(j.parts)
	j.copied, j.from, j.parts, j.size = j.copied[:0], 0, j.parts[:0], 0
}

// writeNow writes what the kernel takes of ms without waiting, by one system call. It gives the number of bytes, and whether that was all. ms are
// no more than joinSize bytes.
func (s *socket) writeNow(ms []*Message) (n int, whole bool, err error) {
	s.arm()
	if len(ms) == 1 {
		n, err = s.direct.write(ms[0].frame)
		return n, n == len(ms[0].frame), err
	}
	j := s.srv.borrowJoiner()
	defer s.srv.giveBackJoiner(j)
	defer j.reset()
	for _, m := range ms {
		j.copied = append(j.copied, m.frame...)
	}
	n, err = s.direct.write(j.copied)
	return n, n == len(j.copied), err
}

// write writes the frames of ms, but for the first skip bytes, with as few system calls as there is data for.
func (s *socket) write(ms []*Message, skip int) (writes, bytes int, err error) {
	if len(ms) == 1 {
		return s.writeLarge(s.form(ms[0])[skip:])
	}
	j := s.srv.borrowJoiner()
	defer s.srv.giveBackJoiner(j)
	count := func(w, n int, e error) bool {
		writes, bytes, err = writes+w, bytes+n, e
		return e == nil
	}
	for _, m := range ms {
		f := s.form(m)
		if skip >= len(f) {
			skip -= len(f)
			continue
		}
		f, skip = f[skip:], 0
		if j.size+len(f) > joinSize && !count(s.flush(j)) {
			return writes, bytes, err
		}
		if len(f) > joinSize {
			if !count(s.writeLarge(f)) {
				return writes, bytes, err
			}
			continue
		}
		j.add(f)
	}
	count(s.flush(j))
	return writes, bytes, err
}

// flush writes what j has collected.
func (s *socket) flush(j *joiner) (writes, bytes int, err error) {
	defer j.reset()
	j.endRun()
	switch len(j.parts) {
	case 0:
		return 0, 0, nil
	case 1:
		return s.writeLarge(j.parts[0])
	}
	s.arm()
	v := net.Buffers(j.parts)
	n, err := v.WriteTo(s.nc)
	return 1, int(n), err
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
