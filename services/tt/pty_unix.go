//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Size of a terminal where the user has none.
const (
	defaultRows    = 40
	defaultColumns = 160
)

// startInTerminal runs the command in a terminal of its own: its stdout and stderr are that, and its stdin too where tt's is a terminal.
func (c *child) startInTerminal(path string) (*process, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	// tt holds the command's side, too, until the command has ended: a command that closes its outputs just before it ends (cat does) would else find its terminal
	// hung up, and die of that.
	p := &process{out: master, slave: slave, over: make(chan struct{}), continued: make(chan struct{}, 1), pty: true, foreground: func() bool { return foreground(c.sys) }}
	size := c.terminalSize()
	if err := pty.Setsize(master, size); err != nil {
		slave.Close()
		master.Close()
		return nil, err
	}
	stdin := c.sys.stdin
	typed := term.IsTerminal(int(stdin.Fd()))
	if typed {
		stdin = slave
	}
	if p.pid, err = c.spawn(path, []*os.File{stdin, slave, slave}, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}); err != nil {
		slave.Close()
		master.Close()
		return nil, err
	}
	p.group = p.pid
	p.resize = func() {
		// A terminal that has no size, or a command that is gone, has no need of one.
		_ = pty.Setsize(master, c.terminalSize())
	}
	if typed {
		c.takeKeyboard(p, master)
	}
	return p, nil
}

// takeKeyboard passes what is typed to the command's terminal as it is: that one echoes and makes signals of Ctrl-C.
func (c *child) takeKeyboard(p *process, master *os.File) {
	fd := int(c.sys.stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return
	}
	p.raw = func() {
		// In the background it would only be stopped for trying.
		if !p.foreground() {
			return
		}
		if _, err := term.MakeRaw(fd); err == nil {
			c.raw.Store(true)
		}
	}
	p.isRaw, p.lost = c.raw.Load, func() { c.raw.Store(false) }
	p.cooked = func() {
		if c.raw.Swap(false) {
			_ = term.Restore(fd, before) // a terminal that is gone needs no restoring
		}
	}
	p.raw()
	go func() {
		// It ends with tt: a read of a terminal cannot be taken back.
		_, _ = io.Copy(&keyboard{p: p, master: master}, &typing{p: p, from: c.sys.stdin})
	}()
}

// typing reads what is typed, while tt is in the foreground: who reads in the background is stopped.
type typing struct {
	p    *process
	from *os.File
}

func (t *typing) Read(b []byte) (int, error) {
	for {
		if err := awaitInput(t.from); err != nil {
			return 0, err
		}
		if t.p.foreground() {
			return patient{t.from}.Read(b)
		}
		select {
		case <-t.p.continued:
		case <-t.p.over:
			return 0, io.EOF
		}
	}
}

// awaitInput waits until there is something to read. (By select, since a terminal is no file to poll on every system.)
func awaitInput(f *os.File) error {
	fd := int(f.Fd())
	for {
		var set unix.FdSet
		set.Set(fd)
		_, err := unix.Select(fd+1, &set, nil, nil, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// keyboard passes on what is typed. The key that stops a job (Ctrl-Z) it takes for itself where the command's terminal would signal the command, and so nobody would
// hear it: the kernel does not let job control stop a session that nobody could continue. Where a shell runs in that terminal, the key is that one's.
type keyboard struct {
	p      *process
	master *os.File
}

func (k *keyboard) Write(typed []byte) (int, error) {
	for rest := typed; len(rest) > 0; {
		at := -1
		if key, ok := k.stopKey(); ok {
			at = bytes.IndexByte(rest, key)
		}
		if at < 0 {
			_, err := k.master.Write(rest)
			return len(typed), err
		}
		if _, err := k.master.Write(rest[:at]); err != nil {
			return 0, err
		}
		k.p.pass(syscall.SIGTSTP)
		rest = rest[at+1:]
	}
	return len(typed), nil
}

// stopKey is the key that would stop the command, where one would.
func (k *keyboard) stopKey() (key byte, ok bool) {
	raw, err := k.master.SyscallConn()
	if err != nil {
		return 0, false
	}
	// Not by Fd, which would make reading wait where it cannot be ended.
	err = raw.Control(func(fd uintptr) {
		group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP)
		if err != nil || group != k.p.pid {
			return
		}
		t, err := unix.IoctlGetTermios(int(fd), getTermios)
		if err != nil || t.Lflag&unix.ISIG == 0 {
			return
		}
		key = t.Cc[unix.VSUSP]
	})
	return key, err == nil && key != 0
}

// terminalSize is that of the user's terminal, or what COLUMNS and LINES say.
func (c *child) terminalSize() *pty.Winsize {
	for _, f := range []*os.File{c.sys.stdout, c.sys.stdin, c.sys.stderr} {
		if size, err := pty.GetsizeFull(f); err == nil && size.Cols > 0 && size.Rows > 0 {
			return size
		}
	}
	return &pty.Winsize{Rows: number(c.sys.getenv("LINES"), defaultRows), Cols: number(c.sys.getenv("COLUMNS"), defaultColumns)}
}

func number(text string, otherwise uint16) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return otherwise
	}
	return uint16(n)
}
