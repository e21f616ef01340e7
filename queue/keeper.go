package queue

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// keeper is the one goroutine that writes the store. Every so often, or when enough has gathered, it moves the frames
// that the journal has into blocks and saves what the lanes did since. Whatever else has to be written, a new lane or the
// janitor's deletions, is written by it too, in between.
type keeper struct {
	dirty chan struct{} // something is to be saved within Options.saveEvery
	kick  chan struct{} // save now
	calls chan *call

	unsaved atomic.Int64 // bytes of frames that only journal and memory have

	mu    sync.Mutex
	saved *sync.Cond // broadcast after each save, and when the queue failed or closes
	round uint64     // saves so far, under mu

	starved atomic.Bool // the last save was refused for want of disk space

	// What Stats shows.
	events, bytes, journalBytes atomic.Int64
	slot                        atomic.Uint64 // generation of the journal's slot in use, for the mark
	saving                      atomic.Int64  // since when a save is under way (uptime), 0 when none is

	// The keeper goroutine's own.
	applied applied
	janitor janitor
	serial  uint64 // of the blocks of attempts
	digest  digest // of the newest events that the store has
}

// call is a write that somebody waits for.
type call struct {
	fn    func(*batch) error
	clean bool // it deletes, which is allowed as long as anything is
	done  chan error
}

const (
	// saveBytes of new frames make the keeper save before its time.
	saveBytes = 512 << 10
	// blockBytes is how much of the log is stored under one key and read at a time.
	blockBytes = 64 << 10
	// starvedWait is how long to wait before looking for disk space again.
	starvedWait = 500 * time.Millisecond
)

func (k *keeper) init() {
	k.dirty, k.kick = make(chan struct{}, 1), make(chan struct{}, 1)
	k.calls = make(chan *call)
	k.saved = sync.NewCond(&k.mu)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// grown is told of each frame that was published.
func (k *keeper) grown(q *Queue, n int) {
	if k.unsaved.Add(int64(n)) >= saveBytes {
		signal(k.kick)
	} else {
		signal(k.dirty)
	}
}

// admit blocks while too much waits for the store. When it returns nil the journal has a free slot as a rule; frames that
// leave much of their slots empty can fill it all the same, and then commit waits.
func (k *keeper) admit(q *Queue) error {
	if k.unsaved.Load() < q.opts.maxUnsaved() {
		return nil
	}
	return k.await(q, func(uint64) bool { return k.unsaved.Load() < q.opts.maxUnsaved() })
}

// drain blocks until the store has taken over what was unsaved. It does not wait for disk space.
func (k *keeper) drain(q *Queue) error {
	k.mu.Lock()
	from := k.round
	k.mu.Unlock()
	// The save under way may have begun before the caller's changes: wait for the one after it.
	err := k.await(q, func(round uint64) bool { return round >= from+2 || k.starved.Load() })
	if err == nil && k.starved.Load() {
		return ErrDiskLow
	}
	return err
}

// await waits for a save after which enough says so. It returns an error when the queue failed or closes.
func (k *keeper) await(q *Queue, enough func(round uint64) bool) error {
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
		}
		k.saved.Wait()
	}
	return nil
}

// update has the keeper write something and waits until it is on disk.
func (q *Queue) update(fn func(*batch) error) error { return q.call(&call{fn: fn}) }

func (q *Queue) call(c *call) error {
	c.done = make(chan error, 1)
	select {
	case q.keeper.calls <- c:
		return <-c.done
	case <-q.closing:
		return ErrClosed
	case <-q.failed:
		return fmt.Errorf("%w: %w", ErrFailed, q.Err())
	}
}

