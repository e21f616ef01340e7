package store

import (
	"errors"
	"runtime"
)

// stepRecords is how many records are read at a time.
const stepRecords = 2048

// Check reads all records of the kinds, of all kinds when none is named, and compares them with the sums that were kept as
// they were written. It reads disk, a few thousand records at a time, as of its beginning; writes go on, and what they
// replace is kept meanwhile. A mismatch makes the store suspect. The error is ErrClosed; whatever can't be read is a
// mismatch.
func (s *Store) Check(kinds ...Kind) (list []Mismatch, err error) {
	if len(kinds) == 0 {
		kinds = Kinds
	}
	var want state
	version := s.pinVersion(func() { want = s.state })
	defer s.unpinVersion(version)
	if version > 0 {
		raw, err := s.raw(version, stateKey)
		var stored state
		if err == nil && raw != nil {
			stored, err = parseState(raw)
		}
		switch {
		case errors.Is(err, ErrClosed):
			return nil, err
		case err != nil || stored != want:
			list = append(list, Mismatch{Kind: State, Err: err})
		}
	}
	for _, k := range kinds {
		m := Mismatch{Kind: k, Want: want.sums.Of(k)}
		m.Err = s.sumUp(version, k, &m.Found, nil)
		if errors.Is(m.Err, ErrClosed) {
			return nil, m.Err
		}
		if m.Err != nil || m.Want != m.Found {
			list = append(list, m)
		}
	}
	_ = s.noteSuspect(mismatched(list))
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

// step calls fn with the records of a kind from a key on, stepRecords at most. It returns where the next step begins, if
// there is one.
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
