package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The model is what the manual promises, in the words of its pages. It knows nothing but the ledger.

// meaning is what the outcome of an attempt says (operate: "What a state means", schedules: "When it is held longer").
type meaning int

const (
	unsure    meaning = iota // nobody but the relay knows what arrived in time
	delivered                // a success code
	refusesIt                // a 4xx that refuses this one event
	failing                  // counts for the delivery, and against the endpoint
	agreement                // 429, or 503 with Retry-After: nobody is charged
	gone                     // 410: the endpoint is paused, nobody is charged
)

func means(q *request) meaning {
	s := q.answer.status
	switch {
	case q.answer.how == "reset" || q.answer.how == "hang":
		return failing
	case !q.heard:
		return unsure
	case s >= 200 && s < 300:
		return delivered
	case s == 410:
		return gone
	case s == 429 || s == 503 && q.answer.after > 0:
		return agreement
	case s >= 400 && s < 500 && s != 401 && s != 403 && s != 404 && s != 407 && s != 408 && s != 425:
		return refusesIt
	}
	return failing
}

// breaks reports whether the receiver may have broken the connection before a byte of an answer: an attempt on a kept connection is
// then made once more on another one (receive).
func breaks(q *request) bool { return q.answer.how == "reset" || !q.heard && q.answer.how != "hang" }

func (m meaning) String() string {
	return [...]string{"may have ended in any way", "was delivered", "refused the event", "failed", "asked to wait", "said that all is gone"}[m]
}

// answers says what a post may be answered, by what the source knows of the id (post: "What the answers mean", guarantees: an id is
// accepted once within dedup_window).
func answers(before []post, now time.Time, window time.Duration) (accepted, duplicate bool) {
	accepted = true
	var tried time.Time // when it may have been accepted first
	for _, p := range before {
		if p.answer == "refused" {
			continue
		}
		if tried.IsZero() {
			tried = p.at
		}
		duplicate = true
		if p.answer != "" && now.Sub(tried) < window {
			accepted = false
		}
	}
	return accepted, duplicate
}

// whose is whose events an endpoint asks for (configure: "Whose events an endpoint gets"). The zero value asks for everybody's.
type whose struct {
	values []string // one of these is data.account, as JSON has it
	exists string   // without values: "true" for events that have one, "false" for those that have none
}

// holds reports whether an event is asked for.
func (o whose) holds(e *event) bool {
	of := accountOf(e.id)
	switch {
	case len(o.values) > 0:
		return slices.Contains(o.values, of)
	case o.exists == "true":
		return of != ""
	case o.exists == "false":
		return of == ""
	}
	return true
}

// text is it as the file has it.
func (o whose) text() string {
	switch {
	case len(o.values) > 0:
		return fmt.Sprintf("match = { \"data.account\" = [%s] }\n", strings.Join(o.values, ", "))
	case o.exists != "":
		return fmt.Sprintf("match = { \"data.account\" = { exists = %s } }\n", o.exists)
	}
	return ""
}

// wait is how long after a charged attempt the next one may come at the earliest; last reports that there is none (schedules).
func (e *endpoint) wait(attempt int) (wait time.Duration, last bool) {
	if attempt > len(e.retry) {
		return 0, true
	}
	return e.retry[max(attempt, 1)-1], false
}

// downAfter failed attempts in a row make an endpoint down, whichever deliveries they were of.
const downAfter = 5

// probeEvery is the time between two probes of an endpoint that is down.
const probeEvery = 15 * time.Second

// health is what may be thought of an endpoint. While it may be taken for down, or this machine for offline, its deliveries are probes,
// which come as they like and charge nobody.
type health struct {
	inRow   int       // attempts that failed in a row, or may have
	rowAt   time.Time // when these were enough to make it down
	downTil time.Time // when it was last not taken for down any more
	longTil time.Time // when it was last not taken for down any more after so long that its retries may have come with it
	localAt time.Time // when an attempt last failed because of this machine

	good   time.Time            // when it was last well
	latest [downAfter]time.Time // failures
	sure   int                  // attempts that failed in a row for certain, so long after that no type can be to blame: twice as many as it takes
	sureAt time.Time            // when the first of them failed
	downAt time.Time            // when these were enough
}

