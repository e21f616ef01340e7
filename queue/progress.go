package queue

import (
	"slices"
	"time"
)

type write struct {
	key, value []byte // a nil value deletes
}

// wellBlock gathers first attempts that went well.
type wellBlock struct {
	record []byte
	last   uint64 // the highest event in it
}

func (l *Lane) noteWell(seq uint64, a *Attempt) {
	n := len(l.wells)
	if n == 0 || len(l.wells[n-1].record) >= wellBytes {
		l.wells = append(l.wells, wellBlock{record: make([]byte, 0, 512)})
		n++
	}
	w := &l.wells[n-1]
	w.record = appendWell(w.record, seq, a)
	w.last = max(w.last, seq)
}

func (l *Lane) change(key, value []byte) {
	l.changes = append(l.changes, write{key, value})
	l.changeBytes += len(key) + len(value)
}

func (l *Lane) note(d *Delivery, a *Attempt) {
	w := write{attemptKey(d.Event.Seq, l.id, a.At.UnixMilli(), a.Number), appendReplay(appendAttempt(nil, a, len(a.Excerpt)), d.Replay)}
	l.attempts = append(l.attempts, w)
	l.attemptBytes += len(w.value)
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
	return len(l.changes) >= maxChanges || l.changeBytes >= maxChangeBytes ||
		l.attemptBytes >= maxAttemptBytes || len(l.wells) >= maxWells
}

// halfFull reports that replays are to wait for a save, so that what is new need not.
func (l *Lane) halfFull() bool {
	return len(l.changes) >= maxChanges/2 || l.changeBytes >= maxChangeBytes/2 || l.attemptBytes >= maxAttemptBytes/2
}

func (l *Lane) isFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full()
}

// progress is what a lane did between two saves: attempts may be saved at any time, changes only together.
type progress struct {
	attempts    []write
	changes     []write
	changeBytes int
}

// progress hands out what is to be saved. Only the keeper calls it, and saves it or fails the queue.
func (l *Lane) progress(serial uint64) (p progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty || l.gone {
		return p
	}
	wasFull := l.full() || l.halfFull()
	for i := range l.wells {
		w := &l.wells[i]
		l.attempts = append(l.attempts, write{wellKey(l.id, w.last, serial), packWells(w.record)})
	}
	l.saveReplays()
	record := l.record()
	l.saved = record.cursor
	l.change(laneKey(l.id), record.append(nil))
	p = progress{l.attempts, l.changes, l.changeBytes}
	l.saving = l.changes
	l.attempts, l.attemptBytes, l.changes, l.changeBytes, l.wells, l.dirty = nil, 0, nil, 0, nil, false
	if wasFull {
		l.wake()
	}
	return p
}

// landed tells the lane that its progress is on disk.
func (l *Lane) landed() {
	l.mu.Lock()
	l.saving = nil
	l.mu.Unlock()
}

func (p *progress) save(b *batch) {
	for _, w := range p.attempts {
		b.set(w.key, w.value)
	}
	b.together(len(p.changes), p.changeBytes)
	for _, w := range p.changes {
		if w.value == nil {
			b.delete(w.key)
		} else {
			b.set(w.key, w.value)
		}
	}
}

// record is the lane as it stands, to be saved. The caller holds mu, or nobody else knows the lane.
func (l *Lane) record() *laneRecord {
	r := &laneRecord{
		name: l.name, cursor: l.next, paused: l.paused,
		passed: l.passed.Load(), delivered: l.delivered, retrying: l.retrying, failed: l.failed,
		born: l.born, replayed: l.replayed,
		health: l.health.moved(func(t time.Time) time.Time { return time.UnixMilli(l.q.stamp(t)) }),
	}
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

// floor is the event below which this lane needs nothing but its retries and failed deliveries. end is where all events
// below had been counted when the caller looked.
func (l *Lane) floor(end uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The janitor looks for retries and failed deliveries on disk: what is not there yet it must not pass.
	for _, w := range l.changes {
		if _, seq, ok := parseDeliveryKey(w.key); ok {
			end = min(end, seq)
		}
	}
	if l.dirty {
		// What was settled since the last save would be pending again if we died now.
		end = min(end, l.saved)
	}
	if l.matched.Load() == l.passed.Load() {
		return end
	}
	if len(l.window) > 0 {
		return min(l.window[0].ev.Seq, end)
	}
	return min(l.next, end)
}
