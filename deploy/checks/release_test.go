package checks

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestReleaseIsReproducible makes this system's binaries of a release in two folders, of which one is a git repository: the checksums must be the same, and
// the binaries must say their version.
func TestReleaseIsReproducible(t *testing.T) {
	const version = "v1.2.3-test"
	var sums []string
	for _, name := range []string{"here", "in/another/place"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(t.TempDir(), "source.tar")
		runIn(t, filepath.Join("..", ".."), "tar", "-cf", archive, "--exclude", "node_modules", "--exclude", ".out-*", "Makefile", "go.mod", "go.sum", "pkg", "proto", "services")
		runIn(t, dir, "tar", "-xf", archive)
		if name == "here" {
			runIn(t, dir, "git", "init", "-q")
			runIn(t, dir, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--allow-empty", "-m", "t")
		}
		runIn(t, dir, "make", "--no-print-directory", "binaries", "VERSION="+version, "RELEASE_OS="+runtime.GOOS, "RELEASE_ARCH="+runtime.GOARCH)
		sums = append(sums, read(t, filepath.Join(dir, "dist", "SHA256SUMS")))
		if name == "here" {
			for _, program := range []string{"tt", "tasktracer"} {
				binary := filepath.Join(dir, "dist", program+"_"+version+"_"+runtime.GOOS+"_"+runtime.GOARCH)
				if out := runIn(t, dir, binary, "version"); !strings.Contains(out, version) {
					t.Errorf("%s version says %q, want %s", program, out, version)
				}
			}
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("built twice:\n%s%s", sums[0], sums[1])
	}
}

func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	// The tests' own make, git and race detector are no business of the build's.
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MAKE") && !strings.HasPrefix(e, "GIT_") && !strings.HasPrefix(e, "MFLAGS=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
