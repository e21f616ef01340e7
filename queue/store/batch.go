package store

import (
	"errors"
	"fmt"

	badger "github.com/dgraph-io/badger/v4"
)

// Batch gathers writes, which Commit makes in one transaction. A value passed to it must not change until Commit has returned. One
// goroutine uses it, one at a time, and each once: whoever opens the queue, and from then on the writer.
type Batch struct {
	store   *Store
	writes  []write
	at      map[Key]int // index in writes, by key
	bytes   int64
	missing []Key
}

// write is what becomes of one record.
type write struct {
	key      Key
	value    []byte
	has, had bool   // there is one after the transaction, there was one before
	hash     uint64 // of the record after the transaction
	old      uint64 // of the record before it
}

// writeCost is more than what Badger counts for a write beside its value.
const writeCost = 64

// Batch begins a transaction.
func (s *Store) Batch() *Batch { return &Batch{store: s, at: map[Key]int{}} }

// Fits reports whether n more writes with values of size bytes in all fit into the transaction.
func (b *Batch) Fits(n, size int) bool {
	db := b.store.db
	// One write is the state, one is Badger's own, and it must stay below its limits.
	return int64(len(b.writes)+n) <= db.MaxBatchCount()-4 &&
		b.bytes+int64(n)*writeCost+int64(size) <= db.MaxBatchSize()-maxState-2*writeCost
}

// Len is the number of records that the batch writes.
func (b *Batch) Len() int { return len(b.writes) }

// Missing are the places and failed deliveries that were to be deleted and do not exist. The sums keep counting each.
func (b *Batch) Missing() []Key { return b.missing }

// Set writes a record, new or not. For a kind that is not hashed it reads the old one. The error is ErrTooLarge, or says
// that the old record can't be read; then the batch is unchanged.
func (b *Batch) Set(key Key, value []byte) error { return b.put(key, value, true, false) }

// SetNew writes a record that does not exist yet; it reads nothing. If one exists all the same, the sums will not match any
// more.
func (b *Batch) SetNew(key Key, value []byte) error { return b.put(key, value, true, true) }

// Delete deletes a record. A lane, retry, replay or carried event that does not exist is not deleted, and that is no error;
// for a place or a failed delivery see Missing.
func (b *Batch) Delete(key Key) error { return b.put(key, nil, false, false) }

func (b *Batch) put(key Key, value []byte, has, fresh bool) error {
	if key.Kind.index() < 0 {
		return fmt.Errorf("write store: there are no records of kind %q", rune(key.Kind))
	}
	at, again := b.at[key]
	var w write
	n, size := 1, len(value)
	if again {
		w = b.writes[at]
		n, size = 0, size-len(w.value)
	}
	if !b.Fits(n, size) || int64(len(value)) >= maxValue(b.store.memTable) {
		return fmt.Errorf("write %d bytes to the store's %s behind %d: %w", len(value), key.Kind, b.bytes, ErrTooLarge)
	}
	if !again {
		w.key = key
		var err error
		if w.old, w.had, err = b.before(key, fresh, has); err != nil {
			return err
		}
		if !has && !w.had {
			return nil
		}
		at = len(b.writes)
		b.writes = append(b.writes, w)
		b.at[key] = at
		b.bytes += writeCost
	}
	b.bytes += int64(len(value) - len(w.value))
	w.value, w.has, w.hash = value, has, 0
	if has {
		w.hash = hashOf(key, value)
	}
	b.writes[at] = w
	return nil
}

// before returns the hash of the record that the store has, and whether it has one.
func (b *Batch) before(key Key, fresh, has bool) (hash uint64, had bool, err error) {
	s := b.store
	if key.Kind.hashed() {
		hash, had = s.hashes[key] // only the writer changes it
		return hash, had, nil
	}
	if fresh {
		return 0, false, nil
	}
	value, err := s.get(newest, key)
	if err != nil {
		return 0, false, fmt.Errorf("write store: %w", err)
	}
	if value == nil {
		if !has && key.Kind != Retry {
			b.missing = append(b.missing, key)
			s.noteSuspect(missingError(key))
		}
		return 0, false, nil
	}
	return hashOf(key, value), true, nil
}

// Commit makes the transaction. When it returns nil, all of it is durable (unless the store is Fresh), and the store has the
// log up to entry applied.
//
// An error before anything was written (no room for the next log) leaves the batch as it is: it may be committed again.
// After any other, nobody knows whether the transaction was made: every later Commit returns ErrUnsure until the store is
// opened again.
func (b *Batch) Commit(applied uint64) error {
	s := b.store
	next := s.state
	if applied < next.applied {
		return fmt.Errorf("write store: entry %d is committed behind entry %d", applied, next.applied)
	}
	next.applied = applied
	for i := range b.writes {
		w := &b.writes[i]
		sum := &next.sums[w.key.Kind.index()]
		if w.had {
			sum.sub(w.old)
		}
		if w.has {
			sum.add(w.hash)
		}
	}
	return s.commit(b.writes, next)
}

// Unsure is why a transaction failed of which nobody knows whether it was made; nil when there is none. It is the writer's.
func (s *Store) Unsure() error { return s.unsure }

func (s *Store) commit(writes []write, next state) error {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if s.unsure != nil {
		return fmt.Errorf("write store: %w: %w", ErrUnsure, s.unsure)
	}
	if err := s.makeSpareLog(); err != nil {
		return fmt.Errorf("write store: %w", classify(err))
	}
	txn := s.db.NewTransactionAt(newest, true)
	defer txn.Discard()
	keys := make([]byte, 0, len(writes)*keyBytes)
	for i := range writes {
		w := &writes[i]
		from := len(keys)
		keys = w.key.append(keys)
		key := keys[from:len(keys):len(keys)]
		var err error
		switch {
		case w.has:
			err = txn.SetEntry(badger.NewEntry(key, w.value))
		case w.had:
			err = txn.Delete(key)
		}
		if err != nil {
			return fmt.Errorf("write store: %w", tooLarge(err))
		}
	}
	if err := txn.SetEntry(badger.NewEntry(stateKey, next.append(nil))); err != nil {
		return fmt.Errorf("write store: %w", tooLarge(err))
	}
	if err := s.fault.Before(AtCommit); err != nil {
		return fmt.Errorf("write store: %w", classify(err))
	}
	version := s.version + 1
	if err := s.fault.After(AtCommit, txn.CommitAt(version, nil)); err != nil {
		s.unsure = classify(err)
		return fmt.Errorf("write store: %w", s.unsure)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.state = version, next
	for i := range writes {
		switch w := &writes[i]; {
		case !w.key.Kind.hashed():
		case w.has:
			s.hashes[w.key] = w.hash
		default:
			delete(s.hashes, w.key)
		}
	}
	s.db.SetDiscardTs(s.oldest())
	return nil
}

func tooLarge(err error) error {
	if errors.Is(err, badger.ErrTxnTooBig) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}
