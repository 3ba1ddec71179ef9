package main

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// read copies both outputs until they end. One thread waits for both, edge-triggered: the kernel then names them in the order in which each first had something
// again, so that lines written in turn stay in turn. What one output got while the other was being read cannot be told apart any further.
func (p *process) read(out, err *echo) {
	if p.err == nil {
		p.readOne(p.out, out)
		return
	}
	poll, e := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if e != nil {
		p.readApart(out, err)
		return
	}
	defer unix.Close(poll)
	files := map[int32]*os.File{}
	echoes := map[int32]*echo{}
	for f, to := range map[*os.File]*echo{p.out: out, p.err: err} {
		fd := int(f.Fd()) // from here on the file blocks, but for the flag set below
		if unix.SetNonblock(fd, true) != nil ||
			unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}) != nil {
			p.readApart(out, err)
			return
		}
		// A larger pipe costs fewer changes between the command and tt. Where the user's share of such memory is used up it stays as it is.
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, copySize)
		files[int32(fd)], echoes[int32(fd)] = f, to
	}
	wake, e := p.waker(poll)
	if e != nil {
		p.readApart(out, err)
		return
	}
	defer unix.Close(wake)
	buf := make([]byte, copySize)
	events := make([]unix.EpollEvent, 3)
	for len(files) > 0 {
		n, e := unix.EpollWait(poll, events, -1)
		if errors.Is(e, unix.EINTR) {
			continue
		}
		if e != nil {
			return
		}
		for _, ev := range events[:n] {
			if int(ev.Fd) == wake {
				return
			}
			f, to := files[ev.Fd], echoes[ev.Fd]
			if f == nil {
				continue
			}
			if !p.readReady(int(ev.Fd), to, buf, ev.Events&unix.EPOLLHUP != 0) {
				f.Close()
				delete(files, ev.Fd)
			}
		}
	}
}

// readReady reads what is there. It returns false at the end. ended says that nobody can write any more: that is announced only once, maybe together with
// the last bytes, and so the end must be read for, too.
func (p *process) readReady(fd int, to *echo, buf []byte, ended bool) bool {
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return true
		case err != nil || n == 0:
			return false
		}
		p.noteRead()
		if !to.write(buf[:n]) {
			return false
		}
		if n < len(buf) && !ended {
			// The pipe was empty just now: what comes next is announced anew. (Only a full buffer may have left something behind.)
			return true
		}
	}
}

// waker makes close end the wait.
func (p *process) waker(poll int) (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return 0, err
	}
	if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		unix.Close(fd)
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = func() {
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // a counter always takes 1
	}
	if p.closed {
		p.wake()
	}
	return fd, nil
}
