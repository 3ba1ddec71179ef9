// Package stage sets up the real thing for tests: the very binaries, as processes of their own, on a real NATS, with real npm clients.
//
// It owns how they are built, started, watched and stopped. Every server listens on a port of its own choosing. What it needs and does not
// find fails the test; it never skips.
package stage

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Binaries are the programs under test.
type Binaries struct{ TaskTracer, TT, NATS string }

// Root is the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Build makes what users run, in the way they are told to make it, and nats-server from its module. Where the binaries are fresh this takes a second.
// dir is where nats-server goes.
func Build(dir string) (Binaries, error) {
	if err := run(Root(), "make", "--no-print-directory", "build"); err != nil {
		return Binaries{}, err
	}
	b := Binaries{
		TaskTracer: filepath.Join(Root(), "bin", "tasktracer"), TT: filepath.Join(Root(), "bin", "tt"), NATS: filepath.Join(dir, "nats-server"),
	}
	if err := run(filepath.Join(Root(), "deploy", "e2e"), "go", "build", "-o", b.NATS, "github.com/nats-io/nats-server/v2"); err != nil {
		return Binaries{}, err
	}
	return b, nil
}

// Main is a package's TestMain: it builds what is under test into b, runs the tests, and gives the code to exit with.
func Main(m *testing.M, b *Binaries) int {
	dir, err := os.MkdirTemp("", "tasktracer-e2e-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if *b, err = Build(dir); err != nil {
		log.Print(err)
		return 1
	}
	return m.Run()
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	// The tests' own make and race detector are no business of the build's.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
