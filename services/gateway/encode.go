package gateway

import (
	"strconv"
	"unicode/utf8"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/socketio"
)

// flavour is one of the forms in which a viewer gets data.
type flavour uint8

const (
	legacy  flavour = iota // one event per record, text only
	single                 // one event per record, with cursors
	batched                // one event per chunk, with cursors
)

// piece is one step of what is sent for a chunk: a message that is the same for all viewers of a flavour, or a record that needs a look first.
type piece struct {
	msg *socketio.Message
	// rec is set for START, EXIT and LOST. A START has no msg: it says how the run stands now.
	rec  *frame.Record
	size int // bytes of msg, about
}

// encoder makes the pieces of one chunk.
type encoder struct {
	f     flavour
	from  string
	at    frame.Cursor // of the chunk: run, place and life
	carry carry
	out   []piece
	buf   []byte
}

// encode gives the pieces of c's records, but the first skip of them. left is what is held back of unfinished characters, with legacy.
func encode(f flavour, from string, at frame.Cursor, c *frame.Chunk, skip int, held carry) (pieces []piece, left carry) {
	e := &encoder{f: f, from: from, at: at, carry: held}
	recs := c.Records[skip:]
	line := c.Line
	for i := range c.Records[:skip] {
		line += lineFeeds(&c.Records[i])
	}
	if f != batched {
		e.out = make([]piece, 0, len(recs))
	}
	for i := 0; i < len(recs); {
		r := &recs[i]
		if f == batched && inBatch(r) {
			n := 1
			for i+n < len(recs) && inBatch(&recs[i+n]) {
				n++
			}
			e.batch(recs[i:i+n], line)
			for j := range recs[i : i+n] {
				line += lineFeeds(&recs[i+j])
			}
			i += n
			continue
		}
		e.one(r)
		line += lineFeeds(r)
		i++
	}
	return e.out, e.carry
}

func (e *encoder) one(r *frame.Record) {
	switch {
	case r.Kind == frame.Start:
		e.out = append(e.out, piece{rec: r})
	case r.Kind == frame.Exit || r.Kind == frame.Lost:
		e.flushCarry()
		e.end(r)
	case r.Kind == frame.Note && e.f != legacy && noteOf(r).LostTo > 0:
		e.clientGap(r)
	case e.f == legacy:
		e.legacyData(r)
	default:
		e.begin(r.Seq)
		e.buf = append(e.buf, `,"data":`...)
		e.record(r)
		e.send("data", nil)
	}
}

// inBatch tells whether r is one of a data event's list, rather than an event of its own.
func inBatch(r *frame.Record) bool {
	switch r.Kind {
	case frame.Start, frame.Exit, frame.Lost:
		return false
	case frame.Note:
		return noteOf(r).LostTo == 0
	}
	return true
}

// begin writes what every event starts with; cursor is the place behind seq.
func (e *encoder) begin(seq uint64) {
	e.buf = appendText(append(e.buf[:0], `{"from":`...), e.from)
	if e.f != legacy {
		e.buf = appendText(append(e.buf, `,"run":`...), e.at.Run)
		e.at.Seq = seq
		e.buf = appendText(append(e.buf, `,"cursor":`...), e.at.String())
	}
}

// send closes the object and makes it a message.
func (e *encoder) send(event string, rec *frame.Record) {
	e.buf = append(e.buf, '}')
	arg := e.buf
	if cap(arg)-len(arg) > len(arg)/4 {
		arg = append(make([]byte, 0, len(e.buf)), e.buf...)
	} else {
		e.buf = nil // a large one is given away rather than copied
	}
	e.out = append(e.out, piece{msg: socketio.NewRawMessage(event, arg), rec: rec, size: len(arg)})
}

func (e *encoder) batch(recs []frame.Record, line uint64) {
	n := 256
	for i := range recs {
		n += len(recs[i].Data) + len(recs[i].Data)/16 + 80
	}
	e.buf = make([]byte, 0, n)
	e.begin(recs[len(recs)-1].Seq)
	e.buf = append(e.buf, `,"line":`...)
	e.buf = strconv.AppendUint(e.buf, line, 10)
	e.buf = append(e.buf, `,"data":[`...)
	for i := range recs {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.record(&recs[i])
	}
	e.buf = append(e.buf, ']')
	e.send("data", nil)
}

