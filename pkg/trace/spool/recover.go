package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

var (
	// ErrBusy says that another process works on the run.
	ErrBusy = errors.New("spool is in use by another process")
	// ErrNoSpool says that there is no spool of the run.
	ErrNoSpool = errors.New("no such spool")
)

// abandoned is how old a directory without meta must be to count as left behind by a crash.
const abandoned = time.Hour

// Left names the runs that have a spool in dir, oldest first, those in use included. A missing dir holds none.
// Directories that never became a spool are deleted once they are an hour old.
func Left(dir string) ([]Meta, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list spools: %w", err)
	}
	var left []Meta
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		m, err := readMeta(path)
		if err == nil {
			left = append(left, m)
			continue
		}
		if info, ierr := e.Info(); ierr == nil && errors.Is(err, fs.ErrNotExist) && time.Since(info.ModTime()) > abandoned {
			os.RemoveAll(path)
		}
	}
	sort.SliceStable(left, func(i, j int) bool { return left[i].Started < left[j].Started })
	return left, nil
}

// Open takes over the spool that another process left behind: ErrBusy while that one lives.
func Open(cfg Config, run string) (*Spool, error) {
	dir := filepath.Join(cfg.Dir, run)
	if _, err := os.Stat(filepath.Join(dir, metaFile)); err != nil {
		return nil, fmt.Errorf("%w of run %s: %w", ErrNoSpool, run, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	meta, err := readMeta(dir) // again: its owner may have finished and deleted it just now
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("%w of run %s: %w", ErrNoSpool, run, err)
	}
	s := newSpool(cfg, meta)
	s.dir, s.lock = dir, lock
	if err := s.load(); err != nil {
		lock.Close()
		return nil, err
	}
	go s.sync()
	return s, nil
}

// load finds the segments. One that cannot be read at all is set aside, and is a gap.
func (s *Spool) load() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+segmentExt))
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	sort.Strings(names)
	for _, name := range names {
		seg, err := openSegment(name, s.table)
		if errors.Is(err, errTorn) || (err == nil && seg.first <= s.last) {
			if seg != nil {
				seg.file.Close()
			}
			if err := os.Rename(name, strings.TrimSuffix(name, segmentExt)+".bad"); err != nil {
				return fmt.Errorf("set a damaged segment aside: %w", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		s.segs = append(s.segs, seg)
		s.total += seg.size - int64(segmentHeader)
		s.number = max(s.number, seg.number)
		s.last, s.lastKind, s.output = seg.last, seg.kind, seg.offset+seg.output
	}
	s.peak = s.total
	if len(s.segs) > 0 {
		s.acked = s.segs[0].first - 1
	}
	return nil
}
