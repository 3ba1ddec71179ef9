package bus

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
	pb "tasktracer/proto/tasktracer/v1"
)

// While servers are upgraded some write what others do not know yet. Those leave it alone, and say what it is: nothing is overwritten, and nobody is
// told that a run does not exist.
func TestLaterVersion(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	st := watchStates(t, b)
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "known"))
	sync_(t, a)
	st.await(t, run.Key.Run, "runs", func(r frame.Run) bool { return r.Phase == frame.Running })

	chunk, err := proto.Marshal(&pb.Chunk{Version: 2, Epoch: 2, Owner: "ing-2", FirstSeq: 3, LastSrc: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.publishAny(deadline(t), prefixIn+path(run.Key), nil, chunk); err != nil {
		t.Fatal(err)
	}
	submit(t, a, out(2, "in flight"))
	<-a.Taken()
	if !errors.Is(a.Err(), ErrTaken) {
		t.Errorf("the former owner ends with %v, want %v", a.Err(), ErrTaken)
	}
	_ = a.Release(deadline(t)) // it was taken
	if _, err := b.Take(deadline(t), "ing-3", run); !errors.Is(err, frame.ErrVersion) {
		t.Errorf("Take = %v, want %v", err, frame.ErrVersion)
	}
	var text string
	collect := func(s Stored) error { text += outputOf(s.Chunk); return nil }
	whole := func(g Gone) error { return fmt.Errorf("%+v is gone", g) }
	for what, read := range map[string]func() error{
		"Read":            func() error { return b.Read(deadline(t), run.Key, 0, 0, collect, whole) },
		"Catch":           func() error { return b.Catch(deadline(t), run.Key, 0, 0, collect, whole) },
		"Read from known": func() error { return b.Read(deadline(t), run.Key, 1, 0, collect, whole) },
		"Catch from known": func() error {
			after, hint, err := b.LocateByte(deadline(t), run.Key, 0)
			if err != nil {
				return err
			}
			return b.Catch(deadline(t), run.Key, after, hint, collect, whole)
		},
	} {
		text = ""
		if err := read(); !errors.Is(err, frame.ErrVersion) || text != "known" {
			t.Errorf("%s = %v behind %q, want %v behind what can be read", what, err, text, frame.ErrVersion)
		}
	}
	for what, read := range map[string]func() error{
		"Tail":       func() error { _, err := b.Tail(deadline(t), run.Key); return err },
		"NearTail":   func() error { _, err := b.NearTail(deadline(t), run.Key); return err },
		"TailWithin": func() error { _, err := b.TailWithin(deadline(t), run.Key, time.Minute); return err },
		"Read behind": func() error {
			return b.Read(deadline(t), run.Key, 2, 0, func(s Stored) error { return fmt.Errorf("%d was read", s.StreamSeq) }, whole)
		},
	} {
		if err := read(); !errors.Is(err, frame.ErrVersion) {
			t.Errorf("%s = %v, want %v", what, err, frame.ErrVersion)
		}
	}

	settling(t, b, 0)
	canary := take(t, b, "ing-1", newRun(t))
	if err := canary.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	st.await(t, canary.run.Key.Run, "is settled", func(r frame.Run) bool { return r.Phase == frame.Gone })
	if m, err := b.lastMessage(deadline(t), logStream, prefixIn+path(run.Key)); err != nil || string(m.data) != string(chunk) {
		t.Errorf("settling has written behind what it cannot read: %v", err)
	}
	state, err := proto.Marshal(&pb.RunState{Version: 2, Run: run.Key.Run, Phase: pb.Phase_PHASE_RUNNING})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.publishAny(deadline(t), stateSubject(path(run.Key)), nil, state); err != nil {
		t.Fatal(err)
	}
	if _, err := b.readState(deadline(t), path(run.Key)); !errors.Is(err, frame.ErrVersion) {
		t.Errorf("readState = %v, want %v", err, frame.ErrVersion)
	}
	ended := take(t, b, "ing-1", newRun(t)) // the watch goes on behind it
	st.await(t, ended.run.Key.Run, "runs", func(r frame.Run) bool { return r.Connected })
}

func outputOf(c *frame.Chunk) (text string) {
	for i := range c.Records {
		if r := &c.Records[i]; r.Kind.Output() {
			text += string(r.Data)
		}
	}
	return text
}

// What a later version has added to a run's state is still there when this one has had the run.
func TestStateOfALaterVersionIsHandedOn(t *testing.T) {
	t.Parallel()
	b := open(t, startServer(t, natsd.Config{}))
	run := newRun(t)
	if err := take(t, b, "ing-1", run).Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	subject := stateSubject(path(run.Key))
	more := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "of a later version")
	was, err := b.lastMessage(deadline(t), stateStream, subject)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.publishAny(deadline(t), subject, nil, append(was.data, more...)); err != nil {
		t.Fatal(err)
	}
	a := take(t, b, "ing-2", run)
	submit(t, a, exit(1, "0"))
	if err := a.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	is, err := b.lastMessage(deadline(t), stateStream, subject)
	if err != nil || !bytes.Contains(is.data, more) {
		t.Errorf("the state is %q, %v, want what the later version added in it", is.data, err)
	}
}
