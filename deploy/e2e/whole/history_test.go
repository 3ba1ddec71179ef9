package whole

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tasktracer/deploy/e2e/stage"
)

// TestLateViewers: viewers that attach after 10,000 records see all of them, and then what comes live, in order and none twice; on
// another gateway as well, and with history "all" when everything is over.
func TestLateViewers(t *testing.T) {
	t.Parallel()
	const before, after = 10_000, 200
	s := stage.NewSplit(t, binaries, 1, 2)
	tok := newTokens(t, s.Config, "default")
	p := stage.NewPeers(t)
	c := older(p, s.Ingest[0].URL, tok.client, "cli-1", "late")
	var want strings.Builder
	line := func(i int) {
		text := fmt.Sprintf("line %d ü😀\n", i)
		want.WriteString(text)
		c.Emit("data", stdout(text))
	}
	for i := range before {
		line(i)
	}
	lastBefore := fmt.Sprintf("line %d ü😀\n", before-1)
	isLast := func(arg json.RawMessage) bool { return textOf(arg) == lastBefore }
	var viewers []*stage.Peer
	for i, alias := range []string{"sio1", "sio4", "sio4"} {
		viewers = append(viewers, viewer(p, alias, s.Gateways[i%2].URL, tok.browser, "late", "cli-1"))
	}
	for _, v := range viewers {
		v.HearThat("data", isLast)
	}
	for i := range after {
		line(before + i)
	}
	c.Emit("eof", object{"code": 0})
	c.Hear("bye")
	c.Close()
	for _, v := range viewers {
		v.Hear("eof")
		v.Hear("workerOut")
		if got := output(v); got != want.String() {
			t.Errorf("%s got %d bytes, want %d, the same", v.Alias, len(got), want.Len())
		}
		if lines := seen(v); len(lines) != 1+1+before+after+2 {
			t.Errorf("%s heard %d events", v.Alias, len(lines))
		}
	}

	// Whoever asks for nothing new does not hear of yesterday's runs; whoever asks, does, in batches with cursors.
	plain := viewer(p, "sio4", s.Gateways[1].URL, tok.browser, "late", "cli-1")
	v := p.Connect("sio4", s.Gateways[1].URL, nil)
	v.Hear(":connect")
	v.Emit("authenticate", object{"type": "browser_token", "token": tok.browser, "v": 2,
		"watch": object{"task": "late", "from": []string{"cli-1"}, "history": "all", "batch": true}})
	v.Hear("eof")
	var got strings.Builder
	next := uint64(0)
	for _, e := range v.Events() {
		if e.Name != "data" {
			continue
		}
		var m struct {
			Run, Cursor string
			Data        []struct {
				Seq        uint64
				Type, Data string
			}
		}
		if err := json.Unmarshal(e.Arg, &m); err != nil || m.Cursor == "" || m.Run == "" {
			t.Fatalf("data %.200s: %v", e.Arg, err)
		}
		for _, r := range m.Data {
			if next != 0 && r.Seq != next {
				t.Fatalf("seq %d, want %d", r.Seq, next)
			}
			next = r.Seq + 1
			got.WriteString(r.Data)
		}
	}
	if got.String() != want.String() {
		t.Errorf("history of an ended run: %d bytes, want %d, the same", got.Len(), want.Len())
	}
	if lines := seen(plain); len(lines) != 0 {
		t.Errorf("a viewer that asked for no history heard %.300q", lines)
	}
}

// TestResume: a viewer leaves, and goes on behind its cursor on another gateway.
func TestResume(t *testing.T) {
	t.Parallel()
	s := stage.NewSplit(t, binaries, 1, 2)
	tok := newTokens(t, s.Config, "default")
	p := stage.NewPeers(t)
	c := older(p, s.Ingest[0].URL, tok.client, "cli-1", "resume")
	c.Emit("data", stdout("one;"))
	watch := func(gateway int, more object) *stage.Peer {
		w := object{"task": "resume", "from": []string{"cli-1"}, "batch": true}
		for k, v := range more {
			w[k] = v
		}
		v := p.Connect("sio4", s.Gateways[gateway].URL, nil)
		v.Hear(":connect")
		v.Emit("authenticate", object{"type": "browser_token", "token": tok.browser, "v": 2, "watch": w})
		return v
	}
	first := watch(0, nil)
	var m struct{ Cursor string }
	if err := json.Unmarshal(first.Hear("data"), &m); err != nil || m.Cursor == "" {
		t.Fatalf("no cursor: %v", err)
	}
	first.Close()
	c.Emit("data", stdout("two;"))
	second := watch(1, object{"after": object{"cli-1": []string{m.Cursor}}})
	second.Hear("data")
	c.Emit("data", stdout("three;"))
	second.Hear("data")
	var texts []string
	for _, e := range second.Events() {
		if e.Name == "data" {
			var d struct{ Data []struct{ Data string } }
			if err := json.Unmarshal(e.Arg, &d); err != nil {
				t.Fatal(err)
			}
			for _, r := range d.Data {
				texts = append(texts, r.Data)
			}
		}
	}
	diff(t, "what came behind the cursor", []string{"two;", "three;"}, texts)

	stranger := newTokens(t, s.Config, "elsewhere")
	v := p.Connect("sio4", s.Gateways[0].URL, nil)
	v.Hear(":connect")
	v.Emit("authenticate", object{"type": "browser_token", "token": stranger.browser, "v": 2,
		"watch": object{"task": "resume", "from": []string{"cli-1"}, "after": object{"cli-1": []string{m.Cursor}}}})
	var problem struct{ Code string }
	if err := json.Unmarshal(v.Hear("problem"), &problem); err != nil || problem.Code != "bad_cursor" {
		t.Errorf("another namespace's cursor: problem %+v, %v", problem, err)
	}
	// Nothing of it comes even while it is written.
	c.Emit("data", stdout("four;"))
	second.Hear("data")
	time.Sleep(200 * time.Millisecond) // nothing can be waited for
	for _, l := range seen(v) {
		if !strings.HasPrefix(l, "problem") {
			t.Errorf("another namespace's viewer heard %q", l)
		}
	}
}
