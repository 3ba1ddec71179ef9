package gateway

// stripper takes escape sequences and control characters, but tab and line feed, out of text. It keeps its state between calls, for a sequence may
// begin in one record and end in the next. A line feed ends any sequence: what never ends must not swallow the rest of a log.
type stripper struct{ state stripState }

type stripState uint8

const (
	ground      stripState = iota
	escape                 // behind ESC
	control                // in ESC [ … final
	charset                // behind ESC and an intermediate, one more to come
	inString               // in a string, such as a title: until BEL or ESC \
	inStringEsc            // behind an ESC in a string
)

// strip gives p without what is taken out, in dst, which may be p[:0].
func (s *stripper) strip(dst, p []byte) []byte {
	for len(p) > 0 {
		if s.state == ground { // nearly always, so by the run and not by the byte
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
		if c == '\n' {
			s.state = ground
			dst = append(dst, c)
			continue
		}
		switch s.state {
		case ground:
			if c == 0x1b {
				s.state = escape
			}
		case escape:
			s.state = afterEscape(c)
		case control:
			if c >= 0x40 && c <= 0x7e {
				s.state = ground
			} else if c == 0x1b {
				s.state = escape
			}
		case charset:
			if c < 0x20 || c > 0x2f {
				s.state = ground
			}
		case inString:
			switch c {
			case 0x07:
				s.state = ground
			case 0x1b:
				s.state = inStringEsc
			}
		case inStringEsc:
			if s.state = inString; c == '\\' {
				s.state = ground
			}
		}
	}
	return dst
}

func printable(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' || c == '\n' }

func afterEscape(c byte) stripState {
	switch {
	case c == '[':
		return control
	case c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_':
		return inString
	case c >= 0x20 && c <= 0x2f:
		return charset
	case c == 0x1b:
		return escape
	}
	return ground
}
