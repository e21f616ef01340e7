package queue

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// Nothing has its only copy in the store. When something in it is missing or wrong, which its sums tell, a new one is made
// from the log, and the old one is set aside: at a start before anything is served, else by the keeper while the relay
// serves, so that for this time nothing new is saved, and no longer than the journal has room is anything kept waiting.
//
// If we die meanwhile: the new store has another name until it is whole, and is begun anew; between the two renames there
// is no store, and the next start makes one.
const (
	// checkEvery is how often the keeper asks whether Badger merged tables, which is where it loses records.
	checkEvery = 5 * time.Second
	freshName  = "store.new"
	// remakeRest is how many times as long as it took nobody tries again to make a store, after it went wrong.
	remakeRest = 10
	// The new store gets its place in some tries: between the old one and it nobody can read.
	replaceTries = 12
	replaceRest  = 250 * time.Millisecond
)

// errUnmade: the store could not be made again. The log has all that belongs into it, so that is tried again, as what a full
// disk refused is.
var errUnmade = errors.New("the store can't be made again yet")

// unmade is what kept a store from being made the last time.
type unmade struct {
	err   error
	until int64 // nobody tries again before (uptime)
}

// storeOptions are those of the store in dir.
func (q *Queue) storeOptions(dir string, fresh bool) store.Options {
	return store.Options{
		Dir: dir, MemTable: q.memTable, Notice: func(line string) { q.opts.Notice("store: " + line) },
		Relief: func() bool { return q.disk.give(q.opts) == nil }, Fault: q.opts.fault, Fresh: fresh,
	}
}

// doubt has the store compared with its sums before long.
func (k *keeper) doubt() {
	if k.suspected.CompareAndSwap(false, true) {
		signal(k.suspect)
	}
}

// watchStore has the store compared when it says that something of it could not be read, until stop is closed.
func (q *Queue) watchStore(s *store.Store, stop <-chan struct{}) {
	select {
	case <-s.Suspect():
		q.keeper.doubt()
	case <-q.closing:
	case <-stop:
	}
}

// watch has a store watched in a goroutine that the queue waits for.
func (q *Queue) watch(s *store.Store) {
	stop := make(chan struct{})
	q.replaced = stop
	q.owners.Go(func() { q.watchStore(s, stop) })
}

// lookForMerges compares the kinds of records that were in tables which were merged. It reads beside the keeper.
func (k *keeper) lookForMerges(q *Queue) {
	if k.checking.Load() {
		return
	}
	if k.suspected.Load() { // it could not be made again
		signal(k.suspect)
		return
	}
	kinds := q.index.store.Merged()
	if len(kinds) == 0 {
		return
	}
	k.check(q, kinds)
}

// check compares kinds of records with their sums, in a goroutine that the queue waits for.
func (k *keeper) check(q *Queue, kinds []store.Kind) {
	k.checking.Store(true)
	s := q.index.store
	q.owners.Go(func() {
		defer k.checking.Store(false)
		if list, err := s.Check(kinds...); err == nil && len(list) > 0 {
			k.doubt()
		}
	})
}

// compare compares the whole store with its sums and makes it again when they differ.
func (k *keeper) compare(q *Queue) error {
	var what []string
	list, err := q.index.store.Check()
	if err == nil && len(list) == 0 && q.index.store.Cause() == nil {
		// What was missed is there: it was deleted, or read while it was being written. Only the log can tell.
		var lost bool
		if lost, err = q.lostPlaces(); err == nil && !lost {
			k.suspected.Store(false)
			return nil
		}
		if lost {
			what = append(what, "places of blocks are missing")
		}
	}
	if errors.Is(err, store.ErrClosed) {
		return nil
	}
	for _, m := range list {
		what = append(what, m.String())
	}
	if cause := q.index.store.Cause(); cause != nil && len(what) == 0 {
		what = append(what, cause.Error())
	}
	if err := k.remake(q, strings.Join(what, "; ")); err != nil {
		if q.disk.lacking(q, err) {
			k.starved.Store(true)
			return nil
		}
		return err
	}
	k.suspected.Store(false)
	return nil
}

