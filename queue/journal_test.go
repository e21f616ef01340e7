package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// mustJournal opens a journal and appends frames of n events each until it holds the given number of frames.
func mustJournal(t testing.TB, dir string, slotSize int64, frames, n, size int) *journal {
	t.Helper()
	j, err := openJournal(dir, slotSize, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := j.load(0); err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for range frames {
		next = mustWrite(t, j, next, n, size, 0)
	}
	return j
}

func mustWrite(t testing.TB, j *journal, next uint64, n, size int, applied uint64) uint64 {
	t.Helper()
	buf, f := sealed(next, n, size, entryHeader)
	if err := j.append(buf, f, applied); err != nil {
		t.Fatal(err)
	}
	return f.end()
}

// firsts are the numbers that the frames of a journal begin with.
func firsts(t testing.TB, dir string, slotSize int64) (list []uint64, damages []damage) {
	t.Helper()
	j, err := openJournal(dir, slotSize, 6)
	if err != nil {
		t.Fatal(err)
	}
	frames, damages, err := j.load(0)
	if err = errors.Join(err, j.close()); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		list = append(list, f.first)
	}
	return list, damages
}

// active is the file of the slot that is written to.
func (j *journal) active() *slot { return j.slots[len(j.slots)-1] }

func TestAJournalGivesBackAllFramesInOrder(t *testing.T) {
	dir := t.TempDir()
	j := mustJournal(t, dir, 4<<10, 12, 3, 200)
	if j.close() != nil || len(j.slots) < 3 {
		t.Fatalf("%d slots", len(j.slots))
	}
	got, damages := firsts(t, dir, 4<<10)
	if fmt.Sprint(got) != "[1 4 7 10 13 16 19 22 25 28 31 34]" || len(damages) > 0 {
		t.Errorf("frames begin with %v, damages %v", got, damages)
	}
}

func TestASlotIsUsedAgainWhenItsFramesAreInTheStore(t *testing.T) {
	dir := t.TempDir()
	j := mustJournal(t, dir, 4<<10, 1, 3, 200)
	next := uint64(4)
	for range 100 {
		next = mustWrite(t, j, next, 3, 200, next)
	}
	if len(j.slots) != 2 {
		t.Errorf("%d slots, want 2", len(j.slots))
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	got, damages := firsts(t, dir, 4<<10)
	if !slices.IsSorted(got) || got[len(got)-1] != next-3 || len(damages) > 0 {
		t.Errorf("frames begin with %v, damages %v; the last is %d", got, damages, next-3)
	}
}

func TestAFullJournalSaysSo(t *testing.T) {
	j := mustJournal(t, t.TempDir(), 4<<10, 6, 1, 3000)
	defer func() { _ = j.close() }()
	buf, f := sealed(7, 1, 3000, entryHeader)
	if err := j.append(buf, f, 1); !errors.Is(err, errJournalFull) {
		t.Fatalf("append to a full journal: %v", err)
	}
	mustWrite(t, j, 7, 1, 3000, 2)
}

func TestAnEntryLargerThanASlotComesBack(t *testing.T) {
	dir := t.TempDir()
	j := mustJournal(t, dir, 4<<10, 1, 1, 100)
	mustWrite(t, j, mustWrite(t, j, 2, 1, 20<<10, 0), 1, 100, 0)
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if got, damages := firsts(t, dir, 4<<10); fmt.Sprint(got) != "[1 2 3]" || len(damages) > 0 {
		t.Errorf("frames begin with %v, damages %v", got, damages)
	}
}

// A crash may cut the last entry short at any byte: the frames before it are there, and what is written next is too.
func TestATornLastEntryHarmsNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustJournal(t, dir, 4<<10, 2, 1, 40)
	from := j.active().end
	mustWrite(t, j, 3, 1, 40, 0)
	name, to := j.active().file.Name(), j.active().end
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	whole := mustRead(t, name)
	for cut := from; cut < to; cut++ {
		raw := slices.Clone(whole)
		clear(raw[cut:to])
		if raw[to-1] == whole[to-1] && cut == to-1 {
			raw[to-1] ^= 1
		}
		mustPut(t, name, raw)
		if got, _ := firsts(t, dir, 4<<10); fmt.Sprint(got) != "[1 2]" {
			t.Fatalf("cut at %d the frames begin with %v", cut, got)
		}
		again, err := openJournal(dir, 4<<10, 6)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := again.load(0); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, again, 3, 1, int(cut%60), 0)
		if err := again.close(); err != nil {
			t.Fatal(err)
		}
		if got, damages := firsts(t, dir, 4<<10); fmt.Sprint(got) != "[1 2 3]" || len(damages) > 0 {
			t.Fatalf("cut at %d and written on the frames begin with %v, damages %v", cut, got, damages)
		}
	}
}

