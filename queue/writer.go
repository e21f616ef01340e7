package queue

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// writer is the one goroutine that writes the log and the store. Every Options.saveEvery it asks the lanes for their
// progress and has the committer make that durable. When enough has gathered it moves entries from the journal into the log,
// syncs it, and applies them to the store (apply.go). In between it does everything else that is written: lanes that are
// made and discarded, retention (retain.go), snapshots.
type writer struct {
	saveSoon    chan struct{} // something is to be saved within Options.saveEvery
	saveNow     chan struct{} // save everything now
	spaceWanted chan struct{} // the committer waits for room in the journal
	calls       chan *call

	backlogBytes atomic.Int64 // of the journal whose entries are not in the log

	mu      sync.Mutex
	saved   *sync.Cond     // broadcast after each save, and when the queue has failed or closes
	round   uint64         // how often everything was saved
	backlog []durableEntry // durable entries that the log does not have, in order

	saveRefused atomic.Bool // the last save was refused for want of disk space

	// For Stats.
	events, bytes, journalBytes, logBytes, storeBytes, unserved atomic.Int64

	journalGeneration atomic.Uint64 // of the journal's slot in use, for the checkpoint
	saving            atomic.Int64  // since when a save runs (uptime); 0 while none does

	checkRunning   atomic.Bool                // a goroutine compares kinds of records with their sums
	checkAwaited   atomic.Bool                // retention waits for its end
	sound          atomic.Pointer[soundStore] // the store as it was last compared, after which Badger had merged tables that often
	tidySoon       chan struct{}              // wakes the writer for retention
	storeSuspected atomic.Bool                // the store is to be compared with its sums
	storeSuspect   chan struct{}              // wakes the writer for that

	// Only the writer's goroutine uses what follows.
	refused       []*entryDraft  // progress that the committer could not make durable
	added         []durableEntry // entries that the log was given and has not saved
	pending       []durableEntry // entries in the log and not in the store
	places        []placedBlock  // of blocks, not in the store
	pendingBytes  int64          // of pending, in the journal
	reapply       bool           // the last apply was cut short
	remakeFailure remakeFailure
	waitingSince  int64  // since when the oldest entry waits for the log (uptime); 0: none does
	nextLane      LaneID // the number of the next lane that is made
	retain        retainer
	lastSnapshot  snapshotState
	snapshotting  *snapshotWriter // nil while no snapshot is being written
	countedBytes  int64           // of frames since the counts of idle lanes were saved
}

const (
	// With saveBytes in the journal, or after saveAge when there are fewer, entries move into the log.
	saveBytes = 2 << 20
	saveAge   = time.Second
	// refusedPause is how long to wait before the writer looks for disk space again.
	refusedPause = 500 * time.Millisecond
)

func (w *writer) init() {
	w.saveSoon, w.saveNow, w.spaceWanted = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	w.storeSuspect, w.tidySoon = make(chan struct{}, 1), make(chan struct{}, 1)
	w.calls = make(chan *call)
	w.saved = sync.NewCond(&w.mu)
}

func (w *writer) run(q *Queue, committed <-chan struct{}) {
	defer func() {
		w.mu.Lock()
		w.saved.Broadcast()
		w.mu.Unlock()
	}()
	var due <-chan time.Time
	tidy := time.NewTicker(w.retain.interval(q.opts))
	defer tidy.Stop()
	look := time.NewTicker(checkEvery)
	defer look.Stop()
	var shorten <-chan time.Time // nil while no file is to be shortened, as far as the last look told
	for {
		var err error
		select {
		case <-w.saveSoon:
			if due == nil {
				due = time.After(q.opts.saveEvery)
			}
			continue
		case <-w.saveNow:
			err, due = w.save(q, true), nil
		case <-w.spaceWanted:
			err = w.flush(q)
			w.broadcast(false)
		case <-due:
			err, due = w.save(q, false), nil
			if w.waitingSince != 0 {
				wakeUp(w.saveSoon)
			}
		case c := <-w.calls:
			w.serveCall(q, c)
		case <-w.tidySoon:
			err = w.tidy(q)
		case <-tidy.C:
			err = w.tidy(q)
			if shorten == nil { // it may have deleted a segment
				shorten = time.After(shortenEvery)
			}
		case <-shorten:
			var more bool
			if more, err = q.log.Shorten(); more {
				shorten = time.After(shortenEvery)
			} else {
				shorten = nil
			}
		case <-look.C:
			w.checkMerged(q)
		case <-w.storeSuspect:
			err = w.compareStore(q)
		case <-q.failed:
			return
		case <-committed:
			// The committer has left; save what it made.
			if err := w.close(q); err != nil {
				q.fail(err)
			}
			return
		}
		if err != nil {
			q.fail(err)
			return
		}
		if w.saveRefused.Load() && due == nil {
			due = time.After(refusedPause)
		}
	}
}

