package delivery

import (
	"sync"
	"time"
)

// probes is the budget that the probes of all endpoints share. It is a calendar: whoever is to be probed gets a place in it,
// one after the other, so that those who wait longest come first. When few are down there is a place at once; when
// thousands are, they come less often.
type probes struct {
	mu   sync.Mutex
	next time.Time     // the first place that is free
	busy int           // probes under way
	took time.Duration // how long a probe takes, smoothed
}

const (
	probesPerSecond = 50
	probesAtATime   = 256
	// probeAtLeast is the longest that an endpoint waits between two probes, whatever the budget.
	probeAtLeast = 10 * time.Minute
	// probeGrace is for how long a place in the calendar is kept.
	probeGrace = time.Second
)

// place returns when an endpoint that was probed last at, zero for never, may be probed, not before earliest.
func (p *probes) place(earliest, last time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := earliest
	if p.next.After(at) {
		at = p.next
	}
	if limit := last.Add(probeAtLeast); !last.IsZero() && at.After(limit) && limit.After(earliest) {
		return limit
	}
	// As many as end in the time that one takes may begin in it.
	p.next = at.Add(max(time.Second/probesPerSecond, p.took/probesAtATime))
	return at
}

// begin has a probe go whose place was at, and was probed last at last; else it says when to ask again. A place that was
// not used in time is lost.
func (p *probes) begin(now, at, last time.Time) (again time.Time) {
	overdue := !last.IsZero() && now.Sub(last) >= probeAtLeast
	if !overdue && now.Sub(at) > probeGrace {
		if at = p.place(now, last); at.After(now) {
			return at
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy >= probesAtATime && !overdue {
		return now.Add(probeGrace / 2)
	}
	p.busy++
	return time.Time{}
}

// end is told of a probe that took so long; of one that came to nothing with 0.
func (p *probes) end(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	if took > 0 {
		p.took += (took - p.took) / 16
	}
}
