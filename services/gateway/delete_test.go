package gateway

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd/natsdtest"
)

// A secret that got into a run's output is gone once the run is deleted: from open pages, from what every gateway keeps, and from the log's files.
func TestDeletedIsNowhere(t *testing.T) {
	const secret = "hunter2-in-the-output"
	r := newRig(t)
	gates := []*gate{r.gateway(), r.gateway()}
	r.run(key("d")).out("harmless\n").sync() // a file that held nothing else would be removed as a whole
	w := r.run(key("c"))
	for range 20 {
		w.out("the password is " + secret + "\n").sync()
	}
	w.known(gates[0], "is there", known).known(gates[1], "is there", known)
	token := r.browser("ns")
	var eyes []*eye
	for _, g := range gates {
		early := g.watch(token, "t", []string{"c"}, "", true) // from history
		early.await("live", 1)
		eyes = append(eyes, early)
	}
	w.out("again, " + secret + "\n").sync() // from the feed
	for i, e := range eyes {
		eventually(t, "the viewer has all", func() bool { return bytes.Count(bytesOf(t, e.events(), ""), []byte(secret)) == 21 })
		if inRing, inCache := kept(gates[i], w.key); inRing == 0 || inCache == 0 {
			t.Fatalf("gateway %d keeps %d chunks in the ring and %d in the cache: this test shows nothing", i, inRing, inCache)
		}
	}
	if n := len(natsdtest.FilesWith(t, r.dir, secret)); n == 0 {
		t.Fatal("nothing is on the disk: this test shows nothing")
	}

	base := r.token(auth.Claims{Type: auth.Base, Namespace: "ns"}, time.Hour)
	if a := gates[0].request(http.MethodDelete, base, "/api/v1/runs/"+w.key.Run); a.status != http.StatusNoContent {
		t.Fatalf("DELETE = %d %s, want %d", a.status, a.body, http.StatusNoContent)
	}
	if left := natsdtest.FilesWith(t, r.dir, secret); len(left) > 0 {
		t.Errorf("it is in %v", left)
	}
	for i, e := range eyes {
		eventually(t, "the page is told", func() bool {
			all := named(e.events(), "state")
			return len(all) > 0 && all[len(all)-1].get("state") == "deleted"
		})
		if inRing, inCache := kept(gates[i], w.key); inRing != 0 || inCache != 0 {
			t.Errorf("gateway %d keeps %d chunks in the ring and %d in the cache", i, inRing, inCache)
		}
		if a := gates[i].get(token, "/api/v1/runs/"+w.key.Run+"/log"); a.status != http.StatusNotFound {
			t.Errorf("the log at gateway %d = %d, want %d", i, a.status, http.StatusNotFound)
		}
	}
}

// kept is how many chunks of a run a gateway has.
func kept(g *gate, k frame.Key) (inRing, inCache int) {
	g.s.feeds.mu.Lock()
	defer g.s.feeds.mu.Unlock()
	for _, f := range g.s.feeds.all {
		f.mu.Lock()
		for _, e := range f.ring {
			if e.key == k {
				inRing++
			}
		}
		f.mu.Unlock()
	}
	g.s.backlog.mu.Lock()
	defer g.s.backlog.mu.Unlock()
	for at := range g.s.backlog.byPlace {
		if at.key == k {
			inCache++
		}
	}
	return inRing, inCache
}
