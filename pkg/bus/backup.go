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
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// backedUp are the streams that a backup holds, in the order in which they are read: the log comes last, so that no state speaks of output that is not there.
// Leases are not among them: the processes that held them are gone when a backup is needed.
func backedUp() []string { return []string{stateStream, revokeStream, logStream} }

const (
	// pieceSize is how much of a backup is sent back at a time.
	pieceSize = 128 << 10
	// pieceWithin is how long a server may be silent in the midst of a backup.
	pieceWithin = 30 * time.Second
)

// snapshot is how a stream is described beside its content, by the server and for it.
type snapshot struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// A backup is a folder of its own in the folder that is given. While it is written it has another name: so one that is there is whole, whenever a process was killed.
const (
	wholePrefix = "backup-"
	partPrefix  = "unfinished-"
)

// Backup writes the log, the states of runs and the revocations to a new folder in dir, which is made; when all of it is there, it takes the place of
// earlier backups in dir. The services may be at work meanwhile: what they store later is not in it. It needs a user that may do everything with JetStream.
// Two at once in one dir spoil one another: one of them fails.
func Backup(ctx context.Context, cfg Config, dir string) error {
	return backup(ctx, cfg, dir, func(string) {})
}

// backup is Backup; step is told what comes next.
func backup(ctx context.Context, cfg Config, dir string, step func(string)) error {
	l, err := dialForBackup(ctx, &cfg)
	if err != nil {
		return err
	}
	defer l.close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of the backup: %w", err)
	}
	part, err := os.MkdirTemp(dir, partPrefix)
	if err != nil {
		return fmt.Errorf("make the folder of the backup: %w", err)
	}
	for _, name := range backedUp() {
		step("save " + name)
		if err := l.save(ctx, name, filepath.Join(part, name)); err != nil {
			return errors.Join(fmt.Errorf("back up %s: %w", name, err), os.RemoveAll(part))
		}
	}
	return finish(dir, part, step)
}

// finish has part take the place of what is in dir.
func finish(dir, part string, step func(string)) error {
	_, number, err := newestBackup(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	whole := filepath.Join(dir, fmt.Sprintf("%s%06d", wholePrefix, number+1))
	step("rename")
	if err := errors.Join(syncDir(part), os.Rename(part, whole), syncDir(dir)); err != nil {
		return fmt.Errorf("finish the backup: %w", err)
	}
	step("clean")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("the backup is in %s, but earlier ones are, too: %w", whole, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		ours := strings.HasPrefix(e.Name(), partPrefix) || strings.HasPrefix(e.Name(), wholePrefix)
		if !ours || path == whole || !e.IsDir() {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("the backup is in %s, but an earlier one could not be removed: %w", whole, err)
		}
	}
	return nil
}

// newestBackup finds the whole backup in dir; os.ErrNotExist where there is none. Where several are left, the others are older ones, and may be partly removed.
func newestBackup(dir string) (path string, number int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", 0, err
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), wholePrefix)
		n, err := strconv.Atoi(digits)
		if ok && err == nil && n > number {
			path, number = filepath.Join(dir, e.Name()), n
		}
	}
	if number == 0 {
		return "", 0, fmt.Errorf("no backup in %s: %w", dir, os.ErrNotExist)
	}
	return path, number, nil
}

// syncDir makes what was renamed in dir survive a power cut, where a folder can be synced.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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
			ErrCode     uint16 `json:"err_code"`
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
		return fmt.Errorf("JetStream refuses: %w", &jetstream.APIError{Code: a.Error.Code, ErrorCode: jetstream.ErrorCode(a.Error.ErrCode), Description: a.Error.Description})
	}
	return nil
}
