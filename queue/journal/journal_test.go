package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/codec"
)

// slotSize of the tests: six pages for records.
const slotSize = 8 * page

func testOptions(dir string) Options { return Options{Dir: dir, SlotSize: slotSize, MaxSlots: 6} }

func mustOpen(t testing.TB, o Options) (*Journal, []Record, []Damage) {
	t.Helper()
	j, records, damages, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, records, damages
}

// payload is the payload of an entry's record: the same each time, and different from all others.
func payload(first uint64, size int) []byte {
	raw := make([]byte, size)
	rand.New(rand.NewSource(int64(first)*1000 + int64(size))).Read(raw)
	return raw
}

func buffer(payload []byte) []byte { return append(make([]byte, Header), payload...) }

// mustAppend appends a record for each size, of three entries each.
func mustAppend(t testing.TB, j *Journal, first, free uint64, sizes ...int) (next uint64) {
	t.Helper()
	for _, size := range sizes {
		if err := j.Append(buffer(payload(first, size)), first, first+3, free); err != nil {
			t.Fatal(err)
		}
		first += 3
	}
	return first
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// filled makes a journal with a record for each size, closes it and returns the file that the last one is in.
func filled(t testing.TB, dir string, sizes ...int) (active string) {
	t.Helper()
	j, _, _ := mustOpen(t, testOptions(dir))
	mustAppend(t, j, 1, 0, sizes...)
	mustClose(t, j)
	return j.active.Load().file.Name()
}

// reopened opens the journal once more, closes it and returns what it found: the first numbers of its records, and damages.
func reopened(t testing.TB, o Options) (firsts []uint64, damages []Damage) {
	t.Helper()
	j, records, damages := mustOpen(t, o)
	mustClose(t, j)
	for _, r := range records {
		if r.End != r.First+3 || !bytes.Equal(r.Payload, payload(r.First, len(r.Payload))) {
			t.Errorf("record %d to %d has another payload", r.First, r.End)
		}
		firsts = append(firsts, r.First)
	}
	return firsts, damages
}

func mustBe(t testing.TB, what string, o Options, firsts string, damages int) []Damage {
	t.Helper()
	got, told := reopened(t, o)
	if fmt.Sprint(got) != firsts || len(told) != damages {
		t.Fatalf("%s: records begin with %v, want %v; damages %v, want %d", what, got, firsts, told, damages)
	}
	return told
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

func names(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "slot-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAJournalGivesBackAllRecordsInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filled(t, dir, 100, 5000, 0, 4056, 4057, 9000, 1, 12000, 3, 8000, 100)
	mustBe(t, "opened again", testOptions(dir), "[1 4 7 10 13 16 19 22 25 28 31]", 0)
	if n := len(names(t, dir)); n < 3 {
		t.Errorf("%d slots", n)
	}
}

func TestASlotIsUsedAgainWhenItsEntriesAreKeptElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, _ := mustOpen(t, testOptions(dir))
	next := uint64(1)
	for range 100 {
		next = mustAppend(t, j, next, next, 5000)
	}
	if n := len(names(t, dir)); n != 2 || j.Bytes() != 2*slotSize {
		t.Errorf("%d slots of %d bytes, want 2", n, j.Bytes())
	}
	if j.Generation() < 30 {
		t.Errorf("generation %d after 100 records, three of which fill a slot", j.Generation())
	}
	mustClose(t, j)
	got, damages := reopened(t, testOptions(dir))
	if !slices.IsSorted(got) || got[len(got)-1] != next-3 || len(damages) > 0 {
		t.Errorf("records begin with %v, damages %v; the last is %d", got, damages, next-3)
	}
}

func TestAFullJournalSaysSoAndGoesOnWhenItIsNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, _ := mustOpen(t, testOptions(dir))
	next := mustAppend(t, j, 1, 0, 20000, 20000, 20000, 20000, 20000, 20000)
	for range 2 {
		if err := j.Append(buffer(payload(next, 20000)), next, next+3, 1); !errors.Is(err, ErrFull) {
			t.Fatalf("append to a full journal: %v", err)
		}
	}
	mustAppend(t, j, next, 4, 20000)
	mustClose(t, j)
	mustBe(t, "opened again", testOptions(dir), "[4 7 10 13 16 19]", 0)
}

