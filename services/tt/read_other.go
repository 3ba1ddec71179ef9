//go:build unix && !linux

package main

import "os"

// both is of Linux.
type both struct{}

func (*both) close() {}

// open makes the command's two outputs.
func (p *process) open(system) (out, err *os.File, e error) {
	if p.out, out, e = os.Pipe(); e != nil {
		return nil, nil, e
	}
	if p.err, err, e = os.Pipe(); e != nil {
		p.out.Close()
		out.Close()
		return nil, nil, e
	}
	return out, err, nil
}

// read copies both outputs until they end.
func (p *process) read(out, err *echo) { p.readApart(out, err) }
