package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/frame"
)

func key(client string) frame.Key { return frame.Key{Namespace: "ns", Task: "t", Client: client} }

func TestLegacyViewerSeesARunFromItsFirstByte(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	w := r.run(key("c")).out("hi\n").err("oops\n").sync()
	w.known(g, "runs", func(frame.Run) bool { return true })
	e := g.watch(r.browser("ns"), "t", []string{"c"}, "", false)
	e.await("data", 2)
	w.out("more\n").exit("0").leave()
	got := e.await("workerOut", 1)
	var lines []string
	for _, x := range got {
		lines = append(lines, x.String())
	}
	want := []string{
		`authenticated{"task":{"name":"t"},"from":["c"],"ns":"ns"}`,
		`workerIn{"from":"c"}`,
		`start{"from":"c","task":{"name":"t","cmd":"echo hi"}}`,
		`data{"from":"c","data":{"type":"STDOUT","data":"hi\n"}}`,
		`data{"from":"c","data":{"type":"STDERR","data":"oops\n"}}`,
		`data{"from":"c","data":{"type":"STDOUT","data":"more\n"}}`,
		`eof{"from":"c","code":0}`,
		`workerOut{"from":"c"}`,
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("events differ (-want +got):\n%s", d)
	}
}

func TestLateJoinerAfterTenThousandRecords(t *testing.T) {
	r := newRig(t)
	g := r.gateway(func(c *Config) { c.Ring = 64 << 10 })
	second := r.gateway()
	w := r.run(key("c"))
	var want strings.Builder
	for i := range 10_000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		w.out(line)
	}
	w.sync()
	var eyes []*eye
	for _, g := range []*gate{g, second} {
		w.known(g, "runs", func(frame.Run) bool { return true })
		eyes = append(eyes,
			g.watch(r.browser("ns"), "t", []string{"c"}, "", false),
			g.watch(r.browser("ns"), "t", []string{"c"}, `,"batch":true`, true),
			g.watch(r.browser("ns"), "t", []string{"c"}, "", true))
	}
	for _, e := range eyes {
		e.await("authenticated", 1)
	}
	for i := range 500 {
		line := fmt.Sprintf("live %d\n", i)
		want.WriteString(line)
		w.out(line)
	}
	w.exit("0").leave()
	for i, e := range eyes {
		all := e.await("workerOut", 1)
		if got := string(bytesOf(t, all, "")); got != want.String() {
			t.Errorf("viewer %d: %d bytes, want %d: not the same", i, len(got), want.Len())
		}
		if n := len(named(all, "start")); n != 1 {
			t.Errorf("viewer %d: %d starts, want 1", i, n)
		}
	}
}
