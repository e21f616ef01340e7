package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	badger "github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/fault"
)

const tabledEntries = 60

// tabled is a store whose records lie in several tables of two levels, closed.
func tabled(t *testing.T) *shelf {
	t.Helper()
	sh := newShelf(t, nil)
	for n := uint64(1); n <= tabledEntries; n++ {
		sh.must(sh.commitEntry(n))
		if n%5 == 0 {
			sh.reopen()
		}
		if n == 40 {
			sh.must(sh.db.Flatten(1))
		}
	}
	sh.must(sh.Opened())
	sh.must(sh.Close(testLimit))
	sh.truth = model(tabledEntries)
	return sh
}

// copied is a copy of a closed store.
func (sh *shelf) copied(t *testing.T) *shelf {
	t.Helper()
	after := &shelf{t: t, o: sh.o, truth: maps.Clone(sh.truth)}
	after.o.Dir = filepath.Join(t.TempDir(), "store")
	after.must(os.CopyFS(after.o.Dir, os.DirFS(sh.o.Dir)))
	t.Cleanup(func() {
		if after.Store != nil {
			_ = after.Store.Close(testLimit)
		}
	})
	return after
}

// files returns the paths of those that match, ascending.
func (sh *shelf) files(pattern string) []string {
	sh.t.Helper()
	names, err := filepath.Glob(filepath.Join(sh.o.Dir, pattern))
	if err != nil || len(names) == 0 {
		sh.t.Fatalf("no %s: %v", pattern, err)
	}
	return names
}

func (sh *shelf) rewrite(path string, change func([]byte) []byte) {
	sh.t.Helper()
	raw, err := os.ReadFile(path)
	sh.must(err)
	sh.must(os.WriteFile(path, change(raw), 0o600))
}

// mustNotice opens the store and checks it: one of both must find damage, or it is whole as of an earlier entry.
func (sh *shelf) mustNotice() {
	sh.t.Helper()
	s, err := openUnforked(sh.o)
	if err != nil {
		if !errors.Is(err, codec.ErrDamaged) {
			sh.t.Errorf("open says %v", err)
		}
		if _, err := os.Stat(guardPath(sh.o.Dir)); !errors.Is(err, os.ErrNotExist) {
			sh.t.Errorf("the guard of a start that came back is there: %v", err)
		}
		return
	}
	sh.Store = s
	list, err := sh.Check()
	if len(list) == 0 && err == nil && s.Applied() < tabledEntries {
		sh.truth = model(s.Applied())
		sh.mustHold()
		return
	}
	if err != nil || len(list) == 0 {
		sh.t.Errorf("nobody noticed: %v, %v", list, err)
	}
	if !errors.Is(sh.Cause(), codec.ErrDamaged) {
		sh.t.Errorf("the store is suspect for %v", sh.Cause())
	}
}

func TestDamageAtRestIsNoticed(t *testing.T) {
	t.Parallel()
	whole := tabled(t)
	flip := func(part float64) func(*shelf) {
		return func(sh *shelf) {
			tables := sh.files("*.sst")
			sh.rewrite(tables[len(tables)/2], func(raw []byte) []byte {
				raw[int(part*float64(len(raw)))] ^= 4
				return raw
			})
		}
	}
	harms := map[string]func(*shelf){
		"MANIFEST gone": func(sh *shelf) { sh.must(os.Remove(filepath.Join(sh.o.Dir, badger.ManifestFilename))) },
		"MANIFEST zeros": func(sh *shelf) {
			sh.rewrite(sh.files("MANIFEST")[0], func(raw []byte) []byte { clear(raw); return raw })
		},
		"MANIFEST cut to its head": func(sh *shelf) {
			sh.rewrite(sh.files("MANIFEST")[0], func(raw []byte) []byte { return raw[:10] })
		},
		"MANIFEST of before": func(sh *shelf) {
			sh.rewrite(sh.files("MANIFEST")[0], func(raw []byte) []byte { return raw[:len(raw)*2/3] })
		},
		"MANIFEST with a flipped bit": func(sh *shelf) {
			sh.rewrite(sh.files("MANIFEST")[0], func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw })
		},
		"all tables gone": func(sh *shelf) {
			for _, path := range sh.files("*.sst") {
				sh.must(os.Remove(path))
			}
		},
		"a table over another": func(sh *shelf) {
			tables := sh.files("*.sst")
			raw, err := os.ReadFile(tables[0])
			sh.must(err)
			sh.must(os.WriteFile(tables[len(tables)-1], raw, 0o600))
		},
	}
	for i := range whole.files("*.sst") {
		harms[fmt.Sprintf("table %d gone", i)] = func(sh *shelf) { sh.must(os.Remove(sh.files("*.sst")[i])) }
	}
	for part := 0.01; part < 0.99; part += 0.14 {
		harms[fmt.Sprintf("a bit at %.2f of a table", part)] = flip(part)
	}
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			sh := whole.copied(t)
			harm(sh)
			sh.mustNotice()
		})
	}
	t.Run("nothing", func(t *testing.T) {
		sh := whole.copied(t)
		sh.open()
		sh.mustHold()
	})
}

