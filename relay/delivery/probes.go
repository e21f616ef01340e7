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

	// The longest wait, by the probe before it, among those who found no room in this spell and in the one before.
	oldest [2]time.Time
	turned time.Time

	pace time.Time // before then none begins
}

const (
	probesPerSecond = 50
	probesAtATime   = 256
	// probeAtLeast is the longest that an endpoint waits between two probes, whatever the budget.
	probeAtLeast = 10 * time.Minute
	// probeGrace is for how long a place in the calendar is kept.
	probeGrace = time.Second
)

// place returns when an endpoint that has waited for a probe since last may be probed, not before earliest.
func (p *probes) place(earliest, last time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := earliest
	if p.next.After(at) {
		at = p.next
	}
	if limit := latest(last.Add(probeAtLeast), earliest); at.After(limit) {
		return limit
	}
	// As many as end in the time that one takes may begin in it.
	p.next = at.Add(max(time.Second/probesPerSecond, p.took/probesAtATime))
	return at
}

// begin has a probe go whose place was at, and that was waited for since last; else it says when to ask again. A place that was
// not used in time is lost.
func (p *probes) begin(now, at, last time.Time) (again time.Time) {
	overdue := now.Sub(last) >= probeAtLeast
	if !overdue && now.Sub(at) > probeGrace {
		if at = p.place(now, last); at.After(now) {
			return at
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !overdue && !p.hasRoom(now, last) {
		return now.Add(p.askAgain())
	}
	p.busy++
	p.pace = latest(p.pace, now.Add(-probeGrace/5)).Add(time.Second / probesPerSecond)
	return time.Time{}
}

// hasRoom reports whether another probe may begin: fewer than probesAtATime are under way, and nobody who found no room has
// waited longer by much.
func (p *probes) hasRoom(now, last time.Time) bool {
	if now.Sub(p.turned) > p.askAgain() {
		p.oldest[0], p.oldest[1], p.turned = p.oldest[1], time.Time{}, now
	}
	room := p.busy < probesAtATime && !p.pace.After(now)
	for _, oldest := range p.oldest {
		room = room && (oldest.IsZero() || last.Sub(oldest) <= probeEvery)
	}
	if !room && (p.oldest[1].IsZero() || last.Before(p.oldest[1])) {
		p.oldest[1] = last
	}
	return room
}

// askAgain is after what time somebody who found no room asks again.
func (p *probes) askAgain() time.Duration { return min(max(p.took/4, probeGrace/2), probeEvery/3) }

// end is told of a probe that took so long; of one that came to nothing with 0.
func (p *probes) end(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	if took > 0 {
		p.took += (took - p.took) / 16
	}
}
