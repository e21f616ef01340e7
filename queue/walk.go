package queue

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// Take hands out the next delivery that was not attempted yet, in order of arrival, and says whether there are more. It
// returns nil when there is none now. It reads from disk, one caller at a time.
func (l *Lane) Take() (d *Delivery, more bool) {
	l.walking.Lock()
	defer l.walking.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

// take is Take. The caller holds walking and mu, and mu is let go while the disk is read.
func (l *Lane) take() (d *Delivery, more bool) {
	if l.full() {
		return nil, false // save wakes
	}
	if f := l.takeAgain(); f != nil {
		return &Delivery{Event: f.ev, flight: f}, true
	}
	f := l.step()
	if f == nil {
		return nil, false
	}
	return &Delivery{Event: f.ev, flight: f}, l.waiting() > 0
}

// step puts the next pending event under way, nil when there is none now. The caller holds walking and mu, and mu is let go
// while the disk is read.
func (l *Lane) step() *flight {
	if l.waiting() <= 0 || len(l.window)+len(l.skip) >= maxWindow || l.gone {
		return nil
	}
	if jump := l.jump.Load(); jump > l.next {
		l.next, l.reader, l.ahead, l.old, l.skip = jump, entry.Reader{}, nil, nil, nil
	}
	ev, ok := l.read()
	if !ok {
		return nil
	}
	ev.At = l.q.shown(ev.At)
	l.walkAt = ev.At
	f := &flight{ev: ev}
	l.window = append(l.window, f)
	l.open++
	return f
}

// takeAgain returns the oldest first attempt that was released, nil when there is none.
func (l *Lane) takeAgain() *flight {
	if len(l.again) == 0 {
		return nil
	}
	f := l.again[0]
	l.again = slices.Delete(l.again, 0, 1)
	return f
}

// waiting is the number of pending deliveries that are not handed out.
func (l *Lane) waiting() int64 { return l.given() - l.passed.Load() - l.open }

// oldest tells when the oldest pending event was accepted, in milliseconds. When that is not in memory it is looked for, and
// should the disk not answer at once, it is what was read last: the oldest is no older than that. The caller holds mu, and
// it is let go meanwhile.
func (l *Lane) oldest() int64 {
	if at, ok := l.oldestKnown(); ok {
		return at
	}
	if l.look == nil {
		l.look = make(chan struct{})
		go l.lookAhead(l.look)
	}
	look := l.look
	l.mu.Unlock()
	select {
	case <-look:
	case <-time.After(lookWait):
	}
	l.mu.Lock()
	if at, ok := l.oldestKnown(); ok {
		return at
	}
	return l.walkAt
}

// lookWait is how long whoever looks waits for the disk.
const lookWait = 100 * time.Millisecond

// oldestKnown is the oldest pending event that was read.
func (l *Lane) oldestKnown() (at int64, ok bool) {
	for _, f := range l.window {
		if !f.settled {
			return f.ev.At, true
		}
	}
	return 0, false
}

// lookAhead reads the next event, as Take does, and puts it back. It ends when the disk has answered; a queue that was closed
// meanwhile answers too, with an error.
func (l *Lane) lookAhead(done chan struct{}) {
	defer close(done)
	l.walking.Lock() // a sender that looks in between waits, and then finds what was put back
	defer l.walking.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look = nil
	if _, ok := l.oldestKnown(); ok {
		return
	}
	if d, _ := l.take(); d != nil {
		l.putBack(d.flight)
	}
}

// read steps to the next event of the log that is for this lane.
func (l *Lane) read() (Stored, bool) {
	for {
		ev, ok, err := l.nextRead()
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
			if _, settled := l.skip[ev.Seq]; settled {
				delete(l.skip, ev.Seq)
				if len(l.window) > 0 {
					// The cursor stays below it: the next save must still tell that it is settled.
					l.window = append(l.window, &flight{ev: Stored{Seq: ev.Seq}, settled: true})
				}
				continue
			}
			return ev, true
		}
		l.next = max(l.next, l.oldTo)
		if len(l.ahead) == 0 && !l.load() {
			return Stored{}, false
		}
		if len(l.ahead) == 0 {
			continue // it passed over something, or read what was carried
		}
		if first := l.ahead[0].First; first > l.next {
			l.q.missing(l.name, l.next, first)
		}
		l.reader = l.ahead[0].Reader()
		l.ahead = l.ahead[1:]
	}
}

