package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"time"
	"unicode/utf8"
)

// profile is how a command writes.
type profile struct {
	Name  string
	Bytes int           // in all
	Block int           // bytes a write, about
	Pause time.Duration // between writes
}

// write writes a known pseudo-random output: text with colours, long lines, and bytes that are no text. About a tenth goes to stderr.
func write(p profile, seed uint64, out, errs io.Writer, pause bool) error {
	rng := rand.New(rand.NewPCG(seed, 7))
	for written := 0; written < p.Bytes; {
		b := block(rng, p.Block)
		to := out
		if rng.IntN(10) == 0 {
			to = errs
		}
		if _, err := to.Write(b); err != nil {
			return err
		}
		written += len(b)
		if pause && p.Pause > 0 {
			time.Sleep(p.Pause)
		}
	}
	return nil
}

func block(rng *rand.Rand, size int) []byte {
	var b bytes.Buffer
	for b.Len() < size {
		switch rng.IntN(20) {
		case 0:
			fmt.Fprintf(&b, "\x1b[%dmcolour %d\x1b[0m\n", 30+rng.IntN(8), rng.Uint64())
		case 1: // bytes that are no text
			for range 1 + rng.IntN(40) {
				b.WriteByte(byte(rng.UintN(256)))
			}
		case 2: // a long line
			for range rng.IntN(min(size, 2000)) {
				b.WriteByte('a' + byte(rng.UintN(26)))
			}
			b.WriteByte('\n')
		default:
			fmt.Fprintf(&b, "line %d ü 日本 😀 %x\n", rng.Uint32(), rng.Uint64())
		}
	}
	return b.Bytes()
}

// generate is the command that tt wraps: chaos generate PROFILE… on the command line.
func generate(p profile, seed uint64) error {
	return write(p, seed, os.Stdout, os.Stderr, true)
}

// expected is what of one stream of a run must arrive.
type expected struct {
	raw  sum
	text []byte // without what is no text; for viewers that get text only
}

type sum struct {
	SHA   string
	Bytes int
}

// expect makes a run's output once more, for comparison.
func expect(p profile, seed uint64) map[string]*expected {
	streams := map[string]*collector{"STDOUT": {hash: sha256.New()}, "STDERR": {hash: sha256.New()}}
	_ = write(p, seed, streams["STDOUT"], streams["STDERR"], false) // collectors never fail
	out := map[string]*expected{}
	for name, c := range streams {
		out[name] = &expected{raw: sum{hex.EncodeToString(c.hash.Sum(nil)), c.all.Len()}, text: onlyText(c.all.Bytes())}
	}
	return out
}

type collector struct {
	hash hash.Hash
	all  bytes.Buffer
}

func (c *collector) Write(b []byte) (int, error) {
	c.hash.Write(b)
	return c.all.Write(b)
}

// onlyText leaves out U+FFFD and all that is not UTF-8.
func onlyText(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r != utf8.RuneError {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}
