//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// paced is a command that writes BYTES evenly over SECONDS, waits for a FILE before the last of them, and then says on stderr how long it took and how long it had to wait for one write.
func paced() {
	total, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		panic(err)
	}
	seconds, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		panic(err)
	}
	var block []byte
	began, longest := time.Now(), time.Duration(0)
	for n, line := int64(0), 0; n < total; {
		block = block[:0]
		for len(block) < 64<<10 {
			block = fmt.Appendf(block, "%012d the quick brown fox jumps over the lazy dog\n", line)
			line++
		}
		block = block[:min(int64(len(block)), total-n)]
		time.Sleep(time.Until(began.Add(time.Duration(float64(n) / float64(total) * seconds * float64(time.Second)))))
		if n+int64(len(block)) == total {
			for _, err := os.Stat(os.Args[3]); err != nil; _, err = os.Stat(os.Args[3]) {
				time.Sleep(10 * time.Millisecond)
			}
		}
		before := time.Now()
		if _, err := os.Stdout.Write(block); err != nil {
			panic(err)
		}
		longest = max(longest, time.Since(before))
		n += int64(len(block))
	}
	fmt.Fprintf(os.Stderr, "paced: %d bytes, planned %.1f s, took %.1f s, longest write %v\n", total, seconds, time.Since(began).Seconds(), longest)
}

// The server is killed in the middle of a run, and is away for a while: the command goes on as planned meanwhile, and who watches gets all of it, once.
func TestOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server")
	}
	s := startServer(t)
	dir := t.TempDir()
	shown, watched := filepath.Join(dir, "shown"), filepath.Join(dir, "watched")
	total := *outageMB * 1_000_000
	seconds := outage.Seconds() / 0.6 // so that more than half is written while the server is away
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+4*(*outage))
	defer cancel()
	var said, watcherSaid bytes.Buffer
	tt := func(stderr *bytes.Buffer, stdout string, args ...string) *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(ctx, "tt", args...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "TASKTRACER_ID=cli-1", "TASKTRACER_URL="+s.url, "TASKTRACER_TOKEN="+s.clientToken, "TASKTRACER_VIEWER_TOKEN="+s.viewerToken)
		cmd.Stderr = stderr
		f, err := os.Create(stdout)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdout = f
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	reach := func(file string, share float64) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if info, err := os.Stat(file); err == nil && float64(info.Size()) >= share*float64(total) {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s never reached %.0f %%; tt: %s; watcher: %s", filepath.Base(file), 100*share, said.String(), watcherSaid.String())
			}
		}
	}
	run := tt(&said, shown, "-n", "outage", "--linger", "10m", "--", "paced", fmt.Sprint(total), fmt.Sprint(seconds), filepath.Join(dir, "go"))
	reach(shown, 0.05)
	watcher := tt(&watcherSaid, watched, "watch", "outage", "cli-1")
	reach(watched, 0.1)
	reach(shown, 0.2)
	addr := strings.TrimPrefix(s.url, "http://")
	s.kill(t)
	away := time.Now()
	// The command writes on without a server; were it held up, this would not come.
	reach(shown, 0.75)
	if left := *outage - time.Since(away); left > 0 {
		<-time.After(left)
	}
	before, err := os.Stat(watched)
	if err != nil {
		t.Fatal(err)
	}
	s.start(t, addr)
	t.Logf("the server was away for %.1f s; %d bytes had been watched before it came back", time.Since(away).Seconds(), before.Size())
	// A command that ends without a connection leaves the rest to tt flush; this one ends with one.
	reach(watched, 0.8)
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err != nil {
		t.Fatalf("tt: %v\n%s", err, said.String())
	}
	if err := watcher.Wait(); err != nil {
		t.Fatalf("tt watch: %v\n%s", err, watcherSaid.String())
	}
	want, got := sum(t, shown), sum(t, watched)
	info, err := os.Stat(shown)
	if err != nil || info.Size() != total {
		t.Fatalf("%v bytes were shown, want %d; %v", info.Size(), total, err)
	}
	if want != got {
		t.Errorf("what was watched is not what was written")
	}
	logged := filepath.Join(dir, "logged")
	if err := tt(&watcherSaid, logged, "log", "outage", "cli-1", "--streams", "stdout").Wait(); err != nil {
		t.Fatalf("tt log: %v\n%s", err, watcherSaid.String())
	}
	if sum(t, logged) != want {
		t.Errorf("what is kept is not what was written")
	}
	t.Log(strings.TrimSpace(said.String()))
}

func sum(t *testing.T, file string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}
