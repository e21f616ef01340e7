package queue

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// Nothing has its only copy in the store. When its sums say that something in it is missing or wrong, a new store is made
// from the log, and the old one is set aside. A start does that before anything is served. Later the writer does it while
// the relay serves: nothing is saved meanwhile, and events are accepted until the journal is full.
//
// If we die meanwhile: the new store has another name until it is whole, and is begun anew. Between the two renames there is
// no store, and the next start makes one.
const (
	// checkEvery is how often the writer asks whether Badger merged tables, which is where it loses records.
	checkEvery = 5 * time.Second
	freshName  = "store.new"
	// After a store could not be made, nobody tries again for remakePause times as long as that took, nor for longer than
	// remakePauseMost: nothing is saved meanwhile, and the disk may be well again.
	remakePause     = 10
	remakePauseMost = 10 * time.Second
	// The new store takes the old one's place in at most replaceTries tries: between the two nobody can read.
	replaceTries = 12
	replacePause = 250 * time.Millisecond
)

// errNotRemade: the store could not be made again. The log has everything that belongs into it, so this is tried again, like
// what a full disk refused.
var errNotRemade = errors.New("the store can't be made again yet")

// remakeFailure is why the store could not be made the last time.
type remakeFailure struct {
	err   error
	until int64 // nobody tries again before (uptime)
}

// storeOptions are the options of the store in dir.
func (q *Queue) storeOptions(dir string, fresh bool) store.Options {
	return store.Options{
		Dir: dir, MemTable: q.memTable, Notice: q.opts.Notice,
		MakeSpace: func() bool { return q.disk.releaseBallast(q.opts) == nil }, Fault: q.opts.fault, Fresh: fresh, NoMerges: q.opts.noMerges,
	}
}

// suspectStore has the store compared with its sums soon.
func (w *writer) suspectStore() {
	if w.storeSuspected.CompareAndSwap(false, true) {
		wakeUp(w.storeSuspect)
	}
}

// awaitSuspicion has the store compared when the store reports that something could not be read, until stop is closed.
func (q *Queue) awaitSuspicion(s *store.Store, stop <-chan struct{}) {
	select {
	case <-s.Suspect():
		q.writer.suspectStore()
	case <-q.closing:
	case <-stop:
	}
}

// watchStore runs awaitSuspicion in a goroutine that Close waits for.
func (q *Queue) watchStore(s *store.Store) {
	stop := make(chan struct{})
	q.replaced = stop
	q.owners.Go(func() { q.awaitSuspicion(s, stop) })
}

// checkMerged compares those kinds of records that were in tables which Badger merged, in another goroutine.
func (w *writer) checkMerged(q *Queue) {
	if w.checkRunning.Load() {
		return
	}
	if w.storeSuspected.Load() { // it could not be made again yet
		wakeUp(w.storeSuspect)
		return
	}
	kinds, merges := q.index.store.Merged()
	switch was := w.sound.Load(); {
	case was == nil || was.store != q.index.store: // it was made again, or its last comparison did not end well
		kinds = slices.Clone(store.Kinds)
	case was.merges == merges:
		return
	}
	w.checkKinds(q, kinds, merges)
}

// checkKinds compares kinds of records with their sums, in a goroutine that Close waits for. merges is what Store.Merges said
// before; the kinds are all of which something was merged until then.
func (w *writer) checkKinds(q *Queue, kinds []store.Kind, merges uint64) {
	w.checkRunning.Store(true)
	s := q.index.store
	q.owners.Go(func() {
		switch list, err := s.Check(kinds...); {
		case err == nil && len(list) == 0:
			w.sound.Store(&soundStore{s, merges})
		case err == nil:
			w.suspectStore()
			fallthrough
		default:
			w.sound.Store(nil)
		}
		w.checkRunning.Store(false)
		if w.checkAwaited.Swap(false) {
			wakeUp(w.tidySoon)
		}
	})
}

