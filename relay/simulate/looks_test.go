package simulate

import (
	"math/rand/v2"
	"slices"
	"time"
)

// What is judged when somebody looks: what the relay says of its endpoints.

// newWatcher looks at the endpoints now and then.
func (w *world) newWatcher(m *machine) {
	w.act("watcher", func(r *rand.Rand) time.Duration { return around(10*time.Minute, r) }, func(*rand.Rand) {
		if _, runs := m.runsSince(); !runs || m.off.Load() != 0 || w.disk.tight(time.Now().Add(-time.Minute), critical) {
			return // what is shown of times follows the wall clock
		}
		asked := time.Now()
		var said struct {
			Endpoints []endpointState
		}
		answered := w.exchange(m.admin, "GET", "/endpoints", adminAuth, "", func(status int, body []byte) {
			if status == 200 {
				w.read(body, &said)
			} else if !m.troubledSince(asked) {
				w.fail("the endpoints are answered %d: %s", status, body)
			}
		})
		if !answered && !m.troubledSince(asked) {
			w.fail("the endpoints are not answered")
		}
		for i := range said.Endpoints {
			w.judgeSaid(m, &said.Endpoints[i], asked)
		}
	})
}

// endpointState is what the relay says of an endpoint.
type endpointState struct {
	Name, State string
	Since       time.Time `json:"state_began_at"`
}

// judgeSaid holds what was said of an endpoint against what is known of it.
func (w *world) judgeSaid(m *machine, s *endpointState, asked time.Time) {
	r := w.ledger.receivers[s.Name]
	held, free := w.pauseOf(m, r, asked)
	disabled := w.disabled(s.Name, asked.Add(-time.Second), time.Now())
	switch {
	case s.State == "disabled" && disabled == no, s.State != "disabled" && s.State != "paused" && disabled == yes:
		w.fail("%s is %s, says the relay; that it is disabled is %v", s.Name, s.State, disabled)
	case s.State == "paused" && free:
		w.fail("%s is paused, says the relay, and nobody paused it", s.Name)
	case s.State != "paused" && s.State != "disabled" && held:
		w.fail("%s is %s, says the relay, and was paused", s.Name, s.State)
	case s.State == "down":
		w.judgeDown(m, r, s.Since)
	}
}

// pauseOf says whether an endpoint is paused, or is not, for certain.
func (w *world) pauseOf(m *machine, r *receiver, asked time.Time) (held, free bool) {
	w.ledger.mu.Lock()
	free = true
	var last *command
	var resumed time.Time // when a resume that was done began, last
	for _, c := range w.ledger.commands {
		if c.endpoint != r.endpoint || c.what != "pause" && c.what != "resume" {
			continue
		}
		last = c
		switch {
		case c.what == "pause":
			free = false
		case !c.done.IsZero():
			free, resumed = c.done.Before(asked), c.at
		}
	}
	held = last != nil && last.what == "pause" && !last.done.IsZero() && last.done.Before(asked)
	w.ledger.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.everGone.IsZero() && r.everGone.Add(together).After(resumed) {
		free = false // a 410, which may have arrived only now
	}
	return held, free
}

// judgeDown holds that an endpoint is said to be down since a time against what failed before (operate: "five attempts in a row failed",
// and "if one type fails whatever its events are while others go well, that is the type's failure").
func (w *world) judgeDown(m *machine, r *receiver, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.health.localAt.After(since.Add(-time.Hour)) || m.rebootedSince(since.Add(-together)) {
		return // nobody knows what was charged to whom; or the time may be told later or earlier by what a reboot passed over
	}
	var row []*request // failed, the latest first; what is so near to a success may have come after it
	var good time.Time
	for i := len(r.ends) - 1; i >= 0; i-- {
		q := r.ends[i]
		if q.end.After(since.Add(together)) {
			continue
		}
		if !good.IsZero() && good.Sub(q.end) > together {
			break
		}
		switch means(q) {
		case failing, unsure:
			row = append(row, q)
		case delivered, refusesIt:
			if good.IsZero() {
				good = q.end
			}
		}
	}
	dials := r.failedDialsWithin(good.Add(-together), since.Add(together))
	if n := len(row) + dials; n < downAfter {
		w.fail("%s is down since %s, says the relay, and %d attempts in a row failed", r.endpoint, w.at(since), n)
	}
	if dials > 0 || len(row) == 0 {
		return
	}
	typ := row[0].event.typ
	for _, q := range row {
		if q.event.typ != typ || means(q) != failing || breaks(q) {
			return
		}
	}
	if first := w.failsAlone(r, typ, since); !first.IsZero() && !m.restartedSince(first) && !w.hastened(r.endpoint, first) {
		w.fail("%s is down since %s, says the relay, though only %s fails, since %s", r.endpoint, w.at(since), typ, w.at(first))
	}
}