// tidy deletes what nobody needs any more. A store that it can't read or write is made again.
func (w *writer) tidy(q *Queue) error {
	err := w.retain.run(q)
	damaged := errors.Is(err, codec.ErrDamaged)
	if damaged {
		q.opts.Notice(fmt.Sprintf("retention can't go on, since something can't be read: %v", err))
	}
	if damaged || err != nil && q.index.store.Unsure() != nil {
		err = w.compareStore(q)
	}
	return err
}

// save makes durable what the lanes did. Then it moves what the journal has into log and store: when all says so, when it is
// much, or when it has waited long.
func (w *writer) save(q *Queue, all bool) error {
	canSave, _ := q.disk.adjustBallast(q)
	if !canSave {
		q.disk.saveShortage.Store(q.disk.shortageOf(q.opts, nil))
		w.saveRefused.Store(true)
		w.broadcast(false)
		return nil
	}
	w.saving.Store(uptime())
	defer w.saving.Store(0)
	list := w.gather(q)
	if made, err := w.commit(q, list); err != nil {
		return err
	} else if !made {
		w.refused = list
	}
	w.noteWaiting()
	if !all && w.backlogBytes.Load() < saveBytes && (w.waitingSince == 0 || uptime()-w.waitingSince < int64(saveAge)) && !w.saveRefused.Load() {
		return nil
	}
	if err := w.flush(q); err != nil {
		return err
	}
	w.broadcast(!w.saveRefused.Load())
	return nil
}

// noteWaiting notes since when some entry waits for the log.
func (w *writer) noteWaiting() {
	w.mu.Lock()
	waits := len(w.backlog) > 0
	w.mu.Unlock()
	switch {
	case !waits:
		w.waitingSince = 0
	case w.waitingSince == 0:
		w.waitingSince = uptime()
	}
}

// gather asks the lanes for what they did. A lane that was given events and did nothing is asked every countEvery bytes, so
// that the next start need not count far back.
func (w *writer) gather(q *Queue) []*entryDraft {
	list := w.refused
	w.refused = nil
	full := w.countedBytes >= countEvery
	lanes := q.dirty.take()
	if full {
		lanes, w.countedBytes = q.Lanes(), 0
	}
	for _, l := range lanes {
		if g := l.gather(full); g != nil {
			list = append(list, g)
		}
	}
	return list
}

// countEvery is after how many bytes of frames the counts of idle lanes are saved.
const countEvery = 4 << 20

// commit has the committer write entries into the journal, and makes room there when the committer asks for it. made is
// false when nothing was written: the disk is full, or the committer has returned.
func (w *writer) commit(q *Queue, list []*entryDraft) (made bool, err error) {
	if len(list) == 0 {
		return true, nil
	}
	r := &saveRequest{list: list, done: make(chan error, 1)}
	to := q.progress
	for {
		select {
		case to <- r:
			to = nil
		case err := <-r.done:
			return err == nil, q.Err()
		case <-w.spaceWanted:
			if err := w.flush(q); err != nil {
				return false, err
			}
			w.broadcast(false)
		case <-q.committed:
			select {
			case err := <-r.done:
				return err == nil, q.Err()
			default:
				return false, q.Err()
			}
		}
	}
}

