package trace_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"tasktracer/pkg/trace"
	"tasktracer/pkg/trace/redact"
	"tasktracer/pkg/trace/spool"
)

// BenchmarkFlood is what a command's output costs on its way into the spool, while no server takes it: 1 GiB a round, in reads of 256 KiB.
func BenchmarkFlood(b *testing.B) {
	for _, where := range []string{"disk", "memory"} {
		for _, secrets := range []int{0, 3} {
			b.Run(fmt.Sprintf("%s, %d secrets", where, secrets), func(b *testing.B) {
				block := bytes.Repeat([]byte("y\n"), 128<<10)
				b.SetBytes(1 << 30)
				var texts []string
				for i := range secrets {
					texts = append(texts, fmt.Sprintf("a-secret-value-%d", i))
				}
				rules, err := redact.New(texts, nil)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					dir, err := os.MkdirTemp("", "flood")
					if err != nil {
						b.Fatal(err)
					}
					c := spool.Config{Dir: dir}
					if where == "memory" {
						c.Dir = ""
					}
					r, err := trace.Start(trace.Config{URL: "http://127.0.0.1:9", Token: "t", Name: "flood", Spool: c, Redact: rules, Linger: -1})
					if err != nil {
						b.Fatal(err)
					}
					for range (1 << 30) / len(block) {
						r.Stdout().Write(block)
					}
					r.Close(trace.Exit{})
					b.StopTimer()
					os.RemoveAll(dir)
					b.StartTimer()
				}
			})
		}
	}
}
