package frame

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
)

func sampleChunk() *Chunk {
	return &Chunk{
		Epoch: 3, Owner: "ing-1.abc", First: 7, LastSrc: 12, Offset: 100, Line: 4, Held: 120, Stored: time.UnixMicro(1_700_000_000_123_456),
		Records: []Record{
			{Seq: 7, Src: 11, At: 1_700_000_000_120, Kind: Stdout, Data: []byte("a\nb\n")},
			{Seq: 8, Src: 12, At: 1_700_000_000_121, Kind: Stderr, Data: []byte{0xff, 0x00, '\n'}},
			{Seq: 9, At: 1_700_000_000_122, Kind: Note, Data: []byte("x\n")},
		},
	}
}

func TestChunkRoundTrip(t *testing.T) {
	for name, c := range map[string]*Chunk{"records": sampleChunk(), "claim": {Epoch: 1, Owner: "o", First: 1, Stored: time.UnixMicro(5)}} {
		t.Run(name, func(t *testing.T) {
			b, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			got, err := UnmarshalChunk(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c, got); d != "" {
				t.Errorf("UnmarshalChunk(Marshal(c)) differs (-want +got):\n%s", d)
			}
		})
	}
}

func TestChunkEnd(t *testing.T) {
	c := sampleChunk()
	offset, line := c.End()
	if offset != 107 || line != 7 || c.Next() != 10 {
		t.Errorf("End() = %d, %d, Next() = %d, want 107, 7, 10: notes do not count as output", offset, line, c.Next())
	}
}

func TestUnmarshalChunkRefuses(t *testing.T) {
	later := []byte{0x08, 0x02, 0x20, 0x01} // version 2, first_seq 1
	noSeq := []byte{0x08, 0x01}
	kind9 := []byte{0x08, 0x01, 0x20, 0x01, 0x4a, 0x02, 0x08, 0x09}
	for name, b := range map[string][]byte{"rubbish": {0xff}, "empty": {}, "later version": later, "no first seq": noSeq, "unknown kind": kind9} {
		if _, err := UnmarshalChunk(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: UnmarshalChunk(%x) = %v, want ErrMalformed", name, b, err)
		}
	}
}

func TestRunRoundTrip(t *testing.T) {
	want := &Run{
		Key: Key{"ns", "task", "cli", "r1"}, Task: []byte(`{"name":"task"}`), Phase: Exited,
		Started: time.UnixMilli(1000), Ended: time.UnixMilli(3000), Changed: time.UnixMilli(2000),
		Exit: ExitInfo{Code: []byte("2"), Signal: []byte("null")}, Owner: "o", Epoch: 4,
		Checkpoint: Checkpoint{Epoch: 4, Seq: 5, Src: 6, Bytes: 7, Line: 8, StreamSeq: 9, Held: 10}, Connected: true, Legacy: true, FirstStreamSeq: 3, Late: true,
	}
	b, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnmarshalRun(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("UnmarshalRun(Marshal(r)) differs (-want +got):\n%s", d)
	}
}

// What a later version adds to a state is not this one's to drop: while servers are upgraded, each writes what another has written.
func TestRunHandsOnWhatItDoesNotKnow(t *testing.T) {
	known, err := (&Run{Key: Key{"ns", "task", "cli", "r1"}, Phase: Running}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	more := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "of a later version")
	r, err := UnmarshalRun(append(known, more...))
	if err != nil {
		t.Fatal(err)
	}
	r.Phase = Exited
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, more) {
		t.Errorf("%x lacks %x", b, more)
	}
}

