//go:build unix && !linux

package main

// read copies both outputs until they end.
func (p *process) read(out, err *echo) { p.readApart(out, err) }
