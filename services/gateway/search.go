package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

const (
	maxQuery     = 1000
	defaultHits  = 1000
	maxHits      = 10_000
	maxMatches   = 100  // of one hit
	maxExcerpt   = 1000 // characters of a hit's text
	beforeMatch  = 200  // bytes of it that stand before the first match
	searchPiece  = 64 << 10
	pieceOverlap = 4 << 10
)

// apiSearch streams the lines of a run in which something is found.
func (s *Service) apiSearch(w http.ResponseWriter, r *http.Request, c auth.Claims) error {
	q, err := parseSearch(r)
	if err != nil {
		return err
	}
	st, err := s.find(r, c)
	if err != nil {
		return err
	}
	select {
	case s.searches <- struct{}{}:
		defer func() { <-s.searches }()
	default:
		return newProblem(http.StatusTooManyRequests, "too_many", "%d searches are under way, the most that may be at once", s.cfg.MaxSearches).retry()
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.SearchTime)
	defer cancel()
	from, err := s.searchFrom(ctx, st.run, q)
	if err != nil && ctx.Err() == nil {
		return err
	}
	x := &search{q: q, w: json.NewEncoder(w), line: max(q.from, 1), over: ctx.Err}
	x.w.SetEscapeHTML(false)
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	chunk := func(st bus.Stored) error {
		before := x.hits
		err := x.chunk(st.Chunk)
		if x.hits > before {
			_ = flush.Flush() // a writer that cannot does so at the end
		}
		if err == nil {
			err = ctx.Err()
		}
		return err
	}
	if err == nil {
		err = s.readTo(ctx, st.run.Key, from.after, from.hint, from.last, chunk, x.gone)
	}
	if err == nil {
		err = x.endLine(x.last) // the last line may lack its line feed
	}
	if errors.Is(err, errWrite) || r.Context().Err() != nil {
		return nil
	}
	if err != nil && !errors.Is(err, errLimit) && ctx.Err() == nil {
		s.log.Warn("a search ended early", "run", st.run.Key, "err", err)
	}
	x.done(err, ctx.Err())
	return nil
}

// searchRange is what of a run is searched: from behind seq after, up to seq last.
type searchRange struct{ after, hint, last uint64 }

func (s *Service) searchFrom(ctx context.Context, run *frame.Run, q searchQuery) (r searchRange, err error) {
	end, err := s.extent(ctx, run)
	switch {
	case errors.Is(err, frame.ErrVersion):
		end.seq = math.MaxUint64 // what can be read is searched, and then the caller told
	case err != nil:
		return r, err
	}
	r.last = end.seq
	if q.from > 1 {
		r.after, r.hint, err = s.bus.LocateLine(ctx, run.Key, q.from-1)
		return r, err
	}
	return r, nil
}

type searchQuery struct {
	find    func(line []byte, n int) [][]int // up to n matches
	piece   int                              // of a longer line that is searched at once
	limit   int
	from    uint64
	streams streams
}

func parseSearch(r *http.Request) (q searchQuery, err error) {
	v := r.URL.Query()
	text := v.Get("q")
	if text == "" || len(text) > maxQuery {
		return q, badRequest("q: want 1 to %d bytes", maxQuery)
	}
	isRegex, err := choice(v.Get("regex"), "regex", "0", "1")
	if err != nil {
		return q, err
	}
	exact, err := choice(v.Get("case"), "case", "0", "1")
	if err != nil {
		return q, err
	}
	limit, err := natural(v.Get("limit"), "limit", defaultHits, 1, maxHits)
	if err != nil {
		return q, err
	}
	if q.from, err = natural(v.Get("from"), "from", 1, 1, 1<<62); err != nil {
		return q, err
	}
	if q.streams, err = parseStreams(v.Get("streams")); err != nil {
		return q, err
	}
	q.limit = int(limit)
	q.find, q.piece, err = finder(text, isRegex, exact)
	return q, err
}

