package whole

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

// ttEnv is where tt finds its configuration: a home of its own.
func ttEnv(t testing.TB, url, token, id string) []string {
	t.Helper()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".tt.conf"), []byte("id = "+id+"\ntoken = "+token+"\nurl = "+url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "XDG_CACHE_HOME=" + home}
}

// TestMillionLines: what a viewer receives is what the command wrote, by SHA-256.
func TestMillionLines(t *testing.T) {
	t.Parallel()
	s := stage.NewSplit(t, binaries, 1, 1)
	tok := newTokens(t, s.Config, "default")
	want, err := exec.Command("seq", "1", "1000000").Output()
	if err != nil {
		t.Fatal(err)
	}
	p := stage.NewPeers(t)
	v := p.Connect("sio4", s.Gateways[0].URL, nil)
	v.Hear(":connect")
	v.Emit("authenticate", object{"type": "browser_token", "token": tok.browser, "v": 2,
		"watch": object{"task": "big", "from": []string{"host-1"}, "history": "all", "batch": true}})
	v.Hear("authenticated")
	old := viewer(p, "sio1", s.Gateways[0].URL, tok.browser, "big", "host-1")

	tt := stage.Start(t, "tt", nil, ttEnv(t, s.Ingest[0].URL, tok.client, "host-1"), binaries.TT, "-n", "big", "seq 1 1000000")
	code, err := tt.Wait(deadline(t))
	if err != nil || code != 0 {
		t.Fatalf("tt exits %d, %v\n%s", code, err, tt.Tail(20))
	}
	if !strings.Contains(tt.Stderr(), "View URL for task output") {
		t.Errorf("tt says %q, want the URL", tt.Stderr())
	}
	v.Hear("eof")
	old.Hear("eof")
	echoed, batched, single := sha256.Sum256([]byte(tt.Stdout())), sha256.New(), sha256.New()
	for _, e := range v.Events() {
		var m struct {
			Data []struct {
				Type, Data string
				B64        []byte
			}
		}
		if e.Name != "data" {
			continue
		}
		if err := json.Unmarshal(e.Arg, &m); err != nil {
			t.Fatal(err)
		}
		for _, r := range m.Data {
			batched.Write([]byte(r.Data))
			batched.Write(r.B64)
		}
	}
	single.Write([]byte(output(old)))
	sum := sha256.Sum256(want)
	diff(t, "what tt echoed", sum[:], echoed[:])
	diff(t, "what a viewer got in batches", sum[:], batched.Sum(nil))
	diff(t, "what a viewer on 1.4.8 got", sum[:], single.Sum(nil))
}

