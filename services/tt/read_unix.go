//go:build unix

package main

import (
	"os"
	"sync"
)

// readApart copies each output with a goroutine of its own: the order between them is only as good as the scheduler's.
func (p *process) readApart(out, err *echo) {
	var both sync.WaitGroup
	both.Go(func() { p.readOne(p.out, out) })
	if p.err != nil {
		both.Go(func() { p.readOne(p.err, err) })
	}
	both.Wait()
}

// readOne copies until the end; a terminal's is an error.
func (p *process) readOne(f *os.File, to *echo) {
	defer f.Close()
	buf := make([]byte, copySize)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			p.noteRead()
			if !to.write(buf[:n]) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
