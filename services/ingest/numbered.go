package ingest

import (
	"encoding/json"
	"errors"
	"fmt"

	"tasktracer/pkg/frame"
)

// maxPacket is the most output in one data event of a client that numbers, in bytes.
const maxPacket = 1 << 20

var (
	errTooLarge  = errors.New("too large")
	errMalformed = errors.New("malformed")
)

// wireRecord is one record as a client that numbers sends it.
type wireRecord struct {
	Seq  uint64  `json:"seq"`
	At   int64   `json:"at"`
	Type string  `json:"type"`
	Data *string `json:"data"`
	B64  []byte  `json:"b64"`
	Lost *struct {
		From  uint64 `json:"from"`
		To    uint64 `json:"to"`
		Bytes uint64 `json:"bytes"`
	} `json:"lost"`
}

// parsePacket reads the argument of a data event. Errors: errTooLarge, errMalformed. Whether the numbers fit is for the log to say.
func parsePacket(arg json.RawMessage) ([]frame.Record, error) {
	var in []wireRecord
	if len(arg) == 0 || arg[0] != '[' {
		return nil, fmt.Errorf("%w: data is not an array", errMalformed)
	}
	if err := json.Unmarshal(arg, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	recs, size := make([]frame.Record, len(in)), 0
	for i := range in {
		r, err := in[i].record()
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", in[i].Seq, err)
		}
		if size += len(r.Data); len(r.Data) > frame.MaxRecord || size > maxPacket {
			return nil, fmt.Errorf("record %d: %w", in[i].Seq, errTooLarge)
		}
		recs[i] = r
	}
	return recs, nil
}

func (w *wireRecord) record() (frame.Record, error) {
	r := frame.Record{Src: w.Seq, At: w.At, Data: w.B64}
	if w.Data != nil {
		r.Data = []byte(*w.Data)
	}
	switch kind, output := outputKind(w.Type); {
	case w.Seq == 0 || w.Seq == 1<<64-1:
		return r, fmt.Errorf("%w: seq", errMalformed)
	case w.Data != nil && w.B64 != nil:
		return r, fmt.Errorf("%w: both data and b64", errMalformed)
	case output && w.Lost == nil:
		r.Kind = kind
		return r, nil
	case w.Type == "NOTE":
		return w.note(r)
	}
	return r, fmt.Errorf("%w: type %.20q", errMalformed, w.Type)
}

func (w *wireRecord) note(r frame.Record) (frame.Record, error) {
	n := frame.NoteInfo{Text: string(r.Data)}
	if l := w.Lost; l != nil {
		if l.From == 0 || l.To < l.From || l.To == 1<<64-1 {
			return r, fmt.Errorf("%w: lost", errMalformed)
		}
		n.LostFrom, n.LostTo, n.LostBytes = l.From, l.To, l.Bytes
	}
	data, err := n.Marshal()
	if err != nil {
		return r, fmt.Errorf("%w: note: %w", errMalformed, err) // b64 that is no text
	}
	r.Kind, r.Data = frame.Note, data
	return r, nil
}

// numberedExit is an eof of a client that numbers.
type numberedExit struct {
	seq  uint64
	at   int64
	info frame.ExitInfo
}

func parseNumberedExit(arg json.RawMessage) (numberedExit, error) {
	var m struct {
		Seq uint64 `json:"seq"`
		At  int64  `json:"at"`
	}
	if err := json.Unmarshal(arg, &m); err != nil || m.Seq == 0 || m.Seq == 1<<64-1 {
		return numberedExit{}, fmt.Errorf("%w: eof", errMalformed)
	}
	info, ok := exitOf(arg)
	if !ok {
		return numberedExit{}, fmt.Errorf("%w: eof", errMalformed)
	}
	return numberedExit{m.Seq, m.At, info}, nil
}
