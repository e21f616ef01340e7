package delivery

import (
	"fmt"
	"runtime/debug"
	"time"

	"realtorbot-relay/queue"
)

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

// attempt makes one attempt. A panic in it is one failed attempt, counted and told, and not the end of the process.
func (l *Lane) attempt(d *queue.Delivery, c *course, number int) (o Outcome) {
	began := l.now()
	defer func() {
		if what := recover(); what != nil {
			o = Outcome{At: began, Took: l.now().Sub(began), Class: ClassInternal, Err: oneLine(fmt.Sprintf("the relay itself failed: %v", what))}
			l.log.Error().Bytes("event", d.Event.ID).Any("panic", what).Str("stack", string(debug.Stack())).
				Msg("an attempt made the relay fail; it counts as a failed attempt, and others are not touched")
		}
	}()
	return c.client.Attempt(&Parcel{ID: d.Event.ID, Type: d.Event.Type, Body: d.Event.Body, Attempt: number, Replay: queue.ReplayID(d.Replay),
		Failed: queue.LetterOf(&d.Event)})
}
