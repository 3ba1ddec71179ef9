package bus

import (
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// owned are the runs that this process appends to. Their states are watched on core NATS, so that an owner whose run is idle, too, learns
// that it was taken or deleted, and sets right what somebody wrote who held it for dead.
type owned struct {
	b *Bus

	mu   sync.Mutex
	runs map[string]*Appender // by path
	sub  *nats.Subscription   // nil until the first run
}

func newOwned(b *Bus) *owned { return &owned{b: b, runs: map[string]*Appender{}} }

func (o *owned) add(a *Appender) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.listen(); err != nil {
		return err
	}
	if was := o.runs[a.path]; was == nil || was.epoch() < a.epoch() { // the one with the lower epoch hears of it by its fence
		o.runs[a.path] = a
	}
	return nil
}

func (o *owned) remove(a *Appender) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.runs[a.path] == a {
		delete(o.runs, a.path)
	}
}

// stalled counts the runs that wait for the log.
func (o *owned) stalled() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.runs {
		if _, stalled := a.Durable(); stalled {
			n++
		}
	}
	return n
}

func (o *owned) listen() error {
	if o.sub != nil {
		return nil
	}
	sub, err := o.b.live.nc.Subscribe(prefixState+">", o.changed)
	if err != nil {
		return fmt.Errorf("subscribe to states: %w", err)
	}
	o.sub = sub
	o.b.live.onReconnect(o.touchAll)
	return nil
}

// touchAll has every state written again, and thereby looked at: what was announced while the connection was cut was not heard.
func (o *owned) touchAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.runs {
		a.touch()
	}
}

func (o *owned) changed(m *nats.Msg) {
	p := strings.TrimPrefix(m.Subject, prefixState)
	o.mu.Lock()
	a := o.runs[p]
	o.mu.Unlock()
	if a == nil {
		return
	}
	e, err := decodeState(parseSeq(m.Header, hdrSeq), m.Header, m.Data)
	if err != nil {
		return // a later version's; the fence tells the rest
	}
	epoch := a.epoch()
	switch {
	case e.deleted():
		a.fail(ErrDeleted)
	case e.run != nil && e.run.Epoch > epoch:
		a.fail(ErrTaken)
	case (e.run == nil || e.why != "" || !e.run.Connected) && !a.isReleasing():
		a.touch() // somebody held us for dead
	}
}
