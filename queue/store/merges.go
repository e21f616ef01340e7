package store

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	badger "github.com/dgraph-io/badger/v4"
)

// mergeWatch knows which tables there were at the last look, and what was merged until then.
type mergeWatch struct {
	mu       sync.Mutex
	count    uint64               // of looks that found a merge
	kinds    []Kind               // in what was merged since the last call of Merged
	tables   map[uint64]kindRange // by number
	highest  uint64               // table number so far
	manifest os.FileInfo          // as it was
}

// kindRange is the first and the last kind that a table has records of.
type kindRange struct{ from, to Kind }

func (m *mergeWatch) begin(s *Store) (err error) {
	if m.manifest, err = os.Stat(filepath.Join(s.dir, badger.ManifestFilename)); err != nil {
		return err
	}
	m.tables, err = s.tables()
	for id := range m.tables {
		m.highest = max(m.highest, id)
	}
	return err
}

func (s *Store) tables() (map[uint64]kindRange, error) {
	tables := map[uint64]kindRange{}
	err := s.read(newest, func(*badger.Txn) error {
		for _, t := range s.db.Tables() {
			tables[t.ID] = kindRange{Kind(t.Left[0]), Kind(t.Right[0])}
		}
		return nil
	})
	return tables, err
}

// Merged returns the kinds whose records were in tables that Badger merged since the last call, or since Open. Badger may
// lose records in a merge, and Check of these kinds finds that. merges is what Merges says now. A log that became a table is no merge. It is to be called
// every few seconds; it costs some microseconds.
func (s *Store) Merged() (kinds []Kind, merges uint64) {
	m := &s.merges
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look(s)
	kinds, m.kinds = m.kinds, nil
	return kinds, m.count
}

// Merges is a number that is another one when Badger has merged tables since, and so may have lost records of which the
// caller knows nothing. It costs some microseconds.
func (s *Store) Merges() uint64 {
	m := &s.merges
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look(s)
	return m.count
}

// look notes what was merged since the last look. The caller holds mu.
func (m *mergeWatch) look(s *Store) {
	merged := m.merged(s)
	if len(merged) == 0 {
		return
	}
	m.count++
	for _, k := range merged {
		if !slices.Contains(m.kinds, k) {
			m.kinds = append(m.kinds, k)
		}
	}
}

// merged returns the kinds that were in tables that were merged since the last call. The caller holds mu.
func (m *mergeWatch) merged(s *Store) []Kind {
	// What is written into MANIFEST meanwhile is found by the next call, so MANIFEST comes first.
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
	var spans []kindRange
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
		return slices.Clone(Kinds) // MANIFEST has a change that has come and gone, or is just being made
	case gone == 0:
		return nil
	}
	var kinds []Kind
	for _, k := range Kinds {
		if slices.ContainsFunc(spans, func(s kindRange) bool { return s.from <= k && k <= s.to }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}
