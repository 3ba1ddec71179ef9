//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// patient reads and writes a file that tt shares with others, who may have made it non-blocking (a terminal's stdin and stdout often are one, and programs
// like node change it): "try again" is then waited for. It is neither the end nor an error.
type patient struct{ f *os.File }

func (p patient) Read(b []byte) (int, error) {
	for {
		n, err := p.f.Read(b)
		if n > 0 || !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
		if err := p.wait(unix.POLLIN); err != nil {
			return 0, err
		}
	}
}

func (p patient) Write(b []byte) (written int, err error) {
	for {
		n, err := p.f.Write(b[written:])
		written += n
		if written == len(b) || !errors.Is(err, syscall.EAGAIN) {
			return written, err
		}
		if err := p.wait(unix.POLLOUT); err != nil {
			return written, err
		}
	}
}

// wait returns when there is something to do, or the other end is gone.
func (p patient) wait(events int16) error {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			_, failed = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, -1)
			if !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, failed)
}

// broken tells that an error of writing says that nobody reads any more.
func broken(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
