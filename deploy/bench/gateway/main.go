// Command gateway measures a gateway that is a process of its own: how soon and how fast a late viewer has a long run, by the read API and by Socket.IO, and
// how much memory the gateway takes at most while 200 viewers attach at once, and while a viewer of a flood reads nothing; beside what docs/operating.md says
// is the bound. The log, ingest and tokens are in another process, the viewers in this one. It needs bin/tt and bin/tasktracer (make build).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"tasktracer/deploy/bench/system"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "write" {
		n, err := strconv.Atoi(os.Args[3])
		if err == nil {
			err = writeLines(os.Stdout, os.Args[2], n)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	mb := flag.Int("mb", 100, "size of the long run, in MB, lines of 100 bytes")
	flood := flag.Int("flood", 1000, "size of the flood, in MB")
	viewers := flag.Int("viewers", 200, "viewers that attach at once")
	rounds := flag.Int("rounds", 3, "how often speeds are measured; the median counts")
	bin := flag.String("bin", "../../bin", "where tt and tasktracer are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *bin, *mb, *flood, *viewers, *rounds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, mb, flood, viewers, rounds int) error {
	all, err := system.Start(ctx, bin, "--log-max-bytes", "8000000000", "--run-max-bytes", "4000000000")
	if err != nil {
		return err
	}
	defer all.Close()
	s := &stage{all}
	sizes := map[string]int{"text": mb, "controls": max(mb/10, 1)} // of the latter each byte is sent as six
	for form, mb := range sizes {
		if err := s.write(ctx, form, mb); err != nil {
			return err
		}
	}
	if err := s.speeds(ctx, mb, rounds); err != nil {
		return err
	}
	fmt.Printf("\n%-52s %10s %10s %10s\n", "memory of the gateway, MiB", "resident", "heap", "bound")
	var bad []error
	for _, form := range []string{"text", "controls"} {
		bad = append(bad, s.crowd(ctx, form, sizes[form], viewers))
	}
	return errors.Join(append(bad, s.stalled(ctx, flood))...)
}

// writeLines is the command that tt wraps: n lines of 100 bytes, of text, or of what costs the most to encode.
func writeLines(w io.Writer, form string, n int) error {
	line := make([]byte, 100)
	for i := range line {
		line[i] = 'x'
		if form == "controls" {
			line[i] = 1
		}
	}
	line[99] = '\n'
	buf := make([]byte, 0, 64<<10)
	for i := range n {
		copy(line, fmt.Sprintf("%08d", i))
		if buf = append(buf, line...); len(buf) > 63<<10 || i == n-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}