// nextRead is the next event of those that were read, whosever it is.
func (l *Lane) nextRead() (ev Stored, ok bool, err error) {
	if len(l.old) > 0 {
		ev, l.old = l.old[0], l.old[1:]
		return ev, true, nil
	}
	return l.reader.Next()
}

// load reads a block, or passes over what can't be read or is not there. It is false when there is nothing more to read now.
func (l *Lane) load() bool {
	next := l.next
	l.mu.Unlock()
	from := next
	var err error
	var frames []*entry.Frame
	var damagedTo uint64
	if next >= l.q.log.Low() {
		if from, err = l.stepOver(next); err == nil || errors.Is(err, codec.ErrDamaged) {
			frames, damagedTo, err = l.q.frames(from)
		}
	}
	applied := l.q.applied.Load()
	if low := l.q.log.Low(); next < low {
		// Segments went, before or just now: what the lane needs of them was carried.
		return l.loadCarried(next, low)
	}
	l.mu.Lock()
	l.next = max(l.next, from)
	switch {
	case errors.Is(err, codec.ErrDamaged):
		l.passOver(damagedTo, err)
		return true
	case err != nil:
		l.tryLater(err)
		return false
	case len(frames) > 0:
		l.ahead = frames
		return true
	}
	l.reader = entry.Reader{}
	if l.next < applied {
		// Neither the store nor the log has any of them.
		l.q.missing(l.name, l.next, applied)
		l.next = applied
		return true
	}
	l.forgetLost()
	return false
}

// stepOver returns where the next block begins that has something for this lane, or next: what lies between is not read.
func (l *Lane) stepOver(next uint64) (from uint64, err error) {
	if _, end := l.q.log.End(); next >= end {
		return next, nil
	}
	if l.finder == nil {
		l.finder = l.q.finder(&sieve{lane: l})
	}
	from, _, err = l.finder.From(next)
	if err != nil {
		return next, err
	}
	return max(next, from), nil
}

// forgetLost corrects what is pending when the lane has come to the end of the log and more was counted than it found: that
// was in what can't be read any more, of which it has told.
func (l *Lane) forgetLost() {
	l.gift.mu.Lock()
	lost := int64(0)
	if l.gift.counted <= l.next && l.next >= l.q.end.Load() {
		lost = l.gift.matched - l.passed.Load() - l.open
	}
	l.gift.matched -= max(lost, 0)
	l.gift.mu.Unlock()
	if lost > 0 {
		l.q.opts.Notice(fmt.Sprintf("endpoint %q: %d of its deliveries were among the events that can't be read any more, and are not pending any more", l.name, lost))
		l.changed()
	}
}

// tryLater leaves all as it is after a read that failed without showing damage, and has the senders look again.
func (l *Lane) tryLater(err error) {
	if errors.Is(err, ErrClosed) {
		return
	}
	l.q.opts.Notice(fmt.Sprintf("endpoint %q: the queue can't be read and is read again in a second: %v", l.name, err))
	time.AfterFunc(readAgain, l.wake)
}

// missing tells of events that are not in the log any more although a lane needs them.
func (q *Queue) missing(lane string, from, to uint64) {
	if n := q.lost.add(from, to); n > 0 {
		q.damaged.Add(n)
		q.opts.Notice(fmt.Sprintf("endpoint %q: events %d to %d are missing from the log and are passed over", lane, from, to-1))
	}
}

// passOver steps behind events that can't be read any more. How many of them were for this lane is known when it has come to
// the end of the log (forgetLost).
func (l *Lane) passOver(to uint64, err error) {
	from := l.next
	l.next, l.reader = max(to, l.next+1), entry.Reader{}
	l.q.unreadable(from, l.next, err)
}

// unreadable tells of events that can't be read any more, once, whoever finds them.
func (q *Queue) unreadable(from, to uint64, err error) {
	if n := q.lost.add(from, to); n > 0 {
		q.damaged.Add(n)
		q.opts.Notice(fmt.Sprintf("events %d to %d can't be read and are passed over: %v", from, to-1, err))
	}
}
