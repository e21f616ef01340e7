package delivery

import "time"

// The housekeeping round checks every lane: it takes the locks that a sender takes, and looks for attempts that are under way beyond
// their timeout, and for a sender that asks the queue and gets no answer. A lane that is deadlocked holds up the round, and a sender
// that is stuck shows in what the round finds. Both show in Stalled, on which the process's watchdog depends.

// askLimit is how long the queue may take to say what is next.
const askLimit = housekeepingEvery

// Stalled returns for how long a lane has made no progress although it holds deliveries; 0 when all make progress. It takes no lock.
func (d *Dispatcher) Stalled() time.Duration {
	longest := time.Duration(d.overdue.Load())
	if since := d.roundBegan.Load(); since != nil {
		longest = max(longest, time.Since(*since))
	}
	return longest
}

// checkLanes checks all lanes.
func (d *Dispatcher) checkLanes(lanes []*Lane) {
	var longest time.Duration
	for _, l := range lanes {
		longest = max(longest, l.overdue(time.Now()))
	}
	d.overdue.Store(int64(longest))
}

// overdue returns for how long an attempt, or a question to the queue, has been under way beyond its time. It also wakes a sender:
// should a wake-up have been lost, the lane goes on within a round.
func (l *Lane) overdue(now time.Time) (overdue time.Duration) {
	l.queueLane.Outlook()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.inFlight {
		overdue = max(overdue, now.Sub(f.began)-f.generation.endpoint.Delivery.Timeout)
	}
	if !l.askingSince.IsZero() {
		overdue = max(overdue, now.Sub(l.askingSince)-askLimit)
	}
	l.wakeSender()
	return overdue
}
