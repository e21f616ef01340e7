package queue

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	badger "github.com/dgraph-io/badger/v4"
)

// wreck is a queue whose store has tables and a log, with events that the journal does not have any more.
type wreck struct {
	*bench
	events int
}

// bulky is a body that is large and does not get smaller.
func bulky(i int) []byte {
	raw := make([]byte, 40<<10)
	rand.New(rand.NewSource(int64(i))).Read(raw)
	return raw
}

func newWreck(t *testing.T) *wreck {
	t.Helper()
	b := openBench(t, func(o *Options) { o.saveEvery = time.Hour; o.slotSize = 128 << 10 })
	w := &wreck{bench: b, events: 300}
	set := NewLaneSet(b.lane("crm").ID(), b.lane("mail").ID())
	for i := range w.events {
		ev := Event{ID: fmt.Appendf(nil, "evt_%d", i), Type: []byte("x"), Body: bulky(i), Lanes: set}
		if err := b.Append("platform", []Event{ev}, make([]Receipt, 1)); err != nil {
			t.Fatal(err)
		}
		if i == w.events-40 {
			b.saveAll()
			b.reopen() // what came before lies in tables from here on
		}
	}
	crm := b.lane("crm")
	for _, state := range []string{Settled, GivenUp, Retrying, Settled} {
		d, _ := crm.Take()
		switch state {
		case Settled:
			crm.Delivered(d, ok(1))
		case GivenUp:
			crm.Failed(d, broken(1), "answered 500")
		default:
			crm.Retry(d, broken(1), time.Now())
		}
	}
	b.saveAll()
	return w
}

// files returns those of the store that match, largest first of those that count.
func (w *wreck) file(dir, pattern string) string {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "store", pattern))
	if err != nil || len(names) == 0 {
		w.t.Fatalf("no %s: %v", pattern, err)
	}
	largest := names[0]
	for _, name := range names {
		if size(w.t, name) > size(w.t, largest) {
			largest = name
		}
	}
	return largest
}

