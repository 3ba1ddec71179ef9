package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// logQuery is what of a log is asked for.
type logQuery struct {
	streams  streams
	strip    bool
	ndjson   bool
	download bool
	lines    *lineRange
}

// streams are the kinds of output that are wanted; all false: all of them.
type streams struct{ stdout, stderr, raw bool }

func (s streams) all() bool { return s == streams{} || s == streams{true, true, true} }

func (s streams) has(k frame.Kind) bool {
	switch k {
	case frame.Stdout:
		return s.stdout || s.all()
	case frame.Stderr:
		return s.stderr || s.all()
	case frame.Raw:
		return s.raw || s.all()
	}
	return false
}

// lineRange is lines from and up to and including to, from 1 on; or the last ones.
type lineRange struct{ from, to, last uint64 }

// plain tells whether the answer is the bytes of the log as they are, of which a range can be asked for.
func (q logQuery) plain() bool { return q.streams.all() && !q.strip && !q.ndjson && q.lines == nil }

func parseLogQuery(r *http.Request) (q logQuery, err error) {
	v := r.URL.Query()
	if q.streams, err = parseStreams(v.Get("streams")); err != nil {
		return q, err
	}
	if q.strip, err = choice(v.Get("ansi"), "ansi", "keep", "strip"); err != nil {
		return q, err
	}
	if q.ndjson, err = choice(v.Get("format"), "format", "text", "ndjson"); err != nil {
		return q, err
	}
	if q.download, err = choice(v.Get("download"), "download", "0", "1"); err != nil {
		return q, err
	}
	if t := v.Get("lines"); t != "" {
		q.lines, err = parseLines(t)
	}
	return q, err
}

// choice reads a parameter that is one of two words; the first one is the default.
func choice(text, name, no, yes string) (bool, error) {
	switch text {
	case "", no:
		return false, nil
	case yes:
		return true, nil
	}
	return false, badRequest("%s %q: want %s or %s", name, text, no, yes)
}

func parseStreams(text string) (s streams, err error) {
	if text == "" {
		return s, nil
	}
	for _, w := range strings.Split(text, ",") {
		switch w {
		case "stdout":
			s.stdout = true
		case "stderr":
			s.stderr = true
		case "raw":
			s.raw = true
		default:
			return s, badRequest("streams %q: want stdout, stderr or raw, with commas between", text)
		}
	}
	return s, nil
}

var linesForm = regexp.MustCompile(`^(\d{0,15})-(\d{0,15})$`)

func parseLines(text string) (*lineRange, error) {
	m := linesForm.FindStringSubmatch(text)
	bad := badRequest("lines %q: want A-B, A- or -N, from 1 on", text)
	if m == nil || m[1] == "" && m[2] == "" {
		return nil, bad
	}
	a, _ := strconv.ParseUint(m[1], 10, 64) // digits, by the expression; none are 0
	b, _ := strconv.ParseUint(m[2], 10, 64)
	switch {
	case m[1] == "" && b > 0:
		return &lineRange{last: b}, nil
	case m[1] == "" || a == 0:
		return nil, bad
	case m[2] == "":
		return &lineRange{from: a, to: math.MaxUint64 - 1}, nil
	case b < a:
		return nil, bad
	}
	return &lineRange{from: a, to: b}, nil
}

// extent is how much a run has.
type extent struct{ bytes, lines, seq uint64 }

// leaderPatience is how long the log's leader may take to say how much a run has before any replica is asked: there may be no leader for a while.
const leaderPatience = 500 * time.Millisecond

func (s *Service) extent(ctx context.Context, run *frame.Run) (extent, error) {
	cp := run.Checkpoint
	x := extent{cp.Bytes, cp.Line, cp.Seq}
	if complete(run) {
		return x, nil
	}
	tail, err := s.bus.TailWithin(ctx, run.Key, leaderPatience)
	if errors.Is(err, bus.ErrNotFound) {
		return x, nil
	}
	if err != nil {
		return x, err
	}
	b, l := tail.Chunk.End()
	return extent{max(b, x.bytes), max(l, x.lines), max(tail.Chunk.Next()-1, x.seq)}, nil
}

// readTo reads a run's log from behind seq after up to and including seq last, from any replica that has it. Errors: as of bus.Read.
func (s *Service) readTo(ctx context.Context, key frame.Key, after, hint, last uint64, chunk func(bus.Stored) error, gone func(bus.Gone) error) error {
	for after < last {
		began := after
		err := s.bus.Catch(ctx, key, after, hint, func(st bus.Stored) error {
			after, hint = st.Chunk.Next()-1, st.StreamSeq
			return chunk(st)
		}, func(g bus.Gone) error {
			after = g.To
			return gone(g)
		})
		if err != nil || after == began {
			return err // nothing more: the log has lost what its state tells of
		}
	}
	return nil
}

