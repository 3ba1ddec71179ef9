package bus

// CONTRACT: signatures other parts are written against. The owner of this package replaces this file by the real ones;
// names and meanings stay unless told otherwise.

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"tasktracer/pkg/frame"
)

// Config says how to reach NATS and how the log is kept.
type Config struct {
	URL       string                                         // empty with InProcess
	InProcess interface{ InProcessConn() (net.Conn, error) } // the embedded server (pkg/natsd), or nil
	Name      string                                         // connection name, shown by NATS
	Log       *slog.Logger
	MaxAge    time.Duration
	MaxBytes  int64
	Replicas  int
	// credentials, TLS, window sizes …: the owner adds them, with a Register(fs *flag.FlagSet) and a Validate() error
}

// Bus is one process's access to NATS. Safe for concurrent use.
type Bus struct{}

// Open connects, and creates the stream and the buckets where they are missing.
func Open(ctx context.Context, cfg Config) (*Bus, error) { panic("contract") }

func (b *Bus) Close()                          { panic("contract") }
func (b *Bus) Ready(ctx context.Context) error { panic("contract") } // nil when connected and the stream answers

// --- append

var (
	// ErrTaken says that another process owns the run now (a higher epoch).
	ErrTaken = errors.New("run is owned by another ingest")
	// ErrDeleted says that the run was deleted; nothing may be appended to it again.
	ErrDeleted = errors.New("run was deleted")
)

// GapError says that a record's src is ahead of what the log wants next; nothing of the call was taken.
type GapError struct{ Next uint64 }

func (e *GapError) Error() string { panic("contract") }

// Take makes the caller (owner, an incarnation) the run's owner: it stores a claim, and for a new run its START and state.
// It returns when that is durable; it retries until ctx ends. run carries Key, Task, Legacy; the rest is filled in.
func (b *Bus) Take(ctx context.Context, owner string, run frame.Run) (*Appender, error) {
	panic("contract")
}

// Appender appends to one run, as its owner. At most one publish is in flight; what is submitted meanwhile is merged.
type Appender struct{}

// Next is the first src that is not yet accepted (after Take: the first one not durable).
func (a *Appender) Next() uint64 { panic("contract") }

// Submit takes records in order. It blocks while more than the window (1 MiB) is not durable. Records whose Src is not 0 and at or below
// what was accepted are dropped; a Src ahead of Next is a *GapError. Errors: ErrTaken, ErrDeleted, *GapError, ctx's.
// A record of kind Exit or Lost also ends the run's state (Exited, Gone); records may still follow it.
func (a *Appender) Submit(ctx context.Context, recs ...frame.Record) error { panic("contract") }

// Durable is the highest src that is durable; stalled says that a publish has been under way for more than 2 s.
func (a *Appender) Durable() (src uint64, stalled bool) { panic("contract") }

// Sync returns when all that was submitted before the call is durable.
func (a *Appender) Sync(ctx context.Context) error { panic("contract") }

// Taken is closed when another owner has the run, or it was deleted; Err then says which.
func (a *Appender) Taken() <-chan struct{} { panic("contract") }
func (a *Appender) Err() error             { panic("contract") }

// Release lets go of the run when its connection is gone: what was submitted is made durable, then the state is written:
// Connected false, and Detached if the run was Running (a Legacy run that was still Running gets its LOST record instead, and is Gone).
func (a *Appender) Release(ctx context.Context) error { panic("contract") }

// --- follow

// Stored is a chunk as the log holds it.
type Stored struct {
	Key       frame.Key // for hashed names, the full names are filled in once known (from state or START)
	StreamSeq uint64
	Prev      uint64 // stream sequence of the previous chunk of the run, 0 if none
	Chunk     *frame.Chunk
}

// Client names one client of a task.
type Client struct{ Namespace, Task, Client string }

// Handler is called by a subscription, one call at a time; it must return at once.
type Handler struct {
	// Chunk: a chunk was stored. May come twice, and may be missed: only Chunk.First tells.
	Chunk func(Stored)
	// Advanced: the owner of a run says that its last seq is last: whoever has less after a moment should Read.
	Advanced func(run string, last uint64)
	// Lagged: chunks may have been missed for any of the client's runs (slow consumer, reconnect).
	Lagged func()
}

// Subscribe delivers what is stored from now on for all runs of one client. It returns when the server has the subscription.
func (b *Bus) Subscribe(ctx context.Context, c Client, h Handler) (*Subscription, error) {
	panic("contract")
}

type Subscription struct{}

func (s *Subscription) Close() { panic("contract") }