func size(t *testing.T, name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// rewrite changes the bytes of a file.
func rewrite(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	mustPut(t, name, change(mustRead(t, name)))
}

func TestADamagedStoreIsMendedAndCostsWhatWasDamaged(t *testing.T) {
	t.Parallel()
	w := newWreck(t)
	flip := func(at func(raw []byte) int) func([]byte) []byte {
		return func(raw []byte) []byte {
			raw[at(raw)] ^= 4
			return raw
		}
	}
	middle := func(raw []byte) int { return len(raw) / 2 }
	written := func(raw []byte) int { return len(strings.TrimRight(string(raw), "\x00")) }
	// Badger merges tables by itself, so which there are is told by each copy.
	table := func(store string) string { return w.file(filepath.Dir(store), "*.sst") }
	log := func(store string) string { return w.file(filepath.Dir(store), "*.mem") }
	const manifest = badger.ManifestFilename
	tests := []struct {
		name string
		harm func(store string)
		cost int // events at most; each counts once for the log
		said string
	}{
		{"nothing", func(string) {}, 0, ""},
		{"a table of zeros", func(s string) {
			rewrite(t, table(s), func(raw []byte) []byte { clear(raw); return raw })
		}, 110, "table"},
		{"a table cut short", func(s string) {
			rewrite(t, table(s), func(raw []byte) []byte { return raw[:len(raw)/3] })
		}, 110, "table"},
		{"a table gone", func(s string) { _ = os.Remove(table(s)) }, 110, "is missing"},
		{"a bit of a table's block", func(s string) {
			rewrite(t, table(s), flip(middle))
		}, 3, "table"},
		{"a bit of a table's index", func(s string) {
			rewrite(t, table(s), flip(func(raw []byte) int { return int(footer(raw)) + 20 }))
		}, 110, "table"},
		{"a bit of a table's last bytes", func(s string) {
			rewrite(t, table(s), flip(func(raw []byte) int { return len(raw) - 3 }))
		}, 110, "table"},
		{"a manifest of zeros", func(s string) {
			rewrite(t, filepath.Join(s, manifest), func(raw []byte) []byte { clear(raw); return raw })
		}, 0, "MANIFEST"},
		{"a bit of the manifest", func(s string) { rewrite(t, filepath.Join(s, manifest), flip(middle)) }, 0, "MANIFEST"},
		{"no manifest", func(s string) { _ = os.Remove(filepath.Join(s, manifest)) }, 0, "MANIFEST is missing"},
		{"a bit of the log", func(s string) {
			rewrite(t, log(s), flip(func(raw []byte) int { return written(raw) / 2 }))
		}, 3, "log"},
		{"the end of the log", func(s string) {
			rewrite(t, log(s), func(raw []byte) []byte { clear(raw[written(raw)*2/3:]); return raw })
		}, 20, "commits are missing"},
		{"no log", func(s string) { _ = os.Remove(log(s)) }, 40, "commits are missing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			after := w.crash(func(dir string) { test.harm(filepath.Join(dir, "store")) })
			if said := strings.Join(after.said, "\n"); test.said == "" && said != "" || !strings.Contains(said, test.said) {
				t.Errorf("the queue says %q, want %q", said, test.said)
			}
			if aside, _ := filepath.Glob(filepath.Join(after.opts.Dir, "aside", "store-*", "*")); test.said != "" && len(aside) == 0 {
				t.Error("nothing was set aside")
			}
			if damaged := after.Stats().Damaged; damaged == 0 != (test.said == "") {
				t.Errorf("%d things are counted as damaged", damaged)
			}
			first := after.Stats().Damaged
			after.reopen()
			if n := after.Stats().Damaged; n != 0 {
				t.Errorf("the next start finds %d things damaged, the first found %d: %q", n, first, after.said)
			}
			for _, name := range []string{"crm", "mail"} {
				lane := after.lane(name)
				got, pending := map[string]bool{}, lane.Stats().Pending
				for d, _ := lane.Take(); d != nil; d, _ = lane.Take() {
					var n int
					if _, err := fmt.Sscanf(string(d.Event.ID), "evt_%d", &n); err != nil || string(d.Event.Body) != string(bulky(n)) || got[string(d.Event.ID)] {
						t.Fatalf("%s is handed out twice or with another body: %v", d.Event.ID, err)
					}
					got[string(d.Event.ID)] = true
					lane.Delivered(d, ok(1))
					if lane.isFull() {
						after.saveAll()
					}
				}
				if s := lane.Stats(); int64(len(got)) != pending || s.Pending != 0 {
					t.Errorf("%s had %d pending, handed out %d and has %d left", name, pending, len(got), s.Pending)
				}
				if name == "mail" && len(got) < w.events-test.cost {
					t.Errorf("%d events are lost, want at most %d", w.events-len(got), test.cost)
				}
			}
			fresh := after.append(NewLaneSet(after.lane("mail").ID()), "fresh")
			if fresh[0].Duplicate || string(mustTake(t, after.lane("mail"), "fresh").Event.ID) != "fresh" {
				t.Error("the queue does not go on")
			}
		})
	}
}

// A mending that is cut short at any place is made again.
func TestAMendingCutShortIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWreck(t)
	for _, place := range []string{placeSetAside, placeMended, placeCommit} {
		for _, made := range []bool{false, true} {
			t.Run(fmt.Sprint(place, " ", made), func(t *testing.T) {
				broken := &bench{t: t, opts: w.opts}
				broken.opts.Notice = func(string) {}
				after := w.crash(nil)
				if err := after.Close(); err != nil {
					t.Fatal(err)
				}
				broken.opts.Dir = after.opts.Dir
				rewrite(t, filepath.Join(broken.opts.Dir, "store", badger.ManifestFilename), func(raw []byte) []byte { clear(raw); return raw })
				fired := false
				broken.opts.fault = func(at string, was bool) error {
					if at != place || was != made || fired {
						return nil
					}
					fired = true
					return errInjected
				}
				if _, err := openUnforked(broken.opts); err == nil || !fired {
					t.Fatalf("open says %v", err)
				}
				broken.opts.fault = nil
				broken.open()
				defer broken.Queue.Close()
				lane, n := broken.lane("mail"), 0
				for d, _ := lane.Take(); d != nil; d, _ = lane.Take() {
					n++
				}
				if n != w.events || broken.Stats().Events != int64(w.events) {
					t.Errorf("%d events of %d are handed out, %d are counted", n, w.events, broken.Stats().Events)
				}
			})
		}
	}
}

