package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// crash returns a queue opened on a copy of b's directory, as a start would find it if b's process died now, between two
// saves of the writer. The committer goes on while the journal is copied.
func (b *bench) crash(change func(dir string)) *bench {
	b.t.Helper()
	after := &bench{t: b.t, opts: b.opts}
	after.opts.Dir = filepath.Join(b.t.TempDir(), "data")
	after.opts.Notice = func(line string) {
		after.mu.Lock()
		after.said = append(after.said, line)
		after.mu.Unlock()
	}
	err := b.update(func() (err error) {
		// Badger merges tables by itself: a copy that saw it change its mind is not what a crash would leave.
		manifest := filepath.Join(b.opts.Dir, "store", "MANIFEST")
		for range 50 {
			before := mustRead(b.t, manifest)
			err = errors.Join(os.RemoveAll(after.opts.Dir), copyTree(after.opts.Dir, b.opts.Dir))
			if err == nil && string(before) == string(mustRead(b.t, manifest)) {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return fmt.Errorf("copy %q: it does not come to rest: %w", b.opts.Dir, err)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if change != nil {
		change(after.opts.Dir)
	}
	after.open()
	b.t.Cleanup(func() { _ = after.Queue.Close() })
	return after
}

// copyTree copies files, without the zeros that fill most of the store's and journal's.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := os.Create(target)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Truncate(int64(len(raw))); err != nil {
			return err
		}
		var zeros [4096]byte
		for at := 0; at < len(raw); at += len(zeros) {
			page := raw[at:min(at+len(zeros), len(raw))]
			if string(page) == string(zeros[:len(page)]) {
				continue
			}
			if _, err := f.WriteAt(page, int64(at)); err != nil {
				return err
			}
		}
		return nil
	})
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tidy has what nobody needs deleted now, however long a sweep took before. Without a store that was compared after its last
// merge nothing is deleted, so that comes first.
func (b *bench) tidy() {
	b.t.Helper()
	for stopped := true; stopped; {
		await(b.t, "the store's comparison", func() (sound bool) {
			err := b.update(func() error {
				sound = b.writer.storeIsSound(b.Queue)
				return nil
			})
			return sound || err != nil
		})
		err := b.update(func() error {
			b.writer.retain.sweep.notBefore = 0
			err := b.writer.tidy(b.Queue)
			stopped = !b.writer.storeIsSound(b.Queue)
			return err
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// saveAll saves, and waits until no save is asked for: a later one would surprise the test.
func (b *bench) saveAll() {
	b.t.Helper()
	if err := b.writer.awaitSave(b.Queue); err != nil {
		b.t.Fatal(err)
	}
	for len(b.writer.saveNow) > 0 {
		time.Sleep(100 * time.Microsecond)
	}
	if err := b.update(func() error { return nil }); err != nil { // waits for a save under way
		b.t.Fatal(err)
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

func openStill(t *testing.T, change func(*Options)) (b *bench, clock *atomic.Int64) {
	clock = new(atomic.Int64)
	clock.Store(time.Now().UnixMilli())
	b = openBench(t, func(o *Options) {
		o.Retention, o.DedupWindow, o.FailedRetention, o.tailBytes, o.slotSize = time.Hour, time.Hour, 1000*time.Hour, 1, 4<<20
		o.Now = func() time.Time { return time.UnixMilli(clock.Load()) }
		if change != nil {
			change(o)
		}
	})
	return b, clock
}

// at is the last entry that the store has.
func (b *bench) storeAt() uint64 {
	b.index.mu.RLock()
	defer b.index.mu.RUnlock()
	return b.index.store.Applied()
}
