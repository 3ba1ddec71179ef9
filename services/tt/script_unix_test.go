//go:build unix

package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func kill(pid int, name string) error { return syscall.Kill(pid, unix.SignalNum("SIG"+name)) }
