//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
)

// sharedPipe is a pipe whose ends somebody else makes non-blocking, after tt has them.
func sharedPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// A terminal or pipe that another program has made non-blocking is slow, not gone: all is shown, and the command is not told that nobody reads.
func TestSharedOutputIsNotGone(t *testing.T) {
	r, w := sharedPipe(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var sent bytes.Buffer
	e := &echo{to: patient{w}, sent: &sent}
	ok := make(chan bool)
	go func() {
		taken := e.write(data)
		w.Close()
		ok <- taken
	}()
	got, err := io.ReadAll(patient{r})
	if err != nil {
		t.Fatal(err)
	}
	if taken := <-ok; !taken || !bytes.Equal(got, data) || !bytes.Equal(sent.Bytes(), data) {
		t.Errorf("%d bytes were shown and %d sent of %d; taken: %v", len(got), sent.Len(), len(data), taken)
	}
}

func TestSharedInputGoesOn(t *testing.T) {
	r, w := sharedPipe(t)
	done := make(chan error)
	var shown, sent bytes.Buffer
	go func() { done <- copyOne(patient{r}, &shown, &sent) }()
	for range 3 {
		if _, err := (patient{w}).Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	if err := <-done; err != nil || shown.String() != "line\nline\nline\n" {
		t.Errorf("copied %q, %v", shown.String(), err)
	}
}
