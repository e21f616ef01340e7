package queue

import "time"

// LaneStats is a snapshot of a lane.
type LaneStats struct {
	Pending   int64 // not attempted yet
	Retrying  int64
	Failed    int64
	Delivered int64     // ever
	Oldest    time.Time // when the oldest pending event was accepted, or before; zero when there is none
	NextRetry time.Time // zero when there is none
	Paused    string    // why, empty when it is not
	Unserved  time.Time // since when it serves no endpoint; zero while it does
	Expired   int64     // that became failed for that, since the queue was opened
}

// Stats tells how the lane is. It waits for the disk for lookWait at most.
func (l *Lane) Stats() LaneStats {
	l.mu.Lock()
	s := LaneStats{
		Pending: max(l.given()-l.passed.Load(), 0), Retrying: l.retrying, Failed: l.failed, Delivered: l.delivered, Paused: l.paused,
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
	Paused   string    // why, empty when it is not
	Retrying int64     // deliveries, those under way included
	Due      time.Time // of the next retry; zero when none waits or none can be taken before a save
	Waiting  int64     // pending deliveries that are not handed out
	Replays  bool      // TakeReplay may have something
}

// Outlook tells how the lane stands.
func (l *Lane) Outlook() Outlook {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := Outlook{Paused: l.paused, Retrying: l.retrying, Waiting: max(l.waiting(), 0) + int64(len(l.again)), Replays: l.mayReplay()}
	if !l.full() {
		o.Due = l.retries.next()
	}
	return o
}
