package trace

import (
	"sync"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/trace/redact"
	"tasktracer/pkg/trace/spool"
)

const (
	// holdCharacter is how long the beginning of a character waits for its rest.
	holdCharacter = 50 * time.Millisecond
	// holdSecret is how long the beginning of what may become a secret waits for its rest.
	holdSecret = time.Second
)

// stream turns what is written to one of the run's outputs into records. It is an io.Writer; it never fails and waits only where the spool does.
type stream struct {
	kind   frame.Kind
	append func(kind frame.Kind, data []byte)
	order  *sync.Mutex // of the run: records of both outputs are appended in the order of their writes
	secret *redact.Stream
	held   []byte // the beginning of a character, 3 bytes at most
	timer  *time.Timer
}

func newStream(kind frame.Kind, rules *redact.Rules, order *sync.Mutex, append func(frame.Kind, []byte)) *stream {
	s := &stream{kind: kind, append: append, order: order}
	if rules != nil {
		s.secret = rules.Stream()
	}
	return s
}

// Write makes records of p. It always takes all of p.
func (s *stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.order.Lock()
	defer s.order.Unlock()
	out := p
	if s.secret != nil {
		out = s.secret.Write(p)
	}
	s.records(out)
	s.hold()
	return len(p), nil
}

// records appends all of b but for an unfinished character at its end.
func (s *stream) records(b []byte) {
	if len(s.held) > 0 && len(b) > 0 {
		b = append(s.held, b...)
		s.held = nil
	}
	n := unfinished(b)
	for rest := b[:len(b)-n]; len(rest) > 0; {
		size := cut(rest, spool.MaxRecord)
		s.append(s.kind, rest[:size])
		rest = rest[size:]
	}
	if n > 0 {
		s.held = append([]byte(nil), b[len(b)-n:]...)
	}
}

// hold sees to it that what is held back does not wait for ever.
func (s *stream) hold() {
	wait := time.Duration(0)
	switch {
	case s.secret != nil && s.secret.Holding():
		wait = holdSecret
	case len(s.held) > 0:
		wait = holdCharacter
	}
	if wait == 0 {
		if s.timer != nil {
			s.timer.Stop()
		}
		return
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.release)
		return
	}
	s.timer.Reset(wait)
}

// release appends what was held back for long enough.
func (s *stream) release() {
	s.order.Lock()
	defer s.order.Unlock()
	if s.secret != nil {
		s.records(s.secret.Release())
	}
	s.giveUp()
}

func (s *stream) giveUp() {
	if len(s.held) > 0 {
		s.append(s.kind, s.held)
		s.held = nil
	}
}

// end appends all that is held back; nothing is written any more.
func (s *stream) end() {
	s.order.Lock()
	defer s.order.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.secret != nil {
		s.records(s.secret.End())
	}
	s.giveUp()
}
