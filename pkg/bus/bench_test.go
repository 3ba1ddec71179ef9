package bus

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"tasktracer/pkg/frame"
	"tasktracer/pkg/natsd"
)

// One record, and the wait until it is durable: what a trickle costs.
func BenchmarkAppendAndWait(b *testing.B) {
	for _, size := range []int{200, 4 << 10, 64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			bus := quiet(b, startServer(b, natsd.Config{}))
			a := take(b, bus, "ing-1", newRun(b))
			data := bytes.Repeat([]byte("x"), size)
			ctx := context.Background()
			b.SetBytes(int64(size))
			for i := uint64(1); b.Loop(); i++ {
				if err := a.Submit(ctx, frame.Record{Src: i, Kind: frame.Stdout, Data: data}); err != nil {
					b.Fatal(err)
				}
				if err := a.Sync(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Records as fast as they are taken: a flood makes its chunks large by itself.
func BenchmarkAppendFlood(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			bus := quiet(b, startServer(b, natsd.Config{}))
			a := take(b, bus, "ing-1", newRun(b))
			data := bytes.Repeat([]byte("x"), size)
			ctx := context.Background()
			b.SetBytes(int64(size))
			src := uint64(0)
			for b.Loop() {
				src++
				if err := a.Submit(ctx, frame.Record{Src: src, Kind: frame.Stdout, Data: data}); err != nil {
					b.Fatal(err)
				}
			}
			if err := a.Sync(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// A whole run of 100 MB, a million lines, read back.
func BenchmarkRead(b *testing.B) {
	bus := quiet(b, startServer(b, natsd.Config{}))
	run := newRun(b)
	a := take(b, bus, "ing-1", run)
	line := append(bytes.Repeat([]byte("x"), 99), '\n')
	ctx := context.Background()
	for i := range uint64(1_000_000) {
		if err := a.Submit(ctx, frame.Record{Src: i + 1, Kind: frame.Stdout, Data: line}); err != nil {
			b.Fatal(err)
		}
	}
	if err := a.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(100_000_000)
		for b.Loop() {
			n := 0
			err := bus.Read(ctx, run.Key, 0, 0, func(s Stored) error { n += len(s.Chunk.Records); return nil }, nil)
			if err != nil || n != 1_000_001 {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("last-100", func(b *testing.B) {
		for b.Loop() {
			if err := bus.Read(ctx, run.Key, 999_900, 0, func(Stored) error { return nil }, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("locate-a-line", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := bus.LocateLine(ctx, run.Key, 543_210); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Many runs side by side, one record each, waited for.
func BenchmarkAppendManyRuns(b *testing.B) {
	bus := quiet(b, startServer(b, natsd.Config{}))
	b.SetParallelism(64)
	data := bytes.Repeat([]byte("x"), 200)
	b.RunParallel(func(pb *testing.PB) {
		a, err := bus.Take(context.Background(), "ing-1", newRun(b))
		if err != nil {
			b.Error(err)
			return
		}
		for i := uint64(1); pb.Next(); i++ {
			if err := a.Submit(context.Background(), frame.Record{Src: i, Kind: frame.Stdout, Data: data}); err != nil {
				b.Error(err)
				return
			}
			if err := a.Sync(context.Background()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func quiet(b *testing.B, s *natsd.Server) *Bus {
	return open(b, s, func(c *Config) { c.Log, c.MaxBytes = nil, 4<<30 })
}
