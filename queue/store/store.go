package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/fault"
)

// Options say which store is opened, and how.
type Options struct {
	Dir      string       // made when it is not there
	MemTable int64        // bytes of a table in memory, 0 for 4 MiB; never less than the store was made with
	Notice   func(string) // is told what Badger warns of, a line each; nil tells nobody
	Relief   func() bool  // makes room on a full disk, false when it can't; nil can't
	Fault    fault.Func

	// Fresh opens a store that is being made: in an empty directory, without a guard, and without waiting for the disk. It is
	// worth nothing until Seal, which also closes it.
	Fresh bool
}

// Store is an open store. One goroutine writes, with Batch and SetSums. Everything else may be called by any goroutine at
// any time: readers see the newest state and wait for no write under way.
type Store struct {
	db       *badger.DB
	dir      string
	memTable int64
	fault    fault.Func
	relief   func() bool
	fresh    bool

	open   sync.RWMutex // held for reading by whoever uses db, for writing by close
	closed bool

	mu      sync.RWMutex // what readers and the writer share; held for memory only
	version uint64       // of the last transaction
	state   state        // as of it
	known   map[Key]uint64
	pins    map[uint64]int // how many read at a version

	unsure  error  // of the transaction that failed; the writer's alone, as what follows
	nextLog int    // no log of a number below it is free
	spared  string // the spare that this process made

	suspected sync.Once
	suspect   chan struct{}
	cause     error // written before suspect is closed

	merges merges
}

const defaultMemTable = 4 << 20

// badgerOptions were chosen when ids were most of the keys. Tables of the lowest level are merged six at a time, into a
// level that grows to 64 MiB before a further one is begun, which takes a third less writing than two at a time and 10 MiB.
func badgerOptions(o Options) badger.Options {
	return badger.DefaultOptions(o.Dir).
		WithLogger(badgerLog{o.Notice}).
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
		WithNumLevelZeroTablesStall(10).
		WithNumCompactors(2).
		WithValueThreshold(maxValue(o.MemTable)).
		WithValueLogFileSize(1 << 20).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithMetricsEnabled(false)
}

// maxValue is the length from which Badger would move a value to its value log.
func maxValue(memTable int64) int64 { return min(1<<20, memTable*15/100) }

// Open opens a store, or makes an empty one. It compares lanes, retries, replays and carried events with their sums; the
// other kinds are compared by Check. An error that wraps codec.ErrDamaged, ErrNoAnswer or ErrDied tells of a store that is
// to be set aside and made again; its files are as they were found, but for what Badger removed.
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
	if o.Relief == nil {
		o.Relief = func() bool { return false }
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
		if died >= deaths {
			return nil, ErrDied
		}
	}
	if err := enter(o.Dir, o.Fault); err != nil {
		return nil, err
	}
	opened := false // then closing it leaves the directory
	defer func() {
		if !opened {
			leave(o.Dir)
		}
	}()
	if !o.Fresh {
		defer func() {
			if err != nil { // it came back to say so: that is no death
				err = errors.Join(err, dropGuard(o.Dir, nil))
			}
		}()
		if err = guard(o, died+1); err != nil {
			return nil, fmt.Errorf("write %q: %w", guardPath(o.Dir), err)
		}
	}
	hadTables, err := look(o.Dir, o.Fresh)
	if err != nil {
		return nil, err
	}
	nextLog, err := dropEmptyLogs(o.Dir)
	if err != nil {
		return nil, classify(err)
	}
	db, err := openBadger(badgerOptions(o))
	if err != nil {
		return nil, classifyOpen(err)
	}
	s = &Store{
		db: db, dir: o.Dir, memTable: o.MemTable, fault: o.Fault, relief: o.Relief, fresh: o.Fresh, nextLog: nextLog,
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

func guard(o Options, starts int) error {
	err := classify(writeGuard(o.Dir, starts, o.Fault))
	if errors.Is(err, ErrNoSpace) && o.Relief() {
		err = classify(writeGuard(o.Dir, starts, o.Fault))
	}
	return err
}

// closeLimit is for how long a store that proved to be damaged may take to be closed.
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
		notice(fmt.Sprintf("store: %q is copied on write: a full disk may end the process: %v", dir, err))
	}
	return nil
}

