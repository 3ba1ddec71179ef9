// Package clients runs the npm Socket.IO clients of every generation, as their users have them, against a server under test.
//
// It owns their installation (from the lock file, once) and the way their findings come back. It refuses to go on without them:
// a compatibility test that skips proves nothing.
package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// Versions are the clients, by the alias they are installed under, and the version that package.json asks for.
func Versions() map[string]string {
	return map[string]string{"sio1": "1.4.8", "sio2": "2.5.0", "sio3": "3.1.3", "sio4": "4.8.1"}
}

// Dir is where the clients and their scripts are.
func Dir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Install installs what the lock file names, if that has not been done, and fails the test if a client is not of its version.
func Install(t testing.TB) {
	t.Helper()
	if err := EnsureInstalled(); err != nil {
		t.Fatal(err)
	}
}

// EnsureInstalled is Install outside of a test. Several processes may call it at once.
func EnsureInstalled() error {
	dir := Dir()
	lock, err := os.OpenFile(filepath.Join(dir, "package.json"), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if missing(dir) != nil {
		cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm ci in %s: %w\n%s", dir, err, out)
		}
	}
	return missing(dir)
}

func missing(dir string) error {
	for alias, want := range Versions() {
		data, err := os.ReadFile(filepath.Join(dir, "node_modules", alias, "package.json"))
		if err != nil {
			return fmt.Errorf("client %s (socket.io-client %s): %w", alias, want, err)
		}
		var p struct{ Version string }
		if err := json.Unmarshal(data, &p); err != nil || p.Version != want {
			return fmt.Errorf("client %s is socket.io-client %q, want %q (%w)", alias, p.Version, want, err)
		}
	}
	return nil
}

// Finding is one line that a script prints.
type Finding struct {
	Name   string
	OK     bool
	Detail json.RawMessage
}

// Run runs a script of this directory with node and gives what it found, line by line. A script that fails fails the test.
func Run(ctx context.Context, t testing.TB, script string, args ...string) []Finding {
	t.Helper()
	cmd := exec.CommandContext(ctx, "node", append([]string{script}, args...)...)
	cmd.Dir = Dir()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("node %s %q: %v\n%s", script, args, err, errs.Bytes())
	}
	var found []Finding
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		var f Finding
		if err := json.Unmarshal(s.Bytes(), &f); err != nil {
			t.Errorf("node %s printed %q: %v", script, s.Text(), err)
			continue
		}
		found = append(found, f)
	}
	return found
}
