package spool

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

const (
	metaFile = "meta.json"
	lockFile = "lock"
)

// Meta is what another process needs to send a run later. It holds a token, so the file is readable by its owner only.
type Meta struct {
	// Run is the run's id, and the name of its directory.
	Run string `json:"run"`
	// URL, Token and ID are what the run was to be sent with.
	URL   string `json:"url"`
	Token string `json:"token"`
	ID    string `json:"id"`
	// Name is the task's name.
	Name string `json:"name"`
	// Task is the task object as sent to the server.
	Task json.RawMessage `json:"task"`
	// Started is in milliseconds since 1970 UTC.
	Started int64 `json:"started"`
	// Boot identifies the boot of the host, where the system tells it.
	Boot string `json:"boot,omitempty"`
	// CAFile and Insecure say how the server's certificate was to be checked.
	CAFile   string `json:"ca_file,omitempty"`
	Insecure bool   `json:"insecure,omitempty"`
}

func writeMeta(dir string, m Meta) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("spool meta: %w", err)
	}
	tmp := filepath.Join(dir, metaFile+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, metaFile))
}

func readMeta(dir string) (Meta, error) {
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return Meta{}, err
	}
	var m Meta
	if err := json.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("spool meta of %s: %w", filepath.Base(dir), err)
	}
	if m.Run != filepath.Base(dir) {
		return Meta{}, fmt.Errorf("spool meta of %s names run %q", filepath.Base(dir), m.Run)
	}
	return m, nil
}

// Boot identifies the boot of this host; empty where the system does not tell.
func Boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(b) < 36 {
		return ""
	}
	return string(b[:36])
}
