// Command tt measures what tt costs the command it runs: wall and processor time of a command that floods its stdout, bare, through cat, under script(1), and under tt
// with and without a server, its spool on disk, in memory and off; of one that computes; tt's memory; and how much later a command starts. What is compared is run in
// turn, round by round, so that what else the machine does falls on all of it. It needs bin/tt and bin/tasktracer (make build).
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	mb := flag.Int("mb", 1024, "how much the command writes, in MiB")
	rounds := flag.Int("rounds", 3, "how often each is run; the median counts")
	bin := flag.String("bin", "../../bin", "where tt and tasktracer are")
	flag.Parse()
	if err := run(*mb, *rounds, *bin); err != nil {
		fmt.Fprintln(os.Stderr, "bench-tt:", err)
		os.Exit(1)
	}
}

// scriptMB is what script(1) gets: it is so slow that more of it would only be waiting. Its time is scaled.
const scriptMB = 16

type bench struct {
	tt, dir string
	env     []string
}

func run(mb, rounds int, bin string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-tt")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{tt: filepath.Join(bin, "tt"), dir: dir}
	b.env = append(os.Environ(), "HOME="+dir, "XDG_STATE_HOME=", "TASKTRACER_ID=bench")
	offline := append(b.env, "TASKTRACER_URL=http://127.0.0.1:9", "TASKTRACER_TOKEN=none")
	online, stop, err := b.server(filepath.Join(bin, "tasktracer"))
	if err != nil {
		return err
	}
	defer stop()
	flood := func(n int) string { return fmt.Sprintf("yes | head -c %dM; date +%%s%%N >%s/end", n, dir) }
	memory, err := os.MkdirTemp("/dev/shm", "bench-tt")
	if err != nil {
		return err
	}
	defer os.RemoveAll(memory)
	under := func(args ...string) []string {
		return append(append([]string{b.tt, "-n", "flood", "--linger", "0"}, args...), flood(mb))
	}
	cases := []*flooded{
		{name: "bare", env: b.env, argv: []string{"bash", "-c", flood(mb)}, scale: 1},
		{name: "through cat", env: b.env, argv: []string{"bash", "-c", "(" + flood(mb) + ") | cat"}, scale: 1},
		{name: "script(1)", env: b.env, argv: []string{"script", "-qec", flood(scriptMB), "/dev/null"}, scale: float64(mb) / scriptMB, once: true},
		{name: "tt, no server", env: offline, argv: under(), scale: 1},
		{name: "tt, no server, spool in tmpfs", env: offline, argv: under("--spool-dir", memory), scale: 1},
		{name: "tt, no server, spool off", env: offline, argv: under("--spool=off"), scale: 1},
		{name: "tt, a server", env: online, argv: under(), scale: 1},
		{name: "tt, a server, spool in tmpfs", env: online, argv: under("--spool-dir", memory), scale: 1},
		{name: "tt, a server, all delivered", env: online, argv: []string{b.tt, "-n", "flood", "--linger", "10m", flood(mb)}, scale: 1, once: true},
	}
	for n := range rounds {
		for _, c := range cases {
			if c.once && n > 0 {
				continue
			}
			m, err := b.measure(c.env, c.argv)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.add(m)
			for _, left := range []string{filepath.Join(dir, ".local"), memory} {
				if err := os.RemoveAll(left); err != nil {
					return err
				}
			}
			if err := os.Mkdir(memory, 0o700); err != nil {
				return err
			}
		}
	}
	fmt.Printf("a command that writes %d MiB, %d rounds in turn, medians (script and delivery: once)\n\n%-30s %10s %10s %8s %8s %10s %8s\n", mb, rounds, "", "command s", "whole s", "x cat", "CPU s", "memory MB", "dropped")
	cat := median(cases[1].command)
	for _, c := range cases {
		fmt.Printf("%-30s %10.2f %10.2f %8.2f %8.2f %10.1f %8v\n", c.name, median(c.command), median(c.whole), median(c.command)/cat, median(c.cpu), float64(c.memory)/1e3, c.dropped)
	}
	return b.more(rounds, online, offline)
}

