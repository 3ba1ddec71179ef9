package bus

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

// What was stored before the backup is there again after it: output, places in it, states, revocations. A run that was under way goes on.
func TestBackupAndRestore(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b := open(t, s)
	ended, going := newRun(t), newRun(t)
	a := take(t, b, "ing-1", ended)
	submit(t, a, out(1, strings.Repeat("long ", 40_000)), out(2, "short"), exit(3, `{"code":3}`))
	sync_(t, a)
	if err := a.Release(deadline(t)); err != nil {
		t.Fatal(err)
	}
	a = take(t, b, "ing-1", going)
	submit(t, a, out(1, "before"))
	sync_(t, a)
	if err := b.Revoke(deadline(t), "jti-1", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	stateOf := func(b *Bus, key frame.Key) *frame.Run {
		e, err := b.readState(deadline(t), path(key))
		if err != nil || e.run == nil {
			t.Fatalf("state of %s: %+v, %v", key, e, err)
		}
		return e.run
	}
	half := read(t, b, ended.Key, 2, 0)
	whole, state := read(t, b, ended.Key, 0, 0), stateOf(b, ended.Key)

	dir := filepath.Join(t.TempDir(), "backup")
	if err := Backup(deadline(t), Config{InProcess: s}, dir); err != nil {
		t.Fatal(err)
	}
	submit(t, a, out(2, "behind the backup"))
	sync_(t, a)

	s = startServer(t, natsd.Config{})
	if err := Restore(deadline(t), Config{InProcess: s}, dir); err != nil {
		t.Fatal(err)
	}
	if err := Restore(deadline(t), Config{InProcess: s}, dir); err == nil {
		t.Error("restored over what is there")
	}
	b = open(t, s)
	if got := read(t, b, ended.Key, 0, 0); got.output() != whole.output() || len(got.gone) != 0 {
		t.Errorf("after the restore %d bytes, gone %v, want %d and none", len(got.output()), got.gone, len(whole.output()))
	}
	// A viewer's cursor, with a hint that is right, and one that is not.
	for _, hint := range []uint64{0, 1, 2, 1 << 40} {
		if got := read(t, b, ended.Key, 2, hint); got.output() != half.output() || len(got.gone) != 0 {
			t.Errorf("behind seq 2, hint %d: %q, gone %v, want %q", hint, got.output(), got.gone, half.output())
		}
	}
	if d := cmp.Diff(state, stateOf(b, ended.Key)); d != "" {
		t.Errorf("state after the restore (-before +after):\n%s", d)
	}
	revoked := make(chan string, 10)
	ctx, cancel := context.WithCancel(deadline(t))
	watched := make(chan error, 1)
	go func() { watched <- b.WatchRevoked(ctx, func(jti string, _ time.Time) { revoked <- jti }, func() {}) }()
	if jti := <-revoked; jti != "jti-1" {
		t.Errorf("revoked: %q", jti)
	}
	cancel()
	<-watched

	// The run goes on where the backup left it; what was stored behind it is wanted again.
	a = take(t, b, "ing-2", going)
	if next := a.Next(); next != 2 {
		t.Fatalf("next = %d, want 2", next)
	}
	submit(t, a, out(2, " and after"), exit(3, `{"code":0}`))
	sync_(t, a)
	if got := read(t, b, going.Key, 0, 0); got.output() != "before and after" || len(got.gone) != 0 {
		t.Errorf("the run that went on: %q, gone %v", got.output(), got.gone)
	}
}

// A backup that breaks off leaves the one before it as it is, and a file that is damaged is no backup.
func TestBrokenBackup(t *testing.T) {
	s := startServer(t, natsd.Config{})
	b := open(t, s)
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, strings.Repeat("some text ", 10_000)))
	sync_(t, a)
	dir := t.TempDir()
	if err := Backup(deadline(t), Config{InProcess: s}, dir); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, logStream+".snapshot")
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Backup(ctx, Config{InProcess: s}, dir); err == nil {
		t.Error("a backup that was broken off says that all is well")
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
		t.Errorf("the earlier backup was changed: %d bytes, %v, want %d", len(got), err, len(want))
	}
	want[len(want)/2] ^= 0xff
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(deadline(t), Config{InProcess: startServer(t, natsd.Config{})}, dir); err == nil {
		t.Error("a damaged file was restored")
	}
}
