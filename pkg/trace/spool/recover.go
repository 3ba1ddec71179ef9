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
	// ErrDamaged says that what a spool is about cannot be read, so that its records cannot be sent.
	ErrDamaged = errors.New("spool is damaged")
	// ErrVersion says that another version of this package wrote a spool: it is left as it is, for that one.
	ErrVersion = errors.New("spool was written by another version of tt, which must send it")
)

// badExt is what a file is named, instead of segmentExt, that holds nothing sound.
const badExt = ".bad"

// abandoned is how old a directory without meta must be to count as left behind by a crash.
const abandoned = time.Hour

// Left names the runs that have a spool in dir, oldest first, those in use included. A missing dir holds none. A run whose meta cannot be read is in damaged.
// Directories that never became a spool are deleted once they are an hour old; what is not a run's is let be, for dir may hold other things.
func Left(dir string) (left []Meta, damaged []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list spools: %w", err)
	}
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
		if errors.Is(err, ErrDamaged) && ours(path) {
			damaged = append(damaged, e.Name())
		}
		if info, ierr := e.Info(); ierr == nil && errors.Is(err, fs.ErrNotExist) && time.Since(info.ModTime()) > abandoned && ours(path) {
			removeAbandoned(path)
		}
	}
	sort.SliceStable(left, func(i, j int) bool { return left[i].Started < left[j].Started })
	return left, damaged, nil
}

// ours tells that a directory holds nothing but what a spool does, its lock at least.
func ours(path string) bool {
	entries, err := os.ReadDir(path)
	if err != nil {
		return false
	}
	locked := false
	for _, e := range entries {
		_, segment := segmentNumber(strings.TrimSuffix(e.Name(), badExt) + segmentExt)
		switch name := e.Name(); {
		case !e.Type().IsRegular():
			return false
		case name == lockFile:
			locked = true
		case name == metaFile, name == metaFile+".new", name == metaCopy, segment, strings.HasSuffix(name, segmentExt):
		default:
			return false
		}
	}
	return locked
}

// removeAbandoned deletes what a crash left behind between making a directory and its meta, or between deleting the meta and the directory. A clock that was set
// may make a directory look old that is being made: that one is locked.
func removeAbandoned(path string) {
	lock, err := lockDir(path, false)
	if err != nil {
		return
	}
	// What cannot be deleted is met again by the next one.
	_ = new(Config).deleteDir(path, lock)
}

// openLock opens the lock's file. Only who makes a spool makes it, so that nobody puts it back into a directory that is just being deleted; but where it was
// lost, and the meta was not, it is made again.
func openLock(dir string, create bool) (*os.File, error) {
	name := filepath.Join(dir, lockFile)
	if !create {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if _, err := readMeta(dir); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// Open takes over the spool that another process left behind: ErrBusy while that one lives, ErrNoSpool where it is gone, ErrDamaged where it cannot be known what it
// is, ErrVersion where it is another version's.
func Open(cfg Config, run string) (*Spool, error) {
	dir := filepath.Join(cfg.Dir, run)
	if _, err := readMeta(dir); err != nil {
		return nil, noSpool(run, err)
	}
	lock, err := lockDir(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noSpool(run, err)
	}
	if err != nil {
		return nil, err
	}
	meta, err := readMeta(dir) // again: its owner may have finished and deleted it just now
	if err != nil {
		lock.Close()
		return nil, noSpool(run, err)
	}
	s := newSpool(cfg, meta)
	s.dir, s.lock = dir, lock
	if err := s.load(); err != nil {
		for _, seg := range s.segs {
			seg.file.Close()
		}
		lock.Close()
		return nil, err
	}
	go s.sync()
	return s, nil
}

func noSpool(run string, err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w of run %s: %w", ErrNoSpool, run, err)
}

// load finds the segments. A file that holds nothing sound is set aside, and is a gap; what is not a segment is let be. One tt writes a run from its beginning to its
// end: a file that seems to be another version's is that only where none is of this one.
func (s *Spool) load() error {
	entries, err := os.ReadDir(s.dir) // sorted by name
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	offset, hurt, previous := int64(0), false, uint64(0)
	var unsound []string
	var other error
	for _, e := range entries {
		name := filepath.Join(s.dir, e.Name())
		number, ok := segmentNumber(name)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if number != previous+1 {
			offset = -1 // but for what the header says
		}
		s.number, previous = number, number
		segs, err := openSegment(name, s.sum, s.last, offset)
		if errors.Is(err, ErrVersion) {
			other = err
		}
		if errors.Is(err, ErrVersion) || errors.Is(err, errTorn) {
			unsound = append(unsound, name)
			hurt, offset = true, -1
			if info, err := e.Info(); err == nil {
				s.torn += info.Size()
			}
			continue
		}
		if err != nil {
			return err
		}
		segs[0].hurt = segs[0].hurt || hurt
		for _, seg := range segs {
			s.segs = append(s.segs, seg)
			s.total += seg.held()
		}
		newest := segs[len(segs)-1]
		s.last, s.lastKind, s.at, s.torn, hurt = newest.last, newest.kind, newest.lastAt, newest.torn, newest.torn > 0
		if offset = newest.offset; offset >= 0 {
			offset += int64(newest.output)
			s.output = uint64(offset)
		}
		if hurt {
			offset = -1
		}
	}
	if other != nil && len(s.segs) == 0 {
		return other
	}
	for _, name := range unsound {
		if err := s.cfg.rename(name, strings.TrimSuffix(name, segmentExt)+badExt); err != nil {
			return fmt.Errorf("set a damaged segment aside: %w", err)
		}
	}
	s.peak = s.total
	if len(s.segs) > 0 {
		s.acked = s.segs[0].first - 1
	}
	return nil
}
