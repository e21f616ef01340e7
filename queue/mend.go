package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
)

// A damaged store is set aside as a whole, and a new one is made of what can be read of it: every write of every table
// and log, the newest of each key winning, whatever the manifest says. What the journal still has of newer events is
// added, and the lanes' counters are counted anew (reconcile.go). So damage costs what was damaged and nothing else, or,
// where a lane's progress is lost, some deliveries are made again.
//
// If we die meanwhile: the new store has another name until it is complete, and is begun anew; between the two renames
// the next start makes the second one; a file in it asks for the counting until that is done.
const (
	mendedSuffix  = ".mended"
	uncountedFile = "UNCOUNTED"
)

// finishMending makes the second rename of a mending that was cut short, or removes what is not complete.
func finishMending(dir string) error {
	fresh := dir + mendedSuffix
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(fresh); err == nil {
			return errors.Join(os.Rename(fresh, dir), syncDir(filepath.Dir(dir)))
		}
		return nil
	}
	return os.RemoveAll(fresh)
}

// mend replaces the store of f by what can be read of it, and returns where the damaged one is now.
func (o *Options) mend(f *files, memTable int64) (aside string, err error) {
	var size int64
	for _, id := range f.tables {
		if info, err := os.Stat(table.NewFilename(id, f.dir)); err == nil {
			size += info.Size()
		}
	}
	if need := size + 4*memTable + criticalFree; o.free() < need {
		return "", fmt.Errorf("%w: its store is damaged (%s), and mending it needs %d MiB of free disk", ErrUnwritable, f.complain[0], need>>20)
	}
	fresh := f.dir + mendedSuffix
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		return "", err
	}
	if err := f.salvage(fresh, memTable); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(fresh, uncountedFile), nil, 0o600); err != nil {
		return "", err
	}
	if err := syncDir(fresh); err != nil {
		return "", err
	}
	aside = o.asidePath("store")
	if err = os.MkdirAll(filepath.Dir(aside), 0o700); err == nil {
		err = o.fault.before(placeSetAside)
	}
	if err == nil {
		err = o.fault.after(placeSetAside, errors.Join(os.Rename(f.dir, aside), syncDir(o.Dir)))
	}
	if err == nil {
		err = o.fault.before(placeMended)
	}
	if err == nil {
		err = o.fault.after(placeMended, errors.Join(os.Rename(fresh, f.dir), syncDir(o.Dir)))
	}
	if err != nil {
		return "", fmt.Errorf("set the damaged store aside: %w", err)
	}
	return aside, nil
}

// asidePath is a name in aside/ that nothing has yet.
func (o *Options) asidePath(what string) string {
	for n := time.Now().Unix(); ; n++ {
		path := filepath.Join(o.Dir, "aside", fmt.Sprintf("%s-%d", what, n))
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
}

// salvage writes all that can be read into a new store. What can't be was complained of.
func (f *files) salvage(dir string, memTable int64) error {
	db, err := badger.OpenManaged(storeOptions(dir, memTable, func(string) {}).WithSyncWrites(false))
	if err != nil {
		return err
	}
	batch := db.NewManagedWriteBatch()
	put := func(key, value []byte, version uint64, deletes bool) error {
		if deletes {
			return batch.DeleteAt(y.Copy(key), version)
		}
		return batch.SetEntryAt(badger.NewEntry(y.Copy(key), y.Copy(value)), version)
	}
	for _, id := range f.tables {
		if raw, err := os.ReadFile(table.NewFilename(id, f.dir)); err == nil {
			if err := salvageTable(raw, id, put); err != nil {
				return errors.Join(err, db.Close())
			}
		}
	}
	for _, path := range f.logs {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var failed error
		scanLog(raw, func(commit []logEntry) {
			for _, e := range commit {
				failed = errors.Join(failed, put(e.key, e.value, e.version, e.deletes))
			}
		})
		if failed != nil {
			return errors.Join(failed, db.Close())
		}
	}
	return errors.Join(batch.Flush(), db.Close())
}

// salvageTable reads a table block by block, so that one that is damaged does not hide those behind it.
func salvageTable(raw []byte, id uint64, put func(key, value []byte, version uint64, deletes bool) error) (failed error) {
	_ = withTable(raw, id, func(t *table.Table) error {
		begins := t.KeySplits(1<<30, nil)
		for i := range begins {
			end := ""
			if i+1 < len(begins) {
				end = begins[i+1]
			}
			_ = withTable(raw, id, func(*table.Table) error { // a guard of its own for every block
				it := t.NewIterator(table.NOCACHE)
				defer it.Close()
				for it.Seek([]byte(begins[i])); it.Valid(); it.Next() {
					key := it.Key()
					if end != "" && y.CompareKeys(key, []byte(end)) >= 0 {
						break
					}
					value := it.ValueCopy()
					if err := put(y.ParseKey(key), value.Value, y.ParseTs(key), value.Meta&logDelete != 0); err != nil {
						failed = errors.Join(failed, err)
						return err
					}
				}
				return nil
			})
			if failed != nil {
				return failed
			}
		}
		return nil
	})
	return failed
}
