package trace

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/trace/spool"
)

// Run is one run being sent. Its methods are safe for concurrent use.
type Run struct {
	cfg    Config
	id     string
	spool  *spool.Spool
	sender *sender
	out    *stream
	err    *stream
	stop   context.CancelFunc
	// connect starts the sender, once.
	connect func()
	done    chan struct{}
	closed  chan struct{}

	order sync.Mutex // guards the order of appends, and what follows
	clock *clock
}

// Start begins a run. It does not wait for the server, and its only errors are about the configuration (they wrap ErrConfig).
func Start(cfg Config) (*Run, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	tlsConfig, err := tlsFor(cfg.CAFile, cfg.Insecure)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var tags []string
	for k, v := range cfg.Tags {
		tags = append(tags, k+"="+v)
	}
	slices.Sort(tags)
	task, err := json.Marshal(taskObject{
		Name: cfg.Name, Command: cfg.Command, Host: cfg.Host, Tags: tags, Terminal: cfg.Terminal, Started: now.UnixMilli(),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	r := &Run{cfg: cfg, id: rand.Text(), done: make(chan struct{}), closed: make(chan struct{}), clock: newClock()}
	meta := spool.Meta{
		Run: r.id, URL: cfg.URL, Token: cfg.Token, ID: cfg.ID, Name: cfg.Name, Task: task, Started: now.UnixMilli(), Boot: spool.Boot(),
		CAFile: cfg.CAFile, Insecure: cfg.Insecure,
	}
	r.spool = spool.Create(cfg.Spool, meta)
	if t := r.spool.Status().Trouble; t != nil {
		cfg.warn(fmt.Sprintf("cannot keep the output on disk (%v); only what the server takes soon enough is sent", t))
	}
	r.sender = newSender(senderConfig{
		target: target{url: cfg.URL, tls: tlsConfig}, tokens: []string{cfg.Token},
		accepted: cfg.Accepted, warn: cfg.warn, log: cfg.Log,
	}, r.spool)
	r.out = newStream(frame.Stdout, cfg.Redact, &r.order, r.append)
	r.err = newStream(frame.Stderr, cfg.Redact, &r.order, r.append)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.connect = sync.OnceFunc(func() {
		go func() {
			defer close(r.done)
			r.sender.run(ctx)
		}()
	})
	if !cfg.Deferred {
		r.Connect()
	}
	if cfg.Terminal {
		r.Note("run in a terminal: stdout and stderr are one stream")
	}
	return r, nil
}

func (c *Config) warn(text string) {
	if c.Warn != nil {
		c.Warn(text)
	}
}

// taskObject is the task as it is sent to the server and shown to viewers.
type taskObject struct {
	Name     string   `json:"name"`
	Command  string   `json:"cmd"`
	Host     string   `json:"host,omitempty"`
	Tags     []string `json:"tags,omitempty"` // key=value
	Terminal bool     `json:"pty,omitempty"`
	// Started is when the run began by the client's clock: a run may be delivered long after.
	Started int64 `json:"startedAt,omitempty"`
}

// Connect begins sending, where Config.Deferred put it off. It may be called several times.
func (r *Run) Connect() { r.connect() }

// ID is the run's id.
func (r *Run) ID() string { return r.id }

// Stdout takes what the run writes to its standard output. Its Write always succeeds, and does not wait but for the disk (and with spool.Config.Block at the limit).
func (r *Run) Stdout() io.Writer { return r.out }

// Stderr is as Stdout, for standard error.
func (r *Run) Stderr() io.Writer { return r.err }

// Connected is closed when a server has accepted the run for the first time.
func (r *Run) Connected() <-chan struct{} { return r.sender.accepted }

// Closed is closed when Close has done its work.
func (r *Run) Closed() <-chan struct{} { return r.closed }

// Ending says that the producer has ended, and only what it wrote before is still to be read: with spool.Config.Block a Write waits no longer.
func (r *Run) Ending() { r.spool.Ending() }

// Note adds a sentence to the run that is not its output.
func (r *Run) Note(text string) {
	r.order.Lock()
	defer r.order.Unlock()
	r.append(frame.Note, []byte(text))
}

// append is called with the order held. The spool's only errors are its end and the end of its context, which is never.
func (r *Run) append(kind frame.Kind, data []byte) {
	_, err := r.spool.Append(context.Background(), kind, r.clock.millis(), data)
	if err != nil && r.cfg.Log != nil {
		r.cfg.Log.Debug("append after the end", "err", err)
	}
}

// Exit is how a run ended.
type Exit struct {
	// Code is the exit code; 128+n where signal n ended the command.
	Code int
	// Signal is the name of that signal, such as SIGTERM; or empty.
	Signal string
}

// Outcome is what became of a run's output when it was closed.
type Outcome struct {
	// Delivered: the server has all of it for good.
	Delivered bool
	// Unsent is about how many bytes are left; Kept tells that they lie on disk, and Flush will send them.
	Unsent uint64
	Kept   bool
	// Dropped is how many bytes the spool's limit took.
	Dropped uint64
	// Peak is how large the spool was at most, in bytes.
	Peak int64
}

// Close ends the run; it is called once. It waits for the rest to be delivered while the server takes it, up to Config.Linger.
func (r *Run) Close(exit Exit) Outcome {
	r.Connect()
	r.Ending()
	r.out.end()
	r.err.end()
	r.order.Lock()
	r.append(frame.Exit, exitData(exit).marshal())
	r.order.Unlock()
	linger := r.cfg.Linger
	if linger == 0 {
		linger = DefaultLinger
	}
	r.sender.linger(linger)
	r.stop()
	<-r.done
	defer close(r.closed)
	if st := r.spool.Status(); st.Acked < st.Last {
		r.spool.Sync() // it is to be kept: the last chance of what a full disk has left in memory
	}
	st := r.spool.Status()
	if err := r.spool.Close(); err != nil {
		r.cfg.warn(err.Error())
	}
	return Outcome{
		Delivered: st.Acked >= st.Last, Unsent: st.Unsent, Kept: st.OnDisk, Dropped: st.Dropped, Peak: st.Peak,
	}
}
