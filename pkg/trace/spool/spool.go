package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"tasktracer/pkg/frame"
)

// Limits of a spool.
const (
	// DefaultLimit is how many bytes a run may have on disk.
	DefaultLimit = 1 << 30
	// MinLimit keeps room for a few records of the largest size.
	MinLimit = 1 << 20
	// MemoryLimit is how many bytes a run may have in memory, where there is no disk: with Config.Dir empty, or while the disk refuses.
	MemoryLimit = 6 << 20
	// maxSegment keeps a spool that is being acknowledged small, and a segment quick to search.
	maxSegment = 4 << 20
	// maxMemorySegment is smaller, since memory is dropped by the segment, too.
	maxMemorySegment = 1 << 20
	// overhead is how much more than Config.Limit may be stored, as a part of it: records have headers, and a limit of 1 GiB should hold 1 GiB of output.
	overhead = 32
	// syncEvery bounds what a power cut can take.
	syncEvery = time.Second
	// retryDisk is how long a spool stays in memory before it tries the disk again.
	retryDisk = time.Second
)

// Config says where and how large.
type Config struct {
	// Dir is the directory of all spools, made where missing. Empty: this run's records are kept in memory only.
	Dir string
	// Limit is how many bytes one run may keep; DefaultLimit where 0. It is not used without Dir.
	Limit int64
	// Block makes Append wait at the limit, for acknowledgements, where else the oldest records are dropped.
	Block bool
	// Fault is for tests: it is called before each change to the disk (mkdir, lock, create, write, truncate, rename, remove, sync) and after each sync (synced). An
	// error takes the change's place, but for that of a removal. It may be called by several goroutines, and must not call the spool.
	Fault func(op, path string) error
}

func (c *Config) fault(op, path string) error {
	if c.Fault == nil {
		return nil
	}
	return c.Fault(op, path)
}

// ErrClosed is what Append says after Close.
var ErrClosed = errors.New("spool is closed")

// Spool holds one run's records that are not yet acknowledged. Safe for concurrent use.
type Spool struct {
	cfg  Config
	sum  checksum
	dir  string // of this run; empty: memory only
	lock *os.File
	meta Meta

	mu       sync.Mutex
	space    *sync.Cond // signalled when an acknowledgement made room
	segs     []*segment // oldest first; the last one is appended to
	segSize  int64
	number   uint64 // of the newest segment
	last     uint64 // src of the newest record
	lastKind frame.Kind
	at       int64  // of the newest record, as Record.At
	acked    uint64 // everything up to here is durable on the server
	output   uint64 // output bytes appended so far
	total    int64  // bytes stored
	inMemory int64  // of them in memory
	peak     int64
	dropped  uint64 // output bytes dropped by the limits
	diskErr  error  // why the disk was last refused
	retryAt  time.Time
	closed   bool
	ending   bool
	torn     int64 // damaged bytes behind the newest record that was found; set by load
	scratch  []byte
	entries  bool   // the directory got a file since the last sync
	spare    []byte // of a deleted segment in memory, for the next one

	named bool // the meta is known to be on the disk; for Sync, which one goroutine calls at a time

	more chan struct{} // holds one token when something was appended
	stop chan struct{}
	done chan struct{}
}

// Create makes the spool of a new run. A disk that refuses is no error: the spool is then in memory, and Trouble says why.
func Create(cfg Config, meta Meta) *Spool {
	s := newSpool(cfg, meta)
	if cfg.Dir != "" {
		if err := s.makeDir(); err != nil {
			s.diskErr = err
			s.dir = ""
		}
	}
	if s.dir != "" {
		go s.sync()
	} else {
		close(s.done)
	}
	return s
}

