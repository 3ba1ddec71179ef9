package redact

import (
	"regexp/syntax"
	"unicode/utf8"
)

// pending is where in text a match of prog may have begun that goes on behind its end; len(text) where none has. It runs the program's states side by
// side, as Go's regexp does, and looks which are still alive at the end.
func pending(prog *syntax.Prog, text []byte) int {
	now, then := newStates(prog), newStates(prog)
	before := rune(-1)
	for at := 0; at < len(text); {
		c, size := utf8.DecodeRune(text[at:])
		if !utf8.FullRune(text[at:]) {
			break // the beginning of a character: what was alive before it stays alive
		}
		now.add(prog, uint32(prog.Start), at, syntax.EmptyOpContext(before, c))
		next := rune(-1)
		if at+size < len(text) {
			next, _ = utf8.DecodeRune(text[at+size:])
		}
		then.clear()
		flags := syntax.EmptyOpContext(c, next)
		if at+size == len(text) {
			flags = ^syntax.EmptyOp(0) // what comes next is not known: anything may be
		}
		for _, pc := range now.order {
			if in := &prog.Inst[pc]; in.MatchRune(c) {
				then.add(prog, in.Out, now.from[pc], flags)
			}
		}
		now, then = then, now
		before = c
		at += size
	}
	first := len(text)
	for _, pc := range now.order {
		first = min(first, now.from[pc])
	}
	return first
}

// states is a set of instructions that wait for a character, each with the earliest place at which its match began.
type states struct {
	from  []int // by instruction; -1: not in the set
	seen  []int // by instruction of any kind: the earliest place it was reached from; -1: not reached
	order []uint32
	dirty []uint32
}

func newStates(prog *syntax.Prog) *states {
	s := &states{from: make([]int, len(prog.Inst)), seen: make([]int, len(prog.Inst))}
	for i := range s.from {
		s.from[i], s.seen[i] = -1, -1
	}
	return s
}

func (s *states) clear() {
	for _, pc := range s.dirty {
		s.from[pc], s.seen[pc] = -1, -1
	}
	s.dirty, s.order = s.dirty[:0], s.order[:0]
}

func (s *states) add(prog *syntax.Prog, pc uint32, from int, flags syntax.EmptyOp) {
	if s.seen[pc] >= 0 && s.seen[pc] <= from {
		return
	}
	if s.seen[pc] < 0 {
		s.dirty = append(s.dirty, pc)
	}
	s.seen[pc] = from
	switch in := &prog.Inst[pc]; in.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		s.add(prog, in.Out, from, flags)
		s.add(prog, in.Arg, from, flags)
	case syntax.InstCapture, syntax.InstNop:
		s.add(prog, in.Out, from, flags)
	case syntax.InstEmptyWidth:
		if syntax.EmptyOp(in.Arg)&^flags == 0 {
			s.add(prog, in.Out, from, flags)
		}
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		if s.from[pc] < 0 {
			s.order = append(s.order, pc)
		}
		s.from[pc] = from
	}
}
