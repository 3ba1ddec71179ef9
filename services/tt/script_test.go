//go:build unix

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tasktracer/pkg/trace/tracetest"
)

// A minute and 200 MB show more than what is run for every change, and are what a release is tested with: make outage.
var (
	outage   = flag.Duration("outage", 2*time.Second, "how long the server is away in TestOutage and in the script outage")
	outageMB = flag.Int64("outage-mb", 20, "how much is written in TestOutage, in MB")
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tt":    func() { main() },
		"paced": paced,
	})
}

// The scripts run the real tt, as a process of its own, against a server that speaks the wire over a real socket.
func TestScript(t *testing.T) {
	// Where this was started with SIGHUP ignored, by nohup say, the commands would inherit that, and could not trap it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			h := &harness{t: env.T().(testing.TB)}
			env.Values["harness"] = h
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TASKTRACER_TOKEN", "the-token-of-the-test")
			env.Setenv("TASKTRACER_ID", "cli-1")
			env.Setenv("OUTAGE", outage.String())
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server": server, "sent": sent, "ended": ended, "signal": sendSignal, "await": await, "cut": cut, "spools": spools, "runs": runs, "lost": lost,
			"hello": hello, "sleepfor": sleepFor, "everyrun": everyRun,
		},
	})
}

// harness is one script's server.
type harness struct {
	t      testing.TB
	server *tracetest.Server
}

func of(ts *testscript.TestScript) *harness { return ts.Value("harness").(*harness) }

// server starts the script's server, or changes how it misbehaves: server [tls] [silent] [deaf] [refuse=CODE] [expired[=TOKEN]] [cut=N] [skew=TIME]
func server(ts *testscript.TestScript, neg bool, args []string) {
	h := of(ts)
	f := tracetest.Faults{}
	secure := false
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "tls":
			secure = true
		case "silent":
			f.Silent = true
		case "deaf":
			f.Deaf = true
		case "refuse":
			f.Refuse = value
		case "expired":
			if value == "" {
				value = "the-token-of-the-test"
			}
			f.RefuseTokens = map[string]string{value: "token_expired"}
		case "skew":
			d, err := time.ParseDuration(value)
			ts.Check(err)
			f.Skew = d
		case "cut":
			n, err := strconv.Atoi(value)
			ts.Check(err)
			f.CutEvery = n
		default:
			ts.Fatalf("server: %q?", a)
		}
	}
	if h.server != nil {
		h.server.Set(f)
		return
	}
	if secure {
		h.server = tracetest.StartTLS(h.t, f)
		ts.Check(writeCertificate(ts.MkAbs("ca.pem"), h.server.Authority))
	} else {
		h.server = tracetest.Start(h.t, f)
	}
	ts.Setenv("TASKTRACER_URL", h.server.URL)
}

func writeCertificate(file string, c *x509.Certificate) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600)
}

// sent compares what the server has of the run's stdout, stderr, both or notes with a file: sent stdout|stderr|both|notes FILE. It waits for it.
func sent(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sent stdout|stderr|both|notes FILE")
	}
	kind, ok := map[string]string{"stdout": "STDOUT", "stderr": "STDERR", "both": "", "notes": "NOTE"}[args[0]]
	if !ok {
		ts.Fatalf("sent %s?", args[0])
	}
	want := ts.ReadFile(args[1])
	if neg {
		run := of(ts).server.Wait(of(ts).t, "a run", func(*tracetest.Run) bool { return true })
		if strings.Contains(string(run.Output(kind)), strings.TrimSpace(want)) {
			ts.Fatalf("%s holds %q", args[0], want)
		}
		return
	}
	last := ""
	defer func() {
		if of(ts).t.Failed() {
			ts.Logf("last: %.2000q", last)
		}
	}()
	arrive(ts, fmt.Sprintf("%s = %.300q", args[0], want), func(r *tracetest.Run) bool {
		last = string(r.Output(kind))
		if kind == "NOTE" {
			return strings.Contains(last, strings.TrimSpace(want))
		}
		return last == want
	})
}

// everyrun compares what the server has of every run's stdout with a file, and sees that each has ended: everyrun stdout FILE
func everyRun(ts *testscript.TestScript, neg bool, args []string) {
	want := ts.ReadFile(args[1])
	for _, r := range of(ts).server.State() {
		if got := string(r.Output("STDOUT")); got != want || r.Code == nil {
			ts.Fatalf("run %s: %d bytes, want %d; ended: %v", r.ID, len(got), len(want), r.Code != nil)
		}
	}
}

