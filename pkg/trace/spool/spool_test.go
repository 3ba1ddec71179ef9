package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tasktracer/pkg/frame"
)

const testRun = "RUNOFTHETEST"

// extent is where a record lies.
type extent struct {
	Record
	file     string
	from, to int
	hit      bool // some of its bytes were changed or taken
}

// fill writes n records and the run's EXIT, closes the spool as a killed process would, and tells where they lie. Segments hold segSize bytes.
func fill(t testing.TB, dir, run string, seed uint64, n int, segSize int64) []*extent {
	t.Helper()
	s := Create(Config{Dir: dir, Limit: 1 << 30}, Meta{Run: run, URL: "http://x", Token: "t", Name: "n"})
	s.segSize = segSize
	rng := rand.New(rand.NewPCG(seed, 1))
	var all []*extent
	for i := range n {
		size := rng.IntN(200)
		if rng.IntN(20) == 0 {
			size = rng.IntN(5000)
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		kind := frame.Stdout
		if rng.IntN(3) == 0 {
			kind = frame.Stderr
		}
		all = append(all, &extent{Record: Record{Src: uint64(i + 1), At: int64(rng.Uint32()), Kind: kind, Data: data}})
	}
	all = append(all, &extent{Record: Record{Src: uint64(n + 1), At: 7, Kind: frame.Exit, Data: []byte(`{"code":3}`)}})
	for _, e := range all {
		if _, err := s.Append(context.Background(), e.Kind, e.At, e.Data); err != nil {
			t.Fatal(err)
		}
		seg := s.segs[len(s.segs)-1]
		e.file, e.to = seg.path, int(seg.size)
		e.from = e.to - recordHeader - len(e.Data)
	}
	if s.Status().Trouble != nil || !s.Status().OnDisk {
		t.Fatalf("status = %+v", s.Status())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// readBack opens the spool and reads all of it; missing numbers must be told by gaps.
func readBack(t testing.TB, dir string) (got map[uint64]Record, gaps []Gap, st Status) {
	t.Helper()
	got, gaps, st, err := tryReadBack(t, dir)
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	return got, gaps, st
}

// tryReadBack is readBack with the error of opening.
func tryReadBack(t testing.TB, dir string) (got map[uint64]Record, gaps []Gap, st Status, err error) {
	t.Helper()
	s, err := Open(Config{Dir: dir}, testRun)
	if err != nil {
		return nil, nil, Status{}, err
	}
	defer s.Close()
	got = map[uint64]Record{}
	r, next := s.Reader(), uint64(1)
	r.Seek(1, 0)
	for {
		recs, gap, err := r.Read(100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if gap != nil {
			if gap.From != next || gap.To < gap.From {
				t.Fatalf("gap %+v, at %d", *gap, next)
			}
			next = gap.To + 1
			gaps = append(gaps, *gap)
			continue
		}
		if len(recs) == 0 {
			break
		}
		for _, rec := range recs {
			if rec.Src != next {
				t.Fatalf("record %d, want %d", rec.Src, next)
			}
			next++
			rec.Data = bytes.Clone(rec.Data)
			got[rec.Src] = rec
		}
	}
	if next != s.Status().Last+1 {
		t.Fatalf("read up to %d, the spool's last is %d", next-1, s.Status().Last)
	}
	return got, gaps, s.Status(), nil
}

// check holds what came against what was written: nothing else, and nothing missing that was not hit.
func check(t testing.TB, all []*extent, got map[uint64]Record) {
	t.Helper()
	for src, r := range got {
		if src > uint64(len(all)) {
			t.Errorf("record %d was never written", src)
			continue
		}
		if e := all[src-1]; r.At != e.At || r.Kind != e.Kind || !bytes.Equal(r.Data, e.Data) {
			t.Errorf("record %d is not what was written", src)
		}
	}
	for _, e := range all {
		if _, ok := got[e.Src]; !ok && !e.hit {
			t.Errorf("record %d (%s, %d to %d) was not damaged, and did not come", e.Src, filepath.Base(e.file), e.from, e.to)
		}
	}
}

// damage is what happens to one file of a spool. It changes the bytes, and marks and moves the records in them.
type damage struct {
	name string
	do   func(b []byte, in []*extent, at, n int) []byte
	// same tells that all other bytes stay where they were, so that what is lost can be counted.
	same bool
}

func hit(in []*extent, from, to int) {
	for _, e := range in {
		if e.from < to && from < e.to {
			e.hit = true
		}
	}
}

func damages() []damage {
	return []damage{
		{"flip a bit", func(b []byte, in []*extent, at, _ int) []byte {
			b[at] ^= 1 << (at % 8)
			hit(in, at, at+1)
			return b
		}, true},
		{"zero", func(b []byte, in []*extent, at, n int) []byte {
			clear(b[at:min(at+n, len(b))])
			hit(in, at, at+n)
			return b
		}, true},
		{"garbage", func(b []byte, in []*extent, at, n int) []byte {
			for i := at; i < min(at+n, len(b)); i++ {
				b[i] = byte(i*7 + n)
			}
			hit(in, at, at+n)
			return b
		}, true},
		{"wrong length", func(b []byte, in []*extent, at, n int) []byte {
			if len(in) == 0 {
				return b
			}
			e := in[at%len(in)]
			if e.from+4 <= len(b) {
				binary.LittleEndian.PutUint32(b[e.from:], uint32(n))
				hit(in, e.from, e.from+4) // where it stood, if it is gone already
			}
			return b
		}, true},
		{"truncate", func(b []byte, in []*extent, at, _ int) []byte {
			hit(in, at, 1<<60)
			return b[:at]
		}, false},
		{"append", func(b []byte, in []*extent, at, n int) []byte { return append(b, make([]byte, n)...) }, true},
		{"take out", func(b []byte, in []*extent, at, n int) []byte {
			to := min(at+n, len(b))
			hit(in, at, to)
			for _, e := range in {
				if e.from >= to {
					e.from, e.to = e.from-(to-at), e.to-(to-at)
				}
			}
			return append(b[:at], b[to:]...)
		}, false},
		{"put in", func(b []byte, in []*extent, at, n int) []byte {
			for _, e := range in {
				if e.from < at && at < e.to {
					e.hit = true
				} else if e.from >= at {
					e.from, e.to = e.from+n, e.to+n
				}
			}
			return append(b[:at:at], append(make([]byte, n), b[at:]...)...)
		}, false},
		{"remove", func(b []byte, in []*extent, _, _ int) []byte {
			hit(in, -1, 1<<60)
			return nil
		}, false},
	}
}

func apply(t testing.TB, d damage, all []*extent, file string, at, n int) {
	t.Helper()
	var in []*extent
	for _, e := range all {
		if e.file == file {
			in = append(in, e)
		}
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || len(b) == 0 {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if b = d.do(b, in, at%len(b), n); b == nil {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func files(all []*extent) (names []string) {
	for _, e := range all {
		if len(names) == 0 || names[len(names)-1] != e.file {
			names = append(names, e.file)
		}
	}
	return names
}

// lostBytes is what the gaps should say: the output of records that did not come, up to the last that did.
func lostBytes(all []*extent, got map[uint64]Record, last uint64) (n int64) {
	for _, e := range all[:last] {
		if _, ok := got[e.Src]; !ok {
			n += int64(len(e.Data))
		}
	}
	return n
}

func checkGaps(t testing.TB, all []*extent, got map[uint64]Record, gaps []Gap, last uint64) {
	t.Helper()
	told := int64(0)
	for _, g := range gaps {
		if !g.Damaged {
			t.Errorf("gap %+v does not say that it is damage", g)
		}
		if g.Bytes < 0 {
			return // not known: then nothing is said
		}
		told += g.Bytes
	}
	if want := lostBytes(all, got, last); told != want {
		t.Errorf("gaps tell of %d bytes, want %d: %+v", told, want, gaps)
	}
}

// Whatever is damaged, in the first file, in one in the middle, in the last: the rest comes, and what is missing is told.
func TestDamage(t *testing.T) {
	for _, d := range damages() {
		for _, where := range []string{"header", "first record", "middle", "end"} {
			for nth, name := range []string{"first", "middle", "last"} {
				t.Run(fmt.Sprintf("%s, %s of the %s file", d.name, where, name), func(t *testing.T) {
					dir := t.TempDir()
					all := fill(t, dir, testRun, 3, 400, 16<<10)
					names := files(all)
					file := names[nth*(len(names)-1)/2]
					info, err := os.Stat(file)
					if err != nil {
						t.Fatal(err)
					}
					at := map[string]int{"header": 9, "first record": segmentHeader + 3, "middle": int(info.Size()) / 2, "end": int(info.Size()) - 20}[where]
					apply(t, d, all, file, at, 11)
					got, gaps, st := readBack(t, dir)
					check(t, all, got)
					if d.same {
						checkGaps(t, all, got, gaps, st.Last)
					}
					if st.Last < uint64(len(all)) && st.Torn == 0 && d.name != "truncate" && d.name != "remove" && d.name != "take out" {
						t.Error("the end is damaged, and that is not told")
					}
				})
			}
		}
	}
}

// One damaged record costs itself, and its bytes are told.
func TestOneDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	all := fill(t, dir, testRun, 5, 300, 16<<10)
	e := all[100]
	apply(t, damages()[0], all, e.file, e.from+recordHeader/2, 0)
	got, gaps, st := readBack(t, dir)
	check(t, all, got)
	want := Gap{From: e.Src, To: e.Src, Bytes: int64(len(e.Data)), At: all[101].At, Damaged: true}
	if len(gaps) != 1 || gaps[0] != want || len(got) != len(all)-1 || !st.Ended {
		t.Errorf("%d records, gaps %+v, ended %v; want %d, %+v", len(got), gaps, st.Ended, len(all)-1, want)
	}
}

// A segment that cannot be read any more while its own process works costs the damaged record too, and no more.
func TestDamageWhileRunning(t *testing.T) {
	dir := t.TempDir()
	s := Create(Config{Dir: dir}, Meta{Run: testRun})
	defer s.Close()
	ctx := context.Background()
	for i := range 9 {
		if _, err := s.Append(ctx, frame.Stdout, 0, []byte(fmt.Sprint("record ", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	const size = recordHeader + len("record 1")
	for _, broken := range []int64{3, 9} {
		if _, err := s.segs[0].file.WriteAt([]byte{0xff}, int64(segmentHeader)+(broken-1)*int64(size)+2); err != nil {
			t.Fatal(err)
		}
	}
	r := s.Reader()
	var text []string
	for round := 0; ; round++ {
		recs, gap, err := r.Read(100, 1<<20)
		switch {
		case err != nil:
			t.Fatal(err)
		case gap != nil:
			text = append(text, fmt.Sprintf("gap %d-%d of %d %v", gap.From, gap.To, gap.Bytes, gap.Damaged))
		case len(recs) == 0 && round < 100:
			if s.Status().Last == 9 {
				if _, err := s.Append(ctx, frame.Stdout, 0, []byte("record X")); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want := "1 2 gap 3-3 of 8 true 4 5 6 7 8 gap 9-9 of 8 true X"
			if got := strings.Join(text, " "); got != want {
				t.Errorf("read %s\nwant %s", got, want)
			}
			return
		}
		for _, rec := range recs {
			text = append(text, strings.TrimPrefix(string(rec.Data), "record "))
		}
	}
}

// Files that are not the run's, whatever they are, do no harm.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	all := fill(t, dir, testRun, 3, 200, 16<<10)
	other := t.TempDir()
	foreign := fill(t, other, "ANOTHERRUN", 4, 200, 16<<10)
	b, err := os.ReadFile(foreign[0].file)
	if err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, testRun)
	for name, content := range map[string][]byte{
		"00000000.seg": b, "00000099.seg": b, "00000100.seg": {}, "x.seg": b, "1.seg": b, "00000101.seg": bytes.Repeat([]byte("text\n"), 10_000), "notes.txt": []byte("a"), "core": make([]byte, 100),
	} {
		if err := os.WriteFile(filepath.Join(run, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(run, "00000050.seg"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(run, "00000051.seg")); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(run, "00000098.seg")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Fatal(err)
	}
	got, gaps, _ := readBack(t, dir)
	check(t, all, got)
	if len(got) != len(all) || len(gaps) != 0 {
		t.Errorf("%d records, want %d; gaps %v", len(got), len(all), gaps)
	}
}

// A directory of spools may be any directory: what is not a run's spool stays there, however old it is.
func TestForeignDirectoriesStay(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, testRun, 3, 3, 16<<10)
	old := time.Now().Add(-1000 * time.Hour)
	make1 := func(name string, files ...string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, name, f), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	make1("documents", "thesis.tex")
	make1("empty")
	make1("with-lock", "lock", "data.db")
	make1("json", "meta.json")
	make1("ABANDONED", "lock")
	make1("DELETEDHALFWAY", "lock", "00000003.seg")
	make1("DAMAGED", "lock", "meta.json", "00000001.seg")
	left, damaged, err := Left(dir)
	if err != nil || len(left) != 1 || left[0].Run != testRun {
		t.Errorf("Left = %v, %v", left, err)
	}
	if fmt.Sprint(damaged) != "[DAMAGED]" {
		t.Errorf("damaged: %v", damaged)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "DAMAGED "+testRun+" documents empty json with-lock"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
}

// What a spool is about is there twice: one of the two may be damaged.
func TestDamagedMeta(t *testing.T) {
	for name, text := range map[string]string{"zeroes": "\x00\x00\x00\x00", "empty": "", "another run's": `{"run":"X"}`, "changed": "changed"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, testRun, 3, 20, 16<<10)
			file := filepath.Join(dir, testRun, metaFile)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text == "changed" {
				text = strings.Replace(string(b), "http://x", "http://y", 1)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			left, damaged, err := Left(dir)
			if err != nil || len(left) != 1 || len(damaged) != 0 || left[0].URL != "http://x" {
				t.Fatalf("Left = %+v, %v, %v", left, damaged, err)
			}
			if err := os.WriteFile(filepath.Join(dir, testRun, metaCopy), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if left, damaged, err = Left(dir); err != nil || len(left) != 0 || len(damaged) != 1 {
				t.Fatalf("Left = %+v, %v, %v; want it damaged", left, damaged, err)
			}
			if _, err := Open(Config{Dir: dir}, testRun); !errors.Is(err, ErrDamaged) {
				t.Errorf("Open = %v, want ErrDamaged", err)
			}
		})
	}
}

// With Block the limit holds, also while the disk refuses, and what is in memory counts.
func TestBlockHoldsWithoutDisk(t *testing.T) {
	dir := t.TempDir()
	s := Create(Config{Dir: dir, Limit: 1 << 20, Block: true}, Meta{Run: testRun})
	defer s.Close()
	// From now on no file can be made.
	if err := os.RemoveAll(filepath.Join(dir, testRun)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	total := 0
	for {
		if _, err := s.Append(ctx, frame.Stdout, 0, make([]byte, 10_000)); err != nil {
			break
		}
		if total += 10_000; total > 2<<20 {
			t.Fatalf("%d bytes were taken, the limit is 1 MiB", total)
		}
	}
	if st := s.Status(); st.Trouble == nil {
		t.Errorf("status = %+v, want trouble with the disk", st)
	}
	s.Ack(s.Status().Last)
	if _, err := s.Append(context.Background(), frame.Stdout, 0, make([]byte, 10_000)); err != nil {
		t.Errorf("after an acknowledgement: %v", err)
	}
}

// What a full disk has left in memory goes to the disk once that has room again: then it survives the process.
func TestDiskComesBack(t *testing.T) {
	dir := t.TempDir()
	var full atomic.Bool
	s := Create(Config{Dir: dir, Fault: func(op, _ string) error {
		if full.Load() && (op == "write" || op == "create") {
			return syscall.ENOSPC
		}
		return nil
	}}, Meta{Run: testRun})
	var want []string
	write := func(n int) {
		t.Helper()
		for range n {
			text := fmt.Sprint("record ", len(want)+1)
			want = append(want, text)
			if _, err := s.Append(t.Context(), frame.Stdout, 0, append([]byte(text), make([]byte, 100_000)...)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(3)
	full.Store(true)
	write(12) // two segments in memory
	if st := s.Status(); st.OnDisk || !errors.Is(st.Trouble, syscall.ENOSPC) {
		t.Fatalf("with a full disk: %+v", st)
	}
	r := s.Reader()
	if recs, _, err := r.Read(5, 1<<20); err != nil || len(recs) != 3 {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	if recs, _, err := r.Read(2, 1<<20); err != nil || len(recs) != 2 {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	s.Sync()
	if s.Status().OnDisk {
		t.Fatal("a full disk took it")
	}
	full.Store(false)
	s.Sync()
	if st := s.Status(); !st.OnDisk || st.Trouble != nil {
		t.Fatalf("with room again: %+v", st)
	}
	write(1)
	// Who was reading goes on where it was.
	for next := uint64(6); next <= 16; {
		recs, gap, err := r.Read(100, 1<<20)
		if err != nil || gap != nil || len(recs) == 0 || recs[0].Src != next {
			t.Fatalf("at %d: %d records, gap %v, %v", next, len(recs), gap, err)
		}
		next += uint64(len(recs))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, gaps, _ := readBack(t, dir)
	if len(got) != len(want) || len(gaps) > 0 {
		t.Fatalf("%d records are kept, want %d; gaps %v", len(got), len(want), gaps)
	}
	for i, text := range want {
		if !bytes.HasPrefix(got[uint64(i+1)].Data, append([]byte(text), 0)) {
			t.Errorf("record %d is another one", i+1)
		}
	}
}

// A spool as earlier builds wrote it (testdata/v2) can be read for as long as its version is this one's.
func TestSpoolOfVersion2(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "v2"))); err != nil {
		t.Fatal(err)
	}
	left, damaged, err := Left(dir)
	if err != nil || len(left) != 1 || len(damaged) != 0 || left[0].URL != "http://server:8005" || left[0].Name != "build" || !left[0].Insecure {
		t.Fatalf("Left = %+v, %v, %v", left, damaged, err)
	}
	got, gaps, st := readBack(t, dir)
	var text []string
	for src := uint64(1); src <= st.Last; src++ {
		r := got[src]
		text = append(text, fmt.Sprintf("%d %v %q", r.At, r.Kind, r.Data))
	}
	want := `1000 STDOUT "one\n" 1001 STDERR "two\n" 1002 NOTE "by the way" 1003 STDOUT "\xff\x00" 1004 EXIT "{\"code\":3}"`
	if joined := strings.Join(text, " "); joined != want || len(gaps) != 0 || !st.Ended {
		t.Errorf("%s, gaps %v, ended %v; want %s", joined, gaps, st.Ended, want)
	}
}

// What another version wrote is for that one to send: nothing of it is touched, and it is no damage. Beside segments of this version it is.
func TestOtherVersion(t *testing.T) {
	for _, version := range []byte{'1', '3'} {
		other := bytes.Repeat([]byte("whatever comes behind that "), 1000)
		copy(other, segmentMagic)
		other[len(segmentMagic)-1] = version
		dir := t.TempDir()
		all := fill(t, dir, testRun, 3, 300, 16<<10)
		names := files(all)
		apply(t, damage{do: func(_ []byte, in []*extent, _, _ int) []byte {
			hit(in, -1, 1<<60)
			return other
		}}, all, names[1], 0, 0)
		got, gaps, _ := readBack(t, dir)
		check(t, all, got)
		if len(gaps) != 1 || !gaps[0].Damaged {
			t.Errorf("gaps %+v, want one", gaps)
		}
		dir = t.TempDir()
		names = files(fill(t, dir, testRun, 3, 300, 16<<10))
		for _, name := range names {
			if err := os.WriteFile(name, other, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(Config{Dir: dir}, testRun); !errors.Is(err, ErrVersion) {
			t.Fatalf("Open = %v, want ErrVersion", err)
		}
		for _, name := range names {
			if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, other) {
				t.Errorf("%s was touched: %v", name, err)
			}
		}
		// It is free for the other version.
		lock, err := lockDir(filepath.Join(dir, testRun), false)
		if err != nil {
			t.Fatalf("its lock: %v", err)
		}
		lock.Close()
	}
}

// What was appended is on the disk itself within a second.
func TestSyncedEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Create(Config{Dir: t.TempDir()}, Meta{Run: testRun})
		defer s.Close()
		for range 3 {
			if _, err := s.Append(t.Context(), frame.Stdout, 0, []byte("x")); err != nil {
				t.Fatal(err)
			}
			if !s.unsynced() {
				t.Fatal("synced at once: the command waits for the disk")
			}
			time.Sleep(time.Second + time.Millisecond)
			synctest.Wait()
			if s.unsynced() || !s.named || s.entries {
				t.Fatal("not synced after a second")
			}
		}
	})
}

func (s *Spool) unsynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segs {
		if seg.unsynced {
			return true
		}
	}
	return false
}

// TestMain is also the other process of TestTwoProcesses.
func TestMain(m *testing.M) {
	dir := os.Getenv("SPOOL_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	if os.Getenv("SPOOL_TEST_HOLD") != "" {
		if s, err := Open(Config{Dir: dir}, testRun); err == nil {
			fmt.Println("opened", s.Status().Last)
			select {}
		}
		os.Exit(1)
	}
	s, err := Open(Config{Dir: dir}, testRun)
	switch {
	case err == nil:
		s.Ack(s.Status().Last)
		fmt.Println("sent")
		err = s.Close()
	case errors.Is(err, ErrBusy) || errors.Is(err, ErrNoSpool):
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func otherProcess(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), "SPOOL_TEST_DIR="+dir), env...)
	return cmd
}

// While a process has the run no other one gets it; when it is killed, the next one does; of many at once exactly one.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	all := fill(t, dir, testRun, 3, 100, 16<<10)
	holder := otherProcess(t, dir, "SPOOL_TEST_HOLD=1")
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, _ := out.Read(line)
	if got, want := strings.TrimSpace(string(line[:n])), fmt.Sprint("opened ", len(all)); got != want {
		t.Fatalf("the other process says %q, want %q", got, want)
	}
	if _, err := Open(Config{Dir: dir}, testRun); !errors.Is(err, ErrBusy) {
		t.Fatalf("Open = %v, want ErrBusy", err)
	}
	if left, _, err := Left(dir); err != nil || len(left) != 1 {
		t.Fatalf("Left = %v, %v", left, err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // killed
	got, _, _ := readBack(t, dir)
	check(t, all, got)

	for round := range 10 {
		dir := t.TempDir()
		fill(t, dir, testRun, uint64(round), 50, 16<<10)
		var cmds []*exec.Cmd
		var outs, errs []*bytes.Buffer
		for range 5 {
			cmd := otherProcess(t, dir)
			o, e := new(bytes.Buffer), new(bytes.Buffer)
			cmd.Stdout, cmd.Stderr = o, e
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmds, outs, errs = append(cmds, cmd), append(outs, o), append(errs, e)
		}
		sent := 0
		for i, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Errorf("a process failed: %v %s", err, errs[i])
			}
			sent += strings.Count(outs[i].String(), "sent")
		}
		if entries, err := os.ReadDir(dir); sent != 1 || err != nil || len(entries) != 0 {
			t.Errorf("%d processes sent the run, want 1; left: %v %v", sent, entries, err)
		}
	}
}

// A lost lock does not keep a run from being sent.
func TestLockLost(t *testing.T) {
	dir := t.TempDir()
	all := fill(t, dir, testRun, 3, 30, 16<<10)
	if err := os.Remove(filepath.Join(dir, testRun, lockFile)); err != nil {
		t.Fatal(err)
	}
	got, _, _ := readBack(t, dir)
	check(t, all, got)
}

// FuzzSpoolDamage does up to 16 kinds of damage to the files of a spool: what comes is what was written, and all that was not hit comes.
func FuzzSpoolDamage(f *testing.F) {
	for kind := range byte(len(damages())) {
		f.Add(uint64(kind), []byte{kind, 0, 0, 40, 0, 9})
		f.Add(uint64(kind), []byte{kind, 1, 7, 0, 0, 200, kind, 2, 1, 1, 1, 1})
		f.Add(uint64(kind), []byte{1, 1, 10, 0, 3, 0, kind, 1, 3, 3, 0, 77, kind, 0, 0, 0, 0, 1})
	}
	f.Fuzz(func(t *testing.T, seed uint64, ops []byte) {
		dir := t.TempDir()
		all := fill(t, dir, testRun, seed, 60+int(seed%200), 8<<10)
		names, same := files(all), true
		for n := 0; len(ops) >= 6 && n < 16; n++ {
			d := damages()[int(ops[0])%len(damages())]
			apply(t, d, all, names[int(ops[1])%len(names)], int(binary.BigEndian.Uint16(ops[2:])), int(binary.BigEndian.Uint16(ops[4:])))
			same = same && d.same
			ops = ops[6:]
		}
		got, gaps, st, err := tryReadBack(t, dir)
		if err != nil && !errors.Is(err, ErrVersion) {
			t.Fatalf("Open = %v", err)
		}
		check(t, all, got)
		if err != nil {
			return // nothing was sound
		}
		if same {
			checkGaps(t, all, got, gaps, st.Last)
		}
	})
}

// FuzzSpoolMeta reads any bytes as what a spool is about: what is believed is what was written.
func FuzzSpoolMeta(f *testing.F) {
	dir := f.TempDir()
	fill(f, dir, testRun, 1, 1, 16<<10)
	want, err := readMeta(filepath.Join(dir, testRun))
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, testRun, metaFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(bytes.ToUpper(b))
	f.Add([]byte(`{"run":"` + testRun + `","sum":0}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		run := filepath.Join(dir, testRun)
		if err := os.Mkdir(run, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{metaFile, metaCopy} {
			if err := os.WriteFile(filepath.Join(run, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, err := readMeta(run)
		same := func(m Meta) bool {
			return string(m.Task) == string(want.Task) && m.URL == want.URL && m.Token == want.Token && m.Name == want.Name && m.Run == want.Run
		}
		if len(m.Task) == 0 {
			m.Task = want.Task // nothing, or null
		}
		if err != nil && !errors.Is(err, ErrDamaged) || err == nil && !same(m) {
			t.Errorf("readMeta = %+v, %v", m, err)
		}
		if left, damaged, err := Left(dir); err != nil || len(left)+len(damaged) > 1 || len(left) == 1 && left[0].Run != testRun {
			t.Errorf("Left = %v, %v, %v", left, damaged, err)
		}
	})
}

// FuzzSpoolSegment reads any bytes as a segment.
func FuzzSpoolSegment(f *testing.F) {
	dir := f.TempDir()
	all := fill(f, dir, testRun, 1, 40, 4<<10)
	for _, name := range files(all) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(b[segmentHeader:])
	}
	f.Add([]byte(segmentMagic))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 2}, 500))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if len(b) > maxSegment {
			return
		}
		fill(t, dir, testRun, 9, 3, 16<<10)
		if err := os.WriteFile(filepath.Join(dir, testRun, segmentName(2)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, _ := readBack(t, dir)
		for src, r := range got {
			// Only what bears the run's checksum is given out; it then stands in the file as it is.
			if src > 4 && !bytes.Contains(b, r.Data) {
				t.Errorf("record %d was never in the file", src)
			}
		}
		if len(got) < 4 {
			t.Errorf("%d records, want the 4 of the sound segment", len(got))
		}
	})
}
