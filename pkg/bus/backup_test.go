package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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
	file := filepath.Join(dir, wholePrefix+"000001", logStream+".snapshot")
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

// runCopy makes a backup, or restores one, in a process of its own, which kills itself where it is told: spec is what, URL, folder and step.
func runCopy(spec []string) error {
	what, dir, last := map[string]func(context.Context, Config, string, func(string)) error{"backup": backup, "restore": restore}[spec[0]], spec[2], spec[3]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return what(ctx, Config{URL: spec[1]}, dir, func(step string) {
		if step == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it may take a moment
		}
	})
}

// killedAt has a backup or a restore killed right before a step.
func killedAt(t *testing.T, what, url, dir, step string) {
	t.Helper()
	cmd := exec.CommandContext(deadline(t), os.Args[0])
	cmd.Env = append(os.Environ(), "BUS_TEST_COPY="+strings.Join([]string{what, url, dir, step}, "|"))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("%s was not killed at %q: %v\n%s", what, step, err, out)
	}
}

// A backup that is killed at any step leaves the one before, whole, or has made a new one, whole: never files of two. What it leaves is no burden.
func TestKilledBackup(t *testing.T) {
	for _, tc := range []struct{ step, want string }{
		{"save " + stateStream, "one"}, {"save " + logStream, "one"}, {"rename", "one"}, {"clean", "one two"},
	} {
		t.Run(tc.step, func(t *testing.T) {
			s := startServer(t, natsd.Config{Listen: "127.0.0.1:0"})
			b, dir := open(t, s), t.TempDir()
			run := newRun(t)
			a := take(t, b, "ing-1", run)
			submit(t, a, out(1, "one"))
			sync_(t, a)
			if err := Backup(deadline(t), Config{InProcess: s}, dir); err != nil {
				t.Fatal(err)
			}
			submit(t, a, out(2, " two"))
			sync_(t, a)
			killedAt(t, "backup", s.ClientURL(), dir, tc.step)

			restored := func() string {
				t.Helper()
				into := startServer(t, natsd.Config{})
				if err := Restore(deadline(t), Config{InProcess: into}, dir); err != nil {
					t.Fatal(err)
				}
				return read(t, open(t, into), run.Key, 0, 0).output()
			}
			if got := restored(); got != tc.want {
				t.Errorf("restored: %q, want %q", got, tc.want)
			}
			submit(t, a, out(3, " three"))
			sync_(t, a)
			if err := Backup(deadline(t), Config{InProcess: s}, dir); err != nil {
				t.Fatal(err)
			}
			if got := restored(); got != "one two three" {
				t.Errorf("restored from the next backup: %q", got)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left in the folder: %v, %v, want the backup alone", left, err)
			}
		})
	}
}

// A restore that is killed at any step is run again, and then all is there. In between nobody makes what is missing, empty.
func TestKilledRestore(t *testing.T) {
	for _, step := range []string{"begin", "load " + stateStream, "load " + logStream, "a piece of " + logStream, "end"} {
		t.Run(step, func(t *testing.T) {
			from := startServer(t, natsd.Config{})
			dir, key, want := backupOfSome(t, from)
			into := startServer(t, natsd.Config{Listen: "127.0.0.1:0"})
			killedAt(t, "restore", into.ClientURL(), dir, step)
			if step != "begin" { // nothing was done before
				ctx, cancel := context.WithCancel(t.Context())
				if b, err := Open(ctx, Config{InProcess: into}); err == nil {
					b.Close()
					t.Error("made what was missing, though a restore had not come to its end")
				}
				cancel()
			}
			if err := Restore(deadline(t), Config{InProcess: into}, dir); err != nil {
				t.Fatal(err)
			}
			if got := read(t, open(t, into), key, 0, 0).output(); got != want {
				t.Errorf("restored: %d bytes, want %d", len(got), len(want))
			}
			if err := Restore(deadline(t), Config{InProcess: into}, dir); err == nil {
				t.Error("restored over what is there")
			}
		})
	}
}