// Gone is what retention took: records From up to and including To cannot be had any more. Bytes is what they held, -1 where unknown.
type Gone struct {
	From, To uint64
	Bytes    int64
}

// Read calls chunk with each stored chunk of the run that holds records after seq after, in order, up to what was durable when it was called,
// and gone where retention left a hole. hint is a stream sequence to start looking at, or 0. A chunk may begin before after+1.
// It returns nil at the end, an error of fn as it is, ErrDeleted, or ctx's error; trouble with NATS is retried with back-off.
func (b *Bus) Read(ctx context.Context, key frame.Key, after, hint uint64, chunk func(Stored) error, gone func(Gone) error) error {
	panic("contract")
}

// Locate finds the chunk that holds the byte offset, or the line (0-based), by binary search; used to start a range read.
// It returns the seq before the chunk and the chunk's place as hint for Read.
func (b *Bus) LocateByte(ctx context.Context, key frame.Key, offset uint64) (after, hint uint64, err error) {
	panic("contract")
}
func (b *Bus) LocateLine(ctx context.Context, key frame.Key, line uint64) (after, hint uint64, err error) {
	panic("contract")
}

// Tail is the run's end: the last chunk, from the log itself.
func (b *Bus) Tail(ctx context.Context, key frame.Key) (Stored, error) { panic("contract") }

// --- states

// RunChange is one change of a run's state; Deleted runs carry only their Key (names as stored in the deletion marker).
type RunChange struct {
	Run     frame.Run
	Deleted bool
}

// WatchRuns calls fn with every run's state, then (synced) once, then with each change, until ctx ends. It heals itself across reconnects.
// Changes of one run arrive in order; intermediate ones may be skipped.
func (b *Bus) WatchRuns(ctx context.Context, fn func(RunChange), synced func()) error {
	panic("contract")
}

// DeleteRun removes a run's log and state for good, on every replica, and announces it (WatchRuns: Deleted).
func (b *Bus) DeleteRun(ctx context.Context, key frame.Key) error { panic("contract") }

// --- leases

// Process is what a process tells of itself.
type Process struct {
	Name        string // given by the operator, or the host's
	Incarnation string // Name, "-" and random characters [a-z0-9]; new at each start; begins the session ids of its sockets
	Role        string // ingest, gateway, all
	Address     string // base URL at which sibling processes reach it
}

// Hold keeps the process's lease and heartbeats until ctx ends, and then deletes it. The tails named in heartbeats are those of this Bus's Appenders.
func (b *Bus) Hold(ctx context.Context, p Process) error { panic("contract") }

// Processes watches leases and heartbeats of all processes.
type Processes struct{}

func (b *Bus) WatchProcesses(ctx context.Context, changed func()) (*Processes, error) {
	panic("contract")
}

// Condition is how a process is judged by what this reader has itself seen.
type Condition int

const (
	Live    Condition = iota // heard of within 3 s
	Suspect                  // silent for 3 s
	Dead                     // silent for 30 s, or its lease deleted, or never heard of since this reader started 30 s ago
)

func (p *Processes) Lookup(incarnation string) (Process, Condition) { panic("contract") }

// Settle makes the runs of dead owners detached (Connected false) and, grace after that, lost; run by every ingest, harmless when run by many.
func (b *Bus) Settle(ctx context.Context, p *Processes, grace time.Duration) error { panic("contract") }

// --- request/reply and broadcast

// Request sends to a micro service and returns its answer. No service: an error wrapping ErrNoService at once.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	panic("contract")
}

var ErrNoService = errors.New("no such service is running")

// Endpoint is one subject of a micro service.
type Endpoint struct {
	Name, Subject string
	Handle        func(ctx context.Context, data []byte) ([]byte, error)
}

// Serve runs a NATS micro service until ctx ends; replicas share the work.
func (b *Bus) Serve(ctx context.Context, name, version string, endpoints ...Endpoint) error {
	panic("contract")
}

// Broadcast sends to, and Listen hears, every process.
func (b *Bus) Broadcast(subject string, data []byte) error { panic("contract") }
func (b *Bus) Listen(ctx context.Context, subject string, fn func(data []byte)) error {
	panic("contract")
}

// Revoke stores that a token id is revoked until expires; WatchRevoked calls fn with all that are, and each new one.
func (b *Bus) Revoke(ctx context.Context, jti string, expires time.Time) error { panic("contract") }
func (b *Bus) WatchRevoked(ctx context.Context, fn func(jti string, expires time.Time), synced func()) error {
	panic("contract")
}
