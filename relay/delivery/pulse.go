package delivery

import "time"

// The housekeeping round feels every lane's pulse: it takes the locks that a sender takes, and looks for attempts that are
// under way although their time is over, and for whoever asks the queue and has no answer. A lane that is deadlocked holds
// up the round, and one whose sender is stuck shows in what the round finds; the watchdog of the process is fed by neither.

// askTime is how long the queue may take to tell what is next.
const askTime = housekeeping

// Stalled is for how long a lane has been making no progress although it holds work; 0 when all do. It never blocks.
func (p *Post) Stalled() time.Duration {
	longest := time.Duration(p.overdue.Load())
	if since := p.round.Load(); since != nil {
		longest = max(longest, time.Since(*since))
	}
	return longest
}

// feel looks at all lanes.
func (p *Post) feel(lanes []*Lane) {
	var longest time.Duration
	for _, l := range lanes {
		longest = max(longest, l.feel(time.Now()))
	}
	p.overdue.Store(int64(longest))
}

// feel returns for how long an attempt, or a question to the queue, has been under way beyond its time. It also has a sender
// look for something to take: a wake-up that was lost costs a round and not the lane.
func (l *Lane) feel(now time.Time) (overdue time.Duration) {
	l.kept.Outlook()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.under {
		overdue = max(overdue, now.Sub(f.began)-f.course.endpoint.Delivery.Timeout)
	}
	if !l.asks.IsZero() {
		overdue = max(overdue, now.Sub(l.asks)-askTime)
	}
	l.poke()
	return overdue
}
