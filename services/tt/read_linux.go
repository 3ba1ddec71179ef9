package main

import (
	"errors"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// both is the command's stdout and stderr, waited for together and edge-triggered: the kernel then names them in the order in which each first had something
// again, so that what is written in turn stays in turn. What one of them got while the other was being read cannot be told apart any further.
type both struct {
	poll, wake int
	pipes      [2]int  // the reading ends; -1: closed
	ended      [2]bool // nobody can write any more
	gone       [2]bool // nobody takes what is shown of it any more
}

// What epoll calls each of them: a pipe is its index, what is shown of it goes to sink plus that.
const (
	wake = 2
	sink = 3
)

// open makes the command's two outputs, before it is started: of what they have had from before they are waited for, nobody would know the order.
func (p *process) open(sys system) (out, err *os.File, e error) {
	var outs, errs [2]int
	if e := unix.Pipe2(outs[:], unix.O_CLOEXEC); e != nil {
		return nil, nil, os.NewSyscallError("pipe", e)
	}
	if e := unix.Pipe2(errs[:], unix.O_CLOEXEC); e != nil {
		unix.Close(outs[0])
		unix.Close(outs[1])
		return nil, nil, os.NewSyscallError("pipe", e)
	}
	for _, fd := range []int{outs[0], errs[0]} {
		_ = unix.SetNonblock(fd, true) // a pipe's flag can be set
		// A larger pipe costs fewer changes between the command and tt. Where the user's share of such memory is used up it stays as it is.
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, copySize)
	}
	if b, e := waitForBoth(outs[0], errs[0]); e == nil {
		p.both, p.wake = b, b.end
		b.watch(sys.stdout, sys.stderr)
	} else {
		// The user's share of what can be waited for is used up, say.
		p.out, p.err = os.NewFile(uintptr(outs[0]), "stdout"), os.NewFile(uintptr(errs[0]), "stderr")
	}
	return os.NewFile(uintptr(outs[1]), "stdout"), os.NewFile(uintptr(errs[1]), "stderr"), nil
}

func waitForBoth(out, err int) (b *both, e error) {
	b = &both{poll: -1, wake: -1, pipes: [2]int{out, err}}
	defer func() {
		if e != nil {
			b.pipes = [2]int{-1, -1} // these stay open
			b.close()
		}
	}()
	if b.poll, e = unix.EpollCreate1(unix.EPOLL_CLOEXEC); e != nil {
		return nil, e
	}
	if b.wake, e = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); e != nil {
		return nil, e
	}
	for i, fd := range append(b.pipes[:], b.wake) { // wake is behind the pipes
		if e = unix.EpollCtl(b.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(i)}); e != nil {
			return nil, e
		}
	}
	return b, nil
}

// watch notices that nobody reads any more what is shown, as head does not after a while: the command then finds its own end closed with its next write, as without
// tt, and not with the one after that. That can be known of pipes alone; one with a name may find another reader.
func (b *both) watch(sinks ...*os.File) {
	var own, to unix.Stat_t
	if unix.Fstat(b.pipes[0], &own) != nil {
		return
	}
	for i, f := range sinks {
		if unix.Fstat(int(f.Fd()), &to) == nil && to.Dev == own.Dev && to.Mode&unix.S_IFMT == unix.S_IFIFO {
			// Where it cannot be watched it is noticed with a write.
			_ = unix.EpollCtl(b.poll, unix.EPOLL_CTL_ADD, int(f.Fd()), &unix.EpollEvent{Events: unix.EPOLLET, Fd: int32(sink + i)})
		}
	}
}

// end makes a wait return.
func (b *both) end() {
	_, _ = unix.Write(b.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // a counter always takes 1
}

func (b *both) close() {
	for _, fd := range append(b.pipes[:], b.wake, b.poll) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// read copies both outputs until they end.
func (p *process) read(out, err *echo) {
	if p.both == nil {
		p.readApart(out, err)
		return
	}
	defer p.closeBoth()
	b, echoes := p.both, [2]*echo{out, err}
	buf := make([]byte, copySize)
	var turn []int // which are to be read, in that order
	for {
		var ok bool
		if turn, ok = b.await(turn); !ok {
			return
		}
		i := turn[0]
		turn = append(turn[:0], turn[1:]...)
		echoes[i].gone = echoes[i].gone || b.gone[i]
		switch p.readSome(b.pipes[i], echoes[i], buf, b.ended[i]) {
		case more:
			turn = append(turn, i) // behind the other one: a flood holds nothing up
		case over:
			unix.Close(b.pipes[i])
			if b.pipes[i] = -1; b.pipes[1-i] < 0 {
				return
			}
		case empty:
		}
	}
}

// await appends to turn what has something to read by now; where there is nothing, it waits. It returns false when reading is to end.
func (b *both) await(turn []int) (_ []int, ok bool) {
	var events [sink + 2]unix.EpollEvent
	for {
		timeout := -1
		if len(turn) > 0 {
			timeout = 0
		}
		n, err := unix.EpollWait(b.poll, events[:], timeout)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, false // it cannot be
		}
		for _, ev := range events[:n] {
			i := int(ev.Fd)
			switch {
			case i == wake:
				return nil, false
			case i < wake:
				b.ended[i] = b.ended[i] || ev.Events&unix.EPOLLHUP != 0
			case ev.Events&unix.EPOLLERR == 0:
				continue
			default:
				i -= sink
				b.gone[i] = true
			}
			if b.pipes[i] >= 0 && !slices.Contains(turn, i) {
				turn = append(turn, i)
			}
		}
		if len(turn) > 0 {
			return turn, true
		}
	}
}

// closeBoth is the end of reading. Nobody wakes it any more: the number of what was closed may soon be another file's.
func (p *process) closeBoth() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = nil
	p.both.close()
}

// found is what a read says of its pipe.
type found int

const (
	empty found = iota // what comes next is announced anew
	more               // there may be more
	over               // this was the end
)

// readSome reads once; where what it reads is not shown any more, for the last time. ended says that nobody can write any more: that is announced only once, maybe together with the last bytes, and so the end must be read
// for, too.
func (p *process) readSome(fd int, to *echo, buf []byte, ended bool) found {
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN) && !to.gone:
			return empty
		case err != nil || n == 0:
			return over
		}
		p.noteRead()
		if !to.write(buf[:n]) {
			return over
		}
		if n < len(buf) && !ended {
			return empty // a pipe gives all that it has
		}
		return more
	}
}
