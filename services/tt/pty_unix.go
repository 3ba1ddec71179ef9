//go:build unix

package main

import (
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/creack/pty"
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
	defer slave.Close()
	p := &process{out: master, over: make(chan struct{}), pty: true}
	size := c.terminalSize()
	if err := pty.Setsize(master, size); err != nil {
		master.Close()
		return nil, err
	}
	stdin := c.sys.stdin
	typed := term.IsTerminal(int(stdin.Fd()))
	if typed {
		stdin = slave
	}
	if p.pid, err = c.spawn(path, []*os.File{stdin, slave, slave}, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}); err != nil {
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
		if _, err := term.MakeRaw(fd); err == nil {
			c.raw.Store(true)
		}
	}
	p.cooked = func() {
		_ = term.Restore(fd, before) // a terminal that is gone needs no restoring
		c.raw.Store(false)
	}
	p.raw()
	go func() {
		// It ends with tt: a read of a terminal cannot be taken back.
		_, _ = io.Copy(master, c.sys.stdin)
	}()
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