// In a cluster it is the meta layer that knows of a stream half restored.
func TestKilledRestoreInACluster(t *testing.T) {
	c := startCluster(t)
	dir, key, want := backupOfSome(t, startServer(t, natsd.Config{}))
	urls := strings.Join(c.urls, ",")
	for _, step := range []string{"load " + logStream, "a piece of " + logStream, "end"} {
		killedAt(t, "restore", urls, dir, step)
	}
	if err := Restore(deadline(t), Config{URL: urls}, dir); err != nil {
		t.Fatal(err)
	}
	b := open(t, nil, func(c *Config) { c.URL = urls })
	if got := read(t, b, key, 0, 0).output(); got != want {
		t.Errorf("restored: %d bytes, want %d", len(got), len(want))
	}
}

// backupOfSome stores a run, and makes a backup.
func backupOfSome(t *testing.T, s *natsd.Server) (dir string, key frame.Key, output string) {
	t.Helper()
	b := open(t, s)
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	for src := range uint64(40) { // what does not repeat takes more than one piece, compressed
		text := fmt.Sprintf("%x", randomBytes(t, 20_000))
		output += text
		submit(t, a, out(src+1, text))
	}
	sync_(t, a)
	dir = t.TempDir()
	if err := Backup(deadline(t), Config{InProcess: s}, dir); err != nil {
		t.Fatal(err)
	}
	return dir, run.Key, output
}

func randomBytes(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// Whoever was there before a restore goes no further, for what it remembers is of another life; places that the backup held are still good, later ones are not.
func TestLives(t *testing.T) {
	s := startServer(t, natsd.Config{Listen: "127.0.0.1:0"})
	addr := strings.TrimPrefix(s.ClientURL(), "nats://")
	b := open(t, nil, func(c *Config) { c.URL = s.ClientURL() })
	run := newRun(t)
	a := take(t, b, "ing-1", run)
	submit(t, a, out(1, "one"))
	sync_(t, a)
	if b.Life() != 0 || !b.Kept(0, 1) || !b.Kept(0, 1<<40) || b.Kept(7, 1) {
		t.Errorf("a log that was never restored: life %d", b.Life())
	}
	dir := t.TempDir()
	if err := Backup(deadline(t), Config{InProcess: s}, dir); err != nil {
		t.Fatal(err)
	}
	tail, err := b.Tail(deadline(t), run.Key)
	if err != nil {
		t.Fatal(err)
	}
	upto := tail.StreamSeq
	watched := make(chan error, 1)
	go func() { watched <- b.WatchRestore(deadline(t)) }()
	s.Stop()
	s = startServer(t, natsd.Config{Listen: addr})
	if err := Restore(deadline(t), Config{InProcess: s}, dir); err != nil {
		t.Fatal(err)
	}
	if err := <-watched; !errors.Is(err, ErrRestored) {
		t.Errorf("WatchRestore = %v, want ErrRestored", err)
	}
	first := open(t, s).Life()

	// The same backup once more: another life again.
	s2 := startServer(t, natsd.Config{})
	if err := Restore(deadline(t), Config{InProcess: s2}, dir); err != nil {
		t.Fatal(err)
	}
	now := open(t, s2, func(c *Config) { c.MaxAge = 48 * time.Hour }) // which changes the stream's configuration
	for _, tc := range []struct {
		what  string
		life  uint32
		place uint64
		want  bool
	}{
		{"now", now.Life(), upto + 50, true}, {"now, place not known", now.Life(), 0, true},
		{"before, in the backup", 0, upto, true}, {"before, behind the backup", 0, upto + 1, false}, {"before, place not known", 0, 0, false},
		{"in another life, restored from the same backup", first, upto + 1, false},
	} {
		if got := now.Kept(tc.life, tc.place); got != tc.want {
			t.Errorf("%s: Kept(%08x, %d) = %v, want %v", tc.what, tc.life, tc.place, got, tc.want)
		}
	}

	// A backup of what was restored, restored: three lives.
	if err := Backup(deadline(t), Config{InProcess: s2}, dir); err != nil {
		t.Fatal(err)
	}
	s3 := startServer(t, natsd.Config{})
	if err := Restore(deadline(t), Config{InProcess: s3}, dir); err != nil {
		t.Fatal(err)
	}
	third := open(t, s3)
	if first == 0 || now.Life() == first || third.Life() == now.Life() || third.Life() == 0 {
		t.Errorf("lives %08x, %08x, %08x: want three", first, now.Life(), third.Life())
	}
	if !third.Kept(now.Life(), upto) || third.Kept(now.Life(), upto+50) || !third.Kept(0, upto) || third.Kept(0, upto+1) {
		t.Error("after the second restore, places of earlier lives are not what they were")
	}
}
