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

// keeper is the one goroutine that writes the log and the store. Every so often it has the committer make durable what the
// lanes did, and when enough has gathered it moves the entries that the journal has into the log, and tells the store of
// them (apply.go). Whatever else has to be written, a new lane or the deletion of what nobody needs (retain.go), is written
// by it too, in between.
type keeper struct {
	dirty chan struct{} // something is to be saved within Options.saveEvery
	kick  chan struct{} // save all now
	room  chan struct{} // the committer waits for room in the journal
	calls chan *call

	unsaved atomic.Int64 // bytes of the journal whose entries are not in the log

	mu      sync.Mutex
	saved   *sync.Cond  // broadcast after each save, and when the queue failed or closes
	round   uint64      // saves of all so far, under mu
	backlog []committed // durable entries that the log does not have, in order, under mu

	starved atomic.Bool // the last save was refused for want of disk space

	// What Stats shows.
	events, bytes, journalBytes, logBytes, storeBytes, unserved atomic.Int64

	slot   atomic.Uint64 // generation of the journal's slot in use, for the mark
	saving atomic.Int64  // since when a save is under way (uptime), 0 when none is

	checking  atomic.Bool   // somebody compares kinds of records
	suspected atomic.Bool   // the store is to be compared with its sums
	suspect   chan struct{} // and soon

	// The keeper goroutine's own.
	held     []*gathered // progress that the committer could not make durable
	added    []committed // in the log's hands and not saved
	pending  []committed // in the log, not in the store
	places   []placedBlock
	behind   int64 // bytes of pending in the journal
	again    bool  // the last apply was cut short
	unmade   unmade
	since    int64  // when the oldest entry that is not in the log was made durable (uptime), 0: there is none
	nextLane LaneID // to be given to the next name
	retain   retainer
	snapped  snapshotState
	snapping *snapshotting // nil: none is under way
	counted  int64         // bytes of frames since lanes that only arrive were saved
}

const (
	// saveBytes of the journal make the keeper move entries into the log before their time, saveAge does when there are fewer.
	saveBytes = 2 << 20
	saveAge   = time.Second
	// starvedWait is how long to wait before looking for disk space again.
	starvedWait = 500 * time.Millisecond
)

func (k *keeper) init() {
	k.dirty, k.kick, k.room = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	k.suspect = make(chan struct{}, 1)
	k.calls = make(chan *call)
	k.saved = sync.NewCond(&k.mu)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// grown is told of the entries of each commit.
func (k *keeper) grown(list []committed) {
	k.mu.Lock()
	k.backlog = append(k.backlog, list...)
	k.mu.Unlock()
	if k.unsaved.Add(list[len(list)-1].size) >= saveBytes {
		signal(k.kick)
	} else {
		signal(k.dirty)
	}
}

// admit blocks while too much waits for the log. When it returns nil the journal has a free slot as a rule; records that
// leave much of their slots empty can fill it all the same, and then commit waits.
func (k *keeper) admit(q *Queue) error {
	if k.unsaved.Load() < q.opts.maxUnsaved() {
		return nil
	}
	return k.await(q, true, func(uint64) bool { return k.unsaved.Load() < q.opts.maxUnsaved() })
}

// makeRoom blocks until some of what the journal has is in the log. It does not wait for disk space.
func (k *keeper) makeRoom(q *Queue) error {
	had := q.logged.Load()
	err := k.await(q, true, func(uint64) bool { return q.logged.Load() > had || k.starved.Load() })
	if err == nil && q.logged.Load() == had {
		return ErrDiskLow
	}
	return err
}

// drain blocks until log and store have all that was done before. It does not wait for disk space.
func (k *keeper) drain(q *Queue) error {
	k.mu.Lock()
	from := k.round
	k.mu.Unlock()
	// The save under way may have begun before the caller's changes: wait for the one after it.
	err := k.await(q, false, func(round uint64) bool { return round >= from+2 || k.starved.Load() })
	if err == nil && k.starved.Load() {
		return ErrDiskLow
	}
	return err
}

// await waits for a save after which enough says so. It returns an error when the queue failed or closes. The committer
// waits for room, also while the keeper waits for it.
func (k *keeper) await(q *Queue, room bool, enough func(round uint64) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for !enough(k.round) {
		if err := q.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrFailed, err)
		}
		if q.over() {
			return ErrClosed
		}
		if !k.starved.Load() { // then the keeper looks for space by itself
			signal(k.kick)
			if room {
				signal(k.room)
			}
		}
		k.saved.Wait()
	}
	return nil
}

