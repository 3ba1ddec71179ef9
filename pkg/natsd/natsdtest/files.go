// Package natsdtest helps tests to look at what a server of pkg/natsd has on its disk.
package natsdtest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// FilesWith are the files below dir whose bytes hold a word. Files that go meanwhile are passed over.
func FilesWith(t testing.TB, dir, word string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var data []byte
			if data, err = os.ReadFile(p); bytes.Contains(data, []byte(word)) {
				paths = append(paths, p)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
