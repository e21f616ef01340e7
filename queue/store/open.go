package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/fault"
)

// badgerOptions were chosen when ids were most of the keys. Tables of the lowest level are merged six at a time, into a
// level that grows to 64 MiB before a further one is begun. That writes a third less than two at a time and 10 MiB.
func badgerOptions(o Options, log badger.Logger) badger.Options {
	compactors, stall := 2, 10
	if o.NoMerges {
		compactors, stall = 0, math.MaxInt // else ten tables of the lowest level would wait for a merge
	}
	return badger.DefaultOptions(o.Dir).
		WithLogger(log).
		WithSyncWrites(!o.Fresh).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMemTableSize(o.MemTable).
		WithNumMemtables(1).
		WithBaseTableSize(1 << 20).
		WithBaseLevelSize(64 << 20).
		WithLevelSizeMultiplier(8).
		WithNumLevelZeroTables(6).
		WithNumLevelZeroTablesStall(stall).
		WithNumCompactors(compactors).
		WithValueThreshold(maxValue(o.MemTable)).
		WithValueLogFileSize(1 << 20).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithMetricsEnabled(false)
}

// maxValue is the length from which Badger would move a value to its value log.
func maxValue(memTable int64) int64 { return min(1<<20, memTable*15/100) }

// Open opens a store, or makes an empty one. It reads lanes, retries, replays and carried events and compares them with
// their sums; Check compares the other kinds. An error that wraps codec.ErrDamaged, ErrNoAnswer or ErrDied says that the
// store is to be set aside and made again; its files are as they were, but for what Badger removed.
func Open(o Options) (*Store, error) {
	s, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", o.Dir, err)
	}
	return s, nil
}

func open(o Options) (s *Store, err error) {
	if o.MemTable == 0 {
		o.MemTable = defaultMemTable
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	if o.MakeSpace == nil {
		o.MakeSpace = func() bool { return false }
	}
	if err := makeDir(o.Dir, o.Notice); err != nil {
		return nil, classify(err)
	}
	o.Dir = realPath(o.Dir)
	died := 0
	if !o.Fresh {
		if died, err = readGuard(o.Dir); err != nil {
			return nil, classify(err)
		}
		if died >= maxDeaths {
			return nil, ErrDied
		}
	}
	if err := claimDir(o.Dir, o.Fault); err != nil {
		return nil, err
	}
	opened := false // from then on close releases the directory
	defer func() {
		if !opened {
			releaseDir(o.Dir)
		}
	}()
	if !o.Fresh {
		defer func() {
			if err != nil { // it returned an error: that is no death
				err = errors.Join(err, removeGuard(o.Dir, nil))
			}
		}()
		if err = writeGuardOrRelieve(o, died+1); err != nil {
			return nil, fmt.Errorf("write %q: %w", guardPath(o.Dir), err)
		}
	}
	hadTables, err := inspect(o.Dir, o.Fresh)
	if err != nil {
		return nil, err
	}
	nextLog, err := removeEmptyLogs(o.Dir)
	if err != nil {
		return nil, classify(err)
	}
	log := &badgerLogger{notice: o.Notice}
	db, err := openBadger(badgerOptions(o, log))
	if err != nil {
		if err = classifyOpen(err); !errors.Is(err, ErrNoSpace) && !fault.UsedUp(err) {
			log.pass()
		}
		return nil, err
	}
	log.pass()
	s = &Store{
		db: db, dir: o.Dir, memTable: o.MemTable, fault: o.Fault, makeSpace: o.MakeSpace, fresh: o.Fresh, nextLog: nextLog,
		version: db.MaxVersion(), pins: map[uint64]int{}, suspect: make(chan struct{}),
	}
	opened = true
	db.SetDiscardTs(s.version)
	if err = s.merges.begin(s); err == nil {
		err = s.load(hadTables)
	}
	if err != nil {
		return nil, errors.Join(classify(err), s.close(closeLimit))
	}
	return s, nil
}

// writeGuardOrRelieve writes the guard; on a full disk it first has room made.
func writeGuardOrRelieve(o Options, starts int) error {
	err := classify(writeGuard(o.Dir, starts, o.Fault))
	if errors.Is(err, ErrNoSpace) && o.MakeSpace() {
		err = classify(writeGuard(o.Dir, starts, o.Fault))
	}
	return err
}

// closeLimit is how long a store that proved to be damaged may take to close.
const closeLimit = 10 * time.Second

func makeDir(dir string, notice func(string)) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = syncDir(filepath.Dir(filepath.Clean(dir)))
		}
	}
	if err != nil || len(entries) > 0 {
		return err
	}
	if err := directory.WriteInPlace(dir); err != nil {
		notice(fmt.Sprintf("store: the file system copies %q on write, so a full disk may end the process: %v", dir, err))
	}
	return nil
}

