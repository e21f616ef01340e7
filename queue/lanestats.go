package queue

import "time"

// LaneStats is a snapshot of a lane's figures.
type LaneStats struct {
	Pending   int64 // not attempted yet
	Retrying  int64
	Failed    int64
	Delivered int64     // ever
	Oldest    time.Time // when the oldest pending event was accepted, or earlier; zero when there is none
	NextRetry time.Time // zero when there is none
	Paused    string    // why, empty while it is not
	Unserved  time.Time // since when it serves no endpoint; zero while it serves one
	Expired   int64     // deliveries that became failed for that, since the queue was opened
}

// Stats returns the lane's figures. When the oldest pending event is not in memory it reads disk, and waits for that at most
// 100 ms.
func (l *Lane) Stats() LaneStats {
	l.mu.Lock()
	s := LaneStats{
		Pending: max(l.assignedCount()-l.passed.Load(), 0), Retrying: l.retrying, Failed: l.failed, Delivered: l.delivered, Paused: l.paused,
		Expired: l.expired, NextRetry: l.retries.next(),
	}
	if l.unserved != 0 {
		s.Unserved = time.UnixMilli(l.q.shown(l.unserved))
	}
	if s.Pending > 0 {
		if at := l.oldest(); at != 0 {
			s.Oldest = time.UnixMilli(at)
		}
	}
	l.mu.Unlock()
	return s
}

// Outlook is what a sender asks before it takes something.
type Outlook struct {
	Paused   string    // why, empty while it is not
	Retrying int64     // deliveries, those in flight included
	Due      time.Time // of the next retry; zero when there is none, or none can be taken before a save
	Waiting  int64     // pending deliveries that are not handed out
	Replays  bool      // TakeReplay may return something
}

// Outlook returns what there is to take. It reads memory, under the lane's lock.
func (l *Lane) Outlook() Outlook {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := Outlook{Paused: l.paused, Retrying: l.retrying, Waiting: max(l.waiting(), 0) + int64(len(l.released)), Replays: l.mayReplay()}
	if !l.full() {
		o.Due = l.retries.next()
	}
	return o
}
