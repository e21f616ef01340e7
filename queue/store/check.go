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
		var err error
		from, more, err = s.step(version, from, func(key Key, value []byte) error {
			hash := hashOf(key, value)
			sum.add(hash)
			if visit != nil {
				visit(key, hash)
			}
			return nil
		})
		if err != nil {
			return err
		}
		runtime.Gosched()
	}
	return nil
}

// step calls fn with the records of a kind from a key on, at most stepRecords. It returns where the next step begins, if there
// is one.
func (s *Store) step(version uint64, from Key, fn func(Key, []byte) error) (next Key, more bool, err error) {
	n, last := 0, from
	err = s.walk(version, from, Last(from.Kind), func(key Key, value []byte) (bool, error) {
		last = key
		n++
		return n < stepRecords, fn(key, value)
	})
	if err != nil || n < stepRecords {
		return from, false, err
	}
	next, more = last.next()
	return next, more, nil
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

// Dump reads all records of some kinds as of one moment, a step at a time, and compares them with their sums. Writes wait for
// nothing; what they replace is kept until End. One goroutine uses it.
type Dump struct {
	store   *Store
	version uint64
	kept    state
	kinds   []Kind // that are left; the first is being read
	from    Key
	found   Sum // so far, of that kind
	wrong   []Mismatch
}

// Dump begins one as of now. It is ended with End.
func (s *Store) Dump(kinds ...Kind) *Dump {
	d := &Dump{store: s, kinds: kinds, from: First(kinds[0])}
	d.version = s.pin(func() { d.kept = s.state })
	return d
}

// Applied is the number of the entry that the records are as of.
func (d *Dump) Applied() uint64 { return d.kept.applied }

// Step calls fn with the next records, at most stepRecords, and reports whether there are more. The value is valid during the
// call. The error of the last step wraps codec.ErrDamaged when what was read is not what the sums say; the store is then suspect.
func (d *Dump) Step(fn func(key Key, value []byte) error) (more bool, err error) {
	d.from, more, err = d.store.step(d.version, d.from, func(key Key, value []byte) error {
		d.found.add(hashOf(key, value))
		return fn(key, value)
	})
	if err != nil || more {
		return more, err
	}
	k := d.kinds[0]
	if kept := d.kept.sums.Of(k); kept != d.found {
		d.wrong = append(d.wrong, Mismatch{Kind: k, Kept: kept, Found: d.found})
	}
	d.kinds, d.found = d.kinds[1:], Sum{}
	if len(d.kinds) > 0 {
		d.from = First(d.kinds[0])
		return true, nil
	}
	return false, d.store.doubt(mismatched(d.wrong))
}

// End lets go what the dump kept.
func (d *Dump) End() { d.store.unpin(d.version) }