// TestFlushIsHistory: what runs left behind while no server was there reaches those who ask for history, and nobody who waits for what runs.
func TestFlushIsHistory(t *testing.T) {
	t.Parallel()
	config := stage.Config(t)
	all := stage.NewServer(t, binaries, "all", "--data", t.TempDir(), "--config", config)
	tok := newTokens(t, config, "default")
	p := stage.NewPeers(t)
	old := viewer(p, "sio1", all.URL, tok.browser, "late", "h")
	watch := func(history string) *stage.Peer {
		v := p.Connect("sio4", all.URL, nil)
		v.Hear(":connect")
		v.Emit("authenticate", object{"type": "browser_token", "token": tok.browser, "v": 2,
			"watch": object{"task": "late", "from": []string{"h"}, "history": history}})
		v.Hear("authenticated")
		return v
	}
	live, past := watch("live"), watch("all")
	port, err := stage.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	env := ttEnv(t, fmt.Sprintf("http://127.0.0.1:%d", port), tok.client, "h")
	gone := stage.Start(t, "tt", nil, env, binaries.TT, "-n", "late", "echo left")
	if code, err := gone.Wait(deadline(t)); err != nil || code != 0 {
		t.Fatalf("tt without a server exits %d, %v\n%s", code, err, gone.Tail(20))
	}
	killed := stage.Start(t, "tt", nil, env, binaries.TT, "-n", "late", "echo killed; sleep 2")
	for ctx := deadline(t); killed.Stdout() != "killed\n"; {
		if ctx.Err() != nil {
			t.Fatal("tt prints nothing")
		}
		time.Sleep(10 * time.Millisecond) // a process's output cannot be waited for otherwise
	}
	killed.Kill()
	flush := stage.Start(t, "tt flush", nil, env, binaries.TT, "flush", "--url", all.URL)
	if code, err := flush.Wait(deadline(t)); err != nil || code != 0 || strings.Count(flush.Stdout(), "delivered") != 2 {
		t.Fatalf("tt flush exits %d, %v, and says %q\n%s", code, err, flush.Stdout(), flush.Tail(20))
	}
	now := stage.Start(t, "tt", nil, env, binaries.TT, "--url", all.URL, "-n", "late", "echo now")
	if code, err := now.Wait(deadline(t)); err != nil || code != 0 {
		t.Fatalf("tt exits %d, %v\n%s", code, err, now.Tail(20))
	}
	for _, tc := range []struct {
		name string
		v    *stage.Peer
		ends int
		want string
	}{{"a viewer on 1.4.8", old, 1, "now\n"}, {"a viewer of what runs", live, 1, "now\n"}, {"a viewer of history", past, 3, "left\nkilled\nnow\n"}} {
		for range tc.ends {
			tc.v.Hear("eof")
		}
		tc.v.Hear("workerOut")
		counts, text := map[string]int{}, ""
		for _, e := range tc.v.Events() {
			counts[e.Name]++
			var m struct{ Data struct{ Type, Data string } }
			if e.Name == "data" && json.Unmarshal(e.Arg, &m) == nil && m.Data.Type == "STDOUT" {
				text += m.Data.Data
			}
		}
		if text != tc.want || counts["start"] != tc.ends || counts["eof"] != tc.ends || counts["workerIn"] != 1 || counts["workerOut"] != 1 {
			t.Errorf("%s got %q and events %v; want %q, %d runs, and the client in once", tc.name, text, counts, tc.want, tc.ends)
		}
	}
}

// TestExit: the command's own end reaches caller and viewer.
func TestExit(t *testing.T) {
	t.Parallel()
	config := stage.Config(t)
	all := stage.NewServer(t, binaries, "all", "--data", t.TempDir(), "--config", config)
	tok := newTokens(t, config, "default")
	p := stage.NewPeers(t)
	v := viewer(p, "sio1", all.URL, tok.browser, "exit", "h")
	env := ttEnv(t, all.URL, tok.client, "h")
	for _, tc := range []struct {
		cmd, stdout string
		code        int
	}{
		{"echo out; echo err >&2; exit 3", "out\n", 3},
		{"exit 0", "", 0},
		{"kill -TERM $$", "", 128 + 15},
	} {
		tt := stage.Start(t, "tt", nil, env, binaries.TT, "-n", "exit", tc.cmd)
		code, err := tt.Wait(deadline(t))
		if err != nil || code != tc.code || tt.Stdout() != tc.stdout {
			t.Errorf("tt %q exits %d, %v, and prints %q; want %d and %q\n%s", tc.cmd, code, err, tt.Stdout(), tc.code, tc.stdout, tt.Tail(20))
		}
		var eof struct{ Code *int }
		if err := json.Unmarshal(v.Hear("eof"), &eof); err != nil || eof.Code == nil {
			t.Errorf("tt %q: no code in eof: %v", tc.cmd, err)
		}
	}
	// Two runs of one client at once: both arrive whole.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	one := stage.Start(t, "tt", nil, env, binaries.TT, "-n", "exit", "for i in 1 2 3; do echo one$i; sleep 0.1; done")
	two := stage.Start(t, "tt", nil, env, binaries.TT, "-n", "exit", "for i in 1 2 3; do echo two$i; sleep 0.1; done")
	for _, tt := range []*stage.Process{one, two} {
		if code, err := tt.Wait(ctx); err != nil || code != 0 {
			t.Errorf("tt exits %d, %v", code, err)
		}
		v.Hear("eof")
	}
	got := output(v)
	for _, want := range []string{"one1", "one2", "one3", "two1", "two2", "two3"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("the viewer got %q %d times, want once", want, strings.Count(got, want))
		}
	}
}
