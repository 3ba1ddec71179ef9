package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outputs are a command's two outputs, before they are read.
func outputs(t *testing.T) (p *process, out, err *os.File) {
	t.Helper()
	p = &process{over: make(chan struct{})}
	out, err, e := p.open(system{stdout: os.Stdout, stderr: os.Stderr})
	if e != nil {
		t.Fatal(e)
	}
	if p.both == nil {
		t.Fatal("the outputs are not read together")
	}
	return p, out, err
}

func write(t *testing.T, f *os.File, text string) {
	t.Helper()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// What was written to one output and then to the other is read in that order, however long tt was not scheduled: also from before the reading began.
func TestOrderOfOutputs(t *testing.T) {
	for range 200 {
		p, out, errs := outputs(t)
		first, second := out, errs
		if rand.IntN(2) == 0 {
			first, second = errs, out
		}
		write(t, first, "1")
		write(t, second, "2")
		var got bytes.Buffer
		done := make(chan struct{})
		// What is shown of the first makes room for the next pair, so that each pair waits as a whole while tt is busy.
		rounds := 0
		next := writer(func(b []byte) (int, error) {
			got.Write(b)
			if rounds++; rounds%2 == 0 && rounds < 40 {
				first, second := out, errs
				if rand.IntN(2) == 0 {
					first, second = errs, out
				}
				write(t, first, "1")
				write(t, second, "2")
			} else if rounds == 40 {
				out.Close()
				errs.Close()
			}
			return len(b), nil
		})
		go func() {
			defer close(done)
			p.read(&echo{to: next, sent: io.Discard}, &echo{to: next, sent: io.Discard})
		}()
		<-done
		if want := strings.Repeat("12", 20); got.String() != want {
			t.Fatalf("read in the order %s, want %s", got.String(), want)
		}
	}
}

type writer func(b []byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// One output that never ends holds the other one up for no longer than a read takes.
func TestFloodHoldsNothingUp(t *testing.T) {
	p, out, errs := outputs(t)
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	full := make([]byte, copySize)
	fill := func() {
		err := raw.Control(func(fd uintptr) {
			if err := unix.SetNonblock(int(fd), true); err != nil {
				t.Error(err)
			}
			for {
				if _, err := unix.Write(int(fd), full); errors.Is(err, syscall.EAGAIN) {
					return
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	fill()
	const enough = 1000
	seen, floods := 0, 0
	flood := writer(func(b []byte) (int, error) {
		switch floods++; {
		case floods == 3:
			write(t, errs, "now")
			fill()
		case seen == 0 && floods < enough:
			fill()
		default:
			out.Close()
			errs.Close()
		}
		return len(b), nil
	})
	p.read(&echo{to: flood, sent: io.Discard}, &echo{to: writer(func(b []byte) (int, error) {
		seen = floods
		return len(b), nil
	}), sent: io.Discard})
	if seen == 0 || seen > 4 {
		t.Errorf("stderr was read after %d reads of stdout, want 4 at most", seen)
	}
}

// Reading that is ended leaves nothing behind that could be mistaken for another file.
func TestEndOfReading(t *testing.T) {
	p, out, errs := outputs(t)
	defer out.Close()
	defer errs.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read(&echo{to: io.Discard, sent: io.Discard}, &echo{to: io.Discard, sent: io.Discard})
	}()
	write(t, out, "x")
	p.close()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
	if p.wake != nil {
		t.Error("it can still be woken: by a number that is another file's by now")
	}
	p.close()
}

// Nobody reads what is shown any more: the command's next write is told so, though it had written nothing meanwhile; what it had written is sent.
func TestReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := &process{over: make(chan struct{})}
	out, errs, err := p.open(system{stdout: w, stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	var sent bytes.Buffer
	shown := make(chan struct{}, 9)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read(&echo{to: writer(func(b []byte) (int, error) { shown <- struct{}{}; return w.Write(b) }), sent: &sent}, &echo{to: io.Discard, sent: io.Discard})
	}()
	write(t, out, "shown, ")
	<-shown
	r.Close()
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		for {
			n, err := unix.Poll(fds, 60_000)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n != 1 || fds[0].Revents&unix.POLLERR == 0 {
				t.Errorf("the command's end stays open: %d %v %v", n, fds, err)
			}
			return
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.close()
	<-done
	if sent.String() != "shown, " {
		t.Errorf("sent %q", sent.String())
	}
}

// What the command had written when its reader went is sent, though nobody sees it.
func TestLastWordsBehindReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := &process{over: make(chan struct{})}
	out, errs, err := p.open(system{stdout: w, stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r.Close()
	write(t, out, "last words")
	errs.Close()
	var sent bytes.Buffer
	p.read(&echo{to: w, sent: &sent}, &echo{to: io.Discard, sent: io.Discard})
	if sent.String() != "last words" {
		t.Errorf("sent %q", sent.String())
	}
}

// Where the two cannot be waited for together they are read apart, to the end, or until reading is ended.
func TestReadApart(t *testing.T) {
	for _, ends := range []bool{true, false} {
		p, out, errs := outputs(t)
		b := p.both
		p.both, p.wake = nil, nil
		p.out, p.err = os.NewFile(uintptr(b.pipes[0]), "stdout"), os.NewFile(uintptr(b.pipes[1]), "stderr")
		b.pipes = [2]int{-1, -1}
		b.close()
		var got bytes.Buffer
		read := make(chan struct{}, 9)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.read(&echo{to: writer(func(b []byte) (int, error) { read <- struct{}{}; return len(b), nil }), sent: &got}, &echo{to: io.Discard, sent: io.Discard})
		}()
		for _, text := range []string{"one ", "two"} {
			write(t, out, text)
			<-read
		}
		if ends {
			out.Close()
			errs.Close()
		} else {
			p.close()
		}
		<-done
		if got.String() != "one two" {
			t.Errorf("read %q", got.String())
		}
		out.Close()
		errs.Close()
	}
}
