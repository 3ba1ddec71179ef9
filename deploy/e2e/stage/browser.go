package stage

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Browser gives the directory of playwright-core, which the page's own tests use, and the path of Chromium. Without them the test fails.
func Browser(t testing.TB) (playwright, chromium string) {
	t.Helper()
	playwright = filepath.Join(Root(), "services", "gateway", "web", "node_modules", "playwright-core")
	if _, err := os.Stat(playwright); err != nil {
		t.Fatalf("the page's own tools are not installed (make web): %v", err)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return playwright, path
		}
	}
	t.Fatal("no Chromium on this machine (make chromium); what browsers do is tested in a real one")
	return "", ""
}