// apiLog answers with a run's log, or a part of it.
func (s *Service) apiLog(w http.ResponseWriter, r *http.Request, c auth.Claims) error {
	q, err := parseLogQuery(r)
	if err != nil {
		return err
	}
	st, err := s.find(r, c)
	if err != nil {
		return err
	}
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	default:
		return newProblem(http.StatusTooManyRequests, "too_many", "%d logs are being read, the most that may be at once", s.cfg.MaxDownloads).retry()
	}
	total, err := s.extent(r.Context(), st.run)
	if err != nil {
		return err
	}
	l := &logAnswer{s: s, w: w, r: r, q: q, key: st.run.Key, total: total, toByte: total.bytes, toLine: math.MaxUint64}
	if err := l.choose(); err != nil {
		return err
	}
	return l.run()
}

// logAnswer is one answer under way. The headers are written when the first chunk has come: only then it is known what is still there.
type logAnswer struct {
	s     *Service
	w     http.ResponseWriter
	r     *http.Request
	q     logQuery
	key   frame.Key
	total extent

	partial          bool   // a byte range was asked for
	fromByte, toByte uint64 // [from, to)
	fromLine, toLine uint64 // from 0, [from, to)

	out   *bufio.Writer
	begun bool        // the headers are written
	over  bool        // and nothing is to follow
	lost  bool        // retention took the beginning of what was asked for
	strip [3]stripper // by stream
	buf   []byte
}

// choose finds out what is asked for.
func (l *logAnswer) choose() error {
	if rg := l.q.lines; rg != nil {
		l.fromLine, l.toLine = rg.from-1, rg.to
		if rg.last > 0 {
			l.fromLine, l.toLine = l.total.lines-min(l.total.lines, rg.last), math.MaxUint64
		}
		return nil
	}
	header := l.r.Header.Get("Range")
	if !l.q.plain() || header == "" || l.r.Header.Get("If-Range") != "" {
		return nil
	}
	from, to, ok, err := parseRange(header, l.total.bytes)
	if err != nil || !ok {
		return err
	}
	l.partial, l.fromByte, l.toByte = true, from, to
	return nil
}

var rangeForm = regexp.MustCompile(`^bytes=\s*(\d{0,18})-(\d{0,18})\s*$`)

