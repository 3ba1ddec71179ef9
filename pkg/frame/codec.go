package frame

import (
	"bytes"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "tasktracer/proto/tasktracer/v1"
)

// version is the format of stored chunks and states. A reader refuses a later one: it would not know what it misses.
const version = 1

// Marshal gives the stored form of c: the protobuf message tasktracer.v1.Chunk.
func (c *Chunk) Marshal() ([]byte, error) {
	m := &pb.Chunk{
		Version: version, Epoch: c.Epoch, Owner: c.Owner, FirstSeq: c.First, LastSrc: c.LastSrc,
		Offset: c.Offset, Line: c.Line, StoredAtUs: c.Stored.UnixMicro(), Held: c.Held,
	}
	if len(c.Records) > 0 {
		flat := make([]pb.Record, len(c.Records))
		m.Records = make([]*pb.Record, len(c.Records))
		for i, r := range c.Records {
			p := &flat[i]
			p.Kind, p.Src, p.AtMs, p.Data = pb.Kind(r.Kind), r.Src, r.At, r.Data
			m.Records[i] = p
		}
	}
	return proto.Marshal(m)
}

// UnmarshalChunk reads the stored form. The chunk shares no memory with data. Its error wraps ErrMalformed.
func UnmarshalChunk(data []byte) (*Chunk, error) {
	var m pb.Chunk
	if err := proto.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("chunk: %w: %w", ErrMalformed, err)
	}
	if m.Version != version {
		return nil, fmt.Errorf("chunk: %w: %w: version %d, this program reads %d", ErrMalformed, ErrVersion, m.Version, version)
	}
	if m.FirstSeq == 0 || m.FirstSeq+uint64(len(m.Records)) < m.FirstSeq {
		return nil, fmt.Errorf("chunk: %w: first seq %d", ErrMalformed, m.FirstSeq)
	}
	c := &Chunk{
		Epoch: m.Epoch, Owner: m.Owner, First: m.FirstSeq, LastSrc: m.LastSrc,
		Offset: m.Offset, Line: m.Line, Stored: time.UnixMicro(m.StoredAtUs), Held: max(m.Held, m.Offset),
	}
	if len(m.Records) > 0 {
		c.Records = make([]Record, len(m.Records))
	}
	for i, p := range m.Records {
		if p.Kind <= 0 || p.Kind > pb.Kind_KIND_LOST {
			return nil, fmt.Errorf("chunk: %w: record of kind %d", ErrMalformed, p.Kind)
		}
		c.Records[i] = Record{Seq: m.FirstSeq + uint64(i), Src: p.Src, At: p.AtMs, Kind: Kind(p.Kind), Data: p.Data}
	}
	return c, nil
}

// StartInfo is the data of a Start record.
type StartInfo struct {
	Key Key
	// Task is the task object as the client sent it, JSON text, its environment taken out.
	Task []byte
	// Late says that the run's process had ended when this was stored.
	Late bool
}

// Marshal gives the stored form.
func (s StartInfo) Marshal() ([]byte, error) {
	return proto.Marshal(&pb.Start{Namespace: s.Key.Namespace, Task: s.Key.Task, Client: s.Key.Client, Run: s.Key.Run, TaskObject: s.Task, Late: s.Late})
}

// UnmarshalStart reads the data of a Start record. Its error wraps ErrMalformed.
func UnmarshalStart(data []byte) (StartInfo, error) {
	var m pb.Start
	if err := proto.Unmarshal(data, &m); err != nil {
		return StartInfo{}, fmt.Errorf("start: %w: %w", ErrMalformed, err)
	}
	return StartInfo{Key: Key{m.Namespace, m.Task, m.Client, m.Run}, Task: m.TaskObject, Late: m.Late}, nil
}

// ExitInfo is the data of an Exit and of a Lost record.
type ExitInfo struct {
	// Code and Signal are JSON text as the client sent it, empty where it sent none; older clients may send any value.
	Code, Signal []byte
	// Message is set where the server ended the run.
	Message string
}

// Marshal gives the stored form.
func (e ExitInfo) Marshal() ([]byte, error) {
	return proto.Marshal(&pb.Exit{Code: e.Code, Signal: e.Signal, Message: e.Message})
}

// UnmarshalExit reads the data of an Exit or a Lost record. Its error wraps ErrMalformed.
func UnmarshalExit(data []byte) (ExitInfo, error) {
	var m pb.Exit
	if err := proto.Unmarshal(data, &m); err != nil {
		return ExitInfo{}, fmt.Errorf("exit: %w: %w", ErrMalformed, err)
	}
	return ExitInfo{Code: m.Code, Signal: m.Signal, Message: m.Message}, nil
}

// NoteInfo is the data of a Note record.
type NoteInfo struct {
	Text string
	// LostFrom to LostTo are the src numbers of what the client had to drop, LostBytes its size; all 0 where nothing was lost.
	LostFrom, LostTo, LostBytes uint64
}

// Marshal gives the stored form.
func (n NoteInfo) Marshal() ([]byte, error) {
	return proto.Marshal(&pb.Note{Text: n.Text, LostFrom: n.LostFrom, LostTo: n.LostTo, LostBytes: n.LostBytes})
}

// UnmarshalNote reads the data of a Note record. Its error wraps ErrMalformed.
func UnmarshalNote(data []byte) (NoteInfo, error) {
	var m pb.Note
	if err := proto.Unmarshal(data, &m); err != nil {
		return NoteInfo{}, fmt.Errorf("note: %w: %w", ErrMalformed, err)
	}
	return NoteInfo{Text: m.Text, LostFrom: m.LostFrom, LostTo: m.LostTo, LostBytes: m.LostBytes}, nil
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