func newSpool(cfg Config, meta Meta) *Spool {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	s := &Spool{
		cfg: cfg, meta: meta, sum: checksumOf(meta.Run), segSize: min(maxSegment, cfg.Limit/8),
		more: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	s.space = sync.NewCond(&s.mu)
	return s
}

// makeDir is atomic for those who look for spools: a directory is one from the moment it has its meta, and by then it is locked.
func (s *Spool) makeDir() error {
	dir := filepath.Join(s.cfg.Dir, s.meta.Run)
	if err := s.cfg.fault("mkdir", s.cfg.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := s.cfg.fault("mkdir", dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var lock *os.File
	err := s.cfg.fault("lock", dir)
	if err == nil {
		lock, err = lockDir(dir, true)
	}
	if err == nil {
		err = s.writeMeta(dir)
	}
	if err != nil {
		if lock != nil {
			lock.Close()
		}
		_ = s.cfg.fault("remove", dir)
		os.RemoveAll(dir)
		return err
	}
	s.dir, s.lock = dir, lock
	return nil
}

// Append adds a record and returns its src. Data is copied; one longer than MaxRecord is an error. With Config.Block it waits at the limit, until ctx ends.
// A disk that refuses is no error. The only other one is ErrClosed.
func (s *Spool) Append(ctx context.Context, kind frame.Kind, at int64, data []byte) (src uint64, err error) {
	if len(data) > MaxRecord {
		return 0, fmt.Errorf("record of %d bytes, at most %d", len(data), MaxRecord)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	need := int64(recordHeader + len(data))
	if s.cfg.Block && s.full(need) {
		if err := s.waitForSpace(ctx, need); err != nil {
			return 0, err
		}
	}
	if s.closed {
		return 0, ErrClosed
	}
	r := Record{Src: s.last + 1, At: at, Kind: kind, Data: data}
	s.scratch = s.sum.append(s.scratch[:0], r)
	seg := s.writable(need)
	if err := seg.write(&s.cfg, s.scratch); err != nil {
		s.diskErr, s.retryAt = err, time.Now().Add(retryDisk)
		seg = s.rotate()
		seg.write(&s.cfg, s.scratch) //nolint:errcheck // memory takes it
	}
	if seg.last < seg.first {
		seg.at = at
	}
	seg.size += need
	seg.last = r.Src
	if kind.Output() {
		seg.output += uint64(len(data))
		s.output += uint64(len(data))
	}
	s.total += need
	if seg.file == nil {
		s.inMemory += need
	}
	s.last, s.lastKind, s.at = r.Src, kind, at
	s.dropToLimits()
	s.peak = max(s.peak, s.total)
	s.wake()
	return r.Src, nil
}

func (s *Spool) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Ending says that the run has ended and only a little is still to come: with Config.Block the limit holds nothing up any more, and nothing is dropped either.
func (s *Spool) Ending() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	s.space.Broadcast()
}

func (s *Spool) full(need int64) bool {
	if s.closed || s.ending || len(s.segs) == 0 {
		return false
	}
	// While the disk refuses, both limits hold: what was asked for, and what memory has room for.
	if s.inMemory+need > MemoryLimit {
		return true
	}
	return s.dir != "" && s.total+need > s.cfg.Limit+s.cfg.Limit/overhead
}

func (s *Spool) waitForSpace(ctx context.Context, need int64) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.space.Broadcast()
	})
	defer stop()
	for s.full(need) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.space.Wait()
	}
	return nil
}

// writable gives the segment that takes the next record.
func (s *Spool) writable(need int64) *segment {
	if len(s.segs) == 0 {
		return s.rotate()
	}
	seg := s.segs[len(s.segs)-1]
	limit := s.segSize
	if seg.file == nil {
		limit = maxMemorySegment
	}
	if seg.sealed || seg.size+need > limit && seg.last >= seg.first {
		return s.rotate()
	}
	if seg.file == nil && s.dir != "" && time.Now().After(s.retryAt) {
		return s.rotate()
	}
	return seg
}

// rotate begins a segment: on disk, or in memory where there is none or it refused a moment ago.
func (s *Spool) rotate() *segment {
	s.number++
	var seg *segment
	if s.dir != "" && !time.Now().Before(s.retryAt) {
		var err error
		if seg, err = s.createSegment(s.number, s.last+1, int64(s.output)); err != nil {
			s.diskErr, s.retryAt = err, time.Now().Add(retryDisk)
		}
		s.entries = s.entries || seg != nil
	}
	if seg == nil {
		seg = memorySegment(s.number, s.last+1, int64(s.output), s.spare)
		s.spare = nil
	}
	s.segs = append(s.segs, seg)
	s.removeEmpty()
	return seg
}