// commitOrFail is commit with an error when nothing was written.
func (w *writer) commitOrFail(q *Queue, list []*entryDraft) error {
	made, err := w.commit(q, list)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case made:
		return nil
	case q.over():
		return ErrClosed
	}
	return q.disk.shortageOf(q.opts, nil)
}

// flush moves what the journal has into log and store. It waits for the disk: one write and one sync of the log, one
// transaction of the store.
func (w *writer) flush(q *Queue) error {
	// Entries that the store does not have are in memory. When they are many, further ones wait in the journal, which has an
	// end.
	if w.pendingBytes >= q.opts.maxUnsaved() {
		if err := w.apply(q); q.disk.noteShortage(q, err) {
			w.saveRefused.Store(true)
			return nil
		} else if err != nil {
			return err
		}
	}
	w.mu.Lock()
	list := w.backlog
	w.backlog = nil
	w.mu.Unlock()
	for i := range list {
		e := &list[i]
		var p *entry.Progress
		if e.draft != nil {
			p = e.draft.progress
		}
		q.log.Add(e.h, e.raw, e.frame, p)
		if e.frame != nil {
			w.countedBytes += int64(len(e.raw))
		}
	}
	w.added = append(w.added, list...)
	saved, err := q.log.Save()
	if q.disk.noteShortage(q, err) {
		w.saveRefused.Store(true)
		return nil
	}
	if err != nil {
		return err
	}
	w.notePlaces(saved)
	if n := len(w.added); n > 0 {
		size := int64(0)
		for i := range w.added {
			size += w.added[i].size
		}
		q.logged.Store(w.added[n-1].h.Number + 1)
		w.backlogBytes.Add(-size)
		w.pendingBytes += size
		w.pending = append(w.pending, w.added...)
		w.added = nil
	}
	w.noteWaiting()
	if err = w.apply(q); q.disk.noteShortage(q, err) {
		w.saveRefused.Store(true)
		return nil
	}
	if err != nil {
		return err
	}
	w.saveRefused.Store(false)
	q.disk.saveShortage.Store(nil)
	return w.maintain(q)
}

// maintain goes on with a snapshot when one is due, and seals the open segment when it is full.
func (w *writer) maintain(q *Queue) error {
	if err := w.snapshotWhenDue(q); err != nil {
		return err
	}
	if q.log.Full(q.now() - q.opts.segmentAge()) {
		if err := q.log.Seal(); err != nil {
			if !q.disk.noteShortage(q, err) {
				return err
			}
		}
	}
	w.showCounts(q)
	return nil
}

// showCounts updates the figures for Stats.
func (w *writer) showCounts(q *Queue) {
	events, bodies, bytes := q.log.Totals()
	w.events.Store(events + int64(w.retain.carriedEvents))
	w.bytes.Store(bodies + w.retain.carriedBytes)
	w.unserved.Store(w.retain.unserved.all)
	w.logBytes.Store(bytes)
	w.storeBytes.Store(q.index.store.Bytes())
}

// close saves everything that is left. The committer has returned, so the writer's goroutine writes the lanes' last progress
// into the journal itself: at a start, what the journal has is all there is behind the log.
func (w *writer) close(q *Queue) error {
	if canSave, _ := q.disk.adjustBallast(q); !canSave {
		return nil
	}
	if err := w.flush(q); err != nil || w.saveRefused.Load() { // and the journal has room
		return err
	}
	if list := w.gather(q); len(list) > 0 {
		c := &committer{q: q, next: q.end.Load(), saves: []*saveRequest{{list: list, done: make(chan error, 1)}}}
		if err := c.commit(); err != nil {
			return err
		}
		if err := w.flush(q); err != nil || w.saveRefused.Load() {
			return err
		}
	}
	return w.writeWholeSnapshot(q)
}
