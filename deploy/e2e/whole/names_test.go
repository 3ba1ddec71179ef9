package whole

import (
	"fmt"
	"strings"
	"testing"

	"tasktracer/deploy/e2e/stage"
)

// TestHostileNames: nobody sees another's output, whatever the names.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	s := stage.NewSplit(t, binaries, 1, 1)
	p := stage.NewPeers(t)
	byNS := map[string]tokens{"a": newTokens(t, s.Config, "a"), "a:b": newTokens(t, s.Config, "a:b"), "*": newTokens(t, s.Config, "*"), "": newTokens(t, s.Config, "")}
	type who struct{ ns, task, id string }
	all := []who{
		{"a", "b:c", "d"}, {"a", "b", "c:d"}, {"a:b", "c", "d"}, {"a", "b", "c"}, {"a", "b:c", ""},
		{"*", "b", "*"}, {"", "b", "*"}, {"", "b.c", "d"}, {"", "b", "c.d"},
	}
	for _, id := range []string{"*", ">", "a.b", "a b", "ü", "A", "a", "", "a.*", "$JS.API", "=2E", "%2e", "a\u0000b", "\n", strings.Repeat("x", 1000), strings.Repeat("x", 999) + "y", strings.Repeat("ü", 500)} {
		all = append(all, who{"a", "ids", id})
	}
	viewers, clients := make([]*stage.Peer, len(all)), make([]*stage.Peer, len(all))
	for i, w := range all {
		viewers[i] = viewer(p, "sio4", s.Gateways[0].URL, byNS[w.ns].browser, w.task, w.id)
	}
	for i, w := range all {
		clients[i] = older(p, s.Ingest[0].URL, byNS[w.ns].client, w.id, w.task)
		clients[i].Hear("authenticated")
	}
	for i, c := range clients {
		c.Emit("data", stdout(fmt.Sprintf("of %d", i)))
	}
	for _, c := range clients {
		c.Emit("eof", object{"code": 0})
		c.Hear("bye")
	}
	for i, v := range viewers {
		v.Hear("eof")
		if got, want := output(v), fmt.Sprintf("of %d", i); got != want {
			t.Errorf("viewer of %.60q got %q, want %q", all[i], got, want)
		}
		starts := 0
		for _, e := range v.Events() {
			if e.Name == "start" {
				starts++
			}
		}
		if starts != 1 {
			t.Errorf("viewer of %.60q saw %d starts, want 1", all[i], starts)
		}
	}
}
