package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
)

// backedUp are the streams that a backup holds, in the order in which they are read: the log comes last, so that no state speaks of output that is not there.
// Leases are not among them: the processes that held them are gone when a backup is needed.
func backedUp() []string { return []string{stateStream, revokeStream, logStream} }

const (
	// pieceSize is how much of a backup is sent back at a time.
	pieceSize = 128 << 10
	// pieceWithin is how long a server may be silent in the midst of a backup.
	pieceWithin = 30 * time.Second
	// restoreWithin is how long it may take to put a stream together once all of it is there.
	restoreWithin = 10 * time.Minute
)

// snapshot is how a stream is described beside its content, by the server and for it.
type snapshot struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// Backup writes the log, the states of runs and the revocations to files in dir, which is made; what it has of an earlier backup is replaced once a whole
// new one is there. The services may be at work meanwhile: what they store later is not in it. It needs a user that may do everything with JetStream.
func Backup(ctx context.Context, cfg Config, dir string) error {
	l, err := dialForBackup(ctx, &cfg)
	if err != nil {
		return err
	}
	defer l.close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of the backup: %w", err)
	}
	for _, name := range backedUp() {
		if err := l.save(ctx, name, filepath.Join(dir, name+".new")); err != nil {
			return fmt.Errorf("back up %s: %w", name, err)
		}
	}
	for _, name := range backedUp() {
		for _, suffix := range []string{".json", ".snapshot"} {
			if err := os.Rename(filepath.Join(dir, name+".new"+suffix), filepath.Join(dir, name+suffix)); err != nil {
				return fmt.Errorf("back up %s: %w", name, err)
			}
		}
	}
	return nil
}

// Restore makes the streams of a backup anew; it refuses where one of them is there. Places in the log are as they were. The services must not run
// meanwhile: Open makes what is missing, empty.
func Restore(ctx context.Context, cfg Config, dir string) error {
	l, err := dialForBackup(ctx, &cfg)
	if err != nil {
		return err
	}
	defer l.close()
	for _, name := range backedUp() {
		if err := l.load(ctx, name, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("restore %s: %w", name, err)
		}
	}
	return nil
}

func dialForBackup(ctx context.Context, cfg *Config) (*link, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return dial(ctx, cfg, "backup")
}

// save writes a stream to path.json and path.snapshot.
func (l *link) save(ctx context.Context, name, path string) (err error) {
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sub.Unsubscribe()) }()
	f, err := os.OpenFile(path+".snapshot", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var about snapshot
	ask := map[string]any{"deliver_subject": inbox, "no_consumers": true, "chunk_size": pieceSize, "jsck": true}
	if err := l.call(ctx, "$JS.API.STREAM.SNAPSHOT."+name, ask, &about); err != nil {
		return err
	}
	text, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".json", text, 0o600); err != nil {
		return err
	}
	for {
		more, err := l.piece(ctx, sub, f)
		if err != nil {
			return err
		}
		if !more {
			return f.Sync()
		}
	}
}

// piece takes the next piece of a stream. The server sends no more than a window of them ahead of what it hears was taken.
func (l *link) piece(ctx context.Context, sub *nats.Subscription, to io.Writer) (more bool, err error) {
	ctx, cancel := l.bound(ctx, pieceWithin)
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return false, fmt.Errorf("next piece: %w", errors.Join(err, context.Cause(ctx)))
	}
	if len(m.Data) == 0 {
		if s := m.Header.Get("Status"); s != "" && s != "204" {
			return false, fmt.Errorf("the server gave up: %s %s", s, m.Header.Get("Description"))
		}
		return false, nil
	}
	if _, err := to.Write(m.Data); err != nil {
		return false, err
	}
	if m.Reply == "" {
		return true, nil // the last one
	}
	return true, m.Respond(nil)
}

// load makes a stream of path.json and path.snapshot.
func (l *link) load(ctx context.Context, name, path string) error {
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		return err
	}
	var about snapshot
	if err := json.Unmarshal(text, &about); err != nil {
		return fmt.Errorf("%s.json: %w", path, err)
	}
	f, err := os.Open(path + ".snapshot")
	if err != nil {
		return err
	}
	defer f.Close() // only read
	var where struct {
		To string `json:"deliver_subject"`
	}
	if err := l.call(ctx, "$JS.API.STREAM.RESTORE."+name, about, &where); err != nil {
		return err
	}
	piece := make([]byte, pieceSize)
	for {
		n, err := io.ReadFull(f, piece)
		if n == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if err := l.give(ctx, where.To, piece[:n], pieceWithin); err != nil {
			return err
		}
	}
	return l.give(ctx, where.To, nil, restoreWithin)
}

// give sends a piece back; an empty one says that all is there.
func (l *link) give(ctx context.Context, to string, piece []byte, within time.Duration) error {
	m, err := l.request(ctx, &nats.Msg{Subject: to, Data: piece}, within)
	if err != nil {
		return err
	}
	return refusedBy(m.Data)
}

// call asks JetStream's API, until somebody answers.
func (l *link) call(ctx context.Context, subject string, ask, answer any) error {
	data, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	return retry(ctx, func() error {
		m, err := l.request(ctx, &nats.Msg{Subject: subject, Data: data}, setupWithin)
		if err != nil {
			return err
		}
		if err := refusedBy(m.Data); err != nil {
			return err
		}
		return json.Unmarshal(m.Data, answer)
	}, transient)
}

// refusedBy is the error in an answer of JetStream's API; an empty answer has none.
func refusedBy(answer []byte) error {
	var a struct {
		Error *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("answer of JetStream: %w", err)
	}
	if a.Error != nil {
		return fmt.Errorf("JetStream refuses: %s (%d)", a.Error.Description, a.Error.Code)
	}
	return nil
}
