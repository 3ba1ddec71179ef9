package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"tasktracer/pkg/frame"
)

// maxExitValue is the largest code or signal that is kept, in bytes of JSON; a larger one is no exit code.
const maxExitValue = 1 << 10

// legacyData makes records of one data event of a client that does not number: {type: STDOUT or STDERR, data: text} exactly becomes output,
// everything else is kept as the JSON text it is. present is false where the event had no argument. dropped is the size of a payload that is
// too large to be kept, 0 otherwise; a NOTE then stands in its place.
func legacyData(arg json.RawMessage, present bool, at int64) (recs []frame.Record, dropped int) {
	if !present {
		return []frame.Record{{At: at, Kind: frame.Raw}}, 0
	}
	if kind, text, ok := outputOf(arg); ok {
		return split(kind, text, at), 0
	}
	if len(arg) <= frame.MaxRecord {
		return []frame.Record{{At: at, Kind: frame.Raw, Data: bytes.Clone(arg)}}, 0
	}
	note, err := frame.NoteInfo{
		Text:      fmt.Sprintf("A message of %d bytes was left out: only text output may be larger than %d.", len(arg), frame.MaxRecord),
		LostBytes: uint64(len(arg)),
	}.Marshal()
	if err != nil {
		return nil, len(arg)
	}
	return []frame.Record{{At: at, Kind: frame.Note, Data: note}}, len(arg)
}

// outputOf reads {type, data}, if arg is exactly that.
func outputOf(arg json.RawMessage) (kind frame.Kind, text string, ok bool) {
	if len(arg) == 0 || arg[0] != '{' {
		return 0, "", false
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(arg, &m) != nil || len(m) != 2 {
		return 0, "", false
	}
	data := m["data"]
	if len(data) == 0 || data[0] != '"' || json.Unmarshal(data, &text) != nil {
		return 0, "", false
	}
	kind, ok = outputKind(asString(m["type"]))
	return kind, text, ok
}

func outputKind(name string) (frame.Kind, bool) {
	switch name {
	case "STDOUT":
		return frame.Stdout, true
	case "STDERR":
		return frame.Stderr, true
	}
	return 0, false
}

// split cuts text into records of at most MaxRecord, between characters.
func split(kind frame.Kind, text string, at int64) []frame.Record {
	var recs []frame.Record
	for len(text) > frame.MaxRecord {
		n := frame.MaxRecord
		for n > frame.MaxRecord-utf8.UTFMax && !utf8.RuneStart(text[n]) {
			n--
		}
		recs = append(recs, frame.Record{At: at, Kind: kind, Data: []byte(text[:n])})
		text = text[n:]
	}
	return append(recs, frame.Record{At: at, Kind: kind, Data: []byte(text)})
}

// exitOf reads an eof's code and signal, as JSON text; empty where there was none. ok is false for an eof that says nothing at all: no
// argument, or null. It is ignored, as the older system did.
func exitOf(arg json.RawMessage) (info frame.ExitInfo, ok bool) {
	if len(arg) == 0 || string(arg) == "null" {
		return info, false
	}
	var m struct{ Code, Signal json.RawMessage }
	if json.Unmarshal(arg, &m) != nil {
		return info, true
	}
	if len(m.Code) <= maxExitValue {
		info.Code = m.Code
	}
	if len(m.Signal) <= maxExitValue {
		info.Signal = m.Signal
	}
	return info, true
}
