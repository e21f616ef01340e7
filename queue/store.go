package queue

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/y"
)

// store is Badger, in managed mode: the keeper is its only writer and counts the versions, and a reader reads the newest
// there is without waiting for a commit under way. It may thus see a commit half done, which nothing here minds.
type store struct {
	db      *badger.DB
	open    sync.RWMutex // held for reading by readers, for writing by close
	closed  bool
	version uint64 // of the last commit; the keeper's alone
	fault   fault

	dir      string
	memTable int64
	nextLog  int         // no log of a number below it is free; the keeper's alone
	spared   string      // the spare that this process made
	relief   func() bool // makes room on a full disk, false when it can't

	saved   func(version uint64) error // is told of what is on disk
	suspect func(error)                // is told of what can't be read

	suspected atomic.Bool
}

// memTableSize is written into the format file: opening a store with a smaller one than it was written with fails.
const memTableSize = 4 << 20

// maxValue is the largest value written under one key; it stays below what Badger moves to its value log.
const maxValue = 128 << 10

// storeOptions are chosen for ids, which come in no order: they are most of the store's keys, and merging their tables is
// most of its work. Tables of the lowest level are merged six at a time, into a level that grows to 64 MiB before a further
// one is begun, which takes a third less writing than two at a time and 10 MiB. An id is asked for in more tables for it,
// and their filters tell most of them apart.
func storeOptions(dir string, memTable int64, notice func(string)) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(badgerLog{notice}).
		WithSyncWrites(true).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None). // blocks are compressed before they get here
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMemTableSize(memTable).
		WithNumMemtables(1).
		WithBaseTableSize(1 << 20).
		WithBaseLevelSize(64 << 20).
		WithLevelSizeMultiplier(8).
		WithNumLevelZeroTables(6).
		WithNumLevelZeroTablesStall(10).
		WithNumCompactors(2).
		WithValueThreshold(min(1<<20, memTable*15/100)).
		WithValueLogFileSize(1 << 20).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithMetricsEnabled(false)
}

func openStore(dir string, memTable int64, notice func(string)) (*store, error) {
	nextLog, err := dropEmptyLogs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", dir, err)
	}
	db, err := badger.OpenManaged(storeOptions(dir, memTable, notice))
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", dir, err)
	}
	version := db.MaxVersion()
	db.SetDiscardTs(version)
	return &store{db: db, version: version, dir: dir, memTable: memTable, nextLog: nextLog, relief: func() bool { return false },
		saved: func(uint64) error { return nil }, suspect: func(error) {}}, nil
}

// read runs fn on the newest state.
func (s *store) read(fn func(*badger.Txn) error) (err error) {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return ErrClosed
	}
	defer func() {
		// Badger wraps its checksum errors as text, and trips over what it did not check.
		what := recover()
		if what != nil {
			err = fmt.Errorf("read store: %v", what)
		}
		if what != nil || err != nil && strings.Contains(err.Error(), y.ErrChecksumMismatch.Error()) {
			s.suspected.Store(true)
			s.suspect(err)
		}
	}()
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	return fn(txn)
}

// close waits for the readers: what they read is mapped memory, which must not go away under them. Badger then writes
// what it has in memory, and tries that again for ever on a disk that is full or broken. So it gets a limited time: what
// it does not write is in its log, as after a crash.
func (s *store) close(limit time.Duration) error {
	s.open.Lock()
	defer s.open.Unlock()
	s.closed = true
	if s.suspected.Load() {
		return nil // left as it is: closing would merge tables, and what can't be read would be gone
	}
	done := make(chan error, 1)
	go func() { done <- s.db.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("the store did not close within %v; the next start finds what it did not write in its log", limit)
	}
}

// get returns a copy of a value, nil when there is none.
func (s *store) get(key []byte) (value []byte, err error) {
	err = s.read(func(txn *badger.Txn) error {
		value, err = txnGet(txn, key)
		return err
	})
	return value, err
}