func (k *keeper) run(q *Queue, committed <-chan struct{}) {
	defer func() {
		k.mu.Lock()
		k.saved.Broadcast()
		k.mu.Unlock()
	}()
	var due <-chan time.Time
	tidy := time.NewTicker(k.retain.every(q.opts))
	defer tidy.Stop()
	look := time.NewTicker(checkEvery)
	defer look.Stop()
	shorten := time.NewTicker(shortenEvery)
	defer shorten.Stop()
	for {
		var err error
		select {
		case <-k.dirty:
			if due == nil {
				due = time.After(q.opts.saveEvery)
			}
			continue
		case <-k.kick:
			err, due = k.save(q, true), nil
		case <-k.room:
			err = k.flush(q)
			k.broadcast(false)
		case <-due:
			err, due = k.save(q, false), nil
			if k.since != 0 {
				signal(k.dirty)
			}
		case c := <-k.calls:
			k.serve(q, c)
		case <-tidy.C:
			if err = k.retain.run(q); errors.Is(err, codec.ErrDamaged) {
				q.opts.Notice(fmt.Sprintf("retention waits for what can't be read: %v", err))
				err = k.compare(q)
			}
		case <-shorten.C:
			_, err = q.log.Shorten()
		case <-look.C:
			k.lookForMerges(q)
		case <-k.suspect:
			err = k.compare(q)
		case <-q.failed:
			return
		case <-committed:
			// The committer has left; save what it made.
			if err := k.close(q); err != nil {
				q.fail(err)
			}
			return
		}
		if err != nil {
			q.fail(err)
			return
		}
		if k.starved.Load() && due == nil {
			due = time.After(starvedWait)
		}
	}
}

// save makes durable what the lanes did, and then moves into log and store what the journal has: when all says so, when it
// is much, or when it has waited long.
func (k *keeper) save(q *Queue, all bool) error {
	room, _ := q.disk.tend(q)
	if !room {
		q.disk.unfit.Store(q.disk.lackOf(q.opts, nil))
		k.starved.Store(true)
		k.broadcast(false)
		return nil
	}
	k.saving.Store(uptime())
	defer k.saving.Store(0)
	list := k.gather(q)
	if made, err := k.commit(q, list); err != nil {
		return err
	} else if !made {
		k.held = list
	}
	k.oldest()
	if !all && k.unsaved.Load() < saveBytes && (k.since == 0 || uptime()-k.since < int64(saveAge)) && !k.starved.Load() {
		return nil
	}
	if err := k.flush(q); err != nil {
		return err
	}
	k.broadcast(!k.starved.Load())
	return nil
}

// oldest notes since when something waits for the log.
func (k *keeper) oldest() {
	k.mu.Lock()
	waits := len(k.backlog) > 0
	k.mu.Unlock()
	switch {
	case !waits:
		k.since = 0
	case k.since == 0:
		k.since = uptime()
	}
}

// gather asks the lanes for what they did. A lane that was only given events is asked now and then, so that the next start
// need not count long.
func (k *keeper) gather(q *Queue) []*gathered {
	list := k.held
	k.held = nil
	full := k.counted >= countEvery
	for _, l := range q.Lanes() {
		if g := l.gather(full); g != nil {
			list = append(list, g)
		}
	}
	if full {
		k.counted = 0
	}
	return list
}

// countEvery is after how many bytes of frames the counts of lanes that only arrive are saved.
const countEvery = 4 << 20