// flooded is one way to run the command that floods its stdout, and what came of it.
type flooded struct {
	name  string
	env   []string
	argv  []string
	scale float64
	once  bool // it takes so long that one round must do

	command, whole, cpu []float64
	memory              int64
	dropped             bool
}

func (c *flooded) add(m measured) {
	c.command, c.whole, c.cpu = append(c.command, m.command*c.scale), append(c.whole, m.whole*c.scale), append(c.cpu, m.cpu*c.scale)
	c.memory, c.dropped = max(c.memory, m.memory), c.dropped || m.dropped
}

// more measures a job that computes, and how much later than under bash a command starts.
func (b *bench) more(rounds int, online, offline []string) error {
	work := fmt.Sprintf("i=0; while ((i < 1600000)); do ((i++)); done; echo done; date +%%s%%N >%s/end", b.dir)
	start := fmt.Sprintf("date +%%s%%N >%s/end", b.dir)
	fmt.Println()
	for _, c := range []struct {
		what, command string
		n             int
		unit          float64
		name          string
	}{{"a job that computes", work, 3 * rounds, 1, "s"}, {"until a command has started", start, 30 * rounds, 1e3, "ms"}} {
		ways := []struct {
			name    string
			env     []string
			argv    []string
			command []float64
			cpu     []float64
		}{
			{name: "bare", env: b.env, argv: []string{"bash", "-c", c.command}},
			{name: "tt, a server", env: online, argv: []string{b.tt, "-q", "-n", "job", c.command}},
			{name: "tt, no server", env: offline, argv: []string{b.tt, "-q", "-n", "job", "--linger", "0", c.command}},
		}
		for range c.n {
			for i := range ways {
				m, err := b.measure(ways[i].env, ways[i].argv)
				if err != nil {
					return err
				}
				ways[i].command, ways[i].cpu = append(ways[i].command, m.command*c.unit), append(ways[i].cpu, m.cpu*c.unit)
			}
		}
		fmt.Printf("%s, %d times in turn (%s)\n%-30s %10s %10s %10s %10s %10s %8s %8s\n", c.what, c.n, c.name, "", "median", "best", "- bare", "x bare", "best x", "CPU", "CPU x")
		for _, w := range ways {
			bare := ways[0].command
			fmt.Printf("%-30s %10.3f %10.3f %+10.3f %10.3f %10.3f %8.3f %8.3f\n", w.name, median(w.command), slices.Min(w.command), median(w.command)-median(bare),
				median(w.command)/median(bare), slices.Min(w.command)/slices.Min(bare), median(w.cpu), median(w.cpu)/median(ways[0].cpu))
		}
		fmt.Println()
	}
	return nil
}

type measured struct {
	command, whole float64 // seconds until the command had written all, and until the process had ended
	cpu            float64 // seconds of processor that the process and all it waited for took
	memory         int64   // peak resident size of the largest of them, KiB
	dropped        bool    // tt said that not all was kept
}

func (b *bench) measure(env, argv []string) (measured, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	var said bytes.Buffer
	cmd.Stderr = &said
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		return measured{}, fmt.Errorf("%w\n%s", err, said.String())
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	m := measured{
		whole: time.Since(begun).Seconds(), memory: usage.Maxrss, cpu: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds(),
		dropped: strings.Contains(said.String(), "were not sent"),
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "end"))
	if err != nil {
		return m, err
	}
	end, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	m.command = time.Unix(0, end).Sub(begun).Seconds()
	return m, err
}

// server starts `tasktracer all` with data of its own, and gives the environment to reach it.
func (b *bench) server(bin string) (env []string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	addr := l.Addr().String()
	l.Close()
	data := filepath.Join(b.dir, "data")
	cmd := exec.Command(bin, "all", "--listen", addr, "--data", data, "--log-level", "error")
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may be gone
		_ = cmd.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if ctx.Err() != nil {
			stop()
			return nil, nil, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	token, err := exec.Command(bin, "tokengen", "--data", data, "--ns", "bench", "--type", "client_token", "--period", "1 day").Output()
	if err != nil {
		stop()
		return nil, nil, err
	}
	return append(b.env, "TASKTRACER_URL=http://"+addr, "TASKTRACER_TOKEN="+strings.TrimSpace(string(token))), stop, nil
}

func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[len(sorted)/2]
}