func (h *health) note(m meaning, at time.Time, surely bool) {
	switch m {
	case delivered, refusesIt:
		if h.inRow >= downAfter {
			h.downTil = at
			if h.isLong(at) {
				h.longTil = at
			}
		}
		h.inRow, h.sure, h.good = h.justFailed(at), 0, at
		if h.inRow >= downAfter {
			h.rowAt = at
		}
	case failing:
		h.failed(at)
		if surely && at.Sub(h.good) > blamesType {
			if h.sure++; h.sure == 1 {
				h.sureAt = at
			}
			if h.sure == 2*downAfter {
				h.downAt = at
			}
		}
	case unsure:
		h.failed(at)
		h.sure = 0
	}
}

// forget minds that a crash can have made the relay forget that the endpoint is up again: it may be down as before.
func (h *health) forget(crash time.Time) {
	if !h.downTil.IsZero() && crash.Sub(h.downTil) < unsaved {
		h.inRow = max(h.inRow, downAfter)
	}
}

func (h *health) failed(at time.Time) {
	if h.inRow++; h.inRow == downAfter {
		h.rowAt = at
	}
	h.mind(at)
}

// bringsRetries is for how long an endpoint must have been down for its retries to come with it (operate: "unless it was down for less
// than 15 s: then they wait as retry says").
const bringsRetries = 15 * time.Second

// isLong reports whether the endpoint may have been down for so long.
func (h *health) isLong(now time.Time) bool {
	return h.inRow >= downAfter && now.Sub(h.rowAt) > bringsRetries-together
}

// mayBringRetries reports whether retries may have been brought forward since then: the endpoint was down for long, or this machine
// may have been offline.
func (h *health) mayBringRetries(since, now time.Time) bool {
	return h.isLong(now) || !h.longTil.IsZero() && !h.longTil.Add(together).Before(since) || !h.localAt.IsZero() && !h.localAt.Before(since)
}

// together is within what time answers may reach the relay in another order, and it may go down and up again.
const together = 2 * time.Second

// mind minds that failures may have come in a row before the successes that are noted between them.
func (h *health) mind(at time.Time) {
	copy(h.latest[:], h.latest[1:])
	h.latest[downAfter-1] = at
	if at.Sub(h.latest[0]) < together {
		h.downTil = at
	}
}

// justFailed is how many attempts failed so shortly before a success that they may have come after it.
func (h *health) justFailed(success time.Time) (n int) {
	for _, failed := range h.latest {
		if success.Sub(failed) < together {
			n++
		}
	}
	return n
}

// blamesType is for how long after a success a type that fails may be blamed for it, and not the endpoint.
const blamesType = 10 * time.Minute

// isDown reports whether the endpoint is down for certain, unless somebody resumed it or the relay was away since then.
func (h *health) isDown() (since time.Time, is bool) { return h.downAt, h.sure >= 2*downAfter }

// mayBeDown reports whether it may have been down at some time since then.
func (h *health) mayBeDown(since time.Time) bool {
	return h.inRow >= downAfter || !h.downTil.Add(together).Before(since) && !h.downTil.IsZero() || !h.localAt.Before(since) && !h.localAt.IsZero()
}

// heldUntil is until when an endpoint asked to be left alone (operate: "limited"; at most an hour).
func heldUntil(q *request) time.Time {
	if means(q) != agreement {
		return time.Time{}
	}
	return q.end.Add(min(q.answer.after, time.Hour))
}

// The bounds of liveness: an endpoint that is well gets what is due to it within these.
const (
	// promptly: a probe comes every 15 s, and after it one attempt, two, four …
	promptly = time.Minute
	// afterLimits: whoever said 429 is sent more slowly at first, and less slowly an hour after.
	afterLimits = 2 * time.Hour
)

// due is when a delivery must have been attempted again at the latest, by a relay that runs and an endpoint that is well since then.
// Others that wait for the endpoint may go first, one after the other.
func (e *endpoint) due(accepted, wellSince time.Time, requests []*request, troubled bool, others int) time.Time {
	from := accepted
	if wellSince.After(from) {
		from = wellSince
	}
	waits := time.Duration(0)
	for _, w := range e.retry {
		waits = max(waits, w)
	}
	if n := len(requests); n > 0 || troubled { // it may wait for a retry
		if n > 0 && requests[n-1].end.After(from) {
			from = requests[n-1].end
		}
		from = from.Add(max(waits, probeEvery) + e.jitter)
	}
	return from.Add(promptly + time.Duration(others)*4*e.host.latency)
}
