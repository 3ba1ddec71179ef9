// Command tasktracer is the server: ingest, gateway and token service, each as a process of its own or all in one, and the tools beside them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		<-signals // whoever asks twice will not wait
		os.Exit(130)
	}()
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err))
}

// exitCode reports err, where there is something to report, and gives the process's exit code: 2 for a wrong call, 1 for a failure.
func exitCode(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "tasktracer:", err)
	var wrong usageError
	if errors.As(err, &wrong) {
		return 2
	}
	return 1
}
