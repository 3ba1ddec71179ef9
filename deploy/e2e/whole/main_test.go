// Package whole tests the system as its users meet it: the real binaries as processes of their own, a real nats-server, the real npm clients,
// a real browser. It owns what no single part can show. What is missing on the machine fails the tests; nothing is skipped.
package whole

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tasktracer/deploy/e2e/stage"
)

// binaries are built once, by TestMain, and only read.
var binaries stage.Binaries

func TestMain(m *testing.M) { os.Exit(stage.Main(m, &binaries)) }

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// tokens are those of one namespace.
type tokens struct{ client, browser string }

func newTokens(t testing.TB, config, ns string) tokens {
	t.Helper()
	return tokens{stage.Token(t, binaries, config, ns, "client_token"), stage.Token(t, binaries, config, ns, "browser_token")}
}

type object = map[string]any

// older authenticates a client as the older system's tt does; it knows nothing of the extension.
func older(p *stage.Peers, url, token, id, task string) *stage.Peer {
	c := p.Connect("sio1", url, nil)
	c.Hear(":connect")
	c.Emit("authenticate", object{"type": "client", "token": token, "id": id, "task": object{"name": task, "cmd": "echo hi", "env": object{"SECRET": "of the client"}}})
	return c
}

// viewer authenticates a viewer that asks for nothing new.
func viewer(p *stage.Peers, alias, url, token, task string, from ...string) *stage.Peer {
	v := p.Connect(alias, url, nil)
	v.Hear(":connect")
	v.Emit("authenticate", object{"type": "browser_token", "token": token, "watch": object{"task": task, "from": from}})
	v.Hear("authenticated")
	return v
}

// seen is what a viewer heard of runs, one line an event, without its connection's own doings.
func seen(v *stage.Peer) (lines []string) {
	for _, e := range v.Events() {
		if !strings.HasPrefix(e.Name, ":") && e.Name != "authenticated" {
			lines = append(lines, e.String())
		}
	}
	return lines
}

func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, d)
	}
}

func stdout(text string) object { return object{"type": "STDOUT", "data": text} }

// textOf is the text of a data event, for those that ask for nothing new.
func textOf(arg json.RawMessage) string {
	var m struct{ Data struct{ Data string } }
	if json.Unmarshal(arg, &m) != nil {
		return fmt.Sprintf("no text: %s", arg)
	}
	return m.Data.Data
}

// output is all the text that a viewer has heard.
func output(v *stage.Peer) string {
	var b strings.Builder
	for _, e := range v.Events() {
		if e.Name == "data" {
			b.WriteString(textOf(e.Arg))
		}
	}
	return b.String()
}