// A broken entry with good ones behind was acknowledged: it is reported, and the good ones are kept.
func TestADamagedEntryIsToldAndThoseBehindItAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustJournal(t, dir, 4<<10, 1, 1, 40)
	from := j.active().end
	mustWrite(t, j, 2, 1, 40, 0)
	to := j.active().end
	mustWrite(t, j, 3, 1, 40, 0)
	name := j.active().file.Name()
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	whole := mustRead(t, name)
	for at := from; at < to; at++ {
		raw := slices.Clone(whole)
		raw[at] ^= 0x10
		mustPut(t, name, raw)
		if got, damages := firsts(t, dir, 4<<10); fmt.Sprint(got) != "[1 3]" || len(damages) != 1 {
			t.Fatalf("with byte %d flipped the frames begin with %v, damages %v", at, got, damages)
		}
	}
}

// What a body holds is not taken for an entry, also when it is one.
func TestAnEntryInsideABodyIsNotRead(t *testing.T) {
	dir := t.TempDir()
	j := mustJournal(t, dir, 16<<10, 1, 1, 40)
	inner := mustRead(t, j.active().file.Name())[slotHeader:j.active().end]
	var d draft
	d.add("platform", &Event{ID: []byte("outer"), Body: inner}, "outer")
	buf, f := d.seal(2, 1, entryHeader)
	if err := errors.Join(j.append(buf, f, 0), j.close()); err != nil {
		t.Fatal(err)
	}
	if got, damages := firsts(t, dir, 16<<10); fmt.Sprint(got) != "[1 2]" || len(damages) > 0 {
		t.Errorf("frames begin with %v, damages %v", got, damages)
	}
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func mustPut(t testing.TB, name string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzScanSlot(f *testing.F) {
	dir := f.TempDir()
	j := mustJournal(f, dir, 2<<10, 3, 1, 40)
	raw := mustRead(f, filepath.Join(dir, filepath.Base(j.active().file.Name())))
	end := j.active().end
	if err := j.close(); err != nil {
		f.Fatal(err)
	}
	f.Add(raw, uint64(1), -1)
	f.Add(raw[:end], uint64(1), int(end-3))
	f.Add(raw[:slotHeader], uint64(0), -1)
	f.Add(raw, uint64(0), slotHeader+entryHeader+5)
	huge := slices.Clone(raw)
	binary.LittleEndian.PutUint32(huge[slotHeader+8:], 1<<32-1)
	f.Add(huge, uint64(1), -1)
	f.Fuzz(func(t *testing.T, raw []byte, generation uint64, flip int) {
		if len(raw) < slotHeader {
			return // load asks for a header first
		}
		if flip >= 0 && flip < len(raw) {
			raw[flip] ^= 1
		}
		slotGeneration(raw)
		frames, end, broken := scanSlot(raw, generation)
		if end < slotHeader || end > int64(len(raw)) {
			t.Errorf("the slot of %d bytes ends at %d", len(raw), end)
		}
		for _, at := range broken {
			if at < slotHeader || at >= end {
				t.Errorf("broken at %d, the slot ends at %d", at, end)
			}
		}
		size := int64(slotHeader)
		for _, f := range frames {
			size += entryHeader + int64(len(f.raw))
		}
		if size > end {
			t.Errorf("frames of %d bytes in %d", size, end)
		}
	})
}
