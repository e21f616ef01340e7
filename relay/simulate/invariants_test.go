package simulate

import (
	"slices"
	"time"
)

// What is judged as it happens.

// judgePost holds the answer to a post against what was posted before.
func (w *world) judgePost(e *event, p post, before []post) {
	accepted, duplicate := answers(before, p.end, w.file.dedup)
	for _, b := range before {
		if b.end.After(p.at) { // at the same time
			accepted, duplicate = true, true
		}
	}
	switch p.answer {
	case "accepted":
		if !accepted {
			w.fail("%s is accepted again", e.id)
		}
	case "duplicate":
		if !duplicate && !w.postedMeanwhile(e) {
			w.fail("%s is called a duplicate and was never posted", e.id)
		}
	case "", "refused":
	default:
		w.fail("%s is %q", e.id, p.answer)
	}
}

// postedMeanwhile: another post of it is under way or was refused without certainty.
func (w *world) postedMeanwhile(e *event) bool {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return len(e.posts) > 1 || e.under > 1
}

// judgeRefusal holds a 503 against what may cause one.
func (w *world) judgeRefusal(m *machine, at time.Time, body string) {
	if !m.troubledSince(at) && !w.disk.tight(at.Add(-time.Second), minFree) {
		w.fail("a post is refused, and nothing is wrong: %s", body)
	}
}

// judgeRequest holds a request against what came before for the same delivery.
func (w *world) judgeRequest(r *receiver, q *request, before []*request) {
	m, e := w.relay(), q.event
	from, to := e.accepting()
	if to.IsZero() || q.at.Before(to) {
		to = q.at
	}
	subscribed, ep := w.subscribed(r.endpoint, e, from, to)
	if subscribed == no {
		w.fail("%s got %s, to which it did not subscribe", r.endpoint, e.id)
		return
	}
	// An attempt that is under way ends as it began, and this may be a while after.
	if own, _ := w.isOwn(r.endpoint, e, q.at.Add(-ep.timeout-time.Second), q.at); !own {
		w.fail("%s got %s, which is not its own", r.endpoint, e.id)
	}
	w.judgePause(r, q)
	w.judgeConcurrency(r, q)
	r.mu.Lock()
	held, heldAt, goneAt := r.held, r.heldAt, r.gone
	r.mu.Unlock()
	if !goneAt.IsZero() && q.at.After(goneAt.Add(time.Second)) && !w.hastened(r.endpoint, goneAt) && !m.forgets(goneAt, goneAt) {
		w.fail("%s got %s, and had said %s before that all is gone", r.endpoint, e.id, q.at.Sub(goneAt))
	}
	if q.at.Add(10*time.Millisecond).Before(held) && q.at.After(heldAt.Add(time.Second)) && !w.hastened(r.endpoint, heldAt) && !m.forgets(heldAt, heldAt) {
		w.fail("%s got %s, and had asked to be left alone for another %s", r.endpoint, e.id, held.Sub(q.at))
	}
	if q.replay != "" {
		w.judgeReplayed(r, q, before)
	}
	before = slices.DeleteFunc(before, func(b *request) bool { return b.replay != q.replay }) // each has a schedule of its own
	if q.attempt < 1 || q.attempt > len(ep.retry)+1 {
		w.fail("%s got %s as attempt %d, of a schedule of %d", r.endpoint, e.id, q.attempt, len(ep.retry)+1)
	}
	if len(before) == 0 {
		return
	}
	r.mu.Lock()
	h := r.health
	r.mu.Unlock()
	last := before[len(before)-1]
	forgotten, failedDials := m.forgets(last.at, last.end), r.chargedDials(last.at)
	if last.end.IsZero() && !forgotten && q.at.Sub(last.at) < ep.timeout-time.Second {
		w.fail("%s got %s while its attempt %d is under way", r.endpoint, e.id, last.attempt)
	}
	for _, p := range before {
		if means(p) == delivered && !p.end.IsZero() && !m.forgets(p.at, p.end) {
			w.fail("%s got %s again, which it had taken %s before", r.endpoint, e.id, q.at.Sub(p.end))
			return
		}
	}
	meant := means(last)
	if last.end.IsZero() {
		meant = unsure
	}
	if breaks(last) && q.attempt == last.attempt && q.at.Sub(last.at) < ep.timeout {
		return // the same attempt: its connection was broken before a byte of an answer
	}
	down := last.offline || h.mayBeDown(last.at)
	most, least := last.attempt+1+failedDials, last.attempt
	switch meant {
	case agreement, gone:
		most--
	case failing, refusesIt:
		if !down && !forgotten && !w.moved(r.endpoint, last.at) {
			least++
		}
	}
	if last.probe && q.probe && meant != delivered {
		most = last.attempt // a probe that fails is not charged
		if w.hastened(r.endpoint, last.at) {
			most += failedDials // who resumes an endpoint has it judged anew: until it is down again attempts are charged
		}
	}
	if forgotten {
		least--
	}
	if q.attempt > most || q.attempt < least {
		w.fail("%s got %s as attempt %d after attempt %d, which %s; it may be %d to %d", r.endpoint, e.id, q.attempt, last.attempt, meant, least, most)
	}
	early := last.offline || q.offline || q.probe || h.mayBringRetries(last.at, q.at) || down && w.edited(r.endpoint, last.at.Add(-bringsRetries))
	if !forgotten && !w.hastened(r.endpoint, last.at) && !early {
		if wait, over := ep.wait(last.attempt); (meant == failing || meant == refusesIt) && over {
			w.fail("%s got %s after its last attempt, %d", r.endpoint, e.id, last.attempt)
		} else if (meant == failing || meant == refusesIt) && q.at.Sub(last.end) < wait-10*time.Millisecond {
			w.fail("%s got %s %s after attempt %d, and the schedule says %s", r.endpoint, e.id, q.at.Sub(last.end), last.attempt, wait)
		}
		if meant == agreement && heldUntil(last).After(q.at.Add(10*time.Millisecond)) {
			w.fail("%s got %s %s before the time that it had asked for", r.endpoint, e.id, heldUntil(last).Sub(q.at))
		}
	}
}

