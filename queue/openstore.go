package queue

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// openIndex opens the store and applies to it what the log has behind it. A store that does not exist or is damaged is made
// from the log.
func (q *Queue) openIndex(undo *[]func() error) error {
	restored := readRestored(q.opts.Dir)
	taken := filepath.Join(q.opts.Dir, takeoverName)
	_, err := os.Lstat(taken)
	if err := q.openStore(undo, restored != nil || err == nil); err != nil {
		return err
	}
	if restored != nil {
		if err := q.reportRestored(restored); err != nil {
			return err
		}
	}
	if err != nil {
		return nil
	}
	return q.faultStep(placeTakeoverEnd, func() error { return os.RemoveAll(taken) })
}

// openStore is openIndex. first: there is no store yet, and that is no damage.
func (q *Queue) openStore(undo *[]func() error, first bool) error {
	dir := filepath.Join(q.opts.Dir, storeName)
	why := ""
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if end, _ := q.log.End(); end > 1 {
			why = "it is missing"
		}
	}
	if why == "" {
		s, err := store.Open(q.storeOptions(dir, false))
		switch {
		case err == nil:
			q.index.store = s
			why, err = q.catchUp(s)
			if why == "" && err == nil {
				*undo = append(*undo, func() error { return q.index.store.Close(failedCloseLimit) })
				return s.Opened()
			}
			if err2 := s.Close(failedCloseLimit); err != nil {
				return errors.Join(err, err2)
			}
		case errors.Is(err, codec.ErrDamaged) || errors.Is(err, store.ErrNoAnswer) || errors.Is(err, store.ErrDied):
			why = err.Error()
		default:
			return err
		}
	}
	began := uptime()
	sums, err := q.makeStore()
	if err != nil {
		return err
	}
	aside, err := q.installStore()
	if err != nil {
		return err
	}
	if !first || aside != "" {
		q.reportRemade(why, aside, sums, since(began)) // whatever follows, the damaged one is gone
	}
	s, err := store.Open(q.storeOptions(dir, false))
	if err != nil {
		return err
	}
	q.index.store = s
	*undo = append(*undo, func() error { return q.index.store.Close(failedCloseLimit) })
	return s.Opened()
}

// catchUp applies to the store what the log has behind it. why says what is wrong with the store, "" when nothing is.
func (q *Queue) catchUp(s *store.Store) (why string, err error) {
	applied := s.Applied()
	if first := q.log.Segments()[0].FirstEntry; applied+1 < first {
		return fmt.Sprintf("it is an older store: it ends with entry %d, and the log begins with entry %d", applied, first), nil
	}
	// Carried events are no entries: an older store would never learn their places.
	if had := q.checkpoint.last.applied; applied < had {
		return fmt.Sprintf("it is an older store: it ends with entry %d, and it had come to entry %d", applied, had), nil
	}
	a := newApplier(s)
	next := applied + 1
	_, err = q.entriesFrom(applied+1, func(h entry.Header, raw []byte) error {
		next = h.Number + 1
		return a.add(h, raw)
	})
	if err == nil {
		// The store counts numbers that the log skipped, too.
		a.applied = max(a.applied, next-1)
		err = q.placeLast(a, applied)
	}
	if err == nil {
		err = a.finish()
	}
	if err == nil && len(a.missing) == 0 {
		err = q.dropLanes(a)
	}
	switch {
	case errors.Is(err, codec.ErrDamaged):
		return err.Error(), nil
	case err != nil:
		return "", err
	case len(a.missing) > 0:
		return fmt.Sprintf("%d records that were to be replaced are missing", len(a.missing)), nil
	}
	return "", nil
}

// placeLast writes the places of the blocks behind the entries that the store had, and of those that were appended anew.
func (q *Queue) placeLast(a *applier, applied uint64) error {
	segments := q.log.Segments()
	last := segments[len(segments)-1]
	var drop []store.Key
	err := a.store.Scan(store.PlaceKey(last.FirstEvent), store.Last(store.Place), func(key store.Key, _ []byte) (bool, error) {
		drop = append(drop, key)
		return true, nil
	})
	if err != nil {
		return err
	}
	if err := a.delete(drop...); err != nil {
		return err
	}
	from := min(last.FirstEntry, applied+1)
	err = q.log.Blocks(log.Entries, from, func(p log.Place, info *log.Info) error {
		if info.Events == 0 {
			return nil
		}
		b := placeOf(p, info)
		return a.addPlace(&b, p.Segment != last.Number)
	})
	if err != nil {
		return err
	}
	return q.log.BlocksOf(last.Number, log.Carried, func(p log.Place, _ *log.Info) error {
		b, err := q.log.Read(p)
		if err != nil {
			return nil // the reader that needs one of them reports it
		}
		var failed error
		err = eachCarried(b, p, func(seq uint64, c carried) {
			had, err := a.store.Get(store.CarriedKey(seq))
			if err == nil && had != nil {
				if err = a.fit(1, len(had)+8); err == nil {
					err = a.batch.Set(store.CarriedKey(seq), c.append(nil))
				}
			}
			failed = errors.Join(failed, err)
		})
		return errors.Join(err, failed)
	})
}

// dropLanes deletes what is left of lanes that were not discarded to the end: their own records went first.
func (q *Queue) dropLanes(a *applier) error {
	for _, kind := range []store.Kind{store.Retry, store.Replay, store.Failed} {
		for from := store.First(kind); ; {
			key, _, found, err := a.store.Seek(from, store.Last(kind))
			if err != nil || !found {
				if err != nil {
					return err
				}
				break
			}
			record, err := a.store.Get(store.LaneKey(key.Lane))
			if err != nil {
				return err
			}
			if record == nil {
				if err := a.dropLane(LaneID(key.Lane)); err != nil {
					return err
				}
			}
			if key.Lane == math.MaxUint32 {
				break
			}
			from = store.Key{Kind: kind, Lane: key.Lane + 1}
		}
	}
	return nil
}
