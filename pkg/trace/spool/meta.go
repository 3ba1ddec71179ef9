package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	metaFile = "meta.json"
	metaCopy = "meta.copy.json" // the same again: without it nothing could be sent
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

// storedMeta is a Meta as it lies on the disk.
type storedMeta struct {
	Meta
	Sum uint32 `json:"sum"` // CRC-32C of the rest
}

func (m Meta) sum() (uint32, error) {
	b, err := json.Marshal(m)
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)), err
}

func (s *Spool) writeMeta(dir string) error {
	sum, err := s.meta.sum()
	if err != nil {
		return fmt.Errorf("spool meta: %w", err)
	}
	b, err := json.Marshal(storedMeta{s.meta, sum})
	if err != nil {
		return fmt.Errorf("spool meta: %w", err)
	}
	tmp := filepath.Join(dir, metaFile+".new")
	for _, file := range []string{filepath.Join(dir, metaCopy), tmp} {
		if err := s.cfg.fault("write", file); err != nil {
			return err
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
	}
	return s.cfg.rename(tmp, filepath.Join(dir, metaFile))
}

func (c *Config) rename(from, to string) error {
	if err := c.fault("rename", from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// readMeta reads whichever of the two is sound. Its error wraps fs.ErrNotExist where there is neither, and ErrDamaged where neither is sound.
func readMeta(dir string) (m Meta, err error) {
	if m, err = readOneMeta(dir, metaFile); err == nil {
		return m, nil
	}
	if m, err2 := readOneMeta(dir, metaCopy); err2 == nil {
		return m, nil
	} else if errors.Is(err, fs.ErrNotExist) {
		err = err2
	}
	return Meta{}, err
}

func readOneMeta(dir, name string) (Meta, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return Meta{}, err
	}
	var m storedMeta
	if err := json.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	if sum, err := m.Meta.sum(); err != nil || sum != m.Sum {
		return Meta{}, fmt.Errorf("%w: %s: its checksum is wrong", ErrDamaged, name)
	}
	if m.Run != filepath.Base(dir) {
		return Meta{}, fmt.Errorf("%w: %s names run %q", ErrDamaged, name, m.Run)
	}
	return m.Meta, nil
}

// Boot identifies the boot of this host; empty where the system does not tell.
func Boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(b) < 36 {
		return ""
	}
	return string(b[:36])
}