// lostPlaces reports whether the log has blocks of events that the store does not know.
func (q *Queue) lostPlaces() (lost bool, err error) {
	applied := q.index.store.Applied()
	err = q.log.Blocks(log.Entries, 0, func(_ log.Place, info *log.Info) error {
		if info.Events == 0 || info.EndEntry() > applied+1 {
			return nil
		}
		value, err := q.index.get(store.PlaceKey(info.EndEvent() - 1))
		if err == nil && value == nil {
			lost = true
		}
		return err
	})
	return lost, err
}

// remake makes a store from the log and puts it in the place of the one in use.
func (k *keeper) remake(q *Queue, why string) error {
	if uptime() < k.unmade.until {
		return k.unmade.err
	}
	began := uptime()
	k.endSnapshot()
	sums, err := q.makeStore()
	if err != nil {
		if k.unmade.err == nil {
			q.opts.Notice(fmt.Sprintf("the store is damaged and can't be made again yet: %v. The log goes on alone, and it is tried again until it is made", err))
		}
		if !isLack(err) || errors.Is(err, store.ErrUnsure) {
			err = fmt.Errorf("%w: %v", errUnmade, err)
		}
		k.unmade = unmade{err, uptime() + max(int64(starvedWait), remakeRest*(uptime()-began))}
		return err
	}
	k.unmade = unmade{}
	if err := k.replace(q, func(aside string) { q.tellRemade(why, aside, sums, since(began)) }); err != nil {
		// There is no store in use any more: whatever it is, only the next start goes on, with what it finds.
		return fmt.Errorf("replace the store: %v", err)
	}
	k.places = nil // it has them, and what is pending
	q.watch(q.index.store)
	if err := q.recountFailed(); err != nil {
		return err
	}
	return k.retain.countCarried(q) // those that nobody needs any more are not in it
}

// replace closes the store in use and opens the one that was made. Whoever reads waits meanwhile. It tells once the new one has its
// name, also when that can't be opened then: what was damaged is gone.
func (k *keeper) replace(q *Queue, tell func(aside string)) error {
	where, named := "", false
	defer func() {
		if named {
			tell(where) // without the lock: nobody who reads waits for whoever listens
		}
	}()
	q.index.mu.Lock()
	defer q.index.mu.Unlock()
	close(q.replaced)
	_ = q.index.store.Close(failedCloseLimit) // it is damaged; what it can't write is not needed
	var opened *store.Store
	step := func() error {
		aside, err := q.installStore()
		if where = cmp.Or(aside, where); err != nil {
			return err
		}
		named = true
		if opened == nil {
			if opened, err = store.Open(q.storeOptions(filepath.Join(q.opts.Dir, storeName), false)); err != nil {
				return err
			}
			q.index.store = opened
		}
		return opened.Opened()
	}
	for n := 1; ; n++ {
		err := step()
		if err == nil || n == replaceTries || q.over() {
			return err
		}
		select {
		case <-time.After(replaceRest):
		case <-q.closing:
		}
	}
}

func (q *Queue) tellRemade(why, aside string, sums store.Sums, took time.Duration) {
	q.damaged.Add(1)
	where := ""
	if aside != "" {
		where = fmt.Sprintf("; the damaged one was set aside as %q", aside)
	}
	q.opts.Notice(fmt.Sprintf("store was damaged: %s. It was made again from the log in %v, with %d places of blocks, %d lanes, %d retries, %d replays and %d failed deliveries: no delivery was lost%s",
		why, took.Round(time.Millisecond), sums.Of(store.Place).Count, sums.Of(store.Lane).Count, sums.Of(store.Retry).Count,
		sums.Of(store.Replay).Count, sums.Of(store.Failed).Count, where))
}

