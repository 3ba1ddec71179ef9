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

// calm is after how long without a Ctrl-C on a terminal the next one counts as the first: programs that live with Ctrl-C are interrupted now and then.
const calm = time.Minute

// lookForeground is how often tt looks, while it is in the background without the keyboard, whether it is still there: a shell that brings back a job that runs
// does not tell it.
const lookForeground = 100 * time.Millisecond

// forward passes signals on to the command until it is over. A second interrupt kills it after the grace period, a third one at once.
func (p *process) forward(s *signals, grace time.Duration) {
	interrupts, latest := 0, time.Time{}
	var look <-chan time.Time
	if p.raw != nil {
		ticker := time.NewTicker(lookForeground)
		defer ticker.Stop()
		look = ticker.C
	}
	var kill <-chan time.Time
	for {
		select {
		case <-p.over:
			return
		case <-kill:
			p.end()
		case <-look:
			if !p.isRaw() {
				p.raised()
			}
		case heard := <-s.heard:
			sig := heard.(syscall.Signal) //nolint:errcheck // on this system every signal is one
			p.pass(sig)
			if sig != syscall.SIGINT {
				continue
			}
			if p.group == 0 && kill == nil && time.Since(latest) > calm {
				interrupts = 0
			}
			latest = time.Now()
			switch interrupts++; interrupts {
			case 1:
			case 2:
				timer := time.NewTimer(grace)
				defer timer.Stop()
				kill = timer.C
				p.say(twiceText, grace)
			default:
				p.end()
			}
		}
	}
}

// end kills the command and what it has started, but for what has gone its own way.
func (p *process) end() {
	if p.group != 0 {
		p.kill(syscall.SIGKILL)
		return
	}
	for _, pid := range family(p.pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // what is gone needs none
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
	if sig == syscall.SIGCONT && p.raw != nil {
		p.lost() // the shell has set the terminal for itself meanwhile
		p.raised()
	}
	if p.group == 0 {
		p.passShared(sig)
		return
	}
	p.kill(sig)
}

// raised takes the keyboard again, if tt is in the foreground now.
func (p *process) raised() {
	p.raw()
	select {
	case p.continued <- struct{}{}:
	default:
	}
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
