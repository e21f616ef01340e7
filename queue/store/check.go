package store

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	badger "github.com/dgraph-io/badger/v4"
)

// stepRecords is how many records are read at a time by a comparison.
const stepRecords = 2048

// Check reads all records of the kinds (of all kinds when none is named) and compares them with the sums that were kept as
// they were written. Writes go on: it looks at the state as of its beginning, a few thousand records at a time, and holds
// nothing between these but the old versions of what is written meanwhile. A mismatch makes the store suspect. The error is
// ErrClosed; whatever can't be read is a mismatch.
func (s *Store) Check(kinds ...Kind) (list []Mismatch, err error) {
	if len(kinds) == 0 {
		kinds = Kinds
	}
	var kept state
	version := s.pin(func() { kept = s.state })
	defer s.unpin(version)
	if version > 0 {
		raw, err := s.raw(version, stateKey)
		var stored state
		if err == nil && raw != nil {
			stored, err = parseState(raw)
		}
		switch {
		case errors.Is(err, ErrClosed):
			return nil, err
		case err != nil || stored != kept:
			list = append(list, Mismatch{Kind: State, Err: err})
		}
	}
	for _, k := range kinds {
		m := Mismatch{Kind: k, Kept: kept.sums.Of(k)}
		m.Err = s.sumUp(version, k, &m.Found, nil)
		if errors.Is(m.Err, ErrClosed) {
			return nil, m.Err
		}
		if m.Err != nil || m.Kept != m.Found {
			list = append(list, m)
		}
	}
	_ = s.doubt(mismatched(list))
	return list, nil
}

// sumUp adds up what can be read of a kind, step by step.
func (s *Store) sumUp(version uint64, k Kind, sum *Sum, visit func(Key, uint64)) error {
	from, more := First(k), true
	for more {
		n := 0
		last := from
		err := s.walk(version, from, Last(k), func(key Key, value []byte) (bool, error) {
			hash := hashOf(key, value)
			sum.add(hash)
			if visit != nil {
				visit(key, hash)
			}
			last = key
			n++
			return n < stepRecords, nil
		})
		if err != nil {
			return err
		}
		if more = n == stepRecords; more {
			from, more = last.next()
			runtime.Gosched()
		}
	}
	return nil
}

// merges knows which tables there were when Merged was last asked.
type merges struct {
	mu       sync.Mutex
	tables   map[uint64]span // by number
	highest  uint64          // number so far
	manifest os.FileInfo     // as it was
}

// span is the kinds from which to which a table has records.
type span struct{ from, to Kind }

func (m *merges) begin(s *Store) (err error) {
	if m.manifest, err = os.Stat(filepath.Join(s.dir, badger.ManifestFilename)); err != nil {
		return err
	}
	m.tables, err = s.tables()
	for id := range m.tables {
		m.highest = max(m.highest, id)
	}
	return err
}

func (s *Store) tables() (map[uint64]span, error) {
	tables := map[uint64]span{}
	err := s.read(newest, func(*badger.Txn) error {
		for _, t := range s.db.Tables() {
			tables[t.ID] = span{Kind(t.Left[0]), Kind(t.Right[0])}
		}
		return nil
	})
	return tables, err
}

// Merged returns the kinds whose records were in tables that Badger merged since it was last asked, or since Open: a merge
// is where Badger may lose records, and Check of these kinds finds out. A log that became a table is no merge. Ask it every
// few seconds; it costs some microseconds.
func (s *Store) Merged() []Kind {
	m := &s.merges
	m.mu.Lock()
	defer m.mu.Unlock()
	// What is written into MANIFEST while we look is seen by the next look, so MANIFEST comes first.
	manifest, err := os.Stat(filepath.Join(s.dir, badger.ManifestFilename))
	if err != nil {
		return slices.Clone(Kinds)
	}
	tables, err := s.tables()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	if err != nil {
		return slices.Clone(Kinds)
	}
	changed := manifest.Size() != m.manifest.Size() || manifest.ModTime() != m.manifest.ModTime()
	if !changed && maps.Equal(tables, m.tables) {
		return nil
	}
	old, from := m.tables, m.highest
	m.tables, m.manifest = tables, manifest
	var spans []span
	made, gone := 0, 0
	for id, span := range tables {
		m.highest = max(m.highest, id)
		if _, was := old[id]; !was {
			made++
			spans = append(spans, span)
		}
	}
	for id, span := range old {
		if _, is := tables[id]; !is {
			gone++
			spans = append(spans, span)
		}
	}
	switch {
	case uint64(made) != m.highest-from:
		return slices.Clone(Kinds) // a table came and went, or was never made
	case made+gone == 0:
		return slices.Clone(Kinds) // MANIFEST tells of a change that has come and gone, or is just being made
	case gone == 0:
		return nil
	}
	var kinds []Kind
	for _, k := range Kinds {
		if slices.ContainsFunc(spans, func(s span) bool { return s.from <= k && k <= s.to }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// Dump calls fn with all records of the kinds, as of one moment, and compares them with their sums while it goes: it
// returns the mismatches and what ended it. The value is valid during the call. Writes wait for nothing.
func (s *Store) Dump(fn func(key Key, value []byte) error, kinds ...Kind) (list []Mismatch, err error) {
	var kept state
	version := s.pin(func() { kept = s.state })
	defer s.unpin(version)
	for _, k := range kinds {
		m := Mismatch{Kind: k, Kept: kept.sums.Of(k)}
		from, more := First(k), true
		for more {
			n := 0
			last := from
			err := s.walk(version, from, Last(k), func(key Key, value []byte) (bool, error) {
				m.Found.add(hashOf(key, value))
				last = key
				n++
				return n < stepRecords, fn(key, value)
			})
			if err != nil {
				return list, err
			}
			if more = n == stepRecords; more {
				from, more = last.next()
			}
		}
		if m.Kept != m.Found {
			list = append(list, m)
		}
	}
	_ = s.doubt(mismatched(list))
	return list, nil
}
