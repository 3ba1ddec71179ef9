package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
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

// write writes a known pseudo-random output: text with colours, long lines, and bytes that are no text. About a tenth goes to stderr. Each write is
// noted, if notes is not nil.
func write(p profile, seed uint64, out, errs io.Writer, pause bool, notes func() error) error {
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
		if notes != nil {
			if err := notes(); err != nil {
				return err
			}
		}
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

// generate is the command that tt wraps: chaos generate PROFILE… on the command line. The time of each write goes into a file, as 8 bytes of ms.
func generate(p profile, seed uint64, times string) error {
	f, err := os.Create(times)
	if err != nil {
		return err
	}
	defer f.Close()
	return write(p, seed, os.Stdout, os.Stderr, true, func() error {
		_, err := f.Write(binary.LittleEndian.AppendUint64(nil, uint64(time.Now().UnixMilli())))
		return err
	})
}

// expected is what of one stream of a run must arrive.
type expected struct {
	raw  sum
	all  []byte
	text []byte // without what is no text; for viewers that get text only
}

type sum struct {
	SHA   string
	Bytes int
}

func sumOf(b []byte) sum {
	h := sha256.Sum256(b)
	return sum{hex.EncodeToString(h[:]), len(b)}
}

// expect makes a run's output once more, for comparison.
func expect(p profile, seed uint64) map[string]*expected {
	var out, errs bytes.Buffer
	_ = write(p, seed, &out, &errs, false, nil) // buffers never fail
	want := map[string]*expected{}
	for name, b := range map[string][]byte{"STDOUT": out.Bytes(), "STDERR": errs.Bytes()} {
		want[name] = &expected{raw: sumOf(b), all: b, text: onlyText(b)}
	}
	return want
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
