package bus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// restoreStream is there while a restore is under way, and after one that did not come to its end. Its description tells whose it is.
	restoreStream = "TT_RESTORE"
	// restoreWithin is how long it may take to put a stream together once all of it is there.
	restoreWithin = 10 * time.Minute
)

var errUnfinished = fmt.Errorf("a restore was begun and has not come to its end: run it again (stream %s says so)", restoreStream)

// Restore makes the streams of the backup in dir anew, in a NATS that has none of them. Places in the log are as they were, and the log begins a new life:
// cursors to what was stored behind the backup are not good any more. One that is broken off, or killed, is to be run again: it begins anew, and until it
// comes to its end Open refuses to make what is missing. The services must not run meanwhile.
func Restore(ctx context.Context, cfg Config, dir string) error {
	return restore(ctx, cfg, dir, func(string) {})
}

// restore is Restore; step is told what comes next.
func restore(ctx context.Context, cfg Config, dir string, step func(string)) error {
	from, _, err := newestBackup(dir)
	if err != nil {
		return err
	}
	streams := make([]saved, 0, 3)
	for _, name := range backedUp() {
		s, err := openSaved(name, filepath.Join(from, name))
		if err != nil {
			return fmt.Errorf("the backup in %s: %w", from, err)
		}
		streams = append(streams, s)
	}
	l, err := dialForBackup(ctx, &cfg)
	if err != nil {
		return err
	}
	defer l.close()
	js, err := jetstream.New(l.nc)
	if err != nil {
		return err
	}
	r := &restoring{js: js, link: l, step: step, mark: jetstream.StreamConfig{
		Name: restoreStream, Description: "a restore is under way: " + rand.Text(), Subjects: []string{"tt.restore"}, Storage: jetstream.FileStorage,
		Replicas: max(1, streams[len(streams)-1].config.Replicas),
	}}
	step("begin")
	if err := r.begin(ctx); err != nil {
		return err
	}
	for i := range streams {
		step("load " + streams[i].name)
		if err := r.load(ctx, &streams[i]); err != nil {
			return fmt.Errorf("restore %s: %w", streams[i].name, err)
		}
	}
	step("end")
	return r.end(ctx)
}

// saved is a stream in a backup.
type saved struct {
	name, path string // of its snapshot
	text       snapshot
	config     struct {
		Replicas int               `json:"num_replicas"`
		Metadata map[string]string `json:"metadata"`
	}
}

func openSaved(name, path string) (s saved, err error) {
	s.name, s.path = name, path+".snapshot"
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		return s, err
	}
	if err := errors.Join(json.Unmarshal(text, &s.text), json.Unmarshal(s.text.Config, &s.config)); err != nil {
		return s, fmt.Errorf("%s.json: %w", path, err)
	}
	if _, err := os.Stat(s.path); err != nil {
		return s, err
	}
	if name == logStream {
		return s, s.beginLife()
	}
	return s, nil
}

// beginLife notes in the log's metadata up to where it is what it was.
func (s *saved) beginLife() error {
	var state struct {
		Last uint64 `json:"last_seq"`
	}
	all, err := parseLives(s.config.Metadata[livesKey])
	if err = errors.Join(err, json.Unmarshal(s.text.State, &state)); err != nil {
		return err
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(s.text.Config, &config); err != nil {
		return err
	}
	metadata := map[string]string{}
	for k, v := range s.config.Metadata {
		metadata[k] = v
	}
	metadata[livesKey] = all.begin(state.Last).String()
	if config["metadata"], err = json.Marshal(metadata); err != nil {
		return err
	}
	s.text.Config, err = json.Marshal(config)
	return err
}

// restoring is a restore under way.
type restoring struct {
	js   jetstream.JetStream
	link *link
	step func(string)
	mark jetstream.StreamConfig
}

// begin leaves a mark, which lasts until all is there. What an earlier restore has left, with its mark, goes; what is there without a mark is somebody's.
func (r *restoring) begin(ctx context.Context) error {
	broken, err := r.exists(ctx, restoreStream)
	if err != nil {
		return err
	}
	for _, name := range backedUp() {
		there, err := r.exists(ctx, name)
		if err != nil {
			return err
		}
		if there && !broken {
			return fmt.Errorf("there is a stream %s already: a backup is restored into a NATS that has none of ours", name)
		}
	}
	if broken {
		if err := r.remove(ctx, restoreStream); err != nil {
			return err
		}
	}
	err = r.again(ctx, func(ctx context.Context) error { _, err := r.js.CreateStream(ctx, r.mark); return err })
	if err != nil {
		return fmt.Errorf("create stream %s: %w", restoreStream, err)
	}
	if !broken {
		return nil
	}
	for _, name := range backedUp() {
		if err := r.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// end takes the mark away, if it is still ours.
func (r *restoring) end(ctx context.Context) error {
	var is string
	err := r.again(ctx, func(ctx context.Context) error {
		s, err := r.js.Stream(ctx, restoreStream)
		if err == nil {
			is = s.CachedInfo().Config.Description
		}
		return err
	})
	if err != nil || is != r.mark.Description {
		return errors.Join(fmt.Errorf("another restore is at work: its result counts, not that of this one"), err)
	}
	return r.remove(ctx, restoreStream)
}

// again calls fn until NATS is able to answer, each time with a time-out of its own.
func (r *restoring) again(ctx context.Context, fn func(context.Context) error) error {
	return retry(ctx, func() error {
		actx, cancel := context.WithTimeout(ctx, setupWithin)
		defer cancel()
		return fn(actx)
	}, transient)
}

func (r *restoring) exists(ctx context.Context, stream string) (there bool, err error) {
	err = r.again(ctx, func(ctx context.Context) error {
		_, err := r.js.Stream(ctx, stream)
		there = err == nil
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", stream, err)
	}
	return there, nil
}

func (r *restoring) remove(ctx context.Context, stream string) error {
	err := r.again(ctx, func(ctx context.Context) error {
		if err := r.js.DeleteStream(ctx, stream); !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete stream %s: %w", stream, err)
	}
	return nil
}

// load makes a stream of what was saved.
func (r *restoring) load(ctx context.Context, s *saved) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	var where struct {
		To string `json:"deliver_subject"`
	}
	if err := r.link.call(ctx, "$JS.API.STREAM.RESTORE."+s.name, s.text, &where); err != nil {
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
		r.step("a piece of " + s.name)
		if err := r.link.give(ctx, where.To, piece[:n], pieceWithin); err != nil {
			return err
		}
	}
	return r.link.give(ctx, where.To, nil, restoreWithin)
}

// give sends a piece back; an empty one says that all is there. In a cluster the node that we speak to may not have heard yet who takes it: nobody has
// had the piece then, and it is offered again.
func (l *link) give(ctx context.Context, to string, piece []byte, within time.Duration) error {
	var m *nats.Msg
	unheard := time.Now().Add(pieceWithin)
	err := retry(ctx, func() (err error) {
		m, err = l.request(ctx, &nats.Msg{Subject: to, Data: piece}, within)
		return err
	}, func(err error) bool { return errors.Is(err, nats.ErrNoResponders) && time.Now().Before(unheard) })
	if err != nil {
		return err
	}
	return refusedBy(m.Data)
}
