package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	badger "github.com/dgraph-io/badger/v4"

	"realtorbot-relay/queue/codec"
)

// read runs fn on the state as of a version. A panic of Badger, and a mapped page that can't be read, become an error.
func (s *Store) read(version uint64, fn func(*badger.Txn) error) (err error) {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return ErrClosed
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		what := recover()
		if own, ok := what.(callbackPanic); ok {
			panic(own.what)
		}
		if what != nil {
			err = panicError(what)
		}
		err = s.noteSuspect(classify(err))
	}()
	txn := s.db.NewTransactionAt(version, false)
	defer txn.Discard()
	return fn(txn)
}

// callbackPanic is a panic of the function that was given to Scan: that is no damage of the store.
type callbackPanic struct{ what any }

func wrapPanic() {
	if what := recover(); what != nil {
		panic(callbackPanic{what})
	}
}

// raw returns a copy of the value of a key, nil when there is none.
func (s *Store) raw(version uint64, key []byte) (value []byte, err error) {
	err = s.read(version, func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read store: %w", err)
		}
		if value, err = item.ValueCopy([]byte{}); err != nil {
			return fmt.Errorf("read store: %w", err)
		}
		return nil
	})
	return value, err
}

func (s *Store) get(version uint64, key Key) ([]byte, error) {
	var buf [keyBytes]byte
	return s.raw(version, key.append(buf[:0]))
}

// Get returns a copy of a record, nil when there is none. It may read disk. A lane, replay or carried event that is not as
// it was written is an error; of the other kinds nil may also mean that the record could not be read.
func (s *Store) Get(key Key) ([]byte, error) {
	value, err := s.get(newest, key)
	if err != nil || !key.Kind.hashed() {
		return value, err
	}
	s.mu.RLock()
	hash, has := s.hashes[key]
	s.mu.RUnlock()
	if matches(key, value, hash, has) {
		return value, nil
	}
	// A transaction may be in the store and not yet in memory: the state before it decides.
	version := s.pinVersion(func() { hash, has = s.hashes[key] })
	defer s.unpinVersion(version)
	if value, err = s.get(version, key); err != nil || matches(key, value, hash, has) {
		return value, err
	}
	return nil, s.noteSuspect(missingError(key))
}

func matches(key Key, value []byte, hash uint64, has bool) bool {
	return (value != nil) == has && (!has || hashOf(key, value) == hash)
}

func missingError(key Key) error {
	return fmt.Errorf("read store: %s: the record of lane %d and number %d is not as it was written: %w", key.Kind, key.Lane, key.Number, codec.ErrDamaged)
}

// Scan calls fn with the records from one key to another of the same kind, both included, in order, until fn returns false
// or an error. The value is valid during the call. A record that does not come may exist all the same: a block that can't be
// read ends the scan without an error, and Check finds it.
//
// It reads disk. It sees the newest state, and may see half of a transaction under way. The store can't be closed meanwhile.
func (s *Store) Scan(from, to Key, fn func(key Key, value []byte) (more bool, err error)) error {
	return s.walk(newest, from, to, func(key Key, value []byte) (bool, error) {
		defer wrapPanic()
		return fn(key, value)
	})
}

func (s *Store) walk(version uint64, from, to Key, fn func(key Key, value []byte) (more bool, err error)) error {
	return s.read(version, func(txn *badger.Txn) error {
		var buf [keyBytes]byte
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix(from, to)})
		defer it.Close()
		for it.Seek(from.append(buf[:0])); it.Valid(); it.Next() {
			key, ok := parse(it.Item().Key())
			if !ok {
				return fmt.Errorf("read store: %x is not a key: %w", it.Item().Key(), codec.ErrDamaged)
			}
			if key.Compare(to) > 0 {
				return nil
			}
			more := false
			err := it.Item().Value(func(value []byte) (err error) {
				more, err = fn(key, value)
				return err
			})
			if err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// CarriedFrom lists the numbers of the carried events from one up to below another, ascending. It reads memory, so none that
// was written is missing, whatever became of the records: a Get of each shows.
func (s *Store) CarriedFrom(from, to uint64) (list []uint64) {
	s.mu.RLock()
	for key := range s.hashes {
		if key.Kind == Carried && from <= key.Number && key.Number < to {
			list = append(list, key.Number)
		}
	}
	s.mu.RUnlock()
	slices.Sort(list)
	return list
}

// Seek returns the first record from one key to another of the same kind, with a copy of its value, and whether there is
// one. Like Scan it may miss a record.
func (s *Store) Seek(from, to Key) (key Key, value []byte, found bool, err error) {
	err = s.walk(newest, from, to, func(k Key, v []byte) (bool, error) {
		key, value, found = k, append([]byte{}, v...), true
		return false, nil
	})
	return key, value, found, err
}

// Before returns the last key that is not behind at and not before from, of the same kind, and whether there is one. Like
// Scan it may miss a record.
func (s *Store) Before(from, at Key) (key Key, found bool, err error) {
	err = s.read(newest, func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix(from, at), Reverse: true})
		defer it.Close()
		if it.Seek(at.append(nil)); it.Valid() {
			var ok bool
			if key, ok = parse(it.Item().Key()); !ok {
				return fmt.Errorf("read store: %x is not a key: %w", it.Item().Key(), codec.ErrDamaged)
			}
			found = key.Compare(from) >= 0
		}
		return nil
	})
	if !found {
		key = Key{}
	}
	return key, found, err
}
