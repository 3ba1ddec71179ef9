package whole

import (
	"context"
	"crypto/sha256"
	"encoding/json"
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
