package simulate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
	w.judgePause(r, q)
	r.mu.Lock()
	held, heldAt := r.held, r.heldAt
	r.mu.Unlock()
	if q.at.Add(10*time.Millisecond).Before(held) && q.at.After(heldAt.Add(time.Second)) && !w.hastened(r.endpoint, heldAt) && !m.forgets(heldAt, heldAt) {
		w.fail("%s got %s, and had asked to be left alone for another %s", r.endpoint, e.id, held.Sub(q.at))
	}
	if q.replay != "" || w.replayed(r.endpoint, e) {
		return
	}
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
	down := h.mayBeDown(last.at)
	most, least := last.attempt+1+failedDials, last.attempt
	switch meant {
	case agreement, gone:
		most--
	case failing, refusesIt:
		if !down && !forgotten && !w.edited(r.endpoint, last.at) {
			least++
		}
	}
	if last.probe && q.probe && meant != delivered {
		most = last.attempt // a probe that fails is not charged
	}
	if forgotten {
		least--
	}
	if q.attempt > most || q.attempt < least {
		w.fail("%s got %s as attempt %d after attempt %d, which %s; it may be %d to %d", r.endpoint, e.id, q.attempt, last.attempt, meant, least, most)
	}
	if !forgotten && !w.hastened(r.endpoint, last.at) && !down {
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

// judgePause holds a request against the pauses of its endpoint.
func (w *world) judgePause(r *receiver, q *request) {
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

// certainty is what the world knows of whether a delivery exists.
type certainty int

const (
	no certainty = iota
	maybe
	yes
)

// subscribed says whether an event that was accepted at some time from one to another is for an endpoint.
func (w *world) subscribed(name string, e *event, from, to time.Time) (certainty, endpoint) {
	all, any := true, false
	var found endpoint
	for _, v := range w.file.between(from, to) {
		is := false
		for _, ep := range v.endpoints {
			if ep.name == name {
				found = ep
				is = ep.takes(e.typ) && ep.enabled
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
		if paused {
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
		r.open = slices.DeleteFunc(r.open, func(e *event) bool { return w.judgeDue(r, &ep, e, tempers, since, limited) })
	}
}

// judgeDue judges whether a delivery is late; it reports whether nothing more has to be asked of it.
func (w *world) judgeDue(r *receiver, ep *endpoint, e *event, tempers []temper, since time.Time, limited bool) (over bool) {
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
	well := wellSince(tempers, e)
	if well.IsZero() {
		return false
	}
	if since.After(well) {
		well = since
	}
	r.mu.Lock()
	var requests []*request
	if d := r.deliveries[e.id]; d != nil {
		requests = slices.Clone(d.requests)
	}
	r.mu.Unlock()
	if w.isOver(r, ep, e, requests) || now.Sub(acked) > ep.maxAge {
		return true
	}
	if n := len(requests); n > 0 && requests[n-1].end.IsZero() {
		return false
	}
	due := ep.due(acked, well, requests, r.failedDials(from) > 0, len(r.open))
	if limited {
		due = due.Add(afterLimits)
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

// What is judged at the end, when all is well and has been for long.

type story struct {
	ID         string
	Deliveries []struct {
		Endpoint, State, Reason string
		Attempts                []struct {
			Number, Status int
			Class          string
		}
	}
}

type failedDelivery struct {
	ID, Class, Reason string
	Attempts, Status  int
	Accepted          time.Time `json:"accepted_at"`
	FailedAt          time.Time `json:"failed_at"`
}

func (w *world) judgeEnd() {
	m := w.relay()
	states := map[string]map[string]string{} // by endpoint and id
	for _, ep := range w.endpoints() {
		states[ep.name] = map[string]string{}
	}
	for _, e := range w.ledger.order {
		found := w.story(m, e.id)
		acked := e.acked()
		if found == nil {
			if !acked.IsZero() && time.Since(acked) < w.file.retention {
				w.fail("%s was accepted at %s and has no story", e.id, w.at(acked))
			}
			continue
		}
		from, to := e.accepting()
		if to.IsZero() {
			w.fail("%s has a story, and was refused whenever it was posted", e.id)
			continue
		}
		for _, d := range found.Deliveries {
			if states[d.Endpoint] != nil {
				states[d.Endpoint][e.id] = d.State
			}
		}
		for _, ep := range w.endpoints() {
			state, there := states[ep.name][e.id]
			switch is, _ := w.subscribed(ep.name, e, from, to); {
			case is == yes && !there:
				w.fail("%s was accepted at %s and %s has no delivery of it", e.id, w.at(acked), ep.name)
			case is == no && there:
				w.fail("%s has a delivery of %s, to which it did not subscribe", ep.name, e.id)
			}
			if there && w.judgeState(&ep, e, state) {
				continue
			}
		}
	}
	for _, ep := range w.endpoints() {
		w.judgeCounters(m, &ep, states[ep.name])
	}
	if err := w.net.check(); err != nil {
		w.fail("%v", err)
	}
}

// judgeState holds what the relay says of a delivery against the receiver's ledger.
func (w *world) judgeState(ep *endpoint, e *event, state string) bool {
	r := w.ledger.receivers[ep.name]
	var requests []*request
	if d := r.deliveries[e.id]; d != nil {
		requests = d.requests
	}
	took, maybeTook := false, false
	for _, q := range requests {
		took = took || means(q) == delivered && q.replay == "" && !w.relay().forgets(q.at, q.end)
		maybeTook = maybeTook || q.answer.status == 200
	}
	switch {
	case state == "delivered" && !maybeTook:
		w.fail("%s is delivered, says the relay, and %s never took it", e.id, ep.name)
	case state == "failed" && took:
		w.fail("%s is failed, says the relay, and %s took it", e.id, ep.name)
	case state != "delivered" && state != "failed":
		w.fail("%s is still %s for %s, which has been well for long", e.id, state, ep.name)
	}
	return true
}

// judgeCounters holds an endpoint's counters and its failed list against the stories.
func (w *world) judgeCounters(m *machine, ep *endpoint, states map[string]string) {
	count := map[string]int{}
	for _, state := range states {
		count[state]++
	}
	var s struct {
		Pending, Retrying, Failed, Delivered int
	}
	w.get(m, "/endpoints/"+ep.name, &s)
	if s.Pending != 0 || s.Retrying != 0 || s.Failed != count["failed"] || s.Delivered != count["delivered"] {
		w.fail("%s counts %d pending, %d retrying, %d failed, %d delivered; the stories have %d failed, %d delivered", ep.name, s.Pending, s.Retrying, s.Failed, s.Delivered, count["failed"], count["delivered"])
	}
	listed := 0
	for after := ""; ; {
		var page struct {
			Deliveries []failedDelivery
			Next       string
		}
		w.get(m, "/endpoints/"+ep.name+"/failed?limit=1000&after="+after, &page)
		for _, f := range page.Deliveries {
			listed++
			w.judgeFailed(ep, &f, states[f.ID])
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if listed != count["failed"] {
		w.fail("%s lists %d failed deliveries, the stories have %d", ep.name, listed, count["failed"])
	}
}

// judgeFailed holds the reason of a failed delivery against what happened.
func (w *world) judgeFailed(ep *endpoint, f *failedDelivery, state string) {
	if state != "failed" {
		w.fail("%s lists %s as failed, and its story says %q", ep.name, f.ID, state)
	}
	r := w.ledger.receivers[ep.name]
	var last *request
	if d := r.deliveries[f.ID]; d != nil {
		last = d.requests[len(d.requests)-1]
	}
	switch {
	case f.Class == "expired":
		if f.FailedAt.Sub(f.Accepted) < ep.maxAge {
			w.fail("%s: %s expired after %s, of %s: %s", ep.name, f.ID, f.FailedAt.Sub(f.Accepted), ep.maxAge, f.Reason)
		}
	case f.Attempts != len(ep.retry)+1 && !strings.Contains(f.Reason, "max_age"):
		w.fail("%s: %s is failed after %d attempts, of %d: %s", ep.name, f.ID, f.Attempts, len(ep.retry)+1, f.Reason)
	case f.Class == "status" && (last == nil || last.answer.status != f.Status):
		w.fail("%s: %s is failed with status %d, and the last answer was %v", ep.name, f.ID, f.Status, last)
	}
}

func (w *world) story(m *machine, id string) (found *story) {
	w.exchange(m.admin, "GET", "/events/"+id, adminToken, "", func(status int, body []byte) {
		if status == 200 {
			found = new(story)
			w.must(json.Unmarshal(body, found))
		}
	})
	return found
}

func (w *world) get(m *machine, path string, into any) {
	if !w.exchange(m.admin, "GET", path, adminToken, "", func(status int, body []byte) {
		if status != 200 {
			w.fail("%s is answered %d: %s", path, status, body)
			return
		}
		w.must(json.Unmarshal(body, into))
	}) {
		w.fail("%s is not answered", path)
	}
}

func (w *world) at(t time.Time) string { return fmt.Sprint(t.Sub(w.began).Round(time.Millisecond)) }