// An earlier version did not count what the log holds: it is at least the output.
func TestHeldOfAnEarlierVersion(t *testing.T) {
	b, err := (&Chunk{Epoch: 1, First: 4, Offset: 500}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := UnmarshalChunk(b); err != nil || c.Held != 500 {
		t.Errorf("UnmarshalChunk = %+v, %v, want 500 bytes held", c, err)
	}
	if b, err = (&Run{Phase: Running, Checkpoint: Checkpoint{Bytes: 700}}).Marshal(); err != nil {
		t.Fatal(err)
	}
	if r, err := UnmarshalRun(b); err != nil || r.Checkpoint.Held != 700 {
		t.Errorf("UnmarshalRun = %+v, %v, want 700 bytes held", r, err)
	}
}

func TestInfoRoundTrips(t *testing.T) {
	s := StartInfo{Key: Key{"n", "t", "c", "r"}, Task: []byte(`{"name":"t"}`)}
	b, _ := s.Marshal()
	if got, err := UnmarshalStart(b); err != nil || cmp.Diff(s, got) != "" {
		t.Errorf("UnmarshalStart = %+v, %v, want %+v", got, err, s)
	}
	e := ExitInfo{Code: []byte("999"), Message: "Lost"}
	b, _ = e.Marshal()
	if got, err := UnmarshalExit(b); err != nil || cmp.Diff(e, got) != "" {
		t.Errorf("UnmarshalExit = %+v, %v, want %+v", got, err, e)
	}
	n := NoteInfo{Text: "dropped", LostFrom: 1, LostTo: 2, LostBytes: 3}
	b, _ = n.Marshal()
	if got, err := UnmarshalNote(b); err != nil || cmp.Diff(n, got) != "" {
		t.Errorf("UnmarshalNote = %+v, %v, want %+v", got, err, n)
	}
}

func TestCursor(t *testing.T) {
	for _, want := range []Cursor{{Run: "0aZ-_9", Seq: 1 << 40, Hint: 77}, {Run: "0aZ-_9", Seq: 1 << 40, Hint: 77, Life: 1 << 31}} {
		if got, err := ParseCursor(want.String()); err != nil || got != want {
			t.Errorf("ParseCursor(%q) = %+v, %v, want %+v", want.String(), got, err, want)
		}
	}
	if got, err := ParseCursor("AQECcg"); err != nil || got != (Cursor{Run: "r", Seq: 1, Hint: 2}) { // as they were before there were lives
		t.Errorf("ParseCursor = %+v, %v", got, err)
	}
	for _, s := range []string{"", "!", "AA", "AQ", "AQEB", "AwEBcg", "AgEBcg", "AgEBAAAAAHI", Cursor{Run: string(make([]byte, MaxRun+1))}.String(), string(make([]byte, 10_000))} {
		if got, err := ParseCursor(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseCursor(%.20q) = %+v, %v, want ErrMalformed", s, got, err)
		}
	}
}

func FuzzUnmarshalChunk(f *testing.F) {
	b, _ := sampleChunk().Marshal()
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := UnmarshalChunk(data)
		if err != nil {
			return
		}
		b, err := c.Marshal()
		if err != nil {
			t.Skip() // a field that is not UTF-8 cannot be stored, and never is
		}
		again, err := UnmarshalChunk(b)
		if err != nil || cmp.Diff(c, again) != "" {
			t.Errorf("a chunk that was read does not survive being stored: %v\n%s", err, cmp.Diff(c, again))
		}
	})
}

func FuzzUnmarshalRun(f *testing.F) {
	run := Run{Key: Key{"ns", "t", "c", "r"}, Phase: Detached, Started: time.UnixMilli(5), Owner: "ing-1", Epoch: 2, Checkpoint: Checkpoint{Seq: 3}, Late: true}
	data, err := run.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{})
	f.Add([]byte("\x08\x02")) // a later version
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := UnmarshalRun(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("UnmarshalRun(%q) = %v, want one of ErrMalformed", data, err)
			}
			return
		}
		again, err := r.Marshal()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if twice, err := UnmarshalRun(again); err != nil || cmp.Diff(r, twice) != "" {
			t.Errorf("read, written and read again: %v, %s", err, cmp.Diff(r, twice))
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add(Cursor{Run: "r", Seq: 1, Hint: 2}.String())
	f.Add(Cursor{Run: "r", Seq: 1, Hint: 2, Life: 3}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			return
		}
		if again, err := ParseCursor(c.String()); err != nil || again != c {
			t.Errorf("ParseCursor(%q.String()) = %+v, %v", s, again, err)
		}
	})
}
