package gateway

// stripper takes escape sequences and control characters, but tab and line feed, out of text. It keeps its state between calls, for a sequence may
// begin in one record and end in the next. Where a sequence ends is told as the page tells it (web/src/screen/escape.ts; testdata/strip.json holds
// both to it), which is as terminals do, but that a line feed ends each: what never ends must not swallow the rest of a log.
//
//   - ESC begins a sequence, also within another, which is then dropped; CAN and SUB end any, and go with it.
//   - ESC [ … ends with a byte from @ to ~, or after maxControl bytes; ESC and intermediates, SP to /, with a byte from 0 to ~.
//   - A byte beyond ASCII ends these, and is text. Other control characters in them are skipped.
//   - The strings behind ESC ] P X ^ _ end with ESC \, those behind ESC ] also with BEL.
type stripper struct {
	state stripState
	n     int  // bytes of the sequence so far
	held  bool // 0xc2 came last: with the next byte it may be a control character
}

type stripState uint8

const (
	ground   stripState = iota
	escape              // behind ESC
	control             // in ESC [ … final
	charset             // behind ESC and an intermediate
	inTitle             // behind ESC ]
	inString            // in another string
)

const (
	maxControl = 256 // bytes of a sequence; what is longer is none
	esc        = 0x1b
	can        = 0x18
	sub        = 0x1a
	bel        = 0x07
	c2         = 0xc2 // what U+0080 to U+00BF begin with
)

// strip appends to dst what of p is left, and what of the call before hung on it.
func (s *stripper) strip(dst, p []byte) []byte {
	for len(p) > 0 {
		if s.state == ground && !s.held { // nearly always, so by the run and not by the byte
			n := 0
			for n < len(p) && printable(p[n]) {
				n++
			}
			if dst = append(dst, p[:n]...); n == len(p) {
				break
			}
			p = p[n:]
		}
		c := p[0]
		p = p[1:]
		if s.held {
			s.held = false
			if c >= 0x80 && c <= 0x9f {
				continue
			}
			dst = append(dst, c2)
		}
		if s.next(c) {
			dst = append(dst, c)
		}
	}
	return dst
}

// next goes on by a byte, and tells whether it is text.
func (s *stripper) next(c byte) bool {
	s.n++
	if s.n > maxControl && s.state != inTitle && s.state != inString {
		s.state = ground
	}
	switch {
	case c == '\n':
		s.state = ground
		return true
	case c == esc:
		s.state, s.n = escape, 1
		return false
	case c == can || c == sub:
		s.state = ground
		return false
	case s.state == inTitle || s.state == inString:
		if c == bel && s.state == inTitle {
			s.state = ground
		}
		return false
	case c >= 0x80:
		s.state = ground
	case c < ' ' || c == 0x7f:
		return s.state == ground && c == '\t'
	}
	switch s.state {
	case escape:
		s.state = afterEscape(c)
	case control:
		if c >= '@' {
			s.state = ground
		}
	case charset:
		if c >= '0' {
			s.state = ground
		}
	default:
		s.held = c == c2
		return !s.held
	}
	return false
}

// printable tells which bytes are text for sure where no sequence is under way.
func printable(c byte) bool { return c >= ' ' && c != 0x7f && c != c2 || c == '\t' || c == '\n' }

func afterEscape(c byte) stripState {
	switch {
	case c == '[':
		return control
	case c == ']':
		return inTitle
	case c == 'P' || c == 'X' || c == '^' || c == '_':
		return inString
	case c <= '/':
		return charset
	}
	return ground
}