// removeEmpty takes out segments that never got a record, but for the newest one.
func (s *Spool) removeEmpty() {
	kept := s.segs[:0]
	for i, seg := range s.segs {
		if i < len(s.segs)-1 && seg.last < seg.first {
			seg.remove(&s.cfg)
			continue
		}
		kept = append(kept, seg)
	}
	clear(s.segs[len(kept):])
	s.segs = kept
}

// dropToLimits drops the oldest segments while there is too much, but never the one being written.
func (s *Spool) dropToLimits() {
	if s.cfg.Block {
		return
	}
	for len(s.segs) > 1 && s.dir != "" && s.total > s.cfg.Limit+s.cfg.Limit/overhead {
		s.drop(0)
	}
	for s.inMemory > MemoryLimit {
		i := 0
		for s.segs[i].file != nil {
			i++
		}
		if i == len(s.segs)-1 {
			return
		}
		s.drop(i) // what lies before it on disk stays: a hole in the middle is told by a NOTE like any other
	}
}

func (s *Spool) drop(i int) {
	seg := s.segs[i]
	if seg.last > s.acked {
		s.dropped += seg.output
	}
	s.take(i)
}

func (s *Spool) take(i int) {
	seg := s.segs[i]
	s.total -= seg.held()
	if seg.file == nil {
		s.inMemory -= seg.held()
	}
	if seg.mem != nil {
		s.spare = seg.mem[:0]
	}
	seg.remove(&s.cfg)
	s.segs = append(s.segs[:i], s.segs[i+1:]...)
}

// Ack says that the server has everything up to src for good; whole segments of that are deleted.
func (s *Spool) Ack(src uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if src <= s.acked {
		return
	}
	s.acked = min(src, s.last)
	for len(s.segs) > 0 && s.segs[0].last <= s.acked && s.segs[0].last >= s.segs[0].first {
		// The newest one is kept while it is small, so that a trickle does not make and delete a file for each line; and where it holds the run's end: without that,
		// who finds the spool after a crash would take the run for one that never ended.
		if len(s.segs) == 1 && (s.segs[0].size < s.segSize/4 || s.lastKind == frame.Exit) && !s.closed {
			break
		}
		s.take(0)
	}
	s.space.Broadcast()
}

// SkipTo makes src the number of the next record, if it is larger than that. A server may have records that a power cut took from the spool: up to the run's
// EXIT, where ended says so.
func (s *Spool) SkipTo(src uint64, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ended && src > s.last {
		defer func() { s.lastKind = frame.Exit }()
	}
	if src <= s.last+1 {
		return
	}
	s.last, s.lastKind = src-1, 0
	s.acked = s.last
	for len(s.segs) > 0 {
		s.take(0)
	}
}

// Status is where a spool stands.
type Status struct {
	// First is the oldest record held, Last the newest; First is Last+1 where none is held.
	First, Last uint64
	// At is when the newest record was made, in milliseconds since 1970 UTC.
	At int64
	// Acked: everything up to here is durable on the server.
	Acked uint64
	// Bytes are stored now, at most Peak were.
	Bytes, Peak int64
	// Unsent is how many output bytes are not acknowledged, by the segment; it may count up to one segment too much.
	Unsent uint64
	// Dropped is how many output bytes the limits took before they were acknowledged.
	Dropped uint64
	// Torn is how many damaged bytes were found behind the newest record when the spool was opened: the torn end of a write, or more.
	Torn int64
	// Trouble is why records lie in memory rather than on disk, or nil.
	Trouble error
	// Ended tells that the newest record is the run's EXIT.
	Ended bool
	// OnDisk tells that the records can be sent later by another process.
	OnDisk bool
}

// Status tells where the spool stands.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{First: s.first(), Last: s.last, At: s.at, Acked: s.acked, Bytes: s.total, Peak: s.peak, Dropped: s.dropped, Torn: s.torn, Ended: s.lastKind == frame.Exit, OnDisk: s.dir != "" && s.inMemory == 0}
	for _, seg := range s.segs {
		if seg.last > s.acked {
			st.Unsent += seg.output
		}
	}
	if s.inMemory > 0 || s.dir == "" {
		st.Trouble = s.diskErr
	}
	return st
}