// inspect finds what Badger would handle in a way that loses data: without MANIFEST it deletes all tables. It reports
// whether there are tables.
func inspect(dir string, fresh bool) (tables bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, classify(err)
	}
	if fresh && len(entries) > 0 {
		return false, fmt.Errorf("a new store needs an empty directory, and there is %q", entries[0].Name())
	}
	manifest := false
	for _, e := range entries {
		tables = tables || filepath.Ext(e.Name()) == ".sst"
		manifest = manifest || e.Name() == badger.ManifestFilename
	}
	if tables && !manifest {
		return true, fmt.Errorf("%s is missing: %w", badger.ManifestFilename, codec.ErrDamaged)
	}
	if !tables {
		return tables, nil
	}
	// Badger removes tables that MANIFEST does not name: a crash leaves such.
	file, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return tables, classify(err)
	}
	defer file.Close()
	named, _, err := badger.ReplayManifestFile(file, 0, badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return tables, fmt.Errorf("%s: %w: %w", badger.ManifestFilename, err, codec.ErrDamaged)
	}
	for id := range named.Tables {
		if path := table.NewFilename(id, dir); !hasFooter(path) {
			return tables, fmt.Errorf("the end of table %q is not what Badger writes: %w", path, codec.ErrDamaged)
		}
	}
	return tables, nil
}

// hasFooter reports whether the last bytes of a table can be what Badger writes there: the lengths of its index and of the
// index's checksum. With other bytes Badger ends the process. A file that can't be read is left to Badger, which returns an
// error.
func hasFooter(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return true
	}
	at := info.Size() - 4
	for range 2 { // checksum, index
		var raw [4]byte
		if at < 0 {
			return false
		}
		if _, err := f.ReadAt(raw[:], at); err != nil {
			return true
		}
		n := int64(binary.BigEndian.Uint32(raw[:]))
		if at -= n; n == 0 || at < 4 {
			return false
		}
		at -= 4
	}
	return true
}

// openBadger returns a panic of this goroutine as an error. A panic of one of Badger's own goroutines ends the process.
func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = panicError(what)
		}
	}()
	return badger.OpenManaged(o)
}

// load reads the state, and those kinds that are compared at Open.
func (s *Store) load(hadTables bool) error {
	raw, err := s.raw(s.version, stateKey)
	if err != nil {
		return err
	}
	switch {
	case raw != nil:
		if s.state, err = parseState(raw); err != nil {
			return err
		}
	case hadTables || s.version > 0:
		return fmt.Errorf("its position is missing: %w", codec.ErrDamaged)
	}
	var found Sums
	s.hashes = make(map[Key]uint64, s.state.sums.hashedCount())
	for _, k := range Kinds {
		if !k.checkedAtOpen() {
			found[k.index()] = s.state.sums.Of(k)
			continue
		}
		err := s.sumUp(s.version, k, &found[k.index()], func(key Key, hash uint64) {
			if k.hashed() {
				s.hashes[key] = hash
			}
		})
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return mismatched(s.state.sums.Diff(&found))
}