// record writes {seq, at, type, data | b64}.
func (e *encoder) record(r *frame.Record) {
	e.buf = strconv.AppendUint(append(e.buf, `{"seq":`...), r.Seq, 10)
	e.buf = strconv.AppendInt(append(e.buf, `,"at":`...), r.At, 10)
	e.buf = append(append(append(e.buf, `,"type":"`...), r.Kind.String()...), '"')
	switch {
	case r.Kind == frame.Note:
		e.buf = appendText(append(e.buf, `,"data":`...), noteOf(r).Text)
	case r.Kind != frame.Raw:
		e.buf = appendBytes(append(e.buf, ','), r.Data)
	case len(r.Data) > 0:
		e.buf = append(append(e.buf, `,"data":`...), r.Data...)
	}
	e.buf = append(e.buf, '}')
}

func (e *encoder) legacyData(r *frame.Record) {
	switch r.Kind {
	case frame.Note:
		e.legacyText("NOTE", noteOf(r).Text)
	case frame.Raw:
		e.begin(0)
		if len(r.Data) > 0 {
			e.buf = append(append(e.buf, `,"data":`...), r.Data...)
		}
		e.send("data", nil)
	default:
		whole := e.carry.take(r.Kind, r.Data)
		if len(whole) > 0 || len(r.Data) == 0 {
			e.legacyText(r.Kind.String(), string(whole))
		}
	}
}

func (e *encoder) legacyText(kind, s string) {
	e.begin(0)
	e.buf = append(append(append(e.buf, `,"data":{"type":"`...), kind...), `","data":`...)
	e.buf = append(appendText(e.buf, s), '}')
	e.send("data", nil)
}

// flushCarry sends unfinished characters when nothing can finish them any more.
func (e *encoder) flushCarry() {
	if e.f != legacy {
		return
	}
	for _, k := range []frame.Kind{frame.Stdout, frame.Stderr} {
		if b := e.carry.flush(k); b != "" {
			e.legacyText(k.String(), b)
		}
	}
}

func (e *encoder) end(r *frame.Record) {
	info, err := frame.UnmarshalExit(r.Data)
	if err != nil { // ingest made it; a viewer is better told of an end without a reason than of none
		info = frame.ExitInfo{}
	}
	e.begin(r.Seq)
	if len(info.Code) > 0 {
		e.buf = append(append(e.buf, `,"code":`...), info.Code...)
	}
	if len(info.Signal) > 0 {
		e.buf = append(append(e.buf, `,"signal":`...), info.Signal...)
	}
	if info.Message != "" {
		e.buf = appendText(append(e.buf, `,"message":`...), info.Message)
	}
	e.send("eof", r)
}

// clientGap tells of output that the client had to drop. It never had a seq: the gap stands at the seq of the note.
func (e *encoder) clientGap(r *frame.Record) {
	n := noteOf(r)
	e.begin(r.Seq)
	e.buf = strconv.AppendUint(append(e.buf, `,"fromSeq":`...), r.Seq, 10)
	e.buf = strconv.AppendUint(append(e.buf, `,"toSeq":`...), r.Seq, 10)
	e.buf = append(e.buf, `,"bytes":`...)
	if n.LostBytes > 0 {
		e.buf = strconv.AppendUint(e.buf, n.LostBytes, 10)
	} else {
		e.buf = append(e.buf, `null`...) // the client does not know
	}
	e.buf = append(e.buf, `,"reason":"client"`...)
	e.buf = appendText(append(e.buf, `,"message":`...), n.Text)
	e.send("gap", nil)
}

func noteOf(r *frame.Record) frame.NoteInfo {
	n, err := frame.UnmarshalNote(r.Data)
	if err != nil {
		return frame.NoteInfo{Text: "a note that cannot be read"}
	}
	return n
}

// carry holds the bytes of an unfinished character of each stream, until the record that finishes it. Comparable: it is part of a cache's key.
type carry struct{ out, err string }

// take gives what is whole of the held bytes and b, and holds the rest.
func (c *carry) take(k frame.Kind, b []byte) []byte {
	held := &c.out
	if k == frame.Stderr {
		held = &c.err
	}
	if *held != "" {
		b = append([]byte(*held), b...)
	}
	n := unfinished(b)
	*held = string(b[len(b)-n:])
	return b[:len(b)-n]
}

func (c *carry) flush(k frame.Kind) (b string) {
	if k == frame.Stderr {
		b, c.err = c.err, ""
		return b
	}
	b, c.out = c.out, ""
	return b
}

// unfinished is how many bytes at the end of b are the beginning of a character, 0 to 3.
func unfinished(b []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(b)); n++ {
		tail := b[len(b)-n:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		if utf8.FullRune(tail) {
			return 0
		}
		return n
	}
	return 0
}

func lineFeeds(r *frame.Record) uint64 {
	if !r.Kind.Output() {
		return 0
	}
	return countLines(r.Data)
}
