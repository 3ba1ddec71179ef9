// Package redact takes secrets out of a stream of bytes before it is stored or sent: given texts, and what patterns match. A secret is found also when it is
// split over writes: what may be the beginning of one is held back until more comes.
//
// How far that goes. Texts are found wherever they stand. Patterns are found in what is known when a write ends; a match that a later write completes is
// found if it begins in the same line and within 4 KiB. The holder decides how long to wait (Release): then a pattern's beginning, and up to 3 bytes of a text's,
// are let go, and only what follows of the secret is replaced. At most 64 KiB are held back.
package redact

import (
	"bytes"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
)

// Mask stands for a secret.
const Mask = "***"

const (
	// MinText keeps short values, which are words of ordinary output, from being masked everywhere.
	MinText = 6
	// maxHeld bounds what is held back.
	maxHeld = 64 << 10
	// maxTail is how far back the beginning of a pattern's match is looked for.
	maxTail = 4 << 10
	// keepHeld is from how many bytes on the beginning of a text is not let go by Release.
	keepHeld = 4
)

// Rules is what to take out. It is immutable, and safe for concurrent use.
type Rules struct {
	texts    *texts
	patterns []pattern
}

type pattern struct {
	re   *regexp.Regexp
	prog *syntax.Prog
}

// New makes rules of secret texts (those shorter than MinText are passed over; of one with several lines each long enough line counts) and of
// regular expressions in Go's syntax. It returns nil where there is nothing to take out.
func New(secrets []string, patterns []string) (*Rules, error) {
	r := &Rules{texts: newTexts(secrets)}
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("redact %q: %w", p, err)
		}
		if re.MatchString("") {
			return nil, fmt.Errorf("redact %q: the pattern matches the empty text, and so everything", p)
		}
		tree, err := syntax.Parse(p, syntax.Perl)
		if err != nil {
			return nil, fmt.Errorf("redact %q: %w", p, err)
		}
		prog, err := syntax.Compile(tree.Simplify())
		if err != nil {
			return nil, fmt.Errorf("redact %q: %w", p, err)
		}
		r.patterns = append(r.patterns, pattern{re, prog})
	}
	if r.texts == nil && len(r.patterns) == 0 {
		return nil, nil
	}
	return r, nil
}

// Stream is one stream's state. It is for one goroutine.
type Stream struct {
	rules *Rules
	buf   []byte // from the earliest byte on that may belong to a secret that is not yet whole
	sent  int    // how many bytes of buf were given out
	spans []span
}

type span struct{ from, to int }

// Stream begins a stream.
func (r *Rules) Stream() *Stream { return &Stream{rules: r} }

// Write takes p and gives what may be passed on. The result is good until the next call; it may be p.
func (s *Stream) Write(p []byte) []byte {
	if len(s.buf) == 0 {
		spans, hold := s.rules.find(p, s.spans[:0])
		s.spans = spans
		if len(spans) == 0 && hold == len(p) {
			return p
		}
	}
	s.buf = append(s.buf, p...)
	spans, hold := s.rules.find(s.buf, s.spans[:0])
	s.spans = spans
	if len(s.buf)-hold > maxHeld {
		hold = len(s.buf)
	}
	out := s.give(hold)
	rest := copy(s.buf, s.buf[hold:])
	s.buf = s.buf[:rest]
	s.sent = max(s.sent-hold, 0)
	if cap(s.buf) > 4*maxHeld {
		s.buf = slices.Clone(s.buf)
	}
	return out
}

// Holding tells that something is held back.
func (s *Stream) Holding() bool { return s.sent < len(s.buf) }

// Release lets go of what was held back for long enough, but for the longer beginning of a secret text.
func (s *Stream) Release() []byte {
	until := len(s.buf)
	if from := s.rules.texts.partial(s.buf); len(s.buf)-from >= keepHeld {
		until = from
	}
	s.spans, _ = s.rules.find(s.buf, s.spans[:0])
	return s.give(until)
}

// End gives what is left. A secret that is not whole is none.
func (s *Stream) End() []byte {
	s.spans, _ = s.rules.find(s.buf, s.spans[:0])
	out := s.give(len(s.buf))
	s.buf, s.sent = nil, 0
	return out
}

// give gives buf from what was sent on up to until, with the spans masked, and counts it as sent.
func (s *Stream) give(until int) []byte {
	var out []byte
	at := s.sent
	for _, sp := range s.spans {
		from, to := max(sp.from, at), min(sp.to, until)
		if from >= to {
			continue
		}
		out = append(out, s.buf[at:from]...)
		out = append(out, Mask...)
		at = to
	}
	if at < until {
		out = append(out, s.buf[at:until]...)
	}
	s.sent = max(s.sent, until)
	return out
}

// find gives the secrets in b, in order, not overlapping, and how much of b is decided: what follows may be a part of a secret that is not yet whole.
func (r *Rules) find(b []byte, spans []span) (_ []span, decided int) {
	decided = len(b)
	if r.texts != nil {
		spans = r.texts.find(b, spans)
		decided = r.texts.partial(b)
	}
	for _, p := range r.patterns {
		for _, m := range p.re.FindAllIndex(b, -1) {
			spans = append(spans, span{m[0], m[1]})
		}
		tail := b[max(0, len(b)-maxTail):]
		if i := bytes.LastIndexByte(tail, '\n'); i >= 0 {
			tail = tail[i+1:]
		}
		decided = min(decided, len(b)-len(tail)+pending(p.prog, tail))
	}
	spans = merge(spans)
	for _, sp := range slices.Backward(spans) {
		if sp.from < decided && decided < sp.to {
			decided = sp.from
		}
	}
	return spans, decided
}

func merge(spans []span) []span {
	if len(spans) < 2 {
		return spans
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	out := spans[:1]
	for _, sp := range spans[1:] {
		if last := &out[len(out)-1]; sp.from < last.to {
			last.to = max(last.to, sp.to)
			continue
		}
		out = append(out, sp)
	}
	return out
}