// look finds what Badger would make good in its way: without MANIFEST it deletes all tables. It reports whether there are any.
func look(dir string, fresh bool) (tables bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, classify(err)
	}
	if fresh && len(entries) > 0 {
		return false, fmt.Errorf("a store is made in an empty directory, and there is %q", entries[0].Name())
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
	// Of tables that it does not name Badger gets rid by itself: a crash leaves such.
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
			return tables, fmt.Errorf("the end of table %q makes no sense: %w", path, codec.ErrDamaged)
		}
	}
	return tables, nil
}

// hasFooter reports whether the last bytes of a table can be what Badger writes there: the lengths of its index and of the
// index's checksum. Over others Badger ends the process. What can't be read is left to Badger, which says so.
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

// openBadger turns a panic of this goroutine into an error. One of Badger's own goroutines ends the process.
func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = panicked(what)
		}
	}()
	return badger.OpenManaged(o)
}

// load reads the state and the kinds that are compared at once.
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
	s.known = make(map[Key]uint64, s.state.sums.remembered())
	for _, k := range Kinds {
		if !k.atOnce() {
			found[k.index()] = s.state.sums.Of(k)
			continue
		}
		err := s.sumUp(s.version, k, &found[k.index()], func(key Key, hash uint64) {
			if k.remembered() {
				s.known[key] = hash
			}
		})
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return mismatched(s.state.sums.Diff(&found))
}

// mismatched makes one error of mismatches, nil of none.
func mismatched(list []Mismatch) error {
	if len(list) == 0 {
		return nil
	}
	text := make([]string, len(list))
	for i, m := range list {
		text[i] = m.String()
	}
	return fmt.Errorf("%s: %w", strings.Join(text, "; "), codec.ErrDamaged)
}

// Applied is the number of the entry up to which the log is in the store.
func (s *Store) Applied() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.applied
}

// Sums are the sums as of Applied, for a record in the log.
func (s *Store) Sums() (applied uint64, sums Sums) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.applied, s.state.sums
}

// Suspect is closed when anything in the store turned out to be unreadable, missing or wrong. Then it is to be closed, set
// aside and made again.
func (s *Store) Suspect() <-chan struct{} { return s.suspect }

// Cause is what made the store suspect, nil when nothing did.
func (s *Store) Cause() error {
	select {
	case <-s.suspect:
		return s.cause
	default:
		return nil
	}
}

// doubt makes the store suspect if the error says so, and returns the error.
func (s *Store) doubt(err error) error {
	if errors.Is(err, codec.ErrDamaged) || errors.Is(err, ErrNoAnswer) {
		s.suspected.Do(func() {
			s.cause = err
			close(s.suspect)
		})
	}
	return err
}

// pin keeps what there is as of the last transaction until unpin, and calls look with the store's memory of it.
func (s *Store) pin(look func()) (version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins[s.version]++
	look()
	return s.version
}

func (s *Store) unpin(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[version]--; s.pins[version] == 0 {
		delete(s.pins, version)
	}
	s.db.SetDiscardTs(s.oldest())
}

// oldest is the oldest version that is read. mu is held.
func (s *Store) oldest() uint64 {
	oldest := s.version
	for v := range s.pins {
		oldest = min(oldest, v)
	}
	return oldest
}

// newest is the version at which all that is visible is read.
const newest = math.MaxUint64

// badgerLog hands on what Badger warns of, one line each.
type badgerLog struct{ notice func(string) }

func (l badgerLog) tell(format string, args []any) {
	l.notice("store: " + strings.TrimSpace(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")))
}

func (l badgerLog) Errorf(format string, args ...any)   { l.tell(format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.tell(format, args) }
func (l badgerLog) Infof(string, ...any)                {}
func (l badgerLog) Debugf(string, ...any)               {}

// Bytes is about how many bytes of disk the tables take. Badger counts them now and then.
func (s *Store) Bytes() int64 {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return 0
	}
	tables, logs := s.db.Size()
	return tables + logs
}
