package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// makeStore makes a store from the log, under another name: from the newest snapshot, the entries behind it, the places of
// blocks, and the places of those carried events that somebody needs. It returns the sums of the new store.
func (q *Queue) makeStore() (sums store.Sums, err error) {
	dir := filepath.Join(q.opts.Dir, freshName)
	if err := os.RemoveAll(dir); err != nil {
		return sums, err
	}
	s, err := store.Open(q.storeOptions(dir, true))
	if err != nil {
		return sums, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(failedCloseLimit))
		}
	}()
	a := newApplier(s)
	snap, err := q.newestSnapshot()
	if err != nil {
		return sums, err
	}
	if snap.whole {
		err := snap.each(q, func(key store.Key, value []byte) error {
			if err := a.fit(1, len(value)); err != nil {
				return err
			}
			return a.batch.SetNew(key, append([]byte{}, value...))
		})
		if err != nil {
			return sums, err
		}
		a.applied = snap.at
	}
	if err := q.replayEntries(a, snap.at); err != nil {
		return sums, err
	}
	end, _ := q.log.End()
	a.applied = max(a.applied, end-1)
	err = q.log.Blocks(log.Entries, 0, func(p log.Place, info *log.Info) error {
		if info.Events == 0 {
			return nil
		}
		b := placeOf(p, info)
		return a.addPlace(&b, false)
	})
	if err != nil {
		return sums, err
	}
	if err := q.placeCarried(a); err != nil {
		return sums, err
	}
	if err := a.finish(); err != nil {
		return sums, err
	}
	_, sums = s.Sums()
	return sums, s.Seal(closeLimit)
}

// replayEntries applies the entries behind one.
func (q *Queue) replayEntries(a *applier, behind uint64) error {
	next := behind + 1
	lost := uint64(0)
	unread, err := q.entriesFrom(behind+1, func(h entry.Header, raw []byte) error {
		lost += h.Number - min(next, h.Number)
		next = h.Number + 1
		return a.add(h, raw)
	})
	if lost > 0 && err == nil {
		q.damaged.Add(int64(lost))
		q.opts.Notice(fmt.Sprintf("log: of the entries from which the store is made, %d are missing and %d can't be read, so attempts that they record may be made again", lost, unread))
	}
	return err
}

// placeCarried finds the carried events that a delivery needs, and writes their places.
func (q *Queue) placeCarried(a *applier) error {
	if err := a.finish(); err != nil {
		return err
	}
	found := map[uint64]carried{}
	err := q.log.Blocks(log.Carried, 0, func(p log.Place, _ *log.Info) error {
		b, err := q.log.Read(p)
		if errors.Is(err, codec.ErrDamaged) {
			return nil // the reader that needs one of them reports it
		}
		if err != nil {
			return err
		}
		return eachCarried(b, p, func(seq uint64, c carried) { found[seq] = c })
	})
	if err != nil || len(found) == 0 {
		return err
	}
	lanes, err := laneRecords(a.store)
	if err != nil {
		return err
	}
	needed := map[uint64]bool{}
	for _, kind := range []store.Kind{store.Retry, store.Failed} {
		err := a.store.Scan(store.First(kind), store.Last(kind), func(key store.Key, _ []byte) (bool, error) {
			needed[key.Number] = true
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	for seq, c := range found {
		c.lanes.Each(func(id LaneID) { needed[seq] = needed[seq] || lanes[id].holds(seq) })
		if !needed[seq] {
			continue
		}
		value := c.append(nil)
		if err := a.fit(1, len(value)); err != nil {
			return err
		}
		if err := a.batch.Set(store.CarriedKey(seq), value); err != nil {
			return err
		}
	}
	return nil
}

// laneRecords are the records of the lanes in a store.
func laneRecords(s *store.Store) (map[LaneID]*laneRecord, error) {
	lanes := map[LaneID]*laneRecord{}
	err := s.Scan(store.First(store.Lane), store.Last(store.Lane), func(key store.Key, value []byte) (bool, error) {
		if key == nextLaneKey {
			return true, nil
		}
		r, err := parseLane(value)
		lanes[LaneID(key.Lane)] = &r
		return true, err
	})
	return lanes, err
}

// holds reports whether an event that is for the lane is pending; of a lane that does not exist none is.
func (r *laneRecord) holds(seq uint64) bool {
	if r == nil || seq < r.cursor {
		return false
	}
	_, settled := slices.BinarySearch(r.settled, seq)
	return !settled
}

// eachCarried calls fn with each event of a block of carried events.
func eachCarried(b *log.Block, p log.Place, fn func(seq uint64, c carried)) error {
	frames, err := b.Frames()
	for _, f := range frames {
		ev, err := f.Find(f.First)
		if err != nil {
			return err
		}
		fn(f.First, carried{p, len(ev.Body), ev.Lanes})
	}
	return err
}

// installStore sets the old store aside, if there is one, and gives the new one its name. After an error it may be called
// again.
func (q *Queue) installStore() (aside string, err error) {
	dir, fresh := filepath.Join(q.opts.Dir, storeName), filepath.Join(q.opts.Dir, freshName)
	_, err = os.Lstat(fresh)
	switch _, there := os.Lstat(dir); {
	case there != nil:
	case errors.Is(err, os.ErrNotExist):
		return "", nil // the new one has the name already
	default:
		aside = q.opts.asidePath("store")
		if err := store.SetAside(dir, aside, q.opts.fault); err != nil {
			return aside, err
		}
	}
	return aside, store.Install(fresh, dir, q.opts.fault)
}

// asidePath is a name in aside/ that does not exist yet.
func (o *Options) asidePath(what string) string {
	for n := time.Now().Unix(); ; n++ {
		path := filepath.Join(o.Dir, "aside", fmt.Sprintf("%s-%d", what, n))
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
}