// commit has the committer write entries into the journal, and makes room there when it asks for some. made is false when
// nothing was written: the disk is full, or the committer has left.
func (k *keeper) commit(q *Queue, list []*gathered) (made bool, err error) {
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
		case <-k.room:
			if err := k.flush(q); err != nil {
				return false, err
			}
			k.broadcast(false)
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

// mustCommit is commit for those who wait for it.
func (k *keeper) mustCommit(q *Queue, list []*gathered) error {
	made, err := k.commit(q, list)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case made:
		return nil
	case q.over():
		return ErrClosed
	}
	return q.disk.lackOf(q.opts, nil)
}

// flush moves what the journal has into log and store.
func (k *keeper) flush(q *Queue) error {
	// What the store does not have is held in memory. When that is much it waits in the journal, which has an end.
	if k.behind >= q.opts.maxUnsaved() {
		if err := k.apply(q); q.disk.lacking(q, err) {
			k.starved.Store(true)
			return nil
		} else if err != nil {
			return err
		}
	}
	k.mu.Lock()
	list := k.backlog
	k.backlog = nil
	k.mu.Unlock()
	for i := range list {
		e := &list[i]
		var p *entry.Progress
		if e.gathered != nil {
			p = e.gathered.progress
		}
		q.log.Add(e.h, e.raw, e.frame, p)
		if e.frame != nil {
			k.counted += int64(len(e.raw))
		}
	}
	k.added = append(k.added, list...)
	saved, err := q.log.Save()
	if q.disk.lacking(q, err) {
		k.starved.Store(true)
		return nil
	}
	if err != nil {
		return err
	}
	k.note(saved)
	if n := len(k.added); n > 0 {
		size := int64(0)
		for i := range k.added {
			size += k.added[i].size
		}
		q.logged.Store(k.added[n-1].h.Number + 1)
		k.unsaved.Add(-size)
		k.behind += size
		k.pending = append(k.pending, k.added...)
		k.added = nil
	}
	k.oldest()
	if err = k.apply(q); q.disk.lacking(q, err) {
		k.starved.Store(true)
		return nil
	}
	if err != nil {
		return err
	}
	k.starved.Store(false)
	q.disk.unfit.Store(nil)
	return k.turn(q)
}

// turn ends a segment that is full, and writes some of a snapshot when one is due.
func (k *keeper) turn(q *Queue) error {
	if err := k.snapshotWhenDue(q); err != nil {
		return err
	}
	if q.log.Full(q.now() - q.opts.segmentAge()) {
		if err := q.log.Seal(); err != nil {
			if !q.disk.lacking(q, err) {
				return err
			}
		}
	}
	k.showCounts(q)
	return nil
}

func (k *keeper) broadcast(saved bool) {
	k.mu.Lock()
	if saved {
		k.round++
	}
	k.saved.Broadcast()
	k.mu.Unlock()
}

// showCounts tells Stats what is on disk.
func (k *keeper) showCounts(q *Queue) {
	events, bodies, bytes := q.log.Totals()
	k.events.Store(events + int64(k.retain.carriedEvents))
	k.bytes.Store(bodies + k.retain.carriedBytes)
	k.unserved.Store(k.retain.held.all)
	k.logBytes.Store(bytes)
	k.storeBytes.Store(q.index.store.Bytes())
}

// close saves all that is left. The committer has left, so the keeper writes into the journal what the lanes did last: what the
// journal has at a start is all there is behind it.
func (k *keeper) close(q *Queue) error {
	if room, _ := q.disk.tend(q); !room {
		return nil
	}
	if err := k.flush(q); err != nil || k.starved.Load() { // and the journal has room
		return err
	}
	if list := k.gather(q); len(list) > 0 {
		c := &committer{q: q, next: q.end.Load(), saves: []*saveRequest{{list: list, done: make(chan error, 1)}}}
		if err := c.commit(); err != nil {
			return err
		}
		if err := k.flush(q); err != nil || k.starved.Load() {
			return err
		}
	}
	return k.snapshot(q)
}