// failsAlone is since when only one type has failed while others went well; zero when it is not so. The caller holds the receiver's lock.
func (w *world) failsAlone(r *receiver, typ string, until time.Time) (first time.Time) {
	n := 0
	var other time.Time // when another type last went well
	for _, q := range r.ends {
		if q.end.After(until.Add(-together)) {
			break
		}
		switch m := means(q); {
		case m == delivered && q.event.typ == typ:
			first, n = time.Time{}, 0
		case m == delivered:
			other = q.at
		case m == failing && q.event.typ == typ:
			if n++; n == 1 {
				first = q.end
			}
		}
	}
	if n < 2*downAfter || other.Sub(first) < together || until.Sub(other) > blamesType-together {
		return time.Time{}
	}
	return first
}

// judgeResumed waits for what an endpoint was resumed for (operate: "what waits is attempted now"): something must come of what was never
// attempted, unless attempts that are under way may take all the places.
func (w *world) judgeResumed(m *machine, name string, c *command) {
	const soon = 3 * time.Second
	r := w.ledger.receivers[name]
	var ep *endpoint
	for _, e := range w.endpoints() {
		if e.name == name {
			ep = &e
		}
	}
	if ep == nil || !ep.enabled || !w.reachable(r, c.at.Add(-time.Minute)) || !w.waits(r, ep, c.at) || !w.sleep(soon) {
		return
	}
	now := time.Now()
	if m.troubledSince(c.at) || w.disk.tight(c.at, critical) || w.ledger.since(name, c) || !w.reachable(r, c.at.Add(-time.Minute)) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cameAt.Before(c.at) {
		w.fail("%s was resumed %s ago, and nothing has come", name, now.Sub(c.at))
	}
}

// reachable reports whether an endpoint could be reached all the while since then.
func (w *world) reachable(r *receiver, since time.Time) bool {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.tempers[len(r.tempers)-1]
	return w.net.down == none && w.net.upSince.Before(since) && t.trouble == none && t.since.Before(since)
}

// waits reports whether something certainly waits for its first attempt at an endpoint, and nothing is under way there.
func (w *world) waits(r *receiver, ep *endpoint, now time.Time) bool {
	w.ledger.mu.Lock()
	latest := w.ledger.order[max(0, len(w.ledger.order)-100):]
	w.ledger.mu.Unlock()
	r.mu.Lock()
	busy := slices.ContainsFunc(r.underWay, func(q *request) bool { return q.end.IsZero() })
	r.mu.Unlock()
	if busy {
		return false
	}
	for _, e := range latest {
		w.ledger.mu.Lock()
		acked := e.acked()
		from, to := e.accepting()
		w.ledger.mu.Unlock()
		if acked.IsZero() || now.Sub(acked) < time.Second || now.Sub(acked) > ep.maxAge-time.Second {
			continue
		}
		r.mu.Lock()
		d := r.deliveries[e]
		r.mu.Unlock()
		_, own := w.isOwn(r.endpoint, e, from, now)
		if is, _ := w.subscribed(r.endpoint, e, from, to); is == yes && own && d == nil && r.failedDials(from) == 0 {
			return true
		}
	}
	return false
}
