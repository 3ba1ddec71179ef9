package socketio

import (
	"slices"
	"sync"
)

// writers are the goroutines that write for all connections of a server, at most one for each processor, and none while there is nothing to write.
// Each connection that has something gets one system call that does not wait, in its turn. A goroutine for each of them would be started or
// woken for every message, and compete for the processors with whoever sends and, on one machine, reads; with these, more piles up while a
// connection waits for its turn, and goes out together.
type writers struct {
	most int

	mu      sync.Mutex // guards what follows; taken while a Conn's mu is held, never the other way round
	ready   []*Conn    // who has something to write and is not at work, in the order in which they came; nil up to next
	next    int
	running int
}

// add lets c have a turn. The caller has set c.out.writing, so that c is in here once.
func (w *writers) add(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = append(w.ready, c)
	if w.running < w.most {
		w.running++
		go w.run()
	}
}

func (w *writers) run() {
	for c := w.take(); c != nil; c = w.take() {
		if c.turn() {
			w.add(c)
		}
	}
}

// take gives whose turn it is; nil, and one goroutine less is counted, when nobody waits.
func (w *writers) take() *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == len(w.ready) {
		w.ready, w.next = nil, 0
		w.running--
		return nil
	}
	c := w.ready[w.next]
	w.ready[w.next] = nil
	w.next++
	if w.next > 1024 && w.next > len(w.ready)/2 {
		w.ready, w.next = slices.Delete(w.ready, 0, w.next), 0 // a crowd that is never done must not make it grow
	}
	return c
}