// Damage that shows when it is read is never served, and the next start mends it.
func TestABlockThatGoesBadIsNotServed(t *testing.T) {
	t.Parallel()
	w := newWreck(t)
	after := w.crash(nil)
	after.reopen()
	if err := after.store.db.Flatten(1); err != nil { // nothing is left to be merged
		t.Fatal(err)
	}
	table := w.file(after.opts.Dir, "*.sst")
	f, err := os.OpenFile(table, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	junk := make([]byte, 64<<10)
	if _, err := f.WriteAt(junk, size(t, table)/2); err != nil { // seen through the map as well
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	lane := after.lane("mail")
	for d, _ := lane.Take(); d != nil; d, _ = lane.Take() {
		var n int
		_, _ = fmt.Sscanf(string(d.Event.ID), "evt_%d", &n)
		if string(d.Event.Body) != string(bulky(n)) {
			t.Fatalf("%s is served with another body", d.Event.ID)
		}
	}
	if after.Err() == nil && after.Stats().Damaged == 0 {
		t.Errorf("nobody noticed: %s of %d bytes, %+v, the log ends at %d, %d files", filepath.Base(table), size(t, table), lane.Stats(), after.end.Load(), len(after.store.db.Tables()))
	}
	next := &bench{t: t, opts: after.opts}
	next.opts.Dir = filepath.Join(t.TempDir(), "data") // the store stays open in this process
	next.opts.Notice = func(line string) { next.said = append(next.said, line) }
	if err := copyTree(next.opts.Dir, after.opts.Dir); err != nil {
		t.Fatal(err)
	}
	next.open()
	defer next.Queue.Close()
	if !next.saw("store is damaged") {
		t.Errorf("the next start says %q", next.said)
	}
}

// What only the journal's newest slot had is gone without a trace in the journal itself; the mark beside it tells.
func TestAJournalThatLacksItsEndSaysSo(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	set := NewLaneSet(b.lane("crm").ID())
	b.append(set, ids(0, 20)...)
	b.saveAll()
	release := b.hold()
	b.append(set, ids(20, 40)...) // in the journal alone
	release()
	b.saveAll() // the mark knows them
	slot := func(dir string) string {
		names, err := filepath.Glob(filepath.Join(dir, "journal", "slot-*"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no slots: %v", err)
		}
		for _, name := range names {
			if slotGeneration(mustRead(t, name)) == b.journal.used {
				return name
			}
		}
		t.Fatal("no slot is in use")
		return ""
	}
	for _, test := range []struct {
		name string
		harm func([]byte) []byte
		said string
	}{
		{"nothing", func(raw []byte) []byte { return raw }, ""},
		{"zeros", func(raw []byte) []byte { clear(raw); return raw }, "the slot that was in use last holds nothing"},
		{"cut short", func(raw []byte) []byte { return raw[:len(raw)/2] }, "is shorter than it was made"},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := b.crash(func(dir string) { rewrite(t, slot(dir), test.harm) })
			said := strings.Join(after.said, "\n")
			if damaged := after.Stats().Damaged; !strings.Contains(said, test.said) || (damaged == 0) != (test.said == "") {
				t.Errorf("the queue says %q and counts %d, want %q", said, damaged, test.said)
			}
			if r := after.append(set, "fresh"); r[0].Seq < 41 || r[0].Duplicate {
				t.Errorf("the next event is number %d, and 40 were given out", r[0].Seq)
			}
		})
	}
}