// parseRange reads a Range header for size bytes, as [from, to). What it cannot read, several ranges for one, it leaves alone: ok is false.
func parseRange(header string, size uint64) (from, to uint64, ok bool, err error) {
	m := rangeForm.FindStringSubmatch(header)
	if m == nil || m[1] == "" && m[2] == "" {
		return 0, 0, false, nil
	}
	a, _ := strconv.ParseUint(m[1], 10, 64) // digits, by the expression; none are 0
	b, _ := strconv.ParseUint(m[2], 10, 64)
	if m[1] != "" && m[2] != "" && b < a {
		return 0, 0, false, nil
	}
	switch {
	case m[1] == "":
		from, to = size-min(size, b), size
	case m[2] == "":
		from, to = a, size
	default:
		from, to = a, min(b+1, size)
	}
	if from >= size || from >= to {
		p := newProblem(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable", "the log has %d bytes", size)
		p.size = int64(size)
		return 0, 0, false, p
	}
	return from, to, true, nil
}

var errDone = errors.New("all that was asked for is written")

func (l *logAnswer) run() error {
	ctx := l.r.Context()
	after, hint, err := l.start(ctx)
	if err != nil {
		return err
	}
	l.out = bufio.NewWriterSize(l.w, 128<<10)
	if l.total.seq > 0 {
		err = l.s.readTo(ctx, l.key, after, hint, l.total.seq, l.chunk, l.gone)
	}
	if err != nil && !errors.Is(err, errDone) {
		if l.begun && ctx.Err() == nil {
			l.s.log.Warn("a log broke off", "run", l.key, "err", err)
			panic(http.ErrAbortHandler) // what was sent must not look whole
		}
		return err
	}
	if err := l.begin(l.total.bytes, math.MaxUint64); err != nil && !errors.Is(err, errDone) {
		return err
	}
	if l.q.plain() && !l.over && l.fromByte < l.toByte {
		panic(http.ErrAbortHandler)
	}
	return l.flush()
}

// start finds where to read from.
func (l *logAnswer) start(ctx context.Context) (after, hint uint64, err error) {
	switch {
	case l.partial && l.fromByte > 0:
		return l.s.bus.LocateByte(ctx, l.key, l.fromByte)
	case l.fromLine > 0:
		return l.s.bus.LocateLine(ctx, l.key, l.fromLine)
	}
	return 0, 0, nil
}

// begin writes the headers, once; byte and line are the first that can be had.
func (l *logAnswer) begin(first, line uint64) error {
	if l.begun {
		return nil
	}
	if l.cutAway(first, line) {
		return newProblem(http.StatusGone, "gone", "retention has cut what was asked for")
	}
	l.begun = true
	l.fromByte = max(l.fromByte, min(first, l.toByte))
	h := l.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if l.q.ndjson {
		h.Set("Content-Type", "application/x-ndjson")
	}
	h.Set("Accept-Ranges", "none")
	h.Set("TaskTracer-Bytes", strconv.FormatUint(l.total.bytes, 10))
	h.Set("TaskTracer-Lines", strconv.FormatUint(l.total.lines, 10))
	h.Set("TaskTracer-Last-Seq", strconv.FormatUint(l.total.seq, 10))
	if l.q.plain() {
		h.Set("Accept-Ranges", "bytes")
		h.Set("Content-Length", strconv.FormatUint(l.toByte-l.fromByte, 10))
		if !l.partial {
			h.Set("TaskTracer-First-Byte", strconv.FormatUint(l.fromByte, 10))
		}
	}
	if l.q.download {
		h.Set("Content-Disposition", `attachment; filename="`+fileName(l.key)+`"`)
	}
	status := http.StatusOK
	if l.partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", l.fromByte, l.toByte-1, l.total.bytes))
		status = http.StatusPartialContent
	}
	l.w.WriteHeader(status)
	if l.r.Method == http.MethodHead {
		l.over = true
		return errDone
	}
	return nil
}

// cutAway tells whether nothing of what was asked for is left. first and line are where the log begins that is.
func (l *logAnswer) cutAway(first, line uint64) bool {
	switch {
	case !l.lost:
		return false
	case l.q.lines != nil:
		return line >= l.toLine
	}
	return l.q.plain() && first >= l.toByte
}

var notInFileNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

func fileName(k frame.Key) string {
	n := notInFileNames.ReplaceAllString(k.Task+"-"+k.Client+"-"+k.Run, "_")
	return n[:min(len(n), 120)] + ".log"
}

// gone is told of what retention took. At the beginning the headers say it; later it must not pass for whole.
func (l *logAnswer) gone(g bus.Gone) error {
	l.lost = true
	if l.q.ndjson {
		if !l.begun && l.q.lines != nil {
			return nil // whether anything is left, the next chunk tells
		}
		if err := l.begin(0, 0); err != nil {
			return err
		}
		l.buf = strconv.AppendUint(append(l.buf[:0], `{"type":"GAP","fromSeq":`...), g.From, 10)
		l.buf = strconv.AppendUint(append(l.buf, `,"toSeq":`...), g.To, 10)
		if g.Bytes < 0 {
			l.buf = append(l.buf, `,"bytes":null}`...)
		} else {
			l.buf = append(strconv.AppendInt(append(l.buf, `,"bytes":`...), g.Bytes, 10), '}')
		}
		return l.write(append(l.buf, '\n'))
	}
	if l.begun {
		return errors.New("retention took a part in the middle")
	}
	return nil
}

func (l *logAnswer) write(b []byte) error {
	_, err := l.out.Write(b)
	return err
}

func (l *logAnswer) flush() error {
	if err := l.out.Flush(); err != nil {
		return nil //nolint:nilerr // the caller has gone; the answer is begun, and nobody is there to be told
	}
	_ = http.NewResponseController(l.w).Flush() // a writer that cannot flush does so at the end
	return nil
}

// chunk writes what is asked for of one chunk.
func (l *logAnswer) chunk(st bus.Stored) error {
	c := st.Chunk
	first := !l.begun
	l.lost = l.lost || first && (l.partial && c.Offset > l.fromByte || l.q.lines != nil && c.Line > l.fromLine)
	if first && c.Offset <= l.fromByte && c.Line <= l.fromLine {
		if err := l.begin(l.fromByte, l.fromLine); err != nil {
			return err
		}
	} else if err := l.begin(c.Offset, c.Line); err != nil {
		return err
	}
	offset, line := c.Offset, c.Line
	for i := range c.Records {
		r := &c.Records[i]
		if r.Seq > l.total.seq || offset >= l.toByte && l.q.plain() || line >= l.toLine {
			return errDone
		}
		if err := l.record(r, offset, line); err != nil {
			return err
		}
		if r.Kind.Output() {
			offset += uint64(len(r.Data))
			line += lineFeeds(r)
		}
	}
	if first {
		return l.flush() // the first bytes are not to wait for the next chunks
	}
	return nil
}

