package simulate

import (
	"slices"
	"time"
)

// What is judged every now and then: liveness.

func (w *world) judgeLiveness() {
	m, now := w.relay(), time.Now()
	runs, is := m.runsSince()
	w.net.mu.Lock()
	if w.net.upSince.After(runs) {
		runs = w.net.upSince
	}
	is = is && w.net.down == none
	w.net.mu.Unlock()
	if !is || w.disk.tight(now.Add(-2*time.Minute), critical) {
		return
	}
	for _, ep := range w.endpoints() {
		r := w.ledger.receivers[ep.name]
		since, paused := w.freeSince(ep.name)
		if paused || w.disabled(ep.name, now, now) != no {
			continue
		}
		if runs.After(since) {
			since = runs
		}
		r.mu.Lock()
		tempers := slices.Clone(r.tempers)
		limited := now.Sub(r.limited) < 2*afterLimits
		r.mu.Unlock()
		w.ledger.mu.Lock()
		r.open = append(r.open, w.ledger.order[r.looked:]...)
		r.looked = len(w.ledger.order)
		w.ledger.mu.Unlock()
		refused := 0 // of those that wait, what the receiver does not take as it is now
		for _, e := range r.open {
			if wellSince(tempers, e).IsZero() {
				refused++
			}
		}
		r.open = slices.DeleteFunc(r.open, func(e *event) bool { return w.judgeDue(r, &ep, e, tempers, since, limited, refused) })
	}
}

// judgeDue judges whether a delivery is late; it reports whether nothing more has to be asked of it.
func (w *world) judgeDue(r *receiver, ep *endpoint, e *event, tempers []temper, since time.Time, limited bool, refused int) (over bool) {
	now := time.Now()
	w.ledger.mu.Lock()
	acked := e.acked()
	from, to := e.accepting()
	w.ledger.mu.Unlock()
	if acked.IsZero() {
		return false
	}
	if is, _ := w.subscribed(ep.name, e, from, to); is != yes {
		return true
	}
	if _, always := w.isOwn(ep.name, e, from, now); !always {
		return true // it may be failed as unmatched
	}
	well := wellSince(tempers, e)
	if well.IsZero() {
		return false
	}
	if since.After(well) {
		well = since
	}
	r.mu.Lock()
	mayBeDown := r.health.mayBeDown(acked)
	var requests []*request
	if d := r.deliveries[e]; d != nil {
		requests = slices.Clone(d.requests)
	}
	r.mu.Unlock()
	isReplayed := func(q *request) bool { return q.replay != "" }
	if w.isOver(r, ep, e, requests) || now.Sub(acked) > ep.maxAge || slices.ContainsFunc(requests, isReplayed) {
		return true
	}
	if n := len(requests); n > 0 && requests[n-1].end.IsZero() {
		return false
	}
	others := len(r.open)
	for _, c := range w.ledger.replays(ep.name, nil) { // they take turns
		others += c.total
	}
	due := ep.due(acked, well, requests, r.failedDials(from) > 0, others)
	if limited {
		due = due.Add(afterLimits)
	}
	if mayBeDown && refused > 0 {
		// It is probed with one delivery at a time, each time another, first attempts and retries in turns: what it does not
		// take may go first.
		due = due.Add(time.Duration(2*refused+1) * probeEvery)
	}
	if now.After(due) {
		w.fail("%s, which is well since %s, did not get %s, accepted at %s, after %d requests", ep.name, w.at(well), e.id, w.at(acked), len(requests))
		return true
	}
	return false
}

// wellSince is since when a receiver takes an event; zero when it does not.
func wellSince(tempers []temper, e *event) (since time.Time) {
	for i := len(tempers) - 1; i >= 0; i-- {
		t := &tempers[i]
		for nth := range uint64(8) {
			a := t.answer(e, nth*12345)
			if t.trouble != none || a.how != "" && a.how != "liar" || a.status != 200 || a.wait > 0 {
				return since
			}
		}
		since = t.since
	}
	return since
}

// isOver reports whether a delivery may be delivered, or failed after its last attempt.
func (w *world) isOver(r *receiver, ep *endpoint, e *event, requests []*request) bool {
	for _, q := range requests {
		if !q.end.IsZero() && q.answer.status == 200 {
			return true // or the relay does not know it, and sends it again
		}
		if q.attempt > len(ep.retry) && !q.end.IsZero() {
			return true
		}
	}
	// Attempts that never came so far as to be a request may have been its last.
	failed, n := r.failedDials(e.posts[0].at), 0
	if len(requests) > 0 {
		n = requests[len(requests)-1].attempt
	}
	return failed > 0 && n+failed > len(ep.retry)
}