// Only the journal's own slots and Options.MayGrow decide whether there is room, so the answer is the same on every machine.
func TestASlotIsNotMadeOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := testOptions(dir)
	room := true
	o.MayGrow = func() bool { return room }
	j, _, _ := mustOpen(t, o)
	next := mustAppend(t, j, 1, 0, 20000, 20000)
	room = false
	if err := j.Append(buffer(payload(next, 20000)), next, next+3, 0); !errors.Is(err, ErrFull) {
		t.Fatalf("append says %v", err)
	}
	next = mustAppend(t, j, next, 4, 20000, 10) // the first slot is free
	if n := len(names(t, dir)); n != 2 {
		t.Errorf("%d slots on a full disk, were 2", n)
	}
	room = true
	mustAppend(t, j, next, 4, 20000)
	if n := len(names(t, dir)); n != 3 {
		t.Errorf("%d slots when there is room again", n)
	}
}

// A slot for which the disk has no blocks leaves nothing behind.
func TestASlotThatCanNotBeMadeIsAFullJournal(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT} {
		dir := t.TempDir()
		o := testOptions(dir)
		full, filledPages := false, 0
		o.Fault = func(place string, made bool) error {
			if full && place == PlaceFill && !made {
				if filledPages++; filledPages%3 == 0 {
					return errno
				}
			}
			return nil
		}
		j, _, _ := mustOpen(t, o)
		next := mustAppend(t, j, 1, 0, 20000, 20000)
		full = true
		for range 2 {
			if err := j.Append(buffer(payload(next, 20000)), next, next+3, 0); !errors.Is(err, ErrFull) || !errors.Is(err, errno) {
				t.Fatalf("append says %v", err)
			}
		}
		if n := len(names(t, dir)); n != 2 || j.Bytes() != 2*slotSize {
			t.Errorf("%d slots are left, of %d bytes", n, j.Bytes())
		}
		// The same holds for a free one that would have to grow.
		if err := j.Append(buffer(payload(next, 50000)), next, next+3, 4); !errors.Is(err, ErrFull) {
			t.Fatalf("append of a large one says %v", err)
		}
		full = false
		mustAppend(t, j, next, 0, 20000)
		mustClose(t, j)
		mustBe(t, "opened again", testOptions(dir), "[1 4 7]", 0)
	}
}

func TestARecordLargerThanASlotComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, _ := mustOpen(t, testOptions(dir))
	next := mustAppend(t, j, 1, 0, 100, 100000, 100, 200000)
	mustClose(t, j)
	mustBe(t, "opened again", testOptions(dir), "[1 4 7 10]", 0)
	j, _, _ = mustOpen(t, testOptions(dir))
	before := j.Bytes()
	for range 30 { // its slot serves small ones, too
		next = mustAppend(t, j, next, next, 100, 18000)
	}
	if j.Bytes() != before {
		t.Errorf("%d bytes, were %d", j.Bytes(), before)
	}
	mustClose(t, j)
	got, damages := reopened(t, testOptions(dir))
	if got[len(got)-1] != next-3 || len(damages) > 0 {
		t.Errorf("records begin with %v, damages %v", got, damages)
	}
}

// The payloads that Open returns keep no slot in memory.
func TestPayloadsAreCopies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filled(t, dir, 100, 5000)
	_, records, _ := mustOpen(t, testOptions(dir))
	for _, r := range records {
		if cap(r.Payload) > len(r.Payload)+len(r.Payload)/2+64 {
			t.Errorf("%d bytes hold on to %d", len(r.Payload), cap(r.Payload))
		}
		clear(r.Payload)
	}
	mustBe(t, "opened again", testOptions(dir), "[1 4]", 0)
}

func TestWhatIsNoRecordIsNotWritten(t *testing.T) {
	t.Parallel()
	j, _, _ := mustOpen(t, testOptions(t.TempDir()))
	for _, bad := range []struct {
		size       int
		first, end uint64
	}{{Header - 1, 1, 2}, {Header, 2, 2}, {Header, 3, 2}} {
		if err := j.Append(make([]byte, bad.size), bad.first, bad.end, 0); err == nil || errors.Is(err, ErrFull) {
			t.Errorf("append of %+v says %v", bad, err)
		}
	}
	mustAppend(t, j, 1, 0, 10)
}