// judgeReplayed holds a request of a replay against the replays that were asked for.
func (w *world) judgeReplayed(r *receiver, q *request, before []*request) {
	var c *command
	for _, one := range w.ledger.replays(r.endpoint, q.event) {
		if one.replay == q.replay || one.replay == "" {
			c = &one
			if one.replay != "" {
				break
			}
		}
	}
	if c == nil {
		w.fail("%s got %s as part of replay %s, which is not for it", r.endpoint, q.event.id, q.replay)
		return
	}
	first := !slices.ContainsFunc(before, func(b *request) bool { return b.replay == q.replay })
	if x := c.cancel; first && x != nil && !x.done.IsZero() && q.at.After(x.done.Add(time.Second)) && r.failedDials(c.at) == 0 {
		w.fail("%s got %s as part of replay %s, which was cancelled %s before", r.endpoint, q.event.id, q.replay, q.at.Sub(x.done))
	}
	// Of what failed, it is not for what was delivered before.
	if !first || c.ids != nil || !c.since.IsZero() || len(before) == 0 {
		return
	}
	last := before[len(before)-1]
	if _, always := w.isOwn(r.endpoint, q.event, last.end, q.at); !always {
		return // a replay since then may have made it failed, as unmatched
	}
	if means(last) == delivered && !last.end.IsZero() && last.end.Before(c.at.Add(-unsaved)) && !w.relay().forgets(last.at, last.end) && r.failedDials(last.end) == 0 {
		w.fail("%s got %s as part of replay %s of what failed, and had taken it %s before", r.endpoint, q.event.id, q.replay, q.at.Sub(last.end))
	}
}

// judgePause holds a request against the pauses of its endpoint, and against the file.
func (w *world) judgePause(r *receiver, q *request) {
	if w.disabled(r.endpoint, q.at.Add(-time.Second), q.at) == yes {
		w.fail("%s got %s, and is disabled", r.endpoint, q.event.id)
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	var paused time.Time
	for _, c := range w.ledger.commands {
		switch {
		case c.endpoint != r.endpoint:
		case c.what == "pause" && !c.done.IsZero():
			paused = c.done
		case c.what == "resume":
			paused = time.Time{}
		}
	}
	if !paused.IsZero() && q.at.After(paused.Add(time.Second)) {
		w.fail("%s got %s, and was paused %s before", r.endpoint, q.event.id, q.at.Sub(paused))
	}
}

// judgeConcurrency counts the attempts that are under way at an endpoint.
func (w *world) judgeConcurrency(r *receiver, q *request) {
	most, timeout := 0, time.Duration(0)
	for _, v := range w.file.between(q.at.Add(-time.Minute), q.at) {
		for _, e := range v.endpoints {
			if e.name == r.endpoint {
				most, timeout = max(most, e.concurrency), max(timeout, e.timeout)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	r.underWay = slices.DeleteFunc(r.underWay, func(o *request) bool { return !o.end.IsZero() })
	for _, o := range r.underWay {
		if q.at.Sub(o.at) < timeout-time.Second { // else the relay may have given up
			n++
		}
	}
	if n > most {
		w.fail("%s has %d attempts under way, and takes %d at a time", r.endpoint, n, most)
	}
}

// certainty is what the world knows of whether a delivery exists.
type certainty int

const (
	no certainty = iota
	maybe
	yes
)

// disabled says whether the file had an endpoint disabled from one time to another.
func (w *world) disabled(name string, from, to time.Time) certainty {
	all, any := true, false
	for _, v := range w.file.between(from, to) {
		for _, ep := range v.endpoints {
			if ep.name == name {
				all, any = all && !ep.enabled, any || !ep.enabled
			}
		}
	}
	switch {
	case all && any:
		return yes
	case any:
		return maybe
	}
	return no
}

// subscribed says whether an event that was accepted at some time from one to another is for an endpoint.
func (w *world) subscribed(name string, e *event, from, to time.Time) (certainty, endpoint) {
	all, any := true, false
	var found endpoint
	for _, v := range w.file.between(from, to) {
		is := false
		for _, ep := range v.endpoints {
			if ep.name == name {
				found = ep
				is = ep.takes(e.typ) && ep.enabled && ep.whose.holds(e)
			}
		}
		all, any = all && is, any || is
	}
	switch {
	case all && any:
		return yes, found
	case any:
		return maybe, found
	}
	return no, found
}

// isOwn says whether an event may have been an endpoint's own at some time from one to another, and whether it was all the while.
func (w *world) isOwn(name string, e *event, from, to time.Time) (once, always bool) {
	always = true
	for _, v := range w.file.between(from, to) {
		for _, ep := range v.endpoints {
			if ep.name == name {
				holds := ep.whose.holds(e)
				once, always = once || holds, always && holds
			}
		}
	}
	return once, always
}
