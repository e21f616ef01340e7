package delivery

import (
	"container/list"
	"sync"
	"time"
)

// uplink bounds the bytes of bodies that all lanes together send a second. A body of any size may go when the line is free, and
// occupies it for as long as its bytes take at that rate. Lanes that find the line busy wait in the order in which they asked, each
// with one body: a lane that has much to send delays another by the body under way and one more. Safe for concurrent use.
type uplink struct {
	rate int64 // bytes a second; 0 for no limit
	now  func() time.Time

	mu       sync.Mutex
	freeAt   time.Time // when all bodies that were admitted have been sent, at that rate
	waiting  list.List // of *Lane
	calledAt time.Time // when the first of them was woken for its turn; zero when it was not
	timer    *time.Timer
}

const (
	// uplinkAhead is how long before the line is free a body may go: timers are not exact, and bodies are small.
	uplinkAhead = 100 * time.Millisecond
	// uplinkGrace is how long the lane whose turn it is may take to ask.
	uplinkGrace = time.Second
)

func newUplink(rate int64, now func() time.Time) *uplink {
	u := &uplink{rate: rate, now: now}
	u.timer = time.AfterFunc(time.Hour, u.callFirst)
	u.timer.Stop()
	return u
}

// admits reports whether it is a lane's turn to send. If it is not, one of the lane's senders is woken when it is.
func (u *uplink) admits(l *Lane, now time.Time) bool {
	if u.rate == 0 {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.isTurnLocked(l, now) {
		return true
	}
	if l.uplinkEntry == nil {
		l.uplinkEntry = u.waiting.PushBack(l)
	}
	if u.waiting.Front() == l.uplinkEntry {
		u.setLocked(now)
	}
	return false
}

// take reports whether it is still the lane's turn, and if so counts a body of so many bytes as sent.
func (u *uplink) take(l *Lane, body int, now time.Time) bool {
	if u.rate == 0 {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.isTurnLocked(l, now) {
		return false
	}
	u.freeAt = latest(u.freeAt, now).Add(sendTime(body, u.rate))
	u.removeLocked(l, now)
	return true
}

// leave removes a lane that has nothing to send from those that wait.
func (u *uplink) leave(l *Lane) {
	if u.rate == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.removeLocked(l, u.now())
}

func (u *uplink) isTurnLocked(l *Lane, now time.Time) bool {
	first := u.waiting.Front()
	return u.freeAt.Sub(now) <= uplinkAhead && (first == nil || first == l.uplinkEntry)
}

func (u *uplink) removeLocked(l *Lane, now time.Time) {
	if l.uplinkEntry == nil {
		return
	}
	first := u.waiting.Front() == l.uplinkEntry
	u.waiting.Remove(l.uplinkEntry)
	l.uplinkEntry = nil
	if first {
		u.setLocked(now)
	}
}

// setLocked sets the timer for the turn of the lane that is first now.
func (u *uplink) setLocked(now time.Time) {
	u.calledAt = time.Time{}
	if u.waiting.Len() > 0 {
		u.timer.Reset(max(u.freeAt.Add(-uplinkAhead).Sub(now), 0))
	} else {
		u.timer.Stop()
	}
}

// callFirst wakes the first lane for its turn. A lane that was woken and does not ask in time loses its turn.
func (u *uplink) callFirst() {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	if !u.calledAt.IsZero() && now.Sub(u.calledAt) >= uplinkGrace {
		u.calledAt = time.Time{}
		if first := u.waiting.Front(); first != nil {
			first.Value.(*Lane).uplinkEntry = nil
			u.waiting.Remove(first)
		}
	}
	first := u.waiting.Front()
	if first == nil {
		return
	}
	if wait := u.freeAt.Add(-uplinkAhead).Sub(now); wait > 0 {
		u.timer.Reset(wait)
		return
	}
	if u.calledAt.IsZero() {
		u.calledAt = now
	}
	first.Value.(*Lane).wakeSender()
	u.timer.Reset(max(uplinkGrace-now.Sub(u.calledAt), time.Millisecond))
}

// sendTime is how long so many bytes take at a rate in bytes a second.
func sendTime(bytes int, rate int64) time.Duration {
	return time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
}
