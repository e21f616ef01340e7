package store

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	badger "github.com/dgraph-io/badger/v4"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/fault"
)

// Options say which store is opened, and how.
type Options struct {
	Dir       string       // made when it does not exist
	MemTable  int64        // bytes of a table in memory, 0 for 4 MiB; never less than the store was made with
	Notice    func(string) // gets what Badger warns of, a line each; may be nil
	MakeSpace func() bool  // makes room on a full disk, false when it can't; may be nil
	Fault     fault.Func
	NoMerges  bool // Badger merges no tables

	// Fresh opens a store that is being made: in an empty directory, without a guard, and without syncs. It is worth nothing
	// until Seal, which also closes it.
	Fresh bool
}

// Store is an open store. One goroutine writes, with Batch. Everything else may be called by any goroutine at any time: readers see
// the newest state and wait for no write.
type Store struct {
	db        *badger.DB
	dir       string
	memTable  int64
	fault     fault.Func
	makeSpace func() bool
	fresh     bool

	open   sync.RWMutex // held for reading while db is used, for writing while it is closed
	closed bool

	mu      sync.RWMutex   // shared by readers and the writer; never held over disk
	version uint64         // of the last transaction
	state   state          // after it
	hashes  map[Key]uint64 // of the records of hashed kinds, after it
	pins    map[uint64]int // how many readers read at a version

	unsure   error  // of the transaction that failed; the writer's, as the next two
	nextLog  int    // no log with a lower number is free
	spareLog string // the spare log that this process made

	suspected sync.Once
	suspect   chan struct{}
	cause     error // written before suspect is closed

	merges mergeWatch
}

const defaultMemTable = 4 << 20

// mismatched makes one error from mismatches, nil from none.
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

// Applied is the number of the entry up to which the log is in the store. It reads memory.
func (s *Store) Applied() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.applied
}

// Sums are the sums as of Applied. It reads memory.
func (s *Store) Sums() (applied uint64, sums Sums) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.applied, s.state.sums
}

// Suspect is closed when anything in the store turned out to be unreadable, missing or wrong. Then the store is to be
// closed, set aside and made again.
func (s *Store) Suspect() <-chan struct{} { return s.suspect }

// Cause is why the store is suspect, nil when it is not.
func (s *Store) Cause() error {
	select {
	case <-s.suspect:
		return s.cause
	default:
		return nil
	}
}

// noteSuspect makes the store suspect if the error says so, and returns the error.
func (s *Store) noteSuspect(err error) error {
	if errors.Is(err, codec.ErrDamaged) || errors.Is(err, ErrNoAnswer) {
		s.suspected.Do(func() {
			s.cause = err
			close(s.suspect)
		})
	}
	return err
}

// pinVersion keeps the records as of the last transaction until unpinVersion, and calls look while the hashes in memory are
// those of that version.
func (s *Store) pinVersion(look func()) (version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins[s.version]++
	look()
	return s.version
}

func (s *Store) unpinVersion(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[version]--; s.pins[version] == 0 {
		delete(s.pins, version)
	}
	s.db.SetDiscardTs(s.oldest())
}

// oldest is the oldest version that is read. The caller holds mu.
func (s *Store) oldest() uint64 {
	oldest := s.version
	for v := range s.pins {
		oldest = min(oldest, v)
	}
	return oldest
}

// newest is the version at which everything visible is read.
const newest = math.MaxUint64

// Bytes is about how many bytes of disk the tables take. Badger counts them from time to time.
func (s *Store) Bytes() int64 {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return 0
	}
	tables, logs := s.db.Size()
	return tables + logs
}

// The places of faults.
const (
	AtCommit      = "commit of the store"
	AtSpare       = "spare log of the store"
	AtMapTable    = "map of a table of the store"
	AtMapLog      = "map of a log of the store"
	AtGuard       = "guard of the opening store"
	AtGuardRemove = "removal of the store's guard"
	AtSeal        = "seal of the new store"
	AtSetAside    = "setting the store aside"
	AtInstallNew  = "name of the new store"
)