// After an error nobody knows what the disk has: nothing is accepted until the journal is opened again.
func TestAfterAnErrorNothingIsAccepted(t *testing.T) {
	t.Parallel()
	for _, place := range []string{PlaceHeader, PlaceRecord, PlaceSync, PlaceFill, PlaceSlotName} {
		for _, made := range []bool{false, true} {
			dir := t.TempDir()
			o := testOptions(dir)
			sick, armed := errors.New("sick"), false
			o.Fault = func(at string, was bool) error {
				if armed && at == place && was == made {
					return sick
				}
				return nil
			}
			j, _, _ := mustOpen(t, o)
			next := mustAppend(t, j, 1, 0, 20000, 20000)
			armed = true
			err := j.Append(buffer(payload(next, 20000)), next, next+3, 0) // makes a slot
			if !errors.Is(err, sick) || errors.Is(err, ErrFull) {
				t.Fatalf("%s: append says %v", place, err)
			}
			armed = false
			if again := j.Append(buffer(payload(next, 20)), next, next+3, next); again == nil || again.Error() != err.Error() {
				t.Errorf("%s: then append says %v", place, again)
			}
			mustClose(t, j)
			got, damages := reopened(t, testOptions(dir))
			if len(got) < 2 || len(damages) > 0 {
				t.Errorf("%s: opened again, records begin with %v, damages %v", place, got, damages)
			}
		}
	}
}

// After a failed sync the kernel forgets pages that are not on disk: what Open returns is written anew, and synced.
func TestOpenWritesTheLastRecordAnew(t *testing.T) {
	t.Parallel()
	for _, sizes := range [][]int{{5000}, {10, 5000}} {
		dir := t.TempDir()
		name := filled(t, dir, sizes...)
		at := int64(page)
		if len(sizes) > 1 {
			at += page
		}
		o := testOptions(dir)
		var log []string
		o.writeAt = func(f *os.File, raw []byte, at int64) (int, error) {
			log = append(log, fmt.Sprintf("%s %d+%d", filepath.Base(f.Name()), at, len(raw)))
			return f.WriteAt(raw, at)
		}
		o.sync = func(f *os.File) error {
			log = append(log, filepath.Base(f.Name())+" synced")
			return f.Sync()
		}
		before := mustRead(t, name)
		j, records, damages := mustOpen(t, o)
		want := []string{fmt.Sprintf("%s %d+%d", filepath.Base(name), at, 2*page), filepath.Base(name) + " synced"}
		if !slices.Equal(log, want) || len(records) != len(sizes) || len(damages) > 0 {
			t.Errorf("opened: %q, want %q; %d records, damages %v", log, want, len(records), damages)
		}
		if !bytes.Equal(mustRead(t, name), before) {
			t.Error("other bytes were written")
		}
		mustClose(t, j)
		o.sync = func(*os.File) error { return unix.EIO }
		if _, _, _, err := Open(o); !errors.Is(err, unix.EIO) {
			t.Errorf("with a sync that fails, open says %v", err)
		}
	}
}

// A page that was synced is not written again in the same incarnation of its slot, so that a power cut can't tear what was
// acknowledged before.
func TestNoPageThatWasSyncedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := testOptions(dir)
	synced, written := map[string]bool{}, map[string][]string{}
	var records int
	o.writeAt = func(f *os.File, raw []byte, at int64) (int, error) {
		if at%page != 0 || len(raw)%page != 0 {
			t.Errorf("%d bytes are written at byte %d", len(raw), at)
		}
		if l, _ := parseHeader(raw); l.generation > 0 { // a new life
			for key := range synced {
				if strings.HasPrefix(key, f.Name()+" ") {
					delete(synced, key)
				}
			}
		} else if l, _, _, ok := parseRecord(raw); ok && l.generation > 0 {
			records++
		}
		for n := at; n < at+int64(len(raw)); n += page {
			key := fmt.Sprintf("%s %d", f.Name(), n)
			if synced[key] {
				t.Errorf("page %s was synced and is written again", key)
			}
			written[f.Name()] = append(written[f.Name()], key)
		}
		return f.WriteAt(raw, at)
	}
	filled := map[string]bool{}
	o.sync = func(f *os.File) error {
		for _, key := range written[f.Name()] {
			synced[key] = filled[f.Name()]
		}
		filled[f.Name()] = true // the first sync is that of its zeros
		delete(written, f.Name())
		return nil
	}
	j, _, _ := mustOpen(t, o)
	next := uint64(1)
	for i := range 200 {
		next = mustAppend(t, j, next, next-1, i*37%9000)
	}
	if records != 200 {
		t.Errorf("%d records were written in one piece, want 200", records)
	}
}

