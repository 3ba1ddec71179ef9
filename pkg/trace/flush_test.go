package trace_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/trace"
	"tasktracer/pkg/trace/spool"
	"tasktracer/pkg/trace/tracetest"
)

const leftRun = "LEFTBEHIND"

// leave makes a spool as a process leaves it that was killed: synced lines, and then lines that were written but not synced. It gives the sizes that the files
// had when they were synced.
func leave(t *testing.T, dir, url, boot string, synced, unsynced int) (sizes map[string]int64) {
	t.Helper()
	task, err := json.Marshal(map[string]string{"name": "left"})
	if err != nil {
		t.Fatal(err)
	}
	s := spool.Create(spool.Config{Dir: dir, Limit: 1 << 20}, spool.Meta{Run: leftRun, URL: url, Token: "token", ID: "cli", Name: "left", Task: task, Boot: boot})
	defer s.Close()
	write := func(from, n int) {
		for i := range n {
			if _, err := s.Append(context.Background(), frame.Stdout, 1, fmt.Appendf(nil, "line %06d\n", from+i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(0, synced)
	s.Sync()
	sizes = map[string]int64{}
	for _, name := range segments(t, dir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		sizes[name] = info.Size()
	}
	write(synced, unsynced)
	return sizes
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, leftRun, "*.seg"))
	if err != nil || len(names) == 0 {
		t.Fatalf("segments: %v, %v", names, err)
	}
	return names
}

// flush sends what is left, and gives what the server has of it then.
func flush(t *testing.T, dir string, s *tracetest.Server) *tracetest.Run {
	t.Helper()
	err := trace.Flush(t.Context(), trace.FlushConfig{Dir: dir, Patience: time.Minute}, func(f trace.Flushed) {
		if f.Err != nil {
			t.Errorf("flushed %+v", f)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	run := s.Wait(t, "end", tracetest.Ended)
	spoolIsGone(t, dir)
	return run
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %06d\n", i)
	}
	return b.String()
}

// A power cut: what was synced comes, in whatever state the disk left the rest; nothing comes that was not written; and a note tells.
func TestPowerCut(t *testing.T) {
	const synced, unsynced = 12_000, 9_000 // several segments each
	for name, cut := range map[string]func(t *testing.T, name string, whole []byte, size int64) []byte{
		"the unsynced is gone": func(t *testing.T, _ string, whole []byte, size int64) []byte { return whole[:size] },
		"the unsynced is zeroes": func(t *testing.T, _ string, whole []byte, size int64) []byte {
			clear(whole[size:])
			return whole
		},
		"every other block was written": func(t *testing.T, _ string, whole []byte, size int64) []byte {
			for at := (size/4096 + 1) * 4096; at+4096 < int64(len(whole)); at += 8192 {
				clear(whole[at : at+4096])
			}
			return whole
		},
		"garbage": func(t *testing.T, _ string, whole []byte, size int64) []byte {
			for i := size; i < int64(len(whole)); i++ {
				whole[i] = byte(i * 13)
			}
			return whole
		},
		"all was written": func(t *testing.T, _ string, whole []byte, _ int64) []byte { return whole },
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := tracetest.Start(t, tracetest.Faults{}), t.TempDir()
			sizes := leave(t, dir, s.URL, "another boot of this host", synced, unsynced)
			for _, file := range segments(t, dir) {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				size, known := sizes[file]
				if b = cut(t, file, b, size); !known && len(b) == 0 {
					err = os.Remove(file) // its name was not synced, either
				} else {
					err = os.WriteFile(file, b, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			run := flush(t, dir, s)
			out := string(run.Output("STDOUT"))
			if !strings.HasPrefix(out, lines(synced)) {
				t.Errorf("%d bytes came, and not all %d that were synced", len(out), len(lines(synced)))
			}
			last := -1
			for line := range strings.Lines(out) {
				n := 0
				if _, err := fmt.Sscanf(line, "line %06d\n", &n); err != nil || n <= last {
					t.Fatalf("%q behind line %d", line, last)
				}
				last = n
			}
			if lost := uint64(len(lines(synced+unsynced)) - len(out)); name != "all was written" && lost == 0 || name == "every other block was written" && run.LostBytes() == 0 {
				t.Errorf("%d bytes are missing, %d are told: the cut has cut nothing", lost, run.LostBytes())
			} else if uint64(len(out))+run.LostBytes() > uint64(len(lines(synced+unsynced))) {
				t.Errorf("%d bytes came and %d are told lost, of %d", len(out), run.LostBytes(), len(lines(synced+unsynced)))
			}
			if notes := string(run.Output("NOTE")); !strings.Contains(notes, "the host went down; up to a second of output before that may be missing") {
				t.Errorf("notes: %s", notes)
			}
			if *run.Code != 999 {
				t.Errorf("code %d, want 999", *run.Code)
			}
		})
	}
}

// The server may have what the power cut took from the disk.
func TestServerHasMoreThanTheDisk(t *testing.T) {
	s, dir := tracetest.Start(t, tracetest.Faults{}), t.TempDir()
	leave(t, dir, s.URL, "another boot of this host", 100, 50)
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	// The first flush delivers the lines and is stopped before its NOTE and EXIT are stored; the second one finds the first lines only.
	s.Set(tracetest.Faults{StoreUpTo: 150})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = trace.Flush(ctx, trace.FlushConfig{Dir: dir}, func(trace.Flushed) {}) // it is stopped
	}()
	s.Wait(t, "all lines", func(r *tracetest.Run) bool { return r.Next == 151 })
	cancel()
	<-done
	s.Set(tracetest.Faults{})
	for _, file := range segments(t, copied) {
		if err := os.Truncate(file, 3000); err != nil {
			t.Fatal(err)
		}
	}
	run := flush(t, copied, s)
	if got := string(run.Output("STDOUT")); got != lines(150) {
		t.Errorf("%d bytes, want %d", len(got), len(lines(150)))
	}
	if run.LostBytes() != 0 || *run.Code != 999 {
		t.Errorf("lost %d, code %d", run.LostBytes(), *run.Code)
	}
}

// A damaged spool costs what is damaged; a note says what that was.
func TestDamagedSpool(t *testing.T) {
	s, dir := tracetest.Start(t, tracetest.Faults{}), t.TempDir()
	leave(t, dir, s.URL, spool.Boot(), 10_000, 0)
	const line, record = len("line 000000\n"), 25 + len("line 000000\n")
	file := segments(t, dir)[0]
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Lines 100 to 102, of which the middle one is hit as a whole.
	if _, err := f.WriteAt(make([]byte, record+2), int64(28+101*record-1)); err != nil {
		t.Fatal(err)
	}
	run := flush(t, dir, s)
	if run.LostBytes() != uint64(3*line) {
		t.Errorf("%d bytes are told lost, want %d", run.LostBytes(), 3*line)
	}
	all := lines(10_000)
	if got, want := string(run.Output("STDOUT")), all[:100*line]+all[103*line:]; got != want {
		t.Errorf("%d bytes came, want %d", len(got), len(want))
	}
	if notes := string(run.Output("NOTE")); !strings.Contains(notes, fmt.Sprintf("%d bytes of output were lost: what tt had kept on the disk was damaged", 3*line)) {
		t.Errorf("notes: %s", notes)
	}
}

// A run of which nobody knows any more where it should go is told, and stays.
func TestDamagedMeta(t *testing.T) {
	dir := t.TempDir()
	leave(t, dir, "http://127.0.0.1:9", "", 10, 0)
	for _, name := range []string{"meta.json", "meta.copy.json"} {
		if err := os.Truncate(filepath.Join(dir, leftRun, name), 10); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	err := trace.Flush(t.Context(), trace.FlushConfig{Dir: dir}, func(f trace.Flushed) {
		if told++; f.Run != leftRun || f.Err == nil {
			t.Errorf("flushed %+v", f)
		}
	})
	if err != nil || told != 1 {
		t.Errorf("Flush = %v, told %d", err, told)
	}
	if _, err := os.Stat(segments(t, dir)[0]); err != nil {
		t.Error(err)
	}
}
