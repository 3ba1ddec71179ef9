// Command tt measures what tt costs the command it runs: the wall time of a command that floods its stdout, bare, through cat, under script(1), and under tt
// without and with a server; tt's memory; and how much later a command starts. It needs bin/tt and bin/tasktracer (make build).
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
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
	cases := []struct {
		name  string
		env   []string
		argv  []string
		scale float64
	}{
		{"bare", b.env, []string{"bash", "-c", flood(mb)}, 1},
		{"through cat", b.env, []string{"bash", "-c", "(" + flood(mb) + ") | cat"}, 1},
		{"script(1)", b.env, []string{"script", "-qec", flood(scriptMB), "/dev/null"}, float64(mb) / scriptMB},
		{"tt, no server", offline, []string{b.tt, "-q", "-n", "flood", "--linger", "0", flood(mb)}, 1},
		{"tt, a server", online, []string{b.tt, "-q", "-n", "flood", "--linger", "0", flood(mb)}, 1},
		{"tt, a server, all delivered", online, []string{b.tt, "-q", "-n", "flood", "--linger", "10m", flood(mb)}, 1},
	}
	fmt.Printf("a command that writes %d MiB, %d rounds, medians\n\n%-28s %10s %10s %8s %10s\n", mb, rounds, "", "command s", "whole s", "x cat", "memory MB")
	cat := 0.0
	for _, c := range cases {
		var command, whole []float64
		var memory int64
		for range rounds {
			m, err := b.measure(c.env, c.argv)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			command, whole, memory = append(command, m.command*c.scale), append(whole, m.whole*c.scale), max(memory, m.memory)
			if err := os.RemoveAll(filepath.Join(dir, ".local")); err != nil {
				return err
			}
		}
		if c.name == "through cat" {
			cat = median(command)
		}
		ratio := "-"
		if cat > 0 {
			ratio = strconv.FormatFloat(median(command)/cat, 'f', 2, 64)
		}
		fmt.Printf("%-28s %10.2f %10.2f %8s %10.1f\n", c.name, median(command), median(whole), ratio, float64(memory)/1e3)
	}
	return b.more(rounds, online, offline)
}

// more measures a job that computes, and how much later than under bash a command starts.
func (b *bench) more(rounds int, online, offline []string) error {
	work := fmt.Sprintf("i=0; while ((i < 2000000)); do ((i++)); done; echo done; date +%%s%%N >%s/end", b.dir)
	start := fmt.Sprintf("date +%%s%%N >%s/end", b.dir)
	fmt.Println()
	for _, c := range []struct {
		what, command string
		n             int
		unit          float64
		name          string
	}{{"a job that computes", work, rounds, 1, "s"}, {"until a command has started", start, 20 * rounds, 1e3, "ms"}} {
		var bare, under, alone []float64
		for range c.n {
			for _, v := range []struct {
				to   *[]float64
				env  []string
				argv []string
			}{
				{&bare, b.env, []string{"bash", "-c", c.command}},
				{&under, online, []string{b.tt, "-q", "-n", "job", c.command}},
				{&alone, offline, []string{b.tt, "-q", "-n", "job", "--linger", "0", c.command}},
			} {
				m, err := b.measure(v.env, v.argv)
				if err != nil {
					return err
				}
				*v.to = append(*v.to, m.command*c.unit)
			}
		}
		fmt.Printf("%-28s bare %.3f %s, under tt %.3f (%+.3f, x %.3f), under tt without server %.3f (%+.3f, x %.3f)\n", c.what, median(bare), c.name,
			median(under), median(under)-median(bare), median(under)/median(bare), median(alone), median(alone)-median(bare), median(alone)/median(bare))
	}
	return nil
}

type measured struct {
	command, whole float64 // seconds until the command had written all, and until the process had ended
	memory         int64   // peak resident size of the process itself, KiB
}

func (b *bench) measure(env, argv []string) (measured, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		return measured{}, err
	}
	m := measured{whole: time.Since(begun).Seconds(), memory: cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss}
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
	sort.Float64s(v)
	return v[len(v)/2]
}
