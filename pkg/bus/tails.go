package bus

import "sync"

// tails are the last seqs of the runs that this process advanced lately, for its heartbeats.
type tails struct {
	mu   sync.Mutex
	on   bool // a heartbeat is being sent; else nothing is remembered
	runs map[string]*tailNews
}

type tailNews struct {
	last uint64
	left int // heartbeats that still name it
}

// tailRepeats is how many heartbeats name an advance: one may be lost.
const tailRepeats = 3

func newTails() *tails { return &tails{runs: map[string]*tailNews{}} }

func (t *tails) note(path string, last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.on {
		t.runs[path] = &tailNews{last: last, left: tailRepeats}
	}
}

func (t *tails) turnOn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on = true
}

// take gives what the next heartbeat shall name.
func (t *tails) take() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.runs) == 0 {
		return nil
	}
	m := make(map[string]uint64, len(t.runs))
	for p, n := range t.runs {
		m[p] = n.last
		if n.left--; n.left == 0 {
			delete(t.runs, p)
		}
	}
	return m
}
