package gateway

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"tasktracer/pkg/frame"
)

// manyRuns makes runs in every state, and tells by id how each stands.
func manyRuns(t testing.TB, r *rig, n int) map[string]string {
	t.Helper()
	want := map[string]string{}
	for i := range n {
		want[fmt.Sprintf("run-%05d", i)] = []string{"exited", "running", "detached", "exited"}[i%4]
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, 8)
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			id := fmt.Sprintf("run-%05d", i)
			a, err := r.bus.Take(r.ctx, "ingest-1", frame.Run{Key: frame.Key{Namespace: "ns", Task: "t", Client: fmt.Sprint("c", i%50), Run: id}, Task: []byte(`{"cmd":"x"}`)})
			if err != nil {
				t.Error(err)
				return
			}
			recs := []frame.Record{{Kind: frame.Stdout, Src: 1, Data: []byte("x\n")}}
			if want[id] == "exited" {
				data, err := frame.ExitInfo{Code: fmt.Append(nil, i%3)}.Marshal()
				if err != nil {
					t.Error(err)
				}
				recs = append(recs, frame.Record{Kind: frame.Exit, Src: 2, Data: data})
			}
			if err := a.Submit(r.ctx, recs...); err != nil {
				t.Error(err)
			}
			if err := a.Sync(r.ctx); err != nil {
				t.Error(err)
			}
			if want[id] != "running" {
				if err := a.Release(r.ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return want
}

// A gateway that is started in the middle knows how every run stands before it says that it is ready.
func TestRestartedGatewayKnowsEverything(t *testing.T) {
	r := newRig(t)
	before := r.gateway()
	want := manyRuns(t, r, 500)
	before.stop()
	began := time.Now()
	g := r.gateway() // until it is ready
	t.Logf("ready %v after its start", time.Since(began))
	a := g.get(r.browser("ns"), "/api/v1/tasks/t/runs?limit=1000")
	var got struct {
		Runs []struct {
			Run, State string
			Code       *int
		}
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatalf("%d %.200s: %v", a.status, a.body, err)
	}
	if len(got.Runs) != len(want) {
		t.Errorf("it knows %d runs, want %d", len(got.Runs), len(want))
	}
	for _, run := range got.Runs {
		if run.State != want[run.Run] || (run.Code != nil) != (run.State == "exited") {
			t.Errorf("%s is %s with code %v, want %s", run.Run, run.State, run.Code, want[run.Run])
		}
	}
}

// BenchmarkGatewayStart is from the start of a gateway until it knows how all runs stand.
func BenchmarkGatewayStart(b *testing.B) {
	r := newRig(b)
	manyRuns(b, r, 500)
	for b.Loop() {
		g := r.gateway()
		b.StopTimer()
		g.stop()
		b.StartTimer()
	}
}