// Files that hold no record may be harmed in any way: the store is whole, or says that it is to be made again.
func TestDamageOfFilesWithoutRecordsIsNoticedOrHarmless(t *testing.T) {
	t.Parallel()
	whole := tabled(t)
	for _, file := range []string{"KEYREGISTRY", "DISCARD", "LOCK", "*.vlog"} {
		for name, harm := range map[string]func(*shelf, string){
			"gone":  func(sh *shelf, path string) { sh.must(os.Remove(path)) },
			"zeros": func(sh *shelf, path string) { sh.rewrite(path, func(raw []byte) []byte { clear(raw); return raw }) },
			"empty": func(sh *shelf, path string) { sh.rewrite(path, func([]byte) []byte { return nil }) },
			"a byte": func(sh *shelf, path string) {
				sh.rewrite(path, func(raw []byte) []byte { raw[len(raw)/2] ^= 0xff; return raw })
			},
			"a byte at its head": func(sh *shelf, path string) {
				sh.rewrite(path, func(raw []byte) []byte { raw[0] ^= 0xff; return raw })
			},
			"half": func(sh *shelf, path string) { sh.rewrite(path, func(raw []byte) []byte { return raw[:len(raw)/2] }) },
		} {
			t.Run(file+" "+name, func(t *testing.T) {
				sh := whole.copied(t)
				paths, _ := filepath.Glob(filepath.Join(sh.o.Dir, file))
				for _, path := range paths {
					if info, err := os.Stat(path); err == nil && (info.Size() > 0 || name == "gone") {
						harm(sh, path)
					}
				}
				s, err := openUnforked(sh.o)
				if err != nil {
					if !errors.Is(err, codec.ErrDamaged) {
						t.Errorf("open says %v", err)
					}
					return
				}
				sh.Store = s
				sh.mustHold()
			})
		}
	}
}

// flat opens a copy of a store and merges all of its tables, so that no merge goes on beside the test.
func flat(t *testing.T) *shelf {
	t.Helper()
	sh := tabled(t)
	sh.open()
	sh.must(sh.db.Flatten(1))
	return sh
}

func TestDamageWhileRunningIsNoticed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		harm  func(f *os.File, size int64) error
		class error
	}{
		{"bits", func(f *os.File, size int64) error {
			for at := int64(100); at < size-8<<10; at += 2000 {
				if _, err := f.WriteAt([]byte{0xa5}, at); err != nil {
					return err
				}
			}
			return nil
		}, codec.ErrDamaged},
		{"zeros", func(f *os.File, size int64) error {
			_, err := f.WriteAt(make([]byte, size/2), 0)
			return err
		}, codec.ErrDamaged},
		{"pages that can't be read", func(f *os.File, size int64) error { return f.Truncate(4096) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			sh := flat(t)
			for _, path := range sh.files("*.sst") {
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				sh.must(err)
				info, err := f.Stat()
				sh.must(err)
				sh.must(test.harm(f, info.Size()))
				sh.must(f.Close())
			}
			served := 0
			for key, want := range sh.truth {
				got, err := sh.Get(key)
				switch {
				case err == nil && got != nil && string(got) != want:
					t.Fatalf("%v is served as %q", key, got)
				case err == nil && got == nil && key.Kind.hashed():
					t.Fatalf("%v is said not to exist", key)
				case err != nil && !errors.Is(err, codec.ErrDamaged) && !errors.Is(err, ErrNoAnswer):
					t.Fatalf("%v is answered %v", key, err)
				case err == nil:
					served++
				}
			}
			list, err := sh.Check()
			if err != nil || len(list) == 0 || sh.Cause() == nil {
				t.Errorf("the check says %v, %v", list, err)
			}
			for _, m := range list {
				if test.class != nil && m.Err != nil && !errors.Is(m.Err, test.class) || m.String() == "" {
					t.Errorf("%v is not %v", m.Err, test.class)
				}
			}
			sh.must(sh.Close(testLimit)) // what there is to set aside
		})
	}
}