// storeIsSound reports whether everything that was read from the store until now was whole: it was compared with its sums after
// the last merge of tables. If not, it is compared, and then the writer tidies again.
func (w *writer) storeIsSound(q *Queue) bool {
	s := q.index.store
	if was := w.sound.Load(); was != nil && was.store == s && was.merges == s.Merges() && !w.storeSuspected.Load() {
		return true
	}
	w.checkAwaited.Store(true)
	w.checkMerged(q)
	return false
}

// compareStore compares the whole store with its sums, and makes it again when they differ.
func (w *writer) compareStore(q *Queue) error {
	var what []string
	list, err := q.index.store.Check()
	unsure := q.index.store.Unsure()
	if err == nil && len(list) == 0 && q.index.store.Cause() == nil && unsure == nil {
		// What was missed is there: it was deleted, or read while it was being written. Only the log can say.
		var lost bool
		if lost, err = q.lostPlaces(); err == nil && !lost {
			w.storeSuspected.Store(false)
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
	if unsure != nil {
		what = append(what, fmt.Sprintf("it can't be written (%v)", unsure))
	}
	if err := w.remake(q, strings.Join(what, "; ")); err != nil {
		if q.disk.noteShortage(q, err) {
			w.saveRefused.Store(true)
			return nil
		}
		return err
	}
	w.storeSuspected.Store(false)
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
func (w *writer) remake(q *Queue, why string) error {
	if uptime() < w.remakeFailure.until {
		return w.remakeFailure.err
	}
	began := uptime()
	w.dropSnapshot()
	sums, err := q.makeStore()
	if err != nil {
		if w.remakeFailure.err == nil {
			q.opts.Notice(fmt.Sprintf("the store is damaged and can't be made again yet: %v. Events go into the log meanwhile, and the relay tries again until the store is made", err))
		}
		if !isShortage(err) || errors.Is(err, store.ErrUnsure) {
			err = fmt.Errorf("%w: %v", errNotRemade, err)
		}
		w.remakeFailure = remakeFailure{err, uptime() + int64(min(max(refusedPause, remakePause*since(began)), remakePauseMost))}
		return err
	}
	w.remakeFailure = remakeFailure{}
	if err := w.replace(q, func(aside string) { q.reportRemade(why, aside, sums, since(began)) }); err != nil {
		// There is no store in use any more: only the next start can go on, with what it finds.
		return fmt.Errorf("replace the store: %v", err)
	}
	w.places = nil // the new store has them, and what is pending
	q.watchStore(q.index.store)
	if err := q.recountFailed(); err != nil {
		return err
	}
	return w.retain.countCarried(q) // the new store lacks those that nobody needs any more
}

// replace closes the store in use and opens the new one. Readers wait meanwhile. It calls tell once the new one has its
// name, also when that can't be opened then: the damaged one is gone.
func (w *writer) replace(q *Queue, tell func(aside string)) error {
	where, named := "", false
	defer func() {
		if named {
			tell(where) // without the lock, so that no reader waits for the function that gets the notice
		}
	}()
	q.index.mu.Lock()
	defer q.index.mu.Unlock()
	if q.replaced != nil { // else a try before this one did not come to its end
		close(q.replaced)
		q.replaced = nil
	}
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
		case <-time.After(replacePause):
		case <-q.closing:
		}
	}
}

func (q *Queue) reportRemade(why, aside string, sums store.Sums, took time.Duration) {
	q.damaged.Add(1)
	where := ""
	if aside != "" {
		where = fmt.Sprintf("; the damaged one was set aside as %q", aside)
	}
	q.opts.Notice(fmt.Sprintf("store was damaged: %s. It was made again from the log in %v, with %d places of blocks, %d lanes, %d retries, %d replays and %d failed deliveries: no delivery was lost%s",
		why, took.Round(time.Millisecond), sums.Of(store.Place).Count, sums.Of(store.Lane).Count, sums.Of(store.Retry).Count,
		sums.Of(store.Replay).Count, sums.Of(store.Failed).Count, where))
}
