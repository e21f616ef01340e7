package queue

import (
	"errors"
	"fmt"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// Take returns the next delivery that was not attempted yet, in order of arrival, and whether there are more; nil when there
// is none now. It reads disk, one caller at a time, and does not hold the lane's lock meanwhile.
func (l *Lane) Take() (d *Delivery, more bool) {
	l.logReading.Lock()
	defer l.logReading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

// take is Take. The caller holds logReading and mu; mu is not held while the disk is read.
func (l *Lane) take() (d *Delivery, more bool) {
	if l.full() {
		return nil, false // the next save wakes the senders
	}
	if f := l.takeReleased(); f != nil {
		return l.handOut(f), true
	}
	f := l.advance()
	if f == nil {
		return nil, false
	}
	return l.handOut(f), l.waiting() > 0
}

// advance puts the next pending event in flight, nil when there is none now. The caller holds logReading and mu; mu is not
// held while the disk is read.
func (l *Lane) advance() *flight {
	if l.waiting() <= 0 || l.width() >= maxWindow || l.discarded {
		return nil
	}
	if skipTo := l.skipTo.Load(); skipTo > l.next {
		l.next, l.reader, l.ahead, l.carried, l.settledAbove = skipTo, entry.Reader{}, nil, nil, nil
	}
	ev, ok := l.read()
	if !ok {
		return nil
	}
	l.lastReadAt = ev.At
	f := &flight{ev: ev}
	l.window = append(l.window, f)
	l.openAttempts++
	return f
}

// waiting is how many pending deliveries are not handed out.
func (l *Lane) waiting() int64 { return l.assignedCount() - l.passed.Load() - l.openAttempts }

// oldest is when the oldest pending event was accepted, Unix milliseconds, wall clock. When that event is not in memory it
// is looked up; when the disk does not answer in time, the result is the time of the event that was read last, and the
// oldest is no older than that. The caller holds mu, which is not held meanwhile.
func (l *Lane) oldest() int64 {
	at := l.findOldest()
	if at == 0 {
		return 0
	}
	return l.q.shown(at)
}

// findOldest is oldest in queue time; 0 when nothing was read yet.
func (l *Lane) findOldest() int64 {
	if at, ok := l.oldestInMemory(); ok {
		return at
	}
	if l.oldestLookup == nil {
		l.oldestLookup = make(chan struct{})
		go l.lookUpOldest(l.oldestLookup)
	}
	look := l.oldestLookup
	l.mu.Unlock()
	select {
	case <-look:
	case <-time.After(oldestWait):
	}
	l.mu.Lock()
	if at, ok := l.oldestInMemory(); ok {
		return at
	}
	return l.lastReadAt
}

// oldestWait is how long Stats waits for the disk.
const oldestWait = 100 * time.Millisecond

// oldestInMemory is the acceptance of the oldest pending event that was read, queue time.
func (l *Lane) oldestInMemory() (at int64, ok bool) {
	for _, f := range l.window {
		if !f.settled {
			return f.ev.At, true
		}
	}
	return 0, false
}

// lookUpOldest reads the next event, as Take does, and releases it. It ends when the disk has answered; a queue that was
// closed meanwhile answers with an error.
func (l *Lane) lookUpOldest(done chan struct{}) {
	defer close(done)
	l.logReading.Lock() // a sender that takes meanwhile waits, and then gets what was released
	defer l.logReading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldestLookup = nil
	if _, ok := l.oldestInMemory(); ok {
		return
	}
	if d, _ := l.take(); d != nil {
		l.release(d.flight)
	}
}

// read returns the next event of the log that is for this lane.
func (l *Lane) read() (Stored, bool) {
	for {
		ev, ok, err := l.nextEvent()
		switch {
		case err != nil:
			l.passOver(l.reader.Frame().End(), err)
			continue
		case ok:
			if ev.Seq < l.next {
				continue
			}
			l.next = ev.Seq + 1
			if !ev.Lanes.Has(l.id) {
				continue
			}
			if _, settled := l.settledAbove[ev.Seq]; settled {
				delete(l.settledAbove, ev.Seq)
				l.pass(ev.Seq)
				continue
			}
			return ev, true
		}
		l.next = max(l.next, l.carriedTo)
		if len(l.ahead) == 0 && !l.loadBlock() {
			return Stored{}, false
		}
		if len(l.ahead) == 0 {
			continue // it passed over something, or read carried events
		}
		if first := l.ahead[0].First; first > l.next {
			l.q.missing(l.name, l.next, first)
		}
		l.reader = l.ahead[0].Reader()
		l.ahead = l.ahead[1:]
	}
}

// nextEvent is the next event that was read, of whatever lane.
func (l *Lane) nextEvent() (ev Stored, ok bool, err error) {
	if len(l.carried) > 0 {
		ev, l.carried = l.carried[0], l.carried[1:]
		return ev, true, nil
	}
	return l.reader.Next()
}

// loadBlock reads a block, or passes over what is missing or can't be read. It is false when there is nothing more to read
// now.
func (l *Lane) loadBlock() bool {
	next := l.next
	l.mu.Unlock()
	from := next
	var err error
	var frames []*entry.Frame
	var damagedTo uint64
	if next >= l.q.log.FirstKeptEvent() {
		if from, err = l.skipBlocks(next); err == nil || errors.Is(err, codec.ErrDamaged) {
			frames, damagedTo, err = l.q.frames(from)
		}
	}
	applied := l.q.applied.Load()
	if low := l.q.log.FirstKeptEvent(); next < low {
		// Segments were deleted, before or just now: what the lane needs of them was carried.
		return l.loadCarried(next, low)
	}
	l.mu.Lock()
	l.next = max(l.next, from)
	switch {
	case errors.Is(err, codec.ErrDamaged):
		l.passOver(damagedTo, err)
		return true
	case err != nil:
		l.readLater(err)
		return false
	case len(frames) > 0:
		l.ahead = frames
		return true
	}
	l.reader = entry.Reader{}
	if l.next < applied {
		// Neither the store nor the log has them.
		l.q.missing(l.name, l.next, applied)
		l.next = applied
		return true
	}
	l.dropLost()
	return false
}

// skipBlocks returns where the next block begins that may have something for this lane, or next. What lies between is not
// read.
func (l *Lane) skipBlocks(next uint64) (from uint64, err error) {
	if _, end := l.q.log.End(); next >= end {
		return next, nil
	}
	if l.finder == nil {
		l.finder = l.q.finder(&criteria{lane: l})
	}
	from, _, err = l.finder.From(next)
	if err != nil {
		return next, err
	}
	return max(next, from), nil
}

// dropLost corrects the count of pending deliveries when the lane has come to the end of the log and found fewer than were
// counted: the others were in what can't be read any more, which was reported.
func (l *Lane) dropLost() {
	l.assigned.mu.Lock()
	lost := int64(0)
	if l.assigned.counted <= l.next && l.next >= l.q.end.Load() {
		lost = l.assigned.matched - l.passed.Load() - l.openAttempts
	}
	l.assigned.matched -= max(lost, 0)
	l.assigned.mu.Unlock()
	if lost > 0 {
		l.q.opts.Notice(fmt.Sprintf("endpoint %q: %d pending deliveries are lost: their events can't be read any more", l.name, lost))
		l.changed()
	}
}

// readLater leaves everything as it is after a read that failed without showing damage, and wakes the senders in a second.
func (l *Lane) readLater(err error) {
	if errors.Is(err, ErrClosed) {
		return
	}
	l.q.opts.Notice(fmt.Sprintf("endpoint %q: the queue could not be read, and is read again in a second: %v", l.name, err))
	time.AfterFunc(readAgain, l.wake)
}

// passOver steps over events that can't be read any more. How many of them were for this lane is known at the end of the log
// (dropLost).
func (l *Lane) passOver(to uint64, err error) {
	from := l.next
	l.next, l.reader = max(to, l.next+1), entry.Reader{}
	l.q.unreadable(from, l.next, err)
}
