package frame

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "tasktracer/proto/tasktracer/v1"
)

// Phase is where a run stands.
type Phase uint8

// The phases of a run. Running and Detached are "in"; Lost may become Running again.
const (
	Running  Phase = 1
	Detached Phase = 2 // the client's connection is lost, the grace period has not passed
	Exited   Phase = 3
	Gone     Phase = 4 // on the wire "lost": the grace period passed without the client
)

// String is the name used on the wire.
func (p Phase) String() string {
	switch p {
	case Running:
		return "running"
	case Detached:
		return "detached"
	case Exited:
		return "exited"
	case Gone:
		return "lost"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Ended tells whether nothing more is expected of the run.
func (p Phase) Ended() bool { return p == Exited || p == Gone }

// Run is what is known about a run beside its log: the value of its key in the state bucket.
type Run struct {
	Key Key
	// Task is the task object as the client sent it, JSON text, its environment taken out.
	Task  []byte
	Phase Phase
	// Started, Ended and Changed are by the clock of the ingest that wrote them; Ended is zero while the run is not ended.
	Started, Ended, Changed time.Time
	// Exit is how the run ended, once it has.
	Exit ExitInfo
	// Owner is the incarnation of the ingest process that owns the run, Epoch the owner's number.
	Owner string
	Epoch uint64
	// Checkpoint is where the log stood at the last write of the state; the log may be ahead of it.
	Checkpoint Checkpoint
	// Connected tells whether the client's connection is there; a run may have exited and still be connected.
	Connected bool
	// Legacy runs end for good when their connection is lost.
	Legacy bool
	// FirstStreamSeq is the stream sequence of the run's START, recorded once: the greater one began later. 0 where unknown.
	FirstStreamSeq uint64
	// Later is what a later version has added to the state: it is handed on as it is.
	Later []byte
	// Late says that what comes of the run is delivered after its process has ended: it is history, not live. Once so, it stays so.
	Late bool
}

// Checkpoint is where a run's log stood. Bytes is of output; Held is what all of the run's chunks take in the log, those that were removed included.
type Checkpoint struct {
	Epoch, Seq, Src, Bytes, Line, StreamSeq, Held uint64
}

// Present tells whether the run's client is there, as viewers see it: what is delivered late brings nobody in.
func (r *Run) Present() bool { return r.Connected && !r.Late }

// Past tells whether the run is history: it has ended, or what still comes of it comes late.
func (r *Run) Past() bool { return r.Phase.Ended() || r.Late }

// Marshal gives the stored form.
func (r *Run) Marshal() ([]byte, error) {
	c := r.Checkpoint
	m := &pb.RunState{
		Version: version, Namespace: r.Key.Namespace, Task: r.Key.Task, Client: r.Key.Client, Run: r.Key.Run,
		TaskObject: r.Task, Phase: pb.Phase(r.Phase), StartedAtMs: millis(r.Started), EndedAtMs: millis(r.Ended), ChangedAtMs: millis(r.Changed),
		Code: r.Exit.Code, Signal: r.Exit.Signal, Message: r.Exit.Message, Owner: r.Owner, Epoch: r.Epoch,
		Checkpoint: &pb.Checkpoint{Epoch: c.Epoch, Seq: c.Seq, Src: c.Src, Bytes: c.Bytes, Line: c.Line, StreamSeq: c.StreamSeq, Held: c.Held},
		Connected:  r.Connected, Legacy: r.Legacy, FirstStreamSeq: r.FirstStreamSeq, Late: r.Late,
	}
	m.ProtoReflect().SetUnknown(r.Later)
	return proto.Marshal(m)
}

// UnmarshalRun reads the stored form. Its error wraps ErrMalformed.
func UnmarshalRun(data []byte) (*Run, error) {
	var m pb.RunState
	if err := proto.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("run state: %w: %w", ErrMalformed, err)
	}
	if m.Version != version {
		return nil, fmt.Errorf("run state: %w: %w: version %d, this program reads %d", ErrMalformed, ErrVersion, m.Version, version)
	}
	if m.Phase <= 0 || m.Phase > pb.Phase_PHASE_LOST {
		return nil, fmt.Errorf("run state: %w: phase %d", ErrMalformed, m.Phase)
	}
	c := m.GetCheckpoint()
	return &Run{
		Key: Key{m.Namespace, m.Task, m.Client, m.Run}, Task: m.TaskObject, Phase: Phase(m.Phase),
		Started: fromMillis(m.StartedAtMs), Ended: fromMillis(m.EndedAtMs), Changed: fromMillis(m.ChangedAtMs),
		Exit:  ExitInfo{Code: m.Code, Signal: m.Signal, Message: m.Message},
		Owner: m.Owner, Epoch: m.Epoch,
		Checkpoint: Checkpoint{Epoch: c.GetEpoch(), Seq: c.GetSeq(), Src: c.GetSrc(), Bytes: c.GetBytes(), Line: c.GetLine(), StreamSeq: c.GetStreamSeq(), Held: max(c.GetHeld(), c.GetBytes())},
		Connected:  m.Connected, Legacy: m.Legacy, FirstStreamSeq: m.FirstStreamSeq, Late: m.Late,
		Later: m.ProtoReflect().GetUnknown(),
	}, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
