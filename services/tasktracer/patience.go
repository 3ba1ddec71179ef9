package main

import (
	"sync"
	"time"
)

// patienceSteps is in how many steps a patience is counted.
const patienceSteps = 10

// patience is a timer that counts only while this process runs. After a pause (a stopped process, a machine that slept) what peers sent meanwhile
// is still to be read, and they must not be told to go, for good, before that.
type patience struct {
	mu    sync.Mutex
	timer *time.Timer
	left  int // steps; 0 when it has ended, one way or the other
}

// newPatience calls end after d, unless Stop is called before.
func newPatience(d time.Duration, end func()) *patience {
	p := &patience{left: patienceSteps}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(d/patienceSteps, func() {
		if p.step(d / patienceSteps) {
			end()
		}
	})
	return p
}

// step counts one step, and tells whether it was the last.
func (p *patience) step(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return false
	}
	if p.left--; p.left == 0 {
		return true
	}
	p.timer.Reset(d)
	return false
}

// Stop ends the patience; false: it had ended before.
func (p *patience) Stop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ended := p.left == 0
	p.left = 0
	p.timer.Stop()
	return !ended
}
