package queue

import (
	"math"
	"slices"
	"time"

	"realtorbot-relay/queue/entry"
)

// unsaved is a record of the lane that the store does not have yet: nil says that it is deleted.
type unsaved struct {
	record []byte
	batch  uint64 // of the progress that it is part of
}

type recordName struct {
	what entry.What
	seq  uint64
}

// change sets or, with nil, deletes a record. The caller holds mu.
func (l *Lane) change(what entry.What, seq uint64, record []byte) {
	l.changes = append(l.changes, entry.Change{What: what, Seq: seq, Record: record})
	l.changeBytes += 16 + len(record)
	if l.unsaved == nil {
		l.unsaved = map[recordName]unsaved{}
	}
	l.unsaved[recordName{what, seq}] = unsaved{record, l.batch}
	if what != entry.Replay {
		l.q.watched.noticed(seq)
		if record == nil && seq < l.q.log.Low() {
			l.q.freed.Store(true)
		}
	}
}

// changed asks for a save, at once when much has gathered. Whoever settles never waits for it: a lane that is full hands
// out nothing more until it is saved, so that no more gathers than what is under way.
func (l *Lane) changed() {
	l.dirty = true
	if l.full() || l.halfFull() {
		signal(l.q.keeper.kick)
	} else {
		signal(l.q.keeper.dirty)
	}
}

func (l *Lane) full() bool {
	return len(l.changes) >= maxChanges || l.changeBytes >= maxChangeBytes || l.madeBytes >= maxMadeBytes || len(l.unsaved) >= maxUnsaved
}

// halfFull reports that replays are to wait for a save, so that what is new need not.
func (l *Lane) halfFull() bool {
	return len(l.changes) >= maxChanges/2 || l.changeBytes >= maxChangeBytes/2 || l.madeBytes >= maxMadeBytes/2
}

func (l *Lane) isFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full()
}

// gather hands out what the lane did since it was asked last, nil when that is nothing. With counts, a lane that was given
// events and did nothing is asked to save how many. Only the keeper calls it, and makes it durable or keeps it.
func (l *Lane) gather(counts bool) *gathered {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone || !l.dirty && !(counts && l.given() != l.countSaved) {
		return nil
	}
	wasFull := l.full() || l.halfFull()
	l.saveReplays()
	record := l.record()
	l.saved, l.countSaved, l.countedTo = record.cursor, record.matched, record.counted
	p := &entry.Progress{Lane: l.id, Record: record.append(nil), Changes: l.changes, Attempts: l.made}
	g := &gathered{lane: l, batch: l.batch, progress: p}
	l.batch++
	l.changes, l.changeBytes, l.made, l.madeBytes, l.dirty = nil, 0, nil, 0, false
	if wasFull {
		l.wake()
	}
	return g
}

// landed tells the lane that the store has the changes of a batch.
func (l *Lane) landed(batch uint64, changes []entry.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasFull := l.full()
	l.landings++
	for i := range changes {
		name := recordName{changes[i].What, changes[i].Seq}
		if u, ok := l.unsaved[name]; ok && u.batch <= batch {
			delete(l.unsaved, name)
		}
	}
	if len(l.unsaved) == 0 {
		l.unsaved = nil
	}
	if wasFull && !l.full() {
		l.wake()
	}
}

// record is the lane as it stands, to be saved. The caller holds mu, or nobody else knows the lane.
func (l *Lane) record() *laneRecord {
	r := &laneRecord{
		name: l.name, cursor: l.next, paused: l.paused,
		passed: l.passed.Load(), delivered: l.delivered, retrying: l.retrying, failed: l.failed,
		born: l.born, replayed: l.replayed, unserved: l.unserved,
		health: l.health.moved(func(t time.Time) time.Time { return time.UnixMilli(l.q.stamp(t)) }),
	}
	r.matched, r.counted = l.counts()
	r.excerpts = l.excerptsUntil
	if len(l.window) > 0 {
		r.cursor = l.window[0].ev.Seq
	}
	for _, f := range l.window {
		if f.settled {
			r.settled = append(r.settled, f.ev.Seq)
		}
	}
	if len(l.skip) > 0 {
		for seq := range l.skip {
			r.settled = append(r.settled, seq)
		}
		slices.Sort(r.settled)
	}
	return r
}

// floor is the event below which this lane keeps no segment. What it needs of those that go all the same is carried: its
// retries and failed deliveries, and all that it holds while no endpoint is served by it. end is where all events below had
// been counted when the caller looked.
func (l *Lane) floor(end uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unserved != 0 {
		return end
	}
	if l.dirty {
		// What was settled since the last save would be pending again if we died now.
		end = min(end, l.saved)
	}
	if l.given() == l.passed.Load() {
		return end
	}
	if len(l.window) > 0 {
		return min(l.window[0].ev.Seq, end)
	}
	return min(l.next, end)
}

// mayHave reports whether the store may have records of a kind.
func (l *Lane) mayHave(what entry.What) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unsaved) > 0 {
		return true
	}
	if what == entry.Retry {
		return l.retrying > 0
	}
	return l.failed > 0
}

// records is how many deliveries are retrying or failed.
func (l *Lane) records() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.retrying + l.failed
}

// needs adds to set the events of a range that are retrying or failed, or that a replay has under way, as far as the store
// does not know it yet.
func (l *Lane) needs(from, to uint64, set map[uint64]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, u := range l.unsaved {
		if name.what != entry.Replay && u.record != nil && from <= name.seq && name.seq < to {
			set[name.seq] = struct{}{}
		}
	}
	for seq := range l.replaying { // an attempt that fails makes it retrying
		if from <= seq && seq < to {
			set[seq] = struct{}{}
		}
	}
}

// needsOne reports whether the delivery of an event that is for this lane is pending, retrying or failed, or under way in a
// replay, or would be if we died now: then it is to be asked again after the next save.
func (l *Lane) needsOne(seq uint64) (needs, again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isPending(seq) {
		return true, false, nil
	}
	records, err := l.kept(seq, entry.Retry, entry.Failed)
	if err != nil {
		return true, false, err
	}
	if _, flies := l.replaying[seq]; flies || records[0] != nil || records[1] != nil {
		return true, false, nil
	}
	again = l.dirty && seq >= l.saved
	for _, what := range []entry.What{entry.Retry, entry.Failed} {
		u, ok := l.unsaved[recordName{what, seq}]
		again = again || ok && u.batch == l.batch
	}
	return again, again, nil
}

// holdsBelow reports whether the lane may hold something pending below an event, as it stands or as it was saved.
func (l *Lane) holdsBelow(to uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirty && l.saved < to {
		return true
	}
	if l.given() == l.passed.Load() {
		return false
	}
	return len(l.window) > 0 && l.window[0].ev.Seq < to || l.next < to
}

// uncounted reports whether the next start would have to count deliveries of events below one.
func (l *Lane) uncounted(to uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.countedTo < to && l.given() != l.countSaved
}

// holds reports whether an event that is for this lane is pending, or would be if we died now.
func (l *Lane) holds(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isPending(seq) || l.dirty && seq >= l.saved
}

// failedSince reports whether the lane has failed deliveries, and below which event none was recorded since it was asked
// last.
func (l *Lane) failedSince() (any bool, oldest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest, l.oldestFailed = l.oldestFailed, math.MaxUint64
	return l.failed > 0, oldest
}

// lookAgain has failedSince tell of failed deliveries from an event on.
func (l *Lane) lookAgain(from uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldestFailed = min(l.oldestFailed, from)
}
