package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
)

// show prints what a watcher hears: one client's output as it is, that of several line by line with their ids before it, or everything as JSON.
type show struct {
	out, err io.Writer
	json     bool
	alone    bool // one client is watched: its bytes go out as they are
	colour   bool
	parts    map[part][]byte // lines that have not ended
	width    int
}

// part is one output of one run.
type part struct{ from, run, kind string }

// longestPart is how much of a line without end is kept back before it is shown in pieces.
const longestPart = 64 << 10

func newShow(sys system, asJSON, alone, colour bool) *show {
	return &show{out: sys.stdout, err: sys.stderr, json: asJSON, alone: alone, colour: colour, parts: map[part][]byte{}}
}

func (s *show) start(from, run string, arg json.RawMessage) {
	if s.json {
		s.line("start", arg)
	}
}

func (s *show) record(from, run string, r *viewerRecord) {
	if s.json {
		b, err := json.Marshal(struct {
			Event string `json:"event"`
			From  string `json:"from"`
			Run   string `json:"run"`
			*viewerRecord
		}{"data", from, run, r})
		if err == nil {
			s.write(s.out, append(b, '\n'))
		}
		return
	}
	data := r.B64
	if r.Data != nil {
		data = []byte(text(r.Data))
		if r.Type == "RAW" {
			data = append([]byte(r.Data), '\n')
		}
	}
	switch {
	case r.Type == "NOTE":
		s.note(from, string(data))
	case s.alone && r.Type == "STDERR":
		s.write(s.err, data)
	case s.alone:
		s.write(s.out, data)
	default:
		s.merge(part{from, run, r.Type}, data)
	}
}

// merge shows whole lines, and keeps the rest.
func (s *show) merge(p part, data []byte) {
	data = append(s.parts[p], data...)
	for {
		line, rest, found := bytes.Cut(data, []byte{'\n'})
		if !found && len(data) < longestPart {
			break
		}
		s.prefixed(p, line)
		data = rest
	}
	if len(data) == 0 {
		delete(s.parts, p)
		return
	}
	s.parts[p] = bytes.Clone(data)
}

func (s *show) prefixed(p part, line []byte) {
	s.width = max(s.width, len(p.from))
	to := s.out
	if p.kind == "STDERR" {
		to = s.err
	}
	// Only the last state of a line that was written over (a progress bar) is one line's worth; other escape sequences could reach beyond the line.
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	s.write(to, fmt.Appendf(nil, "%s %s\n", s.name(p.from), tame(line, s.colour)))
}

// name is a client's id, coloured by itself, so that it keeps its colour from call to call.
func (s *show) name(from string) string {
	padded := fmt.Sprintf("%-*s |", s.width, plainText(from))
	if !s.colour {
		return padded
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(from)) // never fails
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", 31+h.Sum32()%6, padded)
}

func (s *show) note(from, text string) {
	s.write(s.err, fmt.Appendf(nil, "tt: %s: %s\n", plainText(from), plainText(text)))
}

func (s *show) gap(from, run string, m *viewerEvent, arg json.RawMessage) {
	if s.json {
		s.line("gap", arg)
		return
	}
	much := "output"
	if m.Bytes != nil {
		much = readable(*m.Bytes) + " of output"
	}
	why := "is no longer kept by the server"
	if m.Reason == "client" {
		why = "was dropped before it could be sent"
	}
	s.note(from, much+" "+why)
}

func (s *show) eof(from, run string, m *viewerEvent, arg json.RawMessage) {
	if s.json {
		s.line("eof", arg)
		return
	}
	for p := range s.parts {
		if p.run == run {
			s.prefixed(p, s.parts[p])
			delete(s.parts, p)
		}
	}
	if s.alone {
		return
	}
	how := "ended with code " + string(m.Code)
	if m.Signal != nil && *m.Signal != "" {
		how += " (" + *m.Signal + ")"
	}
	if m.Message != "" {
		how += ": " + m.Message
	}
	s.note(from, how)
}

// flush shows lines that have not ended.
func (s *show) flush() {
	for p, rest := range s.parts {
		s.prefixed(p, rest)
	}
	s.parts = map[part][]byte{}
}

// line prints an event as one JSON object, its name in "event".
func (s *show) line(event string, arg json.RawMessage) {
	if len(arg) < 2 || arg[0] != '{' {
		return
	}
	b := append([]byte(`{"event":"`+event+`",`), arg[1:]...)
	s.write(s.out, append(b, '\n'))
}

// write passes b on; a stdout that is closed ends tt by its signal, as it ends any other program.
func (s *show) write(to io.Writer, b []byte) {
	_, _ = to.Write(b)
}

// tame takes out control characters, but for tabs and, where colours are shown, those that set them.
func tame(line []byte, colour bool) []byte {
	out := make([]byte, 0, len(line)+4)
	coloured := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == 0x1b:
			n := sequence(line[i:])
			if colour && n > 2 && line[i+1] == '[' && line[i+n-1] == 'm' {
				out = append(out, line[i:i+n]...)
				coloured = true
			}
			i += n - 1
		case c < 0x20 && c != '\t' || c == 0x7f:
		default:
			out = append(out, c)
		}
	}
	if coloured {
		out = append(out, "\x1b[0m"...)
	}
	return out
}

// sequence is the length of the escape sequence at the start of b, at least 1.
func sequence(b []byte) int {
	if len(b) < 2 {
		return 1
	}
	switch b[1] {
	case '[': // CSI: parameters, then one final character
		for i := 2; i < len(b); i++ {
			if b[i] >= 0x40 && b[i] <= 0x7e {
				return i + 1
			}
		}
		return len(b)
	case ']', 'P', '^', '_', 'X': // a string, up to BEL or ESC \
		for i := 2; i < len(b); i++ {
			if b[i] == 0x07 {
				return i + 1
			}
			if b[i] == 0x1b && i+1 < len(b) && b[i+1] == '\\' {
				return i + 2
			}
		}
		return len(b)
	}
	return 2
}
