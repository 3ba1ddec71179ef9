package stage

import (
	"fmt"
	"os"
	"testing"
)

// Figure says what was measured: in the test's log, and, since go test shows no log of what passes, in the file that the environment's FIGURES names.
func Figure(t testing.TB, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	path := os.Getenv("FIGURES")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s: %s\n", t.Name(), line); err != nil {
		t.Fatal(err)
	}
}

func touch(path string) error { return os.WriteFile(path, nil, 0o600) }
