package main

import (
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxBinary is how large tt may be, in bytes: it is copied to every host.
const maxBinary = 12_000_000

// tt as it is released is one file that needs no other, small, and without what only a server needs.
func TestBinary(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "tt")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= maxBinary {
		t.Errorf("tt has %d bytes, at most %d", info.Size(), maxBinary)
	}
	t.Logf("tt has %d bytes", info.Size())
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, _ := io.ReadAll(p.Open()) // for the message only
			t.Errorf("tt is not static: it asks for %s", b)
		}
	}
	if libs, err := f.ImportedLibraries(); err != nil && !errors.As(err, new(*elf.FormatError)) || len(libs) > 0 {
		t.Errorf("tt needs libraries: %v, %v", libs, err)
	}
	linked, err := buildinfo.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range linked.Deps {
		if strings.Contains(m.Path, "nats") || strings.Contains(m.Path, "prometheus") {
			t.Errorf("tt links %s", m.Path)
		}
	}
}

// What is true of the binary for Linux holds for the others: none of their packages is a server's. (Their sizes: make cross.)
func TestLinksNoServerAnywhere(t *testing.T) {
	for _, system := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"} {
		goos, arch, _ := strings.Cut(system, "/")
		cmd := exec.Command("go", "list", "-deps", ".")
		cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+goos, "GOARCH="+arch)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", system, err)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 100 {
			t.Errorf("%s: only %d packages: %s", system, len(deps), out)
		}
		for _, d := range deps {
			if strings.Contains(d, "nats") || strings.Contains(d, "prometheus") || strings.HasPrefix(d, "tasktracer/pkg/bus") {
				t.Errorf("tt for %s links %s", system, d)
			}
		}
	}
}
