package delivery

import (
	"sync"
	"time"
)

// probeBudget is what the probes of all endpoints share. It schedules them one after the other, so that the endpoints that have
// waited longest come first. When few endpoints are down each is probed on time; when thousands are, each is probed less often.
// Safe for concurrent use.
type probeBudget struct {
	mu       sync.Mutex
	next     time.Time     // when the next probe may be scheduled
	inFlight int           // probes under way
	duration time.Duration // how long a probe takes, smoothed

	// Since when the endpoint has waited that waited longest among those that found no room, in the previous period and in this.
	longestWaits [2]time.Time
	periodBegan  time.Time

	nextStart time.Time // before then no probe begins
}

const (
	probesPerSecond   = 50
	probesInFlightMax = 256
	// probeWaitMax is the longest time between two probes of an endpoint, whatever the budget.
	probeWaitMax = 10 * time.Minute
	// probeGrace is how long after its scheduled time a probe may still begin.
	probeGrace = time.Second
)

// schedule returns when an endpoint that has waited for a probe since last may be probed, not before earliest.
func (p *probeBudget) schedule(earliest, last time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := earliest
	if p.next.After(at) {
		at = p.next
	}
	if limit := latest(last.Add(probeWaitMax), earliest); at.After(limit) {
		return limit
	}
	// In the time that one probe takes, as many may begin as end.
	p.next = at.Add(max(time.Second/probesPerSecond, p.duration/probesInFlightMax))
	return at
}

// begin begins a probe that was scheduled for at and waited for since last, and returns the zero Time; or it returns when to ask
// again. A probe that does not begin in time is scheduled anew.
func (p *probeBudget) begin(now, at, last time.Time) (again time.Time) {
	overdue := now.Sub(last) >= probeWaitMax
	if !overdue && now.Sub(at) > probeGrace {
		if at = p.schedule(now, last); at.After(now) {
			return at
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !overdue && !p.hasRoom(now, last) {
		return now.Add(p.retryIn())
	}
	p.inFlight++
	p.nextStart = latest(p.nextStart, now.Add(-probeGrace/5)).Add(time.Second / probesPerSecond)
	return time.Time{}
}

// hasRoom reports whether another probe may begin: fewer than probesInFlightMax are under way, and no endpoint that found no room has
// waited much longer.
func (p *probeBudget) hasRoom(now, last time.Time) bool {
	if now.Sub(p.periodBegan) > p.retryIn() {
		p.longestWaits[0], p.longestWaits[1], p.periodBegan = p.longestWaits[1], time.Time{}, now
	}
	room := p.inFlight < probesInFlightMax && !p.nextStart.After(now)
	for _, oldest := range p.longestWaits {
		room = room && (oldest.IsZero() || last.Sub(oldest) <= probeEvery)
	}
	if !room && (p.longestWaits[1].IsZero() || last.Before(p.longestWaits[1])) {
		p.longestWaits[1] = last
	}
	return room
}

// retryIn is after what time an endpoint that found no room asks again.
func (p *probeBudget) retryIn() time.Duration {
	return min(max(p.duration/4, probeGrace/2), probeEvery/3)
}

// end notes a probe that has ended and how long it took; 0 for one that was not made.
func (p *probeBudget) end(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	if took > 0 {
		p.duration += (took - p.duration) / 16
	}
}
