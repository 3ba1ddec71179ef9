package trace

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/trace/spool"
)

// appendData appends the JSON of records as the argument of a data event.
func appendData(b []byte, recs []spool.Record) []byte {
	b = append(b, '[')
	for i := range recs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOne(b, &recs[i])
	}
	return append(b, ']')
}

func appendOne(b []byte, r *spool.Record) []byte {
	b = appendNumbers(b, r)
	b = append(b, `,"type":"`...)
	b = append(b, r.Kind.String()...)
	b = append(b, `",`...)
	// Text that escaping would more than double is smaller as base64, and a packet has a limit.
	if escapes, text := measure(r.Data); text && escapes <= len(r.Data)/3 {
		b = append(b, `"data":"`...)
		b = appendEscaped(b, r.Data)
	} else if text && len(r.Data) < 1<<10 {
		b = append(b, `"data":"`...)
		b = appendEscaped(b, r.Data)
	} else {
		b = append(b, `"b64":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.Data)
	}
	return append(b, `"}`...)
}

func appendNumbers(b []byte, r *spool.Record) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, r.Src, 10)
	b = append(b, `,"at":`...)
	return strconv.AppendInt(b, r.At, 10)
}

// appendLost appends the JSON of a data event that stands for records the client does not have any more.
func appendLost(b []byte, gap *spool.Gap, why string) []byte {
	text := "an unknown number of bytes of output " + why
	if gap.Bytes >= 0 {
		text = strconv.FormatInt(gap.Bytes, 10) + " bytes of output " + why
	}
	b = append(b, '[')
	b = appendNumbers(b, &spool.Record{Src: gap.To, At: gap.At})
	b = append(b, `,"type":"NOTE","data":"`...)
	b = appendEscaped(b, []byte(text))
	b = append(b, `","lost":{"from":`...)
	b = strconv.AppendUint(b, gap.From, 10)
	b = append(b, `,"to":`...)
	b = strconv.AppendUint(b, gap.To, 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, max(gap.Bytes, 0), 10)
	return append(b, "}}]"...)
}

// exitData is what the data of an EXIT record in the spool says.
type exitData struct {
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
}

// appendEOF appends the JSON of an eof event's argument. The data of an EXIT record is a JSON object that is not empty.
func appendEOF(b []byte, r *spool.Record) []byte {
	b = appendNumbers(b, r)
	b = append(b, ',')
	return append(b, r.Data[1:]...)
}

func (e exitData) marshal() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // a number and a string
	}
	return b
}

// measure tells whether b is UTF-8, and how many bytes of it escaping adds, counted roughly.
func measure(b []byte) (escapes int, text bool) {
	if !utf8.Valid(b) {
		return 0, false
	}
	for _, c := range b {
		if c < 0x20 && c != '\n' && c != '\t' && c != '\r' {
			escapes += 5
		} else if c == '"' || c == '\\' {
			escapes++
		}
	}
	return escapes, true
}

const hex = "0123456789abcdef"

// appendEscaped appends text as the inside of a JSON string.
func appendEscaped(b, text []byte) []byte {
	start := 0
	for i, c := range text {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[start:i]...)
		start = i + 1
		switch c {
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '"', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(b, text[start:]...)
}

// outputBytes is how much of the command's output the record holds.
func outputBytes(kind frame.Kind, data []byte) int {
	if kind.Output() {
		return len(data)
	}
	return 0
}
