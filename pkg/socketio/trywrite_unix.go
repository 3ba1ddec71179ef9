//go:build unix

package socketio

import (
	"errors"
	"net"
	"syscall"
)

// tryWriter writes to a network connection what the kernel has room for, and never waits. One goroutine at a time.
type tryWriter struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // made once: a closure for each write would have to be allocated
	buf []byte                // what try is to write
	n   int                   // what it wrote
	err error
}

// newTryWriter gives nil for connections that are not the kernel's own: TLS.
func newTryWriter(nc net.Conn) *tryWriter {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &tryWriter{raw: raw}
	w.try = func(fd uintptr) bool {
		w.n, w.err = syscall.Write(int(fd), w.buf)
		return true
	}
	return w
}

// write gives how much was taken; less than all of b where the kernel has no more room.
func (w *tryWriter) write(b []byte) (int, error) {
	w.buf = b
	err := w.raw.Write(w.try)
	n := max(w.n, 0)
	if err == nil {
		err = w.err
	}
	w.buf, w.n, w.err = nil, 0, nil
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		err = nil
	}
	return n, err
}