func TestAMappedFileHasItsBlocks(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	sh.fill(0, 1200)
	files := 0
	sh.must(filepath.WalkDir(sh.o.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if blocks := info.Sys().(*syscall.Stat_t).Blocks * 512; blocks < info.Size() {
			t.Errorf("%s has %d bytes of blocks, want %d", entry.Name(), blocks, info.Size())
		}
		files++
		return nil
	}))
	if files < 3 {
		t.Errorf("%d files were looked at", files)
	}
}

// A log that was cut, or that a flipped bit ends, is a store as it was some entries ago: nothing is wrong with it, and the
// log has what came since.
func TestALogThatLostItsEndIsAnOlderStore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	if applied := playUntil(t, dir, nil, 12); applied != 12 {
		t.Fatalf("the store is at %d", applied)
	}
	sh := &shelf{t: t, o: Options{Dir: dir, MemTable: 1 << 20}}
	log := ""
	for _, path := range sh.files("*.mem") {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			log = path
		}
	}
	raw, err := os.ReadFile(log)
	sh.must(err)
	written := len(bytes.TrimRight(raw, "\x00"))
	seen := map[uint64]bool{}
	for part := 1; part < 12; part++ {
		for _, harm := range []func([]byte, int){
			func(raw []byte, at int) { clear(raw[at:]) },
			func(raw []byte, at int) { raw[at] ^= 8 },
		} {
			after := sh.copied(t)
			after.rewrite(filepath.Join(after.o.Dir, filepath.Base(log)), func(raw []byte) []byte {
				harm(raw, written*part/12)
				return raw
			})
			after.open()
			after.truth = model(after.Applied())
			after.mustHold()
			seen[after.Applied()] = true
			after.must(after.Close(testLimit))
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %v was seen", slices.Collect(maps.Keys(seen)))
	}
}

func TestTroubleHasAClass(t *testing.T) {
	t.Parallel()
	wrapped := func(err error) error { return fmt.Errorf("While flushing err: %+v", err) } // as Badger does
	for _, test := range []struct{ err, class error }{
		{wrapped(unix.EDQUOT), unix.EDQUOT},
		{wrapped(unix.ENFILE), unix.ENFILE},
		{wrapped(unix.ENOMEM), unix.ENOMEM},
		{wrapped(unix.ENOSPC), ErrNoSpace},
		{fmt.Errorf("x: %w", unix.EDQUOT), ErrNoSpace},
		{wrapped(&fs.PathError{Op: "open", Path: "x", Err: unix.EIO}), ErrNoAnswer},
		{errors.New("CHECKSUM_MISMATCH"), nil},
		{wrapped(errors.New("checksum mismatch")), codec.ErrDamaged},
		{fmt.Errorf("x: %w", codec.ErrDamaged), codec.ErrDamaged},
		{panicError("slice bounds out of range"), codec.ErrDamaged},
		{wrapped(unix.EMFILE), unix.EMFILE},
		{ErrClosed, nil},
	} {
		err := classify(test.err)
		if errno, ok := test.class.(unix.Errno); ok { // a store that can't be opened for it is opened later
			if !errors.Is(err, errno) || !errors.Is(classifyOpen(test.err), errno) || errors.Is(err, ErrNoSpace) != (errno == unix.EDQUOT) || !fault.UsedUp(err) {
				t.Errorf("%v became %v", test.err, err)
			}
			continue
		}
		for _, class := range []error{ErrNoSpace, ErrNoAnswer, codec.ErrDamaged} {
			if errors.Is(err, class) != (class == test.class) {
				t.Errorf("%v is %v: %v", test.err, class, errors.Is(err, class))
			}
		}
		if !strings.Contains(err.Error(), test.err.Error()) {
			t.Errorf("%v became %v", test.err, err)
		}
	}
}