// finder makes the function that finds, and says how long the piece of a line may be that it is given. Plain ASCII text is looked for by comparing bytes, which is some ten times as fast as an expression.
func finder(text string, isRegex, exact bool) (find func([]byte, int) [][]int, piece int, err error) {
	if !isRegex && (exact || ascii(text)) {
		return plainFinder(text, exact), searchPiece, nil
	}
	expr := text
	if !isRegex {
		expr = regexp.QuoteMeta(text)
	}
	if !exact {
		expr = "(?i:" + expr + ")"
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, 0, badRequest("q: %s", err)
	}
	cost := steps(expr)
	if cost > maxSteps {
		return nil, 0, badRequest("q: the expression is too large: %d steps for each character, at most %d", cost, maxSteps)
	}
	piece = searchPiece
	if cost > largeSteps {
		piece = largePiece
	}
	return func(line []byte, n int) [][]int {
		var found [][]int
		for _, m := range re.FindAllIndex(line, min(n, matchesOf(line, cost))) {
			if m[1] > m[0] { // nothing is no find
				found = append(found, m)
			}
		}
		return found
	}, piece, nil
}

// maxSteps bounds what an expression may cost for each byte that it is compared with: a repetition of repetitions in 1,000 bytes can make hundreds of
// thousands, and one line would keep a processor for minutes.
const maxSteps = 2000

// lineSteps bounds the matches told of one line, by what each of them may cost: an expression can be such that all of the line is looked at for each of
// them (one of 900 steps took 2 s for each in 64 KiB, and the time was looked at only behind a hundred).
const lineSteps = 5_000_000

// An expression of more than largeSteps looks at smaller pieces of long lines, so that the time is looked at often enough.
const (
	largeSteps = 250
	largePiece = 16 << 10
)

func matchesOf(line []byte, steps int) int { return max(1, lineSteps/max(1, steps*len(line))) }

// steps is how large an expression is once its repetitions are written out.
func steps(expr string) int {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0 // the caller compiled it
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	return len(prog.Inst)
}

func plainFinder(text string, exact bool) func([]byte, int) [][]int {
	want := []byte(text)
	var lower []byte
	if !exact {
		want = appendLower(nil, want)
	}
	return func(line []byte, n int) [][]int {
		in := line
		if !exact {
			lower = appendLower(lower[:0], line)
			in = lower
		}
		var found [][]int
		for at := 0; len(found) < n; {
			i := bytes.Index(in[at:], want)
			if i < 0 {
				break
			}
			found = append(found, []int{at + i, at + i + len(want)})
			at += i + len(want)
		}
		return found
	}
}