func (s *Spool) first() uint64 {
	first := s.last + 1
	if len(s.segs) > 0 {
		first = s.segs[0].first
	}
	return max(first, min(s.acked+1, s.last+1))
}

// More holds a token when something was appended since the last one was taken.
func (s *Spool) More() <-chan struct{} { return s.more }

// Meta is what the spool was made with.
func (s *Spool) Meta() Meta { return s.meta }

// sync writes the spool to the disk itself, each second.
func (s *Spool) sync() {
	defer close(s.done)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.Sync()
		}
	}
}

// Sync writes all that was appended to the disk itself, and the names of the files with it. Appending goes on meanwhile. What is in memory because the disk
// refused it is offered to it again.
func (s *Spool) Sync() {
	s.mu.Lock()
	s.settle()
	var files []*os.File
	for _, seg := range s.segs {
		if seg.unsynced && seg.file != nil && seg.last > s.acked {
			seg.unsynced = false
			files = append(files, seg.file)
		}
	}
	entries := s.entries
	s.entries = false
	s.mu.Unlock()
	for _, f := range files {
		if err := s.cfg.sync(f); err != nil && !errors.Is(err, os.ErrClosed) {
			s.trouble(err)
		}
	}
	if entries {
		if err := s.syncNames(); err != nil {
			s.trouble(err)
		}
	}
}

// settle moves to the disk what lies in memory, if the disk takes it by now.
func (s *Spool) settle() {
	if s.dir == "" || s.inMemory == 0 {
		return
	}
	for _, seg := range s.segs {
		if seg.file != nil || seg.last < seg.first || seg.last <= s.acked {
			continue
		}
		onDisk, err := s.createSegment(seg.number, seg.first, seg.offset)
		if err == nil {
			if err = onDisk.write(&s.cfg, seg.mem[seg.start:seg.size]); err != nil {
				onDisk.remove(&s.cfg)
			}
		}
		if err != nil {
			s.diskErr, s.retryAt = err, time.Now().Add(retryDisk)
			return
		}
		s.entries = true
		s.inMemory -= seg.held()
		s.spare = seg.mem[:0]
		seg.file, seg.path, seg.mem, seg.unsynced = onDisk.file, onDisk.path, nil, true
	}
}

func (s *Spool) trouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.diskErr = err
}

// syncNames makes sure of the directory's files. What the spool is about is written once, so it is made sure of once.
func (s *Spool) syncNames() error {
	if s.named {
		return s.cfg.syncPath(s.dir)
	}
	for _, path := range []string{filepath.Join(s.dir, metaFile), filepath.Join(s.dir, metaCopy), s.dir, s.cfg.Dir} {
		if err := s.cfg.syncPath(path); err != nil {
			return err
		}
	}
	s.named = true
	return nil
}

func (c *Config) syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := c.sync(f); err != nil && !errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "windows" {
		return err // Windows has no sync of a directory, nor of a file opened for reading
	}
	return nil
}

func (c *Config) sync(f *os.File) error {
	err := c.fault("sync", f.Name())
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = c.fault("synced", f.Name())
	}
	return err
}

// Close ends the work on the run. A spool of which everything is acknowledged is deleted; what is left can be opened again by Open.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.space.Broadcast()
	s.mu.Unlock()
	close(s.stop)
	<-s.done
	s.Sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segs {
		if seg.file != nil {
			seg.file.Close()
		}
	}
	if s.lock == nil {
		return nil
	}
	if s.acked < s.last {
		return s.lock.Close()
	}
	return s.cfg.deleteDir(s.dir, s.lock)
}

// deleteDir takes the meta first: from then on nobody takes the directory for a spool. The lock goes before its file, which some systems do not delete while it is open.
func (c *Config) deleteDir(dir string, lock *os.File) error {
	for _, name := range []string{metaCopy, metaFile} {
		if err := c.remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			lock.Close()
			return fmt.Errorf("delete spool: %w", err)
		}
	}
	lock.Close()
	_ = c.fault("remove", dir)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("delete spool: %w", err)
	}
	return nil
}

func (c *Config) remove(path string) error {
	_ = c.fault("remove", path)
	return os.Remove(path)
}
