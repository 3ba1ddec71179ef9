package trace_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/trace"
	"tasktracer/pkg/trace/spool"
	"tasktracer/pkg/trace/tracetest"
)

func config(t *testing.T, s *tracetest.Server) trace.Config {
	t.Helper()
	return trace.Config{
		URL: s.URL, Token: "token", ID: "cli", Name: "task", Command: "test", Spool: spool.Config{Dir: t.TempDir()},
		Warn: func(text string) { t.Log("warn:", text) },
	}
}

func begin(t *testing.T, cfg trace.Config) *trace.Run {
	t.Helper()
	r, err := trace.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func spoolIsGone(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the spool's directory: %v, %v", left, err)
	}
}

func TestDelivered(t *testing.T) {
	s := tracetest.Start(t, tracetest.Faults{})
	cfg := config(t, s)
	cfg.Tags = map[string]string{"k": "v"}
	urls := make(chan string, 1)
	cfg.Accepted = func(url string) { urls <- url }
	r := begin(t, cfg)
	fmt.Fprint(r.Stdout(), "one\n")
	fmt.Fprint(r.Stderr(), "two \"quoted\" \\ \x01\n")
	fmt.Fprint(r.Stdout(), "bin \xff\xfe\n")
	fmt.Fprint(r.Stdout(), "é🎉\n")
	r.Note("by the way")
	o := r.Close(trace.Exit{Code: 143, Signal: "SIGTERM"})
	if !o.Delivered {
		t.Fatalf("Close = %+v, want delivered", o)
	}
	run := s.Wait(t, "exit", tracetest.Ended)
	var got []string
	for i := range run.Records {
		rec := &run.Records[i]
		got = append(got, fmt.Sprintf("%d %s %s", rec.Seq, rec.Type, rec.Bytes()))
	}
	want := []string{"1 STDOUT one\n", "2 STDERR two \"quoted\" \\ \x01\n", "3 STDOUT bin \xff\xfe\n", "4 STDOUT é🎉\n", "5 NOTE by the way"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	if *run.Code != 143 || run.Signal != "SIGTERM" || run.Client != "cli" {
		t.Errorf("run = %+v", run)
	}
	if !strings.Contains(string(run.Task), `"tags":["k=v"]`) || !strings.Contains(string(run.Task), `"cmd":"test"`) {
		t.Errorf("task = %s", run.Task)
	}
	if url := <-urls; !strings.Contains(url, "accessToken") {
		t.Errorf("url = %q", url)
	}
	spoolIsGone(t, cfg.Spool.Dir)
}

// Whatever breaks, the server has every byte once.
func TestExactlyOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		faults tracetest.Faults
		dir    bool
	}{
		"cut often":            {tracetest.Faults{CutEvery: 3}, true},
		"cut often, in memory": {tracetest.Faults{CutEvery: 3}, false},
		"busy server":          {tracetest.Faults{Refuse: "busy"}, true},
		"slow server":          {tracetest.Faults{Delay: 5 * time.Millisecond}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tracetest.Start(t, tc.faults)
			cfg := config(t, s)
			if !tc.dir {
				cfg.Spool.Dir = ""
			}
			cfg.Linger = time.Minute
			r := begin(t, cfg)
			if tc.faults.Refuse != "" {
				s.WaitHello(t, 3)
				s.Set(tracetest.Faults{})
			}
			rng := rand.New(rand.NewPCG(7, 9))
			sum, total := sha256.New(), 0
			for range 300 {
				b := make([]byte, 1+rng.IntN(20_000))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				if rng.IntN(2) == 0 {
					b = []byte(base64.StdEncoding.EncodeToString(b))
				}
				sum.Write(b)
				total += len(b)
				r.Stdout().Write(b)
			}
			<-r.Connected()
			// A connection may be cut at the very end; Close would then leave the rest to a flush.
			s.Set(tracetest.Faults{Delay: tc.faults.Delay})
			if tc.faults.CutEvery > 0 {
				s.Wait(t, "all output", func(run *tracetest.Run) bool { return len(run.Output("STDOUT")) == total })
			}
			o := r.Close(trace.Exit{})
			if !o.Delivered {
				t.Fatalf("Close = %+v, want delivered", o)
			}
			run := s.Wait(t, "exit", tracetest.Ended)
			got := sha256.Sum256(run.Output("STDOUT"))
			if !bytes.Equal(got[:], sum.Sum(nil)) {
				t.Errorf("the server has other bytes than were written: %d, want %d", len(run.Output("STDOUT")), total)
			}
		})
	}
}

func TestSplitCharacters(t *testing.T) {
	s := tracetest.Start(t, tracetest.Faults{})
	r := begin(t, config(t, s))
	for _, b := range []byte("aé€🎉z") {
		r.Stdout().Write([]byte{b})
	}
	r.Stdout().Write([]byte("\xf0\x9f")) // never finished
	s.Wait(t, "held bytes, after a moment", func(run *tracetest.Run) bool { return strings.HasSuffix(string(run.Output("STDOUT")), "\xf0\x9f") })
	if o := r.Close(trace.Exit{}); !o.Delivered {
		t.Fatalf("Close = %+v", o)
	}
	run := s.Wait(t, "exit", tracetest.Ended)
	for i := range run.Records {
		if rec := &run.Records[i]; rec.Data != nil && strings.ContainsRune(*rec.Data, '\uFFFD') {
			t.Errorf("record %d has a broken character: %q", rec.Seq, *rec.Data)
		}
	}
	if got, want := string(run.Output("STDOUT")), "aé€🎉z\xf0\x9f"; got != want {
		t.Errorf("output = %q, want %q", got, want)
	}
}

func TestLargeRecords(t *testing.T) {
	for name, b := range map[string][]byte{
		"text":     bytes.Repeat([]byte("é"), 1_500_001),
		"zeroes":   make([]byte, 2_000_000),
		"newlines": bytes.Repeat([]byte("\n"), 2_000_000),
		"quotes":   bytes.Repeat([]byte(`"`), 1_000_000),
		"binary":   bytes.Repeat([]byte{0xff, 'a'}, 1_000_000),
	} {
		t.Run(name, func(t *testing.T) {
			s := tracetest.Start(t, tracetest.Faults{})
			r := begin(t, config(t, s))
			r.Stderr().Write(b)
			if o := r.Close(trace.Exit{}); !o.Delivered {
				t.Fatalf("Close = %+v", o)
			}
			run := s.Wait(t, "exit", tracetest.Ended)
			if !bytes.Equal(run.Output("STDERR"), b) {
				t.Errorf("%d bytes came, not the %d that were written", len(run.Output("STDERR")), len(b))
			}
			for i := range run.Records {
				if n := len(run.Records[i].Bytes()); n > spool.MaxRecord {
					t.Errorf("record of %d bytes", n)
				}
			}
		})
	}
}
