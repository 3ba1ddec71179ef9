//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signals is what tt hears instead of dying of it.
type signals struct {
	heard chan os.Signal
}

// catchSignals must come before the command is started, so that no signal is lost in between.
func catchSignals() *signals {
	s := &signals{heard: make(chan os.Signal, 32)}
	// SIGPIPE is caught so that a closed stdout is an error to the writer, and not the end of tt. The command is not affected: what is caught is default again after exec.
	signal.Notify(s.heard, notIgnored(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGPIPE)...)
	return s
}

func (s *signals) stop() { signal.Stop(s.heard) }

// doubleTerm is how long a signal that may have reached the command by its group, too, is held back before it is passed on.
const doubleTerm = 100 * time.Millisecond

// forward passes signals on to the command until it is over.
func (p *process) forward(s *signals, grace time.Duration) {
	interrupts := 0
	var kill <-chan time.Time
	for {
		select {
		case <-p.over:
			return
		case <-kill:
			p.kill(syscall.SIGKILL)
		case heard := <-s.heard:
			sig := heard.(syscall.Signal) //nolint:errcheck // on this system every signal is one
			p.pass(sig)
			if sig != syscall.SIGINT || p.group == 0 {
				continue // on a terminal a program may live with any number of Ctrl-C
			}
			switch interrupts++; interrupts {
			case 1:
			case 2:
				timer := time.NewTimer(grace)
				defer timer.Stop()
				kill = timer.C
			default:
				p.kill(syscall.SIGKILL)
			}
		}
	}
}

func (p *process) pass(sig syscall.Signal) {
	switch sig {
	case syscall.SIGPIPE:
		return
	case syscall.SIGWINCH:
		if p.resize != nil {
			p.resize()
			return // the terminal tells the command itself
		}
	case syscall.SIGTSTP:
		if p.pty {
			// Nobody could continue a stop that the kernel denies to a session of its own, so it is made certain.
			p.kill(syscall.SIGSTOP)
			p.stopSelf()
			return
		}
	}
	if p.group == 0 {
		p.passShared(sig)
		return
	}
	p.kill(sig)
}

// passShared is for a command in tt's own group, on the user's terminal.
func (p *process) passShared(sig syscall.Signal) {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH:
		if p.foreground() {
			return // typed: the terminal has told the command
		}
	case syscall.SIGTSTP:
		// Caught, it does not stop tt; the command has it already.
		p.stopSelf()
		return
	case syscall.SIGCONT:
		return
	}
	// A shell that ends a job signals the whole group. Where that was so, the command should not hear it twice.
	select {
	case <-p.over:
	case <-time.After(doubleTerm):
		p.kill(sig)
	}
}
