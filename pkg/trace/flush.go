package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/trace/spool"
)

// FlushConfig says which spools to send, and how.
type FlushConfig struct {
	// Dir is the directory of the spools.
	Dir string
	// Token is tried when the token a run was begun with is refused; empty: none.
	Token string
	// URL, if not empty, is used instead of the one the run was begun with.
	URL string
	// Patience is how long one run may go without progress before it is left for another time; 0: 10 s.
	Patience time.Duration
	// Warn and Log are as in Config.
	Warn func(text string)
	Log  *slog.Logger

	fault func(op, path string) error // spool.Config.Fault
}

// Flushed is what became of one run's spool.
type Flushed struct {
	Run, Name, ID string
	// Bytes is about how much output was left to send.
	Bytes uint64
	// Err is nil when all is delivered and the spool is gone. It wraps spool.ErrBusy where another process has the run.
	Err error
}

// Flush sends what earlier runs on this host left behind, one after the other, and tells each one's fate to report. Its own error is that of reading the directory, or ctx's.
func Flush(ctx context.Context, cfg FlushConfig, report func(Flushed)) error {
	left, damaged, err := spool.Left(cfg.Dir)
	if err != nil {
		return err
	}
	for _, run := range damaged {
		report(Flushed{Run: run, Err: fmt.Errorf("%w: where its output should go cannot be read; it stays in %s", spool.ErrDamaged, filepath.Join(cfg.Dir, run))})
	}
	for _, meta := range left {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := Flushed{Run: meta.Run, Name: meta.Name, ID: meta.ID}
		f.Bytes, f.Err = flushOne(ctx, cfg, meta)
		if errors.Is(f.Err, spool.ErrNoSpool) {
			continue // its own process finished meanwhile
		}
		report(f)
	}
	return nil
}

func flushOne(ctx context.Context, cfg FlushConfig, meta spool.Meta) (uint64, error) {
	s, err := spool.Open(spool.Config{Dir: cfg.Dir, Fault: cfg.fault}, meta.Run)
	if err != nil {
		return 0, err
	}
	defer s.Close() //nolint:errcheck // what is not delivered is still there, and tried again
	unsent := s.Status().Unsent
	tlsConfig, err := tlsFor(meta.CAFile, meta.Insecure)
	if err != nil {
		return unsent, err
	}
	c := senderConfig{
		target: target{url: meta.URL, tls: tlsConfig}, tokens: []string{meta.Token}, warn: cfg.Warn, log: cfg.Log, late: true,
		complete: func(next uint64, ended bool) { complete(s, next, ended) },
	}
	if cfg.URL != "" {
		c.target.url = cfg.URL
	}
	if cfg.Token != "" && cfg.Token != meta.Token && namespace(cfg.Token) == namespace(meta.Token) {
		c.tokens = append(c.tokens, cfg.Token)
	}
	sender := newSender(c, s)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sender.run(ctx)
	}()
	sender.flush(ctx, cfg.Patience)
	cancel()
	<-done
	if st := s.Status(); !st.Ended || st.Acked < st.Last {
		return unsent, sender.whyNot()
	}
	return unsent, nil
}

// complete ends a run whose own process did not: what its command did later is unknown. It is called when the server has said what it has, since
// it may have more than the disk: a power cut takes up to the last second.
func complete(s *spool.Spool, next uint64, ended bool) {
	s.SkipTo(next, ended)
	if s.Status().Ended {
		return
	}
	text := "tt was killed; what the command did and wrote after this is unknown"
	if meta := s.Meta(); meta.Boot != "" && meta.Boot != spool.Boot() {
		text = "the host went down; up to a second of output before that may be missing, and what came after is unknown"
	}
	if torn := s.Status().Torn; torn > 0 {
		text += fmt.Sprintf("; the last %d bytes of what tt had kept were damaged", torn)
	}
	now := max(time.Now().UnixMilli(), s.Status().At) // the clock may have been set back since
	// The spool's only errors are its end and a context's.
	_, _ = s.Append(context.Background(), frame.Note, now, []byte(text))
	_, _ = s.Append(context.Background(), frame.Exit, now, exitData{Code: exitUnknown}.marshal())
}

// exitUnknown is the exit code of a run of which nobody knows how it ended; the wire has used it for lost clients from the beginning.
const exitUnknown = 999

// flush returns when the run is delivered, or has been without progress for patience.
func (s *sender) flush(ctx context.Context, patience time.Duration) {
	if patience == 0 {
		patience = 10 * time.Second
	}
	last, acked := time.Now(), uint64(0)
	for {
		st := s.spool.Status()
		if st.Ended && st.Acked >= st.Last {
			return
		}
		if st.Acked > acked {
			last, acked = time.Now(), st.Acked
		}
		left := patience - time.Since(last)
		if left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-s.changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

func (s *sender) whyNot() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr != nil {
		return fmt.Errorf("not delivered: %w", s.lastErr)
	}
	return errors.New("not delivered: the server is too slow")
}