func txnGet(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// scan calls fn with the keys that have the prefix, from the key from onwards, until it returns false. Key and value are
// valid during the call.
func (s *store) scan(prefix, from []byte, keysOnly bool, fn func(key []byte, value func() ([]byte, error)) (bool, error)) error {
	return s.read(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: false})
		defer it.Close()
		for it.Seek(from); it.ValidForPrefix(prefix); it.Next() {
			item := it.Item()
			var value func() ([]byte, error)
			if !keysOnly {
				value = func() ([]byte, error) { return item.ValueCopy(nil) }
			}
			if more, err := fn(item.Key(), value); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// keyBefore returns a copy of the last key with the prefix that is not behind another, nil when there is none.
func (s *store) keyBefore(prefix, at []byte) (key []byte, err error) {
	err = s.read(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: true})
		defer it.Close()
		if it.Seek(at); it.ValidForPrefix(prefix) {
			key = it.Item().KeyCopy(nil)
		}
		return nil
	})
	return key, err
}

// batch gathers writes and commits them, in as many transactions as their size asks for. A key and a value given to it
// must stay untouched until flush returns. together begins writes that must not be torn apart.
type batch struct {
	store *store
	txn   *badger.Txn
	count int64
	bytes int64
	freed int64 // about how much the keys deleted took, with what the store keeps beside each
	err   error
}

func (s *store) batch() *batch { return &batch{store: s} }

const entryOverhead = 64

func (b *batch) set(key, value []byte) { b.add(badger.NewEntry(key, value), len(key)+len(value)) }

func (b *batch) delete(key []byte) {
	b.room(1, len(key))
	b.freed += int64(len(key)) + entryOverhead/2
	if b.err == nil {
		b.err = b.txn.Delete(key)
	}
}

func (b *batch) add(e *badger.Entry, size int) {
	b.room(1, size)
	if b.err == nil {
		b.err = b.txn.SetEntry(e)
	}
}

// room makes sure that count entries of size bytes in all fit into the transaction at hand, committing it if they don't.
func (b *batch) room(count, size int) {
	if b.err != nil {
		return
	}
	db := b.store.db
	need := int64(size + count*entryOverhead)
	if b.txn != nil && (b.count+int64(count) >= db.MaxBatchCount()*8/10 || b.bytes+need >= db.MaxBatchSize()*8/10) {
		b.commit()
	}
	if b.txn == nil && b.err == nil {
		b.txn = db.NewTransactionAt(math.MaxUint64, true)
	}
	b.count += int64(count)
	b.bytes += need
}

// together makes the writes that follow part of one transaction, if they are no more than told.
func (b *batch) together(count, size int) {
	b.room(count, size)
	b.count -= int64(count)
	b.bytes -= int64(size + count*entryOverhead)
}

func (b *batch) commit() {
	if b.txn == nil || b.err != nil {
		return
	}
	if b.err = b.store.spare(); b.err != nil {
		return
	}
	b.store.version++
	// With this the newest version in the store's files is that of its last commit, whatever it deleted.
	b.err = b.txn.SetEntry(badger.NewEntry(keyCommit, []byte{recordVersion}))
	if b.err != nil {
		return
	}
	if b.err = b.store.fault.before(placeCommit); b.err == nil {
		b.err = b.store.fault.after(placeCommit, b.txn.CommitAt(b.store.version, nil))
	}
	b.txn, b.count, b.bytes = nil, 0, 0
	if b.err == nil {
		b.store.db.SetDiscardTs(b.store.version)
	}
}

// flush commits what is gathered. When it returns nil all of it is on disk.
func (b *batch) flush() error {
	b.commit()
	if b.err != nil {
		if b.txn != nil {
			b.txn.Discard()
		}
		return fmt.Errorf("write store: %w", b.err)
	}
	return b.store.saved(b.store.version)
}

// badgerLog hands on what Badger warns of, one line each.
type badgerLog struct{ notice func(string) }

func (l badgerLog) tell(format string, args []any) {
	l.notice("store: " + strings.TrimSpace(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")))
}

func (l badgerLog) Errorf(format string, args ...any)   { l.tell(format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.tell(format, args) }
func (l badgerLog) Infof(string, ...any)                {}
func (l badgerLog) Debugf(string, ...any)               {}
