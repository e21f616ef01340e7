package format1

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// harm does something to a file.
type harm func(t *testing.T, path string)

func change(fn func(raw []byte) []byte) harm {
	return func(t *testing.T, path string) {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, fn(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	remove = func(t *testing.T, path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	zeros  = change(func(raw []byte) []byte { clear(raw); return raw })
	noEnd  = change(func(raw []byte) []byte { clear(raw[len(raw)-64:]); return raw })
	third  = change(func(raw []byte) []byte { return raw[:len(raw)/3] })
	empty  = change(func(raw []byte) []byte { return raw[:0] })
	header = change(func(raw []byte) []byte { raw[9] ^= 1; return raw })
)

// bit flips one among those bytes of a file that are written.
func bit(seed int64) harm {
	return change(func(raw []byte) []byte {
		n := len(strings.TrimRight(string(raw), "\x00"))
		raw[rand.New(rand.NewSource(seed)).Intn(n)] ^= 16
		return raw
	})
}

// page zeroes one page among those that are written.
func page(seed int64) harm {
	return change(func(raw []byte) []byte {
		n := len(strings.TrimRight(string(raw), "\x00"))
		at := rand.New(rand.NewSource(seed)).Intn(n) &^ 4095
		clear(raw[at:min(at+4096, len(raw))])
		return raw
	})
}

// readHarmed reads a packed queue after some harm.
func readHarmed(t *testing.T, name string, do func(dir string)) (got, want content, s State, said string) {
	t.Helper()
	dir := unpacked(t, name)
	do(dir)
	r, lines := opened(t, dir)
	got, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = r.State(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return got, mustContent(t, name), s, strings.Join(*lines, "\n")
}

// mustBeSound holds for whatever is read of a damaged queue: it is a part of what was there, and consistent.
func mustBeSound(t *testing.T, got, want content) {
	t.Helper()
	events := map[uint64]contentEvent{}
	for _, f := range want.Frames {
		for _, ev := range f.Events {
			events[ev.Seq] = ev
		}
	}
	for _, ev := range want.Kept {
		events[ev.Seq] = ev
	}
	pending := map[uint32]int64{}
	lanes := map[uint32]Lane{}
	for _, l := range got.Lanes {
		lanes[l.ID] = l
	}
	for _, l := range want.Lanes {
		if now, is := lanes[l.ID]; is && !now.Lost && now.Name != l.Name {
			t.Errorf("lane %d is called %q, not %q", l.ID, now.Name, l.Name)
		}
	}
	last := uint64(0)
	see := func(ev contentEvent) {
		if ev.Seq <= last {
			t.Fatalf("event %d comes after %d", ev.Seq, last)
		}
		last = ev.Seq
		if ev.Seq < want.Frames[0].First && events[ev.Seq].Seq == 0 {
			return // retention had deleted it, and what told of that is damaged
		}
		if !reflect.DeepEqual(ev, events[ev.Seq]) {
			t.Fatalf("event %d is %+v, not %+v", ev.Seq, ev, events[ev.Seq])
		}
	}
	for _, f := range got.Frames {
		for _, ev := range f.Events {
			see(ev)
			for _, id := range ev.Lanes {
				if l, is := lanes[id]; is && ev.Seq >= l.Cursor && !has(l.Settled, ev.Seq) {
					pending[id]++
				}
			}
		}
	}
	last = 0
	for _, ev := range got.Kept {
		see(ev)
	}
	type delivery struct {
		lane uint32
		seq  uint64
	}
	failed, retrying := map[uint32]int64{}, map[uint32]int64{}
	given := map[delivery]bool{}
	for _, f := range got.Failed {
		failed[f.Lane]++
		given[delivery{f.Lane, f.Seq}] = true
	}
	for _, r := range got.Retries {
		retrying[r.Lane]++
		if given[delivery{r.Lane, r.Seq}] {
			t.Errorf("event %d is retrying and failed", r.Seq)
		}
	}
	for _, l := range got.Lanes {
		if l.Retrying != retrying[l.ID] || l.Failed != failed[l.ID] || l.Matched-l.Passed != pending[l.ID] {
			t.Errorf("lane %+v: %d retrying, %d failed, %d pending", l, retrying[l.ID], failed[l.ID], pending[l.ID])
		}
		if l.Cursor > got.Next {
			t.Errorf("lane %q is at %d, and the next event is %d", l.Name, l.Cursor, got.Next)
		}
		delete(failed, l.ID)
		delete(retrying, l.ID)
	}
	if len(failed)+len(retrying) > 0 {
		t.Errorf("there are deliveries of lanes that are not: %v, %v", failed, retrying)
	}
}

func has(list []uint64, seq uint64) bool {
	for _, n := range list {
		if n == seq {
			return true
		}
	}
	return false
}

func eventsIn(c content) (n int) {
	for _, f := range c.Frames {
		n += len(f.Events)
	}
	return n + len(c.Kept)
}

func TestDamageCostsWhatWasDamagedAndIsToldWithNumbers(t *testing.T) {
	const many, all = "ten-thousand", "everything"
	table := func(n int) string { return fmt.Sprintf("store/%06d.sst", n) }
	cases := []struct {
		name  string
		queue string
		file  string
		harm  harm
		lost  int    // events
		said  string // nothing at all when empty
	}{
		{"the first table gone", many, table(1), remove, 1951, "table 1 is missing\nlog: 1951 more of the events that the store counted are missing"},
		{"a table gone", many, table(2), remove, 2551, "table 2 is missing\nlog: events 1952 to 4502 are missing (2551)"},
		{"a table of zeros", many, table(3), zeros, 75, "nothing of table 3 can be read\nlog: events 4503 to 4577 are missing (75)"},
		{"a table of no length", many, table(4), empty, 3580, "nothing of table 4 can be read\nlog: events 4578 to 8157 are missing (3580)"},
		{"zeros at a table's end", many, table(4), noEnd, 0, "the index of table 4 can't be read: its checksum is wrong: damaged"},
		{"zeros at every table's end", all, "store/*.sst", noEnd, 0, "the index of table 2 can't be read"},
		{"a table cut short behind its events", many, table(2), third, 0, "the index of table 2 can't be read"},
		{"a bit of a block of events", many, table(4), bit(1), 184, "which has events, can't be read: its checksum is wrong: damaged\nlog: events 4947 to 5130 are missing (184)"},
		{"a page of a table with ids", many, table(1), page(3), 0, "which has ids, can't be read"},
		{"no manifest", many, "store/MANIFEST", remove, 0, "MANIFEST can't be read: "},
		{"a manifest of zeros", many, "store/MANIFEST", zeros, 0, "MANIFEST can't be read: manifest has bad magic"},
		{"a manifest cut short", many, "store/MANIFEST", third, 0, "MANIFEST can't be read: its end is missing"},
		{"a bit of the manifest", many, "store/MANIFEST", bit(1), 0, "MANIFEST can't be read: manifest has checksum mismatch"},
		{"a bit of the store's log", many, "store/00001.mem", bit(1), 0, "good entries follow one that can't be read"},
		{"the store's log gone", many, "store/00001.mem", remove, 0, "its last 19 commits are missing"}, // the journal has its events
		{"the store gone", many, "store", remove, 8157, "its last 176 commits are missing\nstore: its position is missing\nlog: the 8157 events before event 8158 are missing"},
		{"the journal gone, which has nothing more", many, "journal", remove, 0, "the slot that was in use last holds nothing any more"},
		{"the journal gone, which has more", all, "journal", remove, 9, "the slot that was in use last holds nothing any more"},
		{"the header of a slot", all, "journal/slot-01", header, 0, `the header of "slot-01" can't be read`},
		{"no mark", many, "mark", remove, 0, ""},
		{"a bit of what is stale in the journal", many, "journal/slot-01", bit(1), 0, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, want, s, said := readHarmed(t, c.queue, func(dir string) {
				paths, err := filepath.Glob(filepath.Join(dir, c.file))
				if err != nil || len(paths) == 0 {
					t.Fatal("nothing to harm", err)
				}
				for _, path := range paths {
					c.harm(t, path)
				}
			})
			mustBeSound(t, got, want)
			if n := eventsIn(want) - eventsIn(got); n != c.lost {
				t.Errorf("%d events are lost, want %d", n, c.lost)
			}
			// The mark is written after a save: of what came after the last one nobody knows how much it was.
			if c.queue == many && s.Missing != uint64(c.lost) {
				t.Errorf("%d events are missing, want %d", s.Missing, c.lost)
			}
			if c.said == "" && said != "" || !strings.Contains(said, c.said) || (s.Damaged > 0) != (c.said != "") {
				t.Errorf("%d damaged, told:\n%s\nwant:\n%s", s.Damaged, said, c.said)
			}
			if c.lost == 0 && got.Next != want.Next {
				t.Errorf("the next event is %d, want %d", got.Next, want.Next)
			}
		})
	}
}

// Nothing of a queue is lost with the index of a table, the manifest or the header of a slot.
func TestDamageOfWhatHoldsNothingCostsNothing(t *testing.T) {
	for _, name := range packed {
		got, want, s, _ := readHarmed(t, name, func(dir string) {
			tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
			if err != nil {
				t.Fatal(err)
			}
			slots, err := filepath.Glob(filepath.Join(dir, "journal", "slot-*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range tables {
				noEnd(t, path)
			}
			for _, path := range slots {
				header(t, path)
			}
			remove(t, filepath.Join(dir, "store", "MANIFEST"))
		})
		got.IDs = got.IDs[:min(len(want.IDs), len(got.IDs))] // those of deleted events come twice
		mustEqual(t, got, want)
		if s.Damaged == 0 || s.Missing != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// What a save had written may still be in the journal.
func TestTheJournalGivesWhatTheStoreDoesNot(t *testing.T) {
	const log = "store/00001.mem"
	helped := 0
	for seed := int64(0); seed < 8 && helped < 2; seed++ {
		alone, want, _, _ := readHarmed(t, "ten-thousand", func(dir string) {
			page(seed)(t, filepath.Join(dir, log))
			remove(t, filepath.Join(dir, "journal"))
		})
		if eventsIn(alone) == eventsIn(want) {
			continue // it hit something else
		}
		helped++
		got, _, s, said := readHarmed(t, "ten-thousand", func(dir string) { page(seed)(t, filepath.Join(dir, log)) })
		mustBeSound(t, got, want)
		if eventsIn(got) != eventsIn(want) || s.Missing != 0 || s.Damaged == 0 {
			t.Errorf("seed %d: %d of %d events, %+v, told:\n%s", seed, eventsIn(got), eventsIn(want), s, said)
		}
	}
	if helped == 0 {
		t.Error("no seed hits a block")
	}
}

// What can't be opened now exists all the same: taken for damage it would be lost.
func TestAFileThatCanNotBeOpenedIsAnErrorAndNoDamage(t *testing.T) {
	for _, file := range []string{"FORMAT", "mark", "journal/slot-00", "store/MANIFEST", "store/00001.mem", "store/000002.sst"} {
		dir := unpacked(t, "everything")
		path := filepath.Join(dir, file)
		remove(t, path)
		if err := os.Symlink(path, path); err != nil { // a loop, as good as too many open files
			t.Fatal(err)
		}
		_, err := Open(dir, func(line string) { t.Errorf("%s: told %q", file, line) })
		if !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAFileThatCanNotBeOpenedLaterEndsTheReading(t *testing.T) {
	dir := unpacked(t, "everything")
	r, said := opened(t, dir)
	for _, file := range []string{"store/000001.sst", "store/000002.sst"} {
		path := filepath.Join(dir, file)
		remove(t, path)
		if err := os.Symlink(path, path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readAll(r); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
	if err := r.Retained(func(Event) error { return nil }); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
	if len(*said) > 0 {
		t.Errorf("told %q", *said)
	}
}

// badPages is a file of which the disk can't read some pages.
type badPages struct {
	raw []byte
	bad map[int64]error // by number
}

func (f badPages) ReadAt(b []byte, at int64) (int, error) {
	for page := at / 4096; page*4096 < at+int64(len(b)); page++ {
		if err := f.bad[page]; err != nil {
			return 0, err
		}
	}
	return copy(b, f.raw[at:]), nil
}

func TestPagesThatTheDiskDoesNotGiveAreGoneAround(t *testing.T) {
	raw := bytes.Repeat([]byte("x"), 4*4096+100)
	got := make([]byte, len(raw))
	unread, err := fill(badPages{raw, map[int64]error{1: unix.EIO, 4: unix.EUCLEAN}}, got)
	clear(raw[4096:8192])
	clear(raw[4*4096:])
	if err != nil || unread != 4096+100 || !bytes.Equal(got, raw) {
		t.Errorf("%d bytes are lost, %v", unread, err)
	}
	if _, err := fill(badPages{raw, map[int64]error{2: unix.ENOMEM}}, got); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("out of memory: %v", err)
	}
}

// Whatever happens to the files: the reading ends, and what it returns is a part of what was there, and consistent.
func TestAnyDamageIsRead(t *testing.T) {
	cases := 24
	if testing.Short() {
		cases = 10
	}
	harms := []harm{remove, zeros, noEnd, third, empty, nil, nil, nil, nil}
	for seed := range int64(cases) {
		r := rand.New(rand.NewSource(seed))
		name := packed[r.Intn(2)*4] // the small ones
		var what []string
		got, want, s, said := readHarmed(t, name, func(dir string) {
			for range 1 + r.Intn(3) {
				paths, err := filepath.Glob(filepath.Join(dir, "*", "*"))
				if err != nil {
					t.Fatal(err)
				}
				path := append(paths, filepath.Join(dir, "mark"))[r.Intn(len(paths)+1)]
				do, n := harms[r.Intn(len(harms))], r.Int63()
				if raw, err := os.ReadFile(path); err != nil || len(strings.TrimRight(string(raw), "\x00")) < 64 {
					continue
				}
				if do == nil {
					do = []harm{bit(n), page(n)}[n%2]
				}
				what = append(what, filepath.Base(path))
				do(t, path)
			}
		})
		mustBeSound(t, got, want)
		if eventsIn(got) < eventsIn(want) && said == "" {
			t.Errorf("seed %d: %d events are lost without a word, %+v", seed, eventsIn(want)-eventsIn(got), s)
		}
		if t.Failed() {
			t.Fatalf("seed %d: harmed are %v of %s; told:\n%s", seed, what, name, said)
		}
	}
}