// appendLower adds b with its ASCII letters in lower case; all else stays, so places stay.
func appendLower(dst, b []byte) []byte {
	from := len(dst)
	dst = append(dst, b...)
	for i, c := range dst[from:] {
		if c >= 'A' && c <= 'Z' {
			dst[from+i] = c + 'a' - 'A'
		}
	}
	return dst
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

var (
	errLimit = errors.New("enough hits")
	errWrite = errors.New("the caller has gone")
)

// search goes through a run's lines. It keeps one line, or a piece of a long one.
type search struct {
	q     searchQuery
	w     *json.Encoder
	over  func() error // why it is time to end, or nil
	hits  int
	begun bool

	strip [3]stripper
	text  []byte // of the line so far, or of its last piece
	hit   bool   // this line has been found already
	line  uint64 // its number, from 1
	at    uint64 // byte offset at which it begins
	last  *frame.Record
}

func (x *search) gone(bus.Gone) error {
	x.text, x.hit, x.begun = x.text[:0], false, false // what comes next is not the rest of this line
	return nil
}

func (x *search) chunk(c *frame.Chunk) error {
	if !x.begun {
		x.begun = true
		x.line, x.at = c.Line+1, c.Offset
	}
	offset := c.Offset
	for i := range c.Records {
		r := &c.Records[i]
		if !r.Kind.Output() {
			continue
		}
		if err := x.record(r, offset); err != nil {
			return err
		}
		offset += uint64(len(r.Data))
	}
	return nil
}

func (x *search) record(r *frame.Record, offset uint64) error {
	data, begin := r.Data, offset
	x.last = r
	wanted := x.q.streams.has(r.Kind)
	for {
		n := indexLine(data)
		part := data
		if n >= 0 {
			part = data[:n]
		}
		if wanted && x.line >= x.q.from {
			if err := x.add(r, part); err != nil {
				return err
			}
		}
		if n < 0 {
			return nil
		}
		if err := x.endLine(r); err != nil {
			return err
		}
		data = data[n+1:]
		begin += uint64(n) + 1
		x.line, x.at = x.line+1, begin
	}
}

// add takes a part of the line. A line that gets too long is searched piece by piece.
func (x *search) add(r *frame.Record, part []byte) error {
	for len(part) > 0 {
		n := min(len(part), x.q.piece)
		x.text = x.strip[int(r.Kind)-int(frame.Stdout)].strip(x.text, part[:n])
		part = part[n:]
		if len(x.text) < x.q.piece {
			continue
		}
		if err := x.look(r); err != nil {
			return err
		}
		x.text = append(x.text[:0], x.text[len(x.text)-pieceOverlap:]...)
	}
	return nil
}

// endLine searches what is left of a line, and begins the next one. r is nil where there was no output at all.
func (x *search) endLine(r *frame.Record) error {
	if r != nil {
		s := &x.strip[int(r.Kind)-int(frame.Stdout)]
		x.text = bytes.TrimSuffix(s.strip(x.text, []byte{'\n'}), []byte{'\n'})
	}
	err := x.look(r)
	x.text, x.hit = x.text[:0], false
	return err
}

func (x *search) look(r *frame.Record) error {
	if x.hit || len(x.text) == 0 || x.line < x.q.from {
		return nil
	}
	if err := x.over(); err != nil {
		return err
	}
	found := x.q.find(x.text, maxMatches)
	if len(found) == 0 {
		return nil
	}
	if x.hits == x.q.limit {
		return errLimit
	}
	x.hit = true
	x.hits++
	return x.tell(r, found)
}

type hitJSON struct {
	Line    uint64   `json:"line"`
	Offset  uint64   `json:"offset"`
	Seq     uint64   `json:"seq,omitempty"`
	At      int64    `json:"at,omitempty"`
	Type    string   `json:"type,omitempty"`
	Text    string   `json:"text"`
	Matches [][2]int `json:"matches"`
}

func (x *search) tell(r *frame.Record, found [][]int) error {
	h := hitJSON{Line: x.line, Offset: x.at}
	if r != nil {
		h.Seq, h.At, h.Type = r.Seq, r.At, r.Kind.String()
	}
	h.Text, h.Matches = excerpt(x.text, found)
	if err := x.w.Encode(h); err != nil {
		return errWrite
	}
	return nil
}

// excerpt is a piece of the line around its first match, and where in it the matches are, in UTF-16 units.
func excerpt(line []byte, found [][]int) (string, [][2]int) {
	begin := max(0, found[0][0]-beforeMatch)
	for begin > 0 && begin < len(line) && !utf8.RuneStart(line[begin]) {
		begin++
	}
	units := make([]int, 1, maxExcerpt+1) // by byte of the excerpt
	var text []byte
	unit := 0
	for i, chars := begin, 0; i < len(line) && chars < maxExcerpt; chars++ {
		r, n := utf8.DecodeRune(line[i:])
		text = utf8.AppendRune(text, r)
		unit++
		if r > 0xffff {
			unit++
		}
		for range n {
			units = append(units, unit)
		}
		i += n
	}
	at := func(i int) int { return units[min(max(i-begin, 0), len(units)-1)] }
	matches := [][2]int{}
	for _, m := range found {
		if m[0]-begin >= len(units)-1 {
			break
		}
		matches = append(matches, [2]int{at(m[0]), at(m[1])})
	}
	return string(text), matches
}

func (x *search) done(err, timeout error) {
	d := struct {
		Done     bool    `json:"done"`
		Hits     int     `json:"hits"`
		Lines    uint64  `json:"lines"`
		More     bool    `json:"more"`
		Reason   string  `json:"reason"`
		NextLine *uint64 `json:"nextLine"`
	}{Done: true, Hits: x.hits, Lines: x.line - 1}
	if err != nil {
		d.More, d.NextLine = true, &x.line
		switch {
		case errors.Is(err, errLimit):
			d.Reason = "limit"
		case errors.Is(timeout, context.DeadlineExceeded):
			d.Reason = "time"
		default:
			d.Reason = "error"
		}
	}
	_ = x.w.Encode(d) // nobody is there to be told
}

func indexLine(b []byte) int { return bytes.IndexByte(b, '\n') }
