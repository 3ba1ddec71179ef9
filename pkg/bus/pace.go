package bus

import "time"

// pace keeps a run that never pauses from making more than about 50 chunks a second: the next chunk then fills for up to 20 ms.
// A run that made fewer lately is not delayed at all.
type pace struct {
	tokens float64
	at     time.Time
}

const (
	paceRate  = 50.0 // chunks a second
	paceBurst = 50.0
	paceWait  = 20 * time.Millisecond
)

func newPace() pace { return pace{tokens: paceBurst} }

// wait tells how long the next chunk may fill; 0: not at all.
func (p *pace) wait(now time.Time) time.Duration {
	p.refill(now)
	if p.tokens >= 1 {
		return 0
	}
	return min(paceWait, time.Duration((1-p.tokens)/paceRate*float64(time.Second))+time.Microsecond)
}

// take counts a chunk.
func (p *pace) take(now time.Time) {
	p.refill(now)
	p.tokens = max(0, p.tokens-1)
}

func (p *pace) refill(now time.Time) {
	if !p.at.IsZero() && now.After(p.at) {
		p.tokens = min(paceBurst, p.tokens+now.Sub(p.at).Seconds()*paceRate)
	}
	p.at = now
}
