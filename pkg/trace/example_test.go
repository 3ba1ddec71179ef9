package trace_test

import (
	"fmt"
	"os"
	"path/filepath"

	"tasktracer/pkg/trace"
	"tasktracer/pkg/trace/spool"
)

func Example() {
	dir, err := os.MkdirTemp("", "worker")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	// Nobody serves this address: the run goes on all the same, and what it says is kept.
	run, err := trace.Start(trace.Config{
		URL: "http://127.0.0.1:9", Token: "a client token", ID: "worker-7", Name: "nightly-import", Command: "import --all",
		Spool: spool.Config{Dir: filepath.Join(dir, "spool")},
	})
	if err != nil {
		fmt.Println(err) // the configuration is wrong; an absent server is no error
		return
	}
	fmt.Fprintln(run.Stdout(), "42 rows imported")
	fmt.Fprintln(run.Stderr(), "1 row refused")
	outcome := run.Close(trace.Exit{Code: 0})
	fmt.Println("delivered:", outcome.Delivered, "kept for trace.Flush:", outcome.Kept, "bytes:", outcome.Unsent)
	// Output: delivered: false kept for trace.Flush: true bytes: 31
}
