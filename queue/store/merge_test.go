package store

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The control of the whole design: Badger loses records when it can't make a table during a merge, and tells nobody.
func TestAMergeThatCannotMakeATableIsFound(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint("fails ", fails), func(t *testing.T) {
			sh := tabled(t)
			var armed, fired atomic.Bool
			sh.o.Fault = func(place string, made bool) error {
				if place == AtMapTable && !made && armed.CompareAndSwap(true, false) {
					fired.Store(true)
					return unix.ENOSPC
				}
				return nil
			}
			var said []string
			sh.o.Notice = func(line string) { said = append(said, line) }
			sh.open()
			sh.Merged() // what was merged by itself until now
			sh.mustHold()
			armed.Store(fails)
			sh.must(sh.db.Flatten(1)) // says that all went well
			if fired.Load() != fails {
				t.Fatal("no table was made")
			}
			kinds, _ := sh.Merged()
			if len(kinds) == 0 {
				t.Error("nobody says that tables were merged")
			}
			lost, lostOf := 0, map[Kind]bool{}
			for key, value := range sh.truth {
				if got, _ := sh.get(newest, key); string(got) != value {
					lost++
					lostOf[key.Kind] = true
				}
			}
			list, err := sh.Check(kinds...)
			sh.must(err)
			if !fails {
				if lost > 0 || len(list) > 0 {
					t.Errorf("%d records are lost, the check says %v", lost, list)
				}
				if again, _ := sh.Merged(); again != nil {
					t.Errorf("%v were merged since", again)
				}
				return
			}
			if lost == 0 {
				t.Fatal("Badger lost nothing: what this package is for has been mended there")
			}
			told := uint64(0)
			for _, m := range list {
				if !lostOf[m.Kind] && m.Kind != State {
					t.Errorf("%v, and nothing of it is lost", m)
				}
				delete(lostOf, m.Kind)
				told += m.Want.Count - m.Found.Count
			}
			if len(lostOf) > 0 || told != uint64(lost) {
				t.Errorf("%d records are lost, %d told of; nobody tells of %v", lost, told, lostOf)
			}
			if len(said) > 0 {
				t.Errorf("Badger says %q", said)
			}
			t.Logf("%d of %d records lost: %v", lost, len(sh.truth), list)
		})
	}
}

// A table in memory that becomes one on disk is no merge, and a full disk makes it wait only.
func TestATableOfNewRecordsIsNoMerge(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	before := len(sh.db.Tables())
	for n := 0; len(sh.db.Tables()) == before; n++ {
		sh.fill(n*500, 500)
	}
	for kinds, _ := sh.Merged(); kinds != nil; kinds, _ = sh.Merged() { // MANIFEST was written, the table not yet shown
	}
	sh.mustHold()
}

// A merge that meets a block that it can't read ends there, and drops what follows.
func TestAMergeThatCannotReadABlockIsFound(t *testing.T) {
	t.Parallel()
	sh := tabled(t)
	sh.open()
	sh.Merged()
	for _, path := range sh.files("*.sst") {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		sh.must(err)
		info, err := f.Stat()
		sh.must(err)
		_, err = f.WriteAt(make([]byte, 64), info.Size()/3) // seen through the map as well
		sh.must(errors.Join(err, f.Close()))
	}
	sh.must(sh.db.Flatten(1)) // says that all went well
	kinds, _ := sh.Merged()
	list, err := sh.Check(kinds...)
	if err != nil || len(list) == 0 {
		t.Errorf("%v were merged, the check says %v, %v", kinds, list, err)
	}
	for _, m := range list {
		if m.Kind != State && m.Want == m.Found {
			t.Errorf("%v", m)
		}
	}
}
