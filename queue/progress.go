package queue

import (
	"math"
	"sync"

	"realtorbot-relay/queue/entry"
)

// unsaved is a record of a lane that the store does not have yet; nil: it is deleted.
type unsaved struct {
	record     []byte
	saveNumber uint64 // of the progress that it is part of
}

type recordName struct {
	kind entry.RecordKind
	seq  uint64
}

// change sets a record or, with nil, deletes it. The caller holds mu.
func (l *Lane) change(kind entry.RecordKind, seq uint64, record []byte) {
	l.changes = append(l.changes, entry.Change{Kind: kind, Seq: seq, Record: record})
	l.changeBytes += 16 + len(record)
	if l.unsaved == nil {
		l.unsaved = map[recordName]unsaved{}
	}
	l.unsaved[recordName{kind, seq}] = unsaved{record, l.saveNumber}
	if kind != entry.Replay {
		l.q.watched.note(seq)
		if record == nil && seq < l.q.log.FirstKeptEvent() {
			l.q.freed.Store(true)
		}
	}
}

// setDirty has the next save include the lane. The caller holds mu.
func (l *Lane) setDirty() {
	if !l.dirty {
		l.dirty = true
		l.q.dirty.add(l)
	}
}

// dirtyLanes are those that the next save includes: a save does not ask thousands that did nothing.
type dirtyLanes struct {
	mu   sync.Mutex
	list []*Lane
}

func (d *dirtyLanes) add(l *Lane) {
	d.mu.Lock()
	d.list = append(d.list, l)
	d.mu.Unlock()
}

func (d *dirtyLanes) take() []*Lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}

// changed asks for a save, at once when much has gathered. A caller that settles never waits for it: a lane that is full
// hands out nothing until it is saved, so that no more gathers than what is in flight.
func (l *Lane) changed() {
	l.setDirty()
	if l.full() || l.halfFull() {
		wakeUp(l.q.writer.saveNow)
	} else {
		wakeUp(l.q.writer.saveSoon)
	}
}

// full reports that the lane hands out nothing until it is saved.
func (l *Lane) full() bool {
	return len(l.changes) >= maxChanges || l.changeBytes >= maxChangeBytes || l.attemptBytes >= maxAttemptBytes || len(l.unsaved) >= maxUnsaved
}

// halfFull reports that replays wait for a save, so that new deliveries need not.
func (l *Lane) halfFull() bool {
	return len(l.changes) >= maxChanges/2 || l.changeBytes >= maxChangeBytes/2 || l.attemptBytes >= maxAttemptBytes/2
}

func (l *Lane) isFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full()
}

// gather returns what the lane did since the last call, nil when that is nothing. With counts, a lane that was given events
// and did nothing saves its count. Only the writer calls it; it makes the draft durable, or keeps it until it can.
func (l *Lane) gather(counts bool) *entryDraft {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.discarded || !l.dirty && !(counts && l.assignedCount() != l.countSaved) {
		return nil
	}
	wasFull := l.full() || l.halfFull()
	l.saveReplays()
	record := l.record()
	l.saved, l.countSaved, l.countedTo = record.cursor, record.matched, record.counted
	p := &entry.Progress{Lane: l.id, Record: record.append(nil), Changes: l.changes, Attempts: l.attempts}
	g := &entryDraft{lane: l, saveNumber: l.saveNumber, progress: p}
	l.saveNumber++
	l.changes, l.changeBytes, l.attempts, l.attemptBytes, l.dirty = nil, 0, nil, 0, false
	if wasFull {
		l.wake()
	}
	return g
}

// changesApplied tells the lane that the store has the changes of a save.
func (l *Lane) changesApplied(batch uint64, changes []entry.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasFull := l.full()
	l.applyCount++
	for i := range changes {
		name := recordName{changes[i].Kind, changes[i].Seq}
		if u, ok := l.unsaved[name]; ok && u.saveNumber <= batch {
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

// record is the lane as it is now, to be saved. The caller holds mu, or nobody else knows the lane.
func (l *Lane) record() *laneRecord {
	r := &laneRecord{
		name: l.name, paused: l.paused,
		passed: l.passed.Load(), delivered: l.delivered, retrying: l.retrying, failed: l.failed,
		born: l.born, replayed: l.replayed, unserved: l.unserved,
		health: l.health.moved(l.q.toSave),
	}
	r.matched, r.counted = l.counts()
	r.excerpts, r.discardedTo = l.excerptsUntil, l.discardedTo
	r.cursor, r.settled = l.position()
	return r
}

// floor is the event below which the lane needs no segment. Of segments that go all the same it needs retries and failed
// deliveries, and everything that it holds while it is unserved: these are carried. end is the event below which everything
// had been counted when the caller looked.
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
	if l.assignedCount() == l.passed.Load() {
		return end
	}
	return min(l.low(), end)
}

// mayHave reports whether the store may have records of a kind.
func (l *Lane) mayHave(kind entry.RecordKind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unsaved) > 0 {
		return true
	}
	if kind == entry.Retry {
		return l.retrying > 0
	}
	return l.failed > 0
}

// recordCount is how many deliveries are retrying or failed.
func (l *Lane) recordCount() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.retrying + l.failed
}

// addNeeded adds to set those events of a range that are retrying, failed, or in flight in a replay, as far as the store
// does not know it yet.
func (l *Lane) addNeeded(from, to uint64, set map[uint64]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, u := range l.unsaved {
		if name.kind != entry.Replay && u.record != nil && from <= name.seq && name.seq < to {
			set[name.seq] = struct{}{}
		}
	}
	for seq := range l.replaying { // if its attempt fails it is retrying
		if from <= seq && seq < to {
			set[seq] = struct{}{}
		}
	}
}

// needsEvent reports whether the delivery of an event that is for this lane is pending, retrying, failed, or in flight in a
// replay; or would be if we died now: then again says to ask after the next save. It may read the store; mu is not held
// meanwhile.
func (l *Lane) needsEvent(seq uint64) (needs, again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isPending(seq) {
		return true, false, nil
	}
	records, err := l.recordsOf(seq, entry.Retry, entry.Failed)
	if err != nil {
		return true, false, err
	}
	if _, flies := l.replaying[seq]; flies || records[0] != nil || records[1] != nil {
		return true, false, nil
	}
	again = l.dirty && seq >= l.saved
	for _, kind := range []entry.RecordKind{entry.Retry, entry.Failed} {
		u, ok := l.unsaved[recordName{kind, seq}]
		again = again || ok && u.saveNumber == l.saveNumber
	}
	return again, again, nil
}

// holdsBelow reports whether the lane may have something pending below an event, as it is or as it was saved.
func (l *Lane) holdsBelow(to uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirty && l.saved < to {
		return true
	}
	if l.assignedCount() == l.passed.Load() {
		return false
	}
	return l.low() < to
}

// uncounted reports whether the next start would have to count deliveries of events below one.
func (l *Lane) uncounted(to uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.countedTo < to && l.assignedCount() != l.countSaved
}

// holds reports whether an event that is for this lane is pending, or would be if we died now.
func (l *Lane) holds(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isPending(seq) || l.dirty && seq >= l.saved
}

// newFailures reports whether the lane has failed deliveries, and below which event none was recorded since the last call.
func (l *Lane) newFailures() (any bool, oldest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest, l.oldestFailed = l.oldestFailed, math.MaxUint64
	return l.failed > 0, oldest
}
