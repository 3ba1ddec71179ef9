package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
	"tasktracer/pkg/socketio"
)

// cpu is the processor time of this process, in seconds: the embedded server and the test's own clients included. On a busy machine
// it says more than the clock.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// longRun stores a run of 1,000,000 lines, 100 MB, in records of 4 KiB, as a flood of a real command comes.
func longRun(b *testing.B) (*gate, *writer, int) {
	b.Helper()
	r := newRig(b)
	g := r.gateway()
	w := r.run(key("c"))
	line := strings.Repeat("x", 91)
	var buf bytes.Buffer
	total := 0
	for i := range 1_000_000 {
		fmt.Fprintf(&buf, "%08d %s\n", i, line)
		if buf.Len() >= 4<<10 {
			total += buf.Len()
			w.out(buf.String())
			buf.Reset()
		}
	}
	total += buf.Len()
	w.out(buf.String()).sync().known(g, "is there", known)
	return g, w, total
}

func BenchmarkReadAPI(b *testing.B) {
	g, w, total := longRun(b)
	token := g.browser("ns")
	for _, q := range []string{"", "?ansi=strip", "?format=ndjson"} {
		b.Run("log"+q, func(b *testing.B) {
			b.SetBytes(int64(total))
			var first time.Duration
			used := cpu()
			for b.Loop() {
				begun := time.Now()
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, g.url+"/api/v1/runs/"+w.key.Run+"/log"+q, nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+token)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				first = time.Since(begun)
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || q == "" && int(n)+1 != total {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(first.Microseconds())/1000, "ms-to-first-byte")
			b.ReportMetric(float64(total*b.N)/1e6/(cpu()-used), "MB/cpu-s")
		})
	}
	b.Run("range", func(b *testing.B) {
		for b.Loop() {
			if a := g.get(token, "/api/v1/runs/"+w.key.Run+"/log", "Range", fmt.Sprintf("bytes=%d-%d", total/2, total/2+65535)); a.status != 206 || len(a.body) != 65536 {
				b.Fatal(a.status)
			}
		}
	})
	b.Run("lines", func(b *testing.B) {
		for b.Loop() {
			if a := g.get(token, "/api/v1/runs/"+w.key.Run+"/log?lines=700000-700999"); a.status != 200 || len(a.body) < 90_000 {
				b.Fatal(a.status, len(a.body))
			}
		}
	})
	for _, q := range []string{"q=NOWHERE&case=1", "q=nowhere", "q=no(where|body)&regex=1"} {
		b.Run("search?"+q, func(b *testing.B) {
			b.SetBytes(int64(total))
			used := cpu()
			defer func() { b.ReportMetric(float64(total*b.N)/1e6/(cpu()-used), "MB/cpu-s") }()
			for b.Loop() {
				if a := g.get(token, "/api/v1/runs/"+w.key.Run+"/search?"+q); !strings.Contains(a.body, `"lines":1000000,"more":false`) {
					b.Fatal(a.body)
				}
			}
		})
	}
}

// BenchmarkHistory is a viewer that attaches to a run of 100 MB.
func BenchmarkHistory(b *testing.B) {
	g, _, total := longRun(b)
	for _, c := range []struct {
		name, extra string
		v2          bool
		viewers     int
	}{{"legacy", "", false, 1}, {"batch", `,"batch":true`, true, 1}, {"batch, 20 at once", `,"batch":true`, true, 20}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(total * c.viewers))
			var first time.Duration
			used := cpu()
			for b.Loop() {
				var wg sync.WaitGroup
				for range c.viewers {
					wg.Go(func() { first = g.drain(b, c.extra, c.v2, total) })
				}
				wg.Wait()
			}
			b.ReportMetric(float64(first.Microseconds())/1000, "ms-to-first-data")
			b.ReportMetric(float64(total*b.N*c.viewers)/1e6/(cpu()-used), "MB/cpu-s")
		})
	}
}

// drain attaches and reads until about n bytes have come; it measures with as little work of its own as can be.
func (g *gate) drain(b *testing.B, extra string, v2 bool, n int) (first time.Duration) {
	c, err := socketio.Dial(b.Context(), socketio.DialConfig{URL: g.url, Log: g.log, MaxMessage: 16 << 20})
	if err != nil {
		b.Error(err)
		return 0
	}
	defer c.Close()
	begun := time.Now()
	done := make(chan struct{})
	got := 0
	c.OnEvent(func(e *socketio.Event) {
		if e.Name != "data" {
			return
		}
		if got == 0 {
			first = time.Since(begun)
		}
		if got += len(e.Args[0]); got >= n && got-len(e.Args[0]) < n {
			close(done)
		}
	})
	v := ""
	if v2 {
		v = `,"v":2`
	}
	arg := fmt.Sprintf(`{"token":%s,"watch":{"task":"t","from":["c"]%s}%s}`, quote(g.browser("ns")), extra, v)
	if err := c.Emit(b.Context(), "authenticate", json.RawMessage(arg)); err != nil {
		b.Error(err)
		return 0
	}
	select {
	case <-done:
	case <-c.Done():
		b.Error("the connection ended", c.Err())
	}
	return first
}

// BenchmarkFanOut is one chunk of 200 bytes brought to 200 viewers.
func BenchmarkFanOut(b *testing.B) {
	r := newRig(b)
	g := r.gateway()
	w := r.run(key("c")).sync().known(g, "is there", known)
	const viewers = 200
	arrived := make(chan struct{}, viewers*1000)
	ready := make(chan struct{}, viewers)
	for range viewers {
		c, err := socketio.Dial(b.Context(), socketio.DialConfig{URL: g.url, Log: g.log})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		c.OnEvent(func(e *socketio.Event) {
			switch e.Name {
			case "data":
				arrived <- struct{}{}
			case "live":
				ready <- struct{}{}
			}
		})
		arg := fmt.Sprintf(`{"token":%s,"watch":{"task":"t","from":["c"],"batch":true},"v":2}`, quote(g.browser("ns")))
		if err := c.Emit(b.Context(), "authenticate", json.RawMessage(arg)); err != nil {
			b.Fatal(err)
		}
	}
	for range viewers {
		<-ready
	}
	text := strings.Repeat("x", 199) + "\n"
	for b.Loop() {
		w.out(text).sync()
		for range viewers {
			<-arrived
		}
	}
	b.ReportMetric(float64(b.N*viewers)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkEncode is what a chunk of 64 KiB of lines costs, once for all viewers of a form.
func BenchmarkEncode(b *testing.B) {
	c := &frame.Chunk{First: 1}
	for i := range 16 {
		c.Records = append(c.Records, frame.Record{Seq: uint64(i + 1), At: 1, Kind: frame.Stdout, Data: []byte(strings.Repeat("a line of text\n", 273))})
	}
	for _, f := range []flavour{legacy, single, batched} {
		b.Run([]string{"legacy", "single", "batched"}[f], func(b *testing.B) {
			m := NewMetrics(nil)
			b.SetBytes(int64(size(c)))
			for b.Loop() {
				newEntry(bus.Stored{Chunk: c}, 0).pieces(f, 1, carry{}, m)
			}
		})
	}
}
