package delivery

import (
	"container/list"
	"sync"
	"time"
)

// uplink bounds the bytes of bodies that all lanes together send a second. A body goes when the line is free of those before
// it, whatever its own size, and keeps it for as long as it takes at that rate. Lanes that find it busy wait in the order in
// which they asked, each with one body at a time: one that has much holds up another for the body that is on its way and one
// more. Safe for concurrent use.
type uplink struct {
	rate int64 // bytes a second; 0 for no limit
	now  func() time.Time

	mu      sync.Mutex
	free    time.Time // when all bodies that were let go have been sent, at that rate
	waiting list.List // of *Lane
	called  time.Time // when the first of them was told that it is its turn; zero when it was not
	timer   *time.Timer
}

const (
	// uplinkAhead is how much time of sending may begin before the line is free: timers are not exact, and bodies are small.
	uplinkAhead = 100 * time.Millisecond
	// uplinkGrace is how long the lane whose turn it is may take to ask.
	uplinkGrace = time.Second
)

func newUplink(rate int64, now func() time.Time) *uplink {
	u := &uplink{rate: rate, now: now}
	u.timer = time.AfterFunc(time.Hour, u.call)
	u.timer.Stop()
	return u
}

// admits reports whether it is a lane's turn to send. If it is not, the lane is poked when it is.
func (u *uplink) admits(l *Lane, now time.Time) bool {
	if u.rate == 0 {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.isTurnLocked(l, now) {
		return true
	}
	if l.turn == nil {
		l.turn = u.waiting.PushBack(l)
	}
	if u.waiting.Front() == l.turn {
		u.setLocked(now)
	}
	return false
}

// take lets a body go, if it is still the lane's turn.
func (u *uplink) take(l *Lane, body int, now time.Time) bool {
	if u.rate == 0 {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.isTurnLocked(l, now) {
		return false
	}
	u.free = latest(u.free, now).Add(sendTime(body, u.rate))
	u.removeLocked(l, now)
	return true
}

// leave takes a lane that has nothing to send out of those that wait.
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
	return u.free.Sub(now) <= uplinkAhead && (first == nil || first == l.turn)
}

func (u *uplink) removeLocked(l *Lane, now time.Time) {
	if l.turn == nil {
		return
	}
	first := u.waiting.Front() == l.turn
	u.waiting.Remove(l.turn)
	l.turn = nil
	if first {
		u.setLocked(now)
	}
}

// setLocked has the lane that is first now be told when it is its turn.
func (u *uplink) setLocked(now time.Time) {
	u.called = time.Time{}
	if u.waiting.Len() > 0 {
		u.timer.Reset(max(u.free.Add(-uplinkAhead).Sub(now), 0))
	} else {
		u.timer.Stop()
	}
}

// call tells the first lane that it is its turn. One that was told and did not come has lost it.
func (u *uplink) call() {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	if !u.called.IsZero() && now.Sub(u.called) >= uplinkGrace {
		u.called = time.Time{}
		if first := u.waiting.Front(); first != nil {
			first.Value.(*Lane).turn = nil
			u.waiting.Remove(first)
		}
	}
	first := u.waiting.Front()
	if first == nil {
		return
	}
	if wait := u.free.Add(-uplinkAhead).Sub(now); wait > 0 {
		u.timer.Reset(wait)
		return
	}
	if u.called.IsZero() {
		u.called = now
	}
	first.Value.(*Lane).poke()
	u.timer.Reset(max(uplinkGrace-now.Sub(u.called), time.Millisecond))
}

// sendTime is how long so many bytes take.
func sendTime(bytes int, rate int64) time.Duration {
	return time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
}