// record writes what is asked for of one record, which stands at offset and begins in line (from 0).
func (l *logAnswer) record(r *frame.Record, offset, line uint64) error {
	if !r.Kind.Output() {
		if !l.q.ndjson || line < l.fromLine {
			return nil
		}
		return l.json(r, nil, offset, line)
	}
	from, to := 0, len(r.Data)
	if l.q.plain() {
		if offset < l.fromByte {
			from = int(min(l.fromByte-offset, uint64(len(r.Data))))
		}
		to = int(min(l.toByte-offset, uint64(len(r.Data))))
	}
	if l.q.lines != nil {
		from, to = cutLines(r.Data, line, l.fromLine, l.toLine)
	}
	if from > to || from == to && len(r.Data) > 0 || !l.q.streams.has(r.Kind) {
		return nil
	}
	data := r.Data[from:to]
	if from > 0 {
		offset += uint64(from)
		line += countLines(r.Data[:from])
	}
	if l.q.plain() {
		l.fromByte += uint64(len(data))
		return l.write(data)
	}
	if l.q.strip && r.Kind != frame.Raw {
		l.buf = l.strip[int(r.Kind)-int(frame.Stdout)].strip(l.buf[:0], data)
		data = l.buf
	}
	if l.q.ndjson {
		return l.json(r, data, offset, line)
	}
	return l.write(data)
}

// cutLines gives the part of data, which begins in line, that lies in lines [from, to).
func cutLines(data []byte, line, from, to uint64) (begin, end int) {
	for line < from {
		n := indexLine(data[begin:])
		if n < 0 {
			return len(data), len(data)
		}
		begin += n + 1
		line++
	}
	if to-line > uint64(len(data)) {
		return begin, len(data)
	}
	end = begin
	for ; line < to; line++ {
		n := indexLine(data[end:])
		if n < 0 {
			return begin, len(data)
		}
		end += n + 1
	}
	return begin, end
}

// json writes a record as a line of its own.
func (l *logAnswer) json(r *frame.Record, data []byte, offset, line uint64) error {
	b := make([]byte, 0, len(data)+len(data)/8+256)
	b = strconv.AppendUint(append(b, `{"seq":`...), r.Seq, 10)
	b = strconv.AppendInt(append(b, `,"at":`...), r.At, 10)
	b = append(append(append(b, `,"type":"`...), r.Kind.String()...), '"')
	b = strconv.AppendUint(append(b, `,"offset":`...), offset, 10)
	b = strconv.AppendUint(append(b, `,"line":`...), line+1, 10)
	switch r.Kind {
	case frame.Start:
		info, err := frame.UnmarshalStart(r.Data)
		if err != nil {
			return err
		}
		b = append(append(append(b, `,"start":{"task":`...), orNull(info.Task)...), '}')
	case frame.Exit, frame.Lost:
		info, err := frame.UnmarshalExit(r.Data)
		if err != nil {
			return err
		}
		b = append(append(b, `,"exit":{"code":`...), orNull(info.Code)...)
		b = append(append(b, `,"signal":`...), orNull(info.Signal)...)
		b = append(appendText(append(b, `,"message":`...), info.Message), '}')
	case frame.Note:
		n := noteOf(r)
		b = appendText(append(b, `,"note":{"text":`...), n.Text)
		b = strconv.AppendUint(append(b, `,"lostFrom":`...), n.LostFrom, 10)
		b = strconv.AppendUint(append(b, `,"lostTo":`...), n.LostTo, 10)
		b = append(strconv.AppendUint(append(b, `,"lostBytes":`...), n.LostBytes, 10), '}')
	case frame.Raw:
		if len(r.Data) > 0 {
			b = append(append(b, `,"raw":`...), orNull(r.Data)...)
		}
	default:
		b = append(b, ',')
		if l.q.strip {
			b = appendText(append(b, `"data":`...), data)
		} else {
			b = appendBytes(b, data)
		}
	}
	return l.write(append(b, '}', '\n'))
}