func (k *keeper) run(q *Queue, committed <-chan struct{}) {
	defer func() {
		k.mu.Lock()
		k.saved.Broadcast()
		k.mu.Unlock()
	}()
	var due <-chan time.Time
	tidy := time.NewTicker(k.janitor.every(q.opts))
	defer tidy.Stop()
	for {
		var err error
		select {
		case <-k.dirty:
			if due == nil {
				due = time.After(q.opts.saveEvery)
			}
			continue
		case <-k.kick:
			err, due = k.save(q), nil
		case <-due:
			err, due = k.save(q), nil
		case c := <-k.calls:
			if save, clean := q.disk.tend(q); !save && !(c.clean && clean) || q.store.spare() != nil {
				c.done <- ErrDiskLow
				continue
			}
			b := q.store.batch()
			if err = c.fn(b); err == nil {
				err = b.flush()
			}
			c.done <- err
			if b.err == nil {
				err = nil // the caller's own mistake, not the store's
			}
		case <-tidy.C:
			err = k.janitor.run(q)
		case <-q.failed:
			return
		case <-committed:
			// The committer has left; save what it made.
			if err := k.save(q); err != nil {
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

// save moves all new frames into the store and then saves the lanes. If we die in between, the journal still has the
// frames and they are written again; lanes whose progress was not saved deliver some events again.
//
// The lanes are asked before the frames are: what a lane had settled by then had been published, so the store never tells
// of progress beyond the frames that it has, and makes sense whatever becomes of the journal.
func (k *keeper) save(q *Queue) error {
	room, _ := q.disk.tend(q)
	var err error
	if room {
		err = q.store.spare() // somebody may have taken the space just now
	}
	if room = room && err == nil; !room {
		q.disk.unfit.Store(q.disk.lackOf(q.opts, err))
	}
	k.starved.Store(!room)
	if !room {
		k.broadcast(false)
		return nil
	}
	k.saving.Store(uptime())
	defer k.saving.Store(0)
	owners := q.Lanes()
	lanes := make([]progress, 0, len(owners))
	for _, l := range owners {
		lanes = append(lanes, l.progress(k.nextSerial()))
	}
	frames := q.tail.above(k.applied.next)
	b := q.store.batch()
	if len(frames) > 0 {
		k.writeFrames(q, b, frames)
	}
	for i := range lanes {
		lanes[i].save(b)
	}
	if err := b.flush(); err != nil {
		return err
	}
	for i, l := range owners {
		if len(lanes[i].changes) > 0 {
			l.landed()
		}
	}
	if len(frames) > 0 {
		q.applied.Store(k.applied.next)
		k.showCounts()
		size := 0
		for _, f := range frames {
			size += len(f.raw)
		}
		k.unsaved.Add(-int64(size))
		q.tail.trim(k.applied.next, q.opts.tailBytes)
	}
	k.broadcast(true)
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

// writeFrames writes frames as blocks, their ids, and last of all how far the store has come.
func (k *keeper) writeFrames(q *Queue, b *batch, frames []*frame) {
	var block []byte
	last, events, bodies := uint64(0), int64(0), int64(0)
	matched := map[LaneSet]int64{} // a set may name hundreds of lanes, and most events share one
	for _, f := range frames {
		if len(block) > 0 && len(block)+len(f.raw) > blockBytes {
			writeBlock(b, kindBlock, last, block)
			block = block[:0]
		}
		block = append(block, f.raw...)
		last = f.end() - 1
		for r := f.reader(); ; {
			ev, ok, err := r.next()
			if err != nil || !ok {
				break // made by seal or checked by recover
			}
			events++
			bodies += int64(len(ev.Body))
			matched[ev.Lanes]++
			b.set(appendIDKey(nil, ev.ID), appendIDRecord(nil, ev.Seq, ev.At))
			k.sum(b, &ev)
		}
	}
	for set, n := range matched {
		set.each(func(id LaneID) { k.applied.matched[id] += n })
	}
	writeBlock(b, kindBlock, last, block)
	k.writeDigest(b)
	k.applied.next = last + 1
	k.keep(b, events, bodies)
}

// keep counts what the store holds and writes its position.
func (k *keeper) keep(b *batch, events, bodies int64) {
	k.applied.events += events
	k.applied.bytes += bodies
	b.set(keyApplied, k.applied.append(nil))
}

// showCounts tells Stats what is on disk.
func (k *keeper) showCounts() {
	k.events.Store(k.applied.events)
	k.bytes.Store(k.applied.bytes)
}

func (k *keeper) nextSerial() uint64 {
	k.serial++
	return k.serial
}

// Lane returns the lane of the endpoint with the given name. A lane that is not there yet is made, on disk, and begins
// at the end of the log.
func (q *Queue) Lane(name string) (*Lane, error) {
	if lane := q.laneNamed(name); lane != nil {
		return lane, nil // also on a full disk
	}
	var lane *Lane
	err := q.update(func(b *batch) error {
		if lane = q.laneNamed(name); lane != nil {
			return nil
		}
		k := &q.keeper
		id := k.applied.nextID
		k.applied.nextID++
		lane = newLane(q, id, laneRecord{name: name, cursor: q.end.Load(), born: q.end.Load()}, 0)
		b.set(laneKey(id), lane.record().append(nil))
		b.set(keyApplied, k.applied.append(nil))
		q.addLane(lane)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make lane %q: %w", name, err)
	}
	return lane, nil
}

func (q *Queue) laneNamed(name string) *Lane {
	lanes := *q.lanes.Load()
	if at := slices.IndexFunc(lanes, func(l *Lane) bool { return l != nil && l.name == name }); at >= 0 {
		return lanes[at]
	}
	return nil
}

// addLane shows a lane to the committer. Keeper and recovery only.
func (q *Queue) addLane(lane *Lane) {
	lanes := slices.Clone(*q.lanes.Load())
	for len(lanes) <= int(lane.id) {
		lanes = append(lanes, nil)
	}
	lanes[lane.id] = lane
	q.lanes.Store(&lanes)
}

// Lanes returns all lanes there are, also those whose endpoint is not configured any more.
func (q *Queue) Lanes() []*Lane {
	return slices.DeleteFunc(slices.Clone(*q.lanes.Load()), func(l *Lane) bool { return l == nil })
}

// GiveUp deletes a lane with all that it holds, for good. Nobody may use the lane any more.
func (q *Queue) GiveUp(lane *Lane) error {
	err := q.call(&call{clean: true, fn: func(b *batch) error {
		lanes := slices.Clone(*q.lanes.Load())
		lanes[lane.id] = nil
		q.lanes.Store(&lanes)
		q.retrying.Add(-lane.close())
		b.delete(laneKey(lane.id))
		return q.dropDeliveries(b, lane.id)
	}})
	if err != nil {
		return fmt.Errorf("give up lane %q: %w", lane.name, err)
	}
	return nil
}

// dropDeliveries deletes the retries, failed deliveries, attempts and replays of a lane. Its record must have gone before, so that
// the next start finishes what is cut short.
func (q *Queue) dropDeliveries(b *batch, id LaneID) error {
	for _, kind := range []byte{kindRetry, kindFailed, kindWell, kindReplay} {
		prefix := deliveryKey(kind, id, 0)[:5]
		err := q.store.scan(prefix, prefix, true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
			b.delete(slices.Clone(key))
			return b.err == nil, b.err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