func TestASlotThatIsGoneIsTold(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(dir, slot string) error{
		"removed":           func(_, slot string) error { return os.Remove(slot) },
		"directory removed": func(dir, _ string) error { return os.RemoveAll(dir) },
		"directory renamed": func(dir, _ string) error { return os.Rename(dir, dir+".old") },
		"replaced": func(_, slot string) error {
			return errors.Join(os.Rename(slot, slot+".old"), os.WriteFile(slot, nil, 0o600))
		},
	} {
		dir := filepath.Join(t.TempDir(), "journal")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		j, _, _ := mustOpen(t, testOptions(dir))
		if err := j.CheckSlot(); err != nil {
			t.Errorf("%s: before the first record: %v", name, err)
		}
		next := mustAppend(t, j, 1, 0, 100)
		if err := j.CheckSlot(); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		all := names(t, dir)
		if err := harm(dir, j.active.Load().file.Name()); err != nil {
			t.Fatal(err)
		}
		if err := j.CheckSlot(); err == nil || !strings.Contains(err.Error(), j.active.Load().file.Name()) {
			t.Errorf("%s: then: %v", name, err)
		}
		// Nor does a life begin in a file that nobody would find.
		for _, slot := range all {
			_ = os.Remove(slot)
		}
		if err := j.Append(buffer(payload(next, 21000)), next, next+3, next); err == nil {
			t.Errorf("%s: a life began in a slot that is gone", name)
		}
	}
}

func TestTheSumCoversWhatItShould(t *testing.T) {
	t.Parallel()
	l := incarnation{7, 9}
	plain := buffer([]byte("payload"))
	for _, packed := range []bool{false, true} {
		buf := plain
		if packed {
			buf = pack(nil, plain)
		}
		l.seal(buf, 1, 2, packed)
		if got := codec.Sum(append(slices.Clone(buf[:36]), buf[Header:]...)); recordSum(buf) != got {
			t.Errorf("sum %x, want %x", recordSum(buf), got)
		}
		of, r, stored, ok := parseRecord(buf)
		if !ok || of != l || r.First != 1 || r.End != 2 || string(r.Payload) != "payload" || !bytes.Equal(stored, buf) {
			t.Errorf("read as %v %+v %v", of, r, ok)
		}
		for i := range buf {
			for bit := range 8 {
				buf[i] ^= 1 << bit
				if _, _, _, ok := parseRecord(buf); ok {
					t.Errorf("read with bit %d of byte %d flipped", bit, i)
				}
				buf[i] ^= 1 << bit
			}
		}
	}
}

// A record is packed where that saves pages, comes back as it was, also the one that a start writes anew, and what
// follows it begins where it ends.
func TestARecordIsPackedWhereThatSavesPages(t *testing.T) {
	t.Parallel()
	text := func(size int) []byte { return bytes.Repeat([]byte(`{"type":"lead.created"},`), size/24+1)[:size] }
	payloads := [][]byte{
		text(100), text(page), text(5 * page), payload(1, 2*page), append(text(3*page), payload(2, page)...), payload(3, page), text(200 << 10), text(20),
	}
	pages := []int64{1, 1, 1, 3, 2, 2, 1, 1}
	o := testOptions(t.TempDir())
	o.SlotSize = 64 * page
	var written []int64
	o.writeAt = func(f *os.File, raw []byte, at int64) (int, error) {
		if PayloadOf(raw) != nil {
			written = append(written, int64(len(raw))/page)
		}
		return f.WriteAt(raw, at)
	}
	j, _, _ := mustOpen(t, o)
	for i, p := range payloads {
		buf := buffer(p)
		if err := j.Append(buf, uint64(i+1), uint64(i+2), 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[Header:], p) {
			t.Errorf("record %d is not as it was given any more: it may have to be given again", i)
		}
	}
	if !slices.Equal(written, pages) {
		t.Errorf("records take %v pages, want %v", written, pages)
	}
	mustClose(t, j)
	for range 2 {
		j, records, damages := mustOpen(t, o)
		if len(records) != len(payloads) || len(damages) > 0 {
			t.Fatalf("%d records, want %d; told: %+v", len(records), len(payloads), damages)
		}
		for i, r := range records {
			if !bytes.Equal(r.Payload, payloads[i]) {
				t.Errorf("record %d has another payload", i)
			}
		}
		next := uint64(len(payloads) + 1)
		payloads = append(payloads, text(9*page)) // the last one is packed, and the next start writes it anew
		if err := j.Append(buffer(payloads[next-1]), next, next+1, 0); err != nil {
			t.Fatal(err)
		}
		mustClose(t, j)
	}
}
