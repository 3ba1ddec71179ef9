// Command tt runs a command and sends what it prints to a TaskTracer server, live, without the command noticing.
//
// It owns: the child process, its signals and its terminal, the copying of output to where it would have gone anyway, flags and configuration, and the
// commands that read from a server (ls, watch, log). Spooling, redaction and sending are package trace's. It refuses to wait for a server, and to let one
// fail the command.
package main

import (
	"context"
	"os"
	"runtime/debug"
)

// memoryLimit keeps the collector from letting garbage grow next to the command; what tt really holds is bounded by its buffers, far below.
const memoryLimit = 20 << 20

func main() {
	debug.SetMemoryLimit(memoryLimit)
	os.Exit(run(context.Background(), os.Args[1:], system{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Environ(), getenv: os.Getenv,
	}))
}

// system is what tt has from the process that started it.
type system struct {
	stdin, stdout, stderr *os.File
	env                   []string
	getenv                func(string) string
}