// ended waits for a run's end: ended CODE [SIGNAL]
func ended(ts *testscript.TestScript, neg bool, args []string) {
	want := strings.Join(args, " ")
	arrive(ts, "end "+want, func(r *tracetest.Run) bool {
		return tracetest.Ended(r) && strings.TrimSpace(fmt.Sprint(*r.Code, " ", r.Signal)) == want
	})
}

// patience is how long a script waits for a run to arrive before it does what a user would. On a machine that is busy enough a run's own tt gives up, as it
// should, and leaves the rest to tt flush.
const patience = 20 * time.Second

// arrive waits until ok says so of one of the server's runs.
func arrive(ts *testscript.TestScript, what string, ok func(*tracetest.Run) bool) *tracetest.Run {
	for range 6 {
		if r := of(ts).server.TryWait(patience, ok); r != nil {
			return r
		}
		_ = ts.Exec("tt", "flush", "-q") // what it cannot do is seen below
	}
	return of(ts).server.WaitFor(of(ts).t, what, patience, ok)
}

// signal sends a signal to the process whose id stands in a file: signal TERM FILE
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(kill(pid, args[0]))
}

// await waits until a file is there and not empty, or a process has a state: await file NAME, await stopped|gone PIDFILE, await text NAME TEXT
func await(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if holds(ts, args) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("await %v: did not happen", args)
		}
	}
}

func holds(ts *testscript.TestScript, args []string) bool {
	switch args[0] {
	case "spool":
		entries, _ := os.ReadDir(ts.MkAbs(".local/state/tasktracer/spool"))
		return strconv.Itoa(len(entries)) == args[1]
	case "spooled":
		want, err := strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
		return spooled(ts) >= want
	}
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	if err != nil || len(b) == 0 {
		return false
	}
	switch args[0] {
	case "file":
		return true
	case "text":
		return strings.Contains(string(b), args[2])
	}
	state := processState(strings.TrimSpace(string(b)))
	switch args[0] {
	case "stopped":
		return state == "T"
	case "running":
		return state != "T" && state != ""
	case "gone":
		return state == "" || state == "Z"
	}
	ts.Fatalf("await %s?", args[0])
	return false
}

// processState is the letter of /proc/PID/stat; empty where there is no such process.
func processState(pid string) string {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

// cut closes the server's connections.
func cut(ts *testscript.TestScript, neg bool, args []string) { of(ts).server.Cut() }

// spools checks how many spools there are: spools N
func spools(ts *testscript.TestScript, neg bool, args []string) {
	entries, _ := os.ReadDir(ts.MkAbs(".local/state/tasktracer/spool"))
	if strconv.Itoa(len(entries)) != args[0] {
		ts.Fatalf("%d spools, want %s", len(entries), args[0])
	}
}

// runs checks how many runs the server has seen: runs N
func runs(ts *testscript.TestScript, neg bool, args []string) {
	if got := strconv.Itoa(of(ts).server.Runs()); got != args[0] {
		ts.Fatalf("%s runs, want %s", got, args[0])
	}
}

// lost checks that the run's notes tell of lost bytes, and that with them all are accounted for: lost TOTAL
func lost(ts *testscript.TestScript, neg bool, args []string) {
	total, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	run := arrive(ts, "end", tracetest.Ended)
	if run.LostBytes() == 0 || run.LostBytes()+uint64(len(run.Output(""))) != total {
		ts.Fatalf("%d bytes came and %d are told lost, want %d together", len(run.Output("")), run.LostBytes(), total)
	}
}

// spooled is how many bytes lie in the script's spools.
func spooled(ts *testscript.TestScript) (n int64) {
	files, _ := filepath.Glob(ts.MkAbs(".local/state/tasktracer/spool/*/*.seg"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			n += info.Size()
		}
	}
	return n
}

// hello checks the n-th authenticate message against patterns: hello N PATTERN…
func hello(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for range 6 {
		if len(of(ts).server.TryHello(patience, n)) >= n {
			break
		}
		_ = ts.Exec("tt", "flush", "-q") // as in arrive
	}
	got := of(ts).server.WaitHello(of(ts).t, n)[n-1]
	for _, p := range args[1:] {
		if regexp.MustCompile(p).Match(got) == neg {
			ts.Fatalf("authenticate %d: %s: matches %s: %v", n, got, p, neg)
		}
	}
}

// sleepfor gives a signal time to be handled alone: signals that come together may come in any order.
func sleepFor(ts *testscript.TestScript, neg bool, args []string) {
	ms, err := strconv.Atoi(args[0])
	ts.Check(err)
	<-time.After(time.Duration(ms) * time.Millisecond)
}