// installStore sets the old store aside, if there is one, and gives the new one its name. After an error it may be called again.
func (q *Queue) installStore() (aside string, err error) {
	dir, fresh := filepath.Join(q.opts.Dir, storeName), filepath.Join(q.opts.Dir, freshName)
	_, err = os.Lstat(fresh)
	switch _, there := os.Lstat(dir); {
	case there != nil:
	case errors.Is(err, os.ErrNotExist):
		return "", nil // it has it
	default:
		aside = q.opts.asidePath("store")
		if err := store.SetAside(dir, aside, q.opts.fault); err != nil {
			return aside, err
		}
	}
	return aside, store.Install(fresh, dir, q.opts.fault)
}

// asidePath is a name in aside/ that nothing has yet.
func (o *Options) asidePath(what string) string {
	for n := time.Now().Unix(); ; n++ {
		path := filepath.Join(o.Dir, "aside", fmt.Sprintf("%s-%d", what, n))
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
}

// makeStore makes a store from the log under another name: the newest snapshot, the entries behind it, the places of
// blocks, and of carried events those that somebody needs. It returns the sums of what it made.
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
			if err := a.room(1, len(value)); err != nil {
				return err
			}
			return a.batch.SetNew(key, append([]byte{}, value...))
		})
		if err != nil {
			return sums, err
		}
		a.applied = snap.at
	}
	if err := q.replay(a, snap.at); err != nil {
		return sums, err
	}
	end, _ := q.log.End()
	a.applied = max(a.applied, end-1)
	err = q.log.Blocks(log.Entries, 0, func(p log.Place, info *log.Info) error {
		if info.Events == 0 {
			return nil
		}
		b := placeOf(p, info)
		return a.place(&b, false)
	})
	if err != nil {
		return sums, err
	}
	if err := q.placeCarried(a); err != nil {
		return sums, err
	}
	if err := a.end(); err != nil {
		return sums, err
	}
	_, sums = s.Sums()
	return sums, s.Seal(closeLimit)
}

// replay applies the entries behind one.
func (q *Queue) replay(a *applier, behind uint64) error {
	next := behind + 1
	lost := uint64(0)
	unread, err := q.entriesFrom(behind+1, func(h entry.Header, raw []byte) error {
		lost += h.Number - min(next, h.Number)
		next = h.Number + 1
		return a.entry(h, raw)
	})
	if lost > 0 && err == nil {
		q.damaged.Add(int64(lost))
		q.opts.Notice(fmt.Sprintf("log: of the entries that make the store, %d are missing and %d can't be read: what lanes did in them may be done again", lost, unread))
	}
	return err
}

// placeCarried finds the carried events that a delivery needs.
func (q *Queue) placeCarried(a *applier) error {
	if err := a.end(); err != nil {
		return err
	}
	found := map[uint64]carried{}
	err := q.log.Blocks(log.Carried, 0, func(p log.Place, _ *log.Info) error {
		b, err := q.log.Read(p)
		if errors.Is(err, codec.ErrDamaged) {
			return nil // whoever needs one of them tells
		}
		if err != nil {
			return err
		}
		return eachCarried(b, p, func(seq uint64, c carried) { found[seq] = c })
	})
	if err != nil || len(found) == 0 {
		return err
	}
	lanes, err := recordsOf(a.store)
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
		if err := a.room(1, len(value)); err != nil {
			return err
		}
		if err := a.batch.Set(store.CarriedKey(seq), value); err != nil {
			return err
		}
	}
	return nil
}

// recordsOf are the records of the lanes in a store.
func recordsOf(s *store.Store) (map[LaneID]*laneRecord, error) {
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

// holds reports whether an event that is for the lane is pending; of no lane none is.
func (r *laneRecord) holds(seq uint64) bool {
	if r == nil || seq < r.cursor {
		return false
	}
	_, settled := slices.BinarySearch(r.settled, seq)
	return !settled
}

// eachCarried calls fn with what the store has of each event of a block of carried ones.
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
