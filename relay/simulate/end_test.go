package simulate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What is judged at the end, when all is well and has been for long.

type story struct {
	ID, Source string
	Body       string
	Earlier    []story
	Deliveries []struct {
		Endpoint, State, Reason string
		Attempts                []struct {
			Number, Status int
			Class, Replay  string
		}
	}
}

type failedDelivery struct {
	ID, Type, Class, Reason string
	Attempts, Status        int
	Accepted                time.Time `json:"accepted_at"`
	FailedAt                time.Time `json:"failed_at"`
}

func (w *world) judgeEnd() {
	m := w.relay()
	states := map[string]map[*event]string{} // by endpoint
	replayed := map[string]bool{}            // by endpoint, replay and id: attempts that are told
	for _, ep := range w.endpoints() {
		states[ep.name] = map[*event]string{}
	}
	settled := w.settledSince()
	for _, e := range w.ledger.order {
		found := w.story(m, e)
		acked := e.acked()
		if found == nil {
			if !acked.IsZero() && time.Since(e.attempted(w)) < w.file.retention {
				w.fail("%s was accepted at %s and has no story", e.id, w.at(acked))
			}
			continue
		}
		w.judgeGone(e, found, settled)
		from, to := e.accepting()
		if to.IsZero() {
			w.fail("%s has a story, and was refused whenever it was posted", e.id)
			continue
		}
		if found.Source != e.source {
			w.fail("%s is %s's, says the relay, and %s posted it", e.id, found.Source, e.source)
		}
		for _, d := range found.Deliveries {
			if states[d.Endpoint] != nil {
				states[d.Endpoint][e] = d.State
			}
			for _, a := range d.Attempts {
				replayed[d.Endpoint+a.Replay+e.id] = true
			}
		}
		for _, ep := range w.endpoints() {
			state, there := states[ep.name][e]
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
		w.judgeSearches(m, &ep, states[ep.name])
		w.judgeReplays(m, &ep, replayed)
	}
	if err := w.net.check(); err != nil {
		w.fail("%v", err)
	}
}

// judgeState holds what the relay says of a delivery against the receiver's ledger.
func (w *world) judgeState(ep *endpoint, e *event, state string) bool {
	r := w.ledger.receivers[ep.name]
	var requests []*request
	if d := r.deliveries[e]; d != nil {
		requests = d.requests
	}
	took, maybeTook := false, false
	for _, q := range requests {
		took = took || means(q) == delivered && !w.relay().forgets(q.at, q.end)
		maybeTook = maybeTook || q.answer.status == 200
	}
	if took && w.replayed(ep.name, e) { // a replay may have failed afterwards
		last := requests[len(requests)-1]
		took = means(last) == delivered && !w.relay().forgets(last.at, last.end) && r.failedDials(last.at) == 0
		if _, always := w.isOwn(ep.name, e, last.end, time.Now()); !always {
			took = false // or it was not the endpoint's own when it was replayed
		}
	}
	switch {
	case state == "delivered" && !maybeTook:
		w.fail("%s is delivered, says the relay, and %s never took it", e.id, ep.name)
	case (state == "failed" || state == "discarded") && took:
		w.fail("%s is %s, says the relay, and %s took it", e.id, state, ep.name)
	case state == "discarded" && !w.mayBeDiscarded(ep.name, e):
		w.fail("%s is discarded for %s, says the relay, which nobody did, and failed_retention is %s", e.id, ep.name, w.file.failedRetention)
	case state != "delivered" && state != "failed" && state != "discarded":
		w.fail("%s is still %s for %s, which has been well for long", e.id, state, ep.name)
	}
	return true
}

// mayBeDiscarded reports whether a delivery, if it failed, may have been deleted from the failed ones (operate: it "was discarded by a
// command or became older than failed_retention").
func (w *world) mayBeDiscarded(endpoint string, e *event) bool {
	from, _ := e.accepting()
	if time.Since(from) >= w.file.failedRetention {
		return true
	}
	return slices.ContainsFunc(w.ledger.discards(endpoint, e.typ), func(c command) bool { return c.done.IsZero() || c.done.After(from) })
}

// judgeKept holds that a delivery is failed still against what must have deleted it.
func (w *world) judgeKept(ep *endpoint, f *failedDelivery, e *event) {
	// retained is how long after its time at the latest retention has looked at a failed delivery: it runs every 20 s.
	const retained = 2 * time.Minute
	if old := time.Since(f.FailedAt); old > w.file.failedRetention+retained {
		w.fail("%s: %s is failed since %s, and failed_retention is %s", ep.name, f.ID, old, w.file.failedRetention)
	}
	if w.replayed(ep.name, e) {
		return // what a replay has in flight is not discarded
	}
	for _, c := range w.ledger.discards(ep.name, f.Type) {
		if !c.done.IsZero() && f.FailedAt.Before(c.at.Add(-unsaved)) {
			w.fail("%s: %s is failed since %s, and was discarded at %s", ep.name, f.ID, w.at(f.FailedAt), w.at(c.at))
		}
	}
}

// judgeCounters holds an endpoint's counters and its failed list against the stories.
func (w *world) judgeCounters(m *machine, ep *endpoint, states map[*event]string) {
	count := map[string]int{}
	for _, state := range states {
		count[state]++
	}
	var s struct {
		Pending, Retrying, Failed, Delivered int
	}
	w.get(m, "/endpoints/"+ep.name, &s)
	most := count["delivered"]
	if len(w.ledger.replays(ep.name, nil)) > 0 || w.file.retention < w.ends.Sub(w.began) { // each delivery counts, and for ever
		for _, d := range w.ledger.receivers[ep.name].deliveries {
			for _, q := range d.requests {
				if q.answer.status == 200 {
					most++
				}
			}
		}
	}
	if s.Pending != 0 || s.Retrying != 0 || s.Failed != count["failed"] || s.Delivered < count["delivered"] || s.Delivered > most {
		w.fail("%s counts %d pending, %d retrying, %d failed, %d delivered; the stories have %d failed, %d delivered", ep.name, s.Pending, s.Retrying, s.Failed, s.Delivered, count["failed"], count["delivered"])
	}
	listed, told := w.listFailed(m, ep.name)
	seen := map[string]int{}
	for _, f := range listed {
		if e := w.ledger.nth(f.ID, seen[f.ID], func(e *event) bool { return states[e] == "failed" }); e != nil {
			w.judgeFailed(ep, &f, e)
		} else {
			w.fail("%s lists %s as failed, and its story does not say so", ep.name, f.ID)
		}
		seen[f.ID]++
	}
	if !told || len(listed) != count["failed"] {
		w.fail("%s lists %d failed deliveries, the stories have %d", ep.name, len(listed), count["failed"])
	}
}

// judgeReplays holds that replays have come to their ends, and made the deliveries that they were for.
func (w *world) judgeReplays(m *machine, ep *endpoint, told map[string]bool) {
	var said struct {
		Replays []struct {
			ID, State         string
			TakenUp           int `json:"taken_up"`
			Delivered, Failed int
		}
	}
	w.get(m, "/endpoints/"+ep.name+"/replays", &said)
	for _, s := range said.Replays {
		if s.State == "running" || s.TakenUp != s.Delivered+s.Failed {
			w.fail("%s: all is well for long, and a replay is %+v", ep.name, s)
		}
	}
	r, all := w.ledger.receivers[ep.name], w.ledger.replays(ep.name, nil)
	for _, c := range all {
		if c.done.IsZero() || c.cancel != nil || !c.since.IsZero() {
			continue
		}
		for _, f := range c.failed {
			e := w.ledger.events[f.ID]
			if e == nil || e.earlier != nil {
				continue // which of the events of its id was meant, nobody knows
			}
			d := r.deliveries[e]
			came := d != nil && slices.ContainsFunc(d.requests, func(q *request) bool { return q.replay == c.replay })
			if w.ledger.isFor(&c, e) && !came && !told[ep.name+c.replay+f.ID] && !w.mayBeSkipped(&c, e, &f) {
				w.fail("%s: replay %s of %s was for %s, and did not make it", ep.name, c.replay, w.at(c.at), f.ID)
			}
		}
	}
}

// mayBeSkipped reports whether a replay need not have made a delivery that had failed: it was discarded, another replay made it, or the
// event may have been none of the endpoint's own since.
func (w *world) mayBeSkipped(c *command, e *event, f *failedDelivery) bool {
	discards := w.ledger.discards(c.endpoint, e.typ)
	_, own := w.isOwn(c.endpoint, e, c.at, w.ends)
	return !own || len(w.ledger.replays(c.endpoint, e)) > 1 || time.Since(f.FailedAt) > w.file.failedRetention ||
		slices.ContainsFunc(discards, func(x command) bool { return x.done.IsZero() || x.done.After(c.at) })
}

// judgeSearches holds what searches find against the stories.
func (w *world) judgeSearches(m *machine, ep *endpoint, states map[*event]string) {
	for _, state := range []string{"", "pending", "retrying", "delivered", "failed", "discarded"} {
		found, seen := map[*event]bool{}, map[string]int{}
		fits := func(e *event) bool { return states[e] != "" && (state == "" || state == states[e]) }
		for after := ""; ; {
			var page struct {
				Events []struct{ ID string }
				Next   string
			}
			w.get(m, "/events?limit=300&endpoint="+ep.name+"&status="+state+"&after="+after, &page)
			for _, one := range page.Events {
				e := w.ledger.nth(one.ID, seen[one.ID], fits)
				if e == nil {
					w.fail("a search for what is %q for %s finds %s, whose story says something else, or finds it twice", state, ep.name, one.ID)
				}
				found[e] = true
				seen[one.ID]++
			}
			if after = page.Next; after == "" {
				break
			}
		}
		for e, is := range states {
			if fits(e) && !found[e] {
				w.fail("a search for what is %q for %s does not find %s, whose story says %q", state, ep.name, e.id, is)
			}
		}
	}
}

// judgeFailed holds the reason of a failed delivery against what happened.
func (w *world) judgeFailed(ep *endpoint, f *failedDelivery, e *event) {
	w.judgeKept(ep, f, e)
	r := w.ledger.receivers[ep.name]
	var last *request
	if d := r.deliveries[e]; d != nil {
		last = d.requests[len(d.requests)-1]
	}
	switch {
	case f.Class == "unmatched":
		w.ledger.mu.Lock()
		e := w.ledger.events[f.ID]
		w.ledger.mu.Unlock()
		from, _ := e.accepting()
		if _, always := w.isOwn(ep.name, e, from, time.Now()); always {
			w.fail("%s: %s is failed as unmatched, and was its own all the while: %s", ep.name, f.ID, f.Reason)
		}
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

// story returns what the relay tells of an event; nil when it tells nothing.
func (w *world) story(m *machine, e *event) (found *story) {
	w.exchange(m.admin, "GET", "/events/"+e.id, adminAuth, "", func(status int, body []byte) {
		if status == 404 {
			return
		}
		if status != 200 {
			w.fail("the story of %s is answered %d: %s", e.id, status, body)
			return
		}
		var newest story
		w.read(body, &newest)
		for _, s := range append([]story{newest}, newest.Earlier...) {
			if s.Body == e.body {
				found = &s
			}
		}
	})
	return found
}

// attempted is when an event was last attempted for the first time by an endpoint that it was for or, if it never was, when it was accepted.
// From then on retention counts: what is retrying later does not hold a segment, its event is carried out of it (guarantees: "What is
// deleted when"). An attempt that came behind others, which never became requests, may have been a retry.
func (e *event) attempted(w *world) (at time.Time) {
	_, at = e.accepting()
	from := at
	for _, r := range w.ledger.receivers {
		d := r.deliveries[e]
		if d == nil {
			continue
		}
		if q := d.requests[0]; q.replay == "" && q.attempt == 1 && q.at.After(at) && r.failedDialsWithin(from, q.at) == 0 {
			at = q.at
		}
	}
	return at
}

// settledSince is since when nothing was attempted any more.
func (w *world) settledSince() (at time.Time) {
	for _, r := range w.ledger.receivers {
		if n := len(r.ends); n > 0 && r.ends[n-1].end.After(at) {
			at = r.ends[n-1].end
		}
		if n := len(r.host.dials); n > 0 && r.host.dials[n-1].end.After(at) {
			at = r.host.dials[n-1].end
		}
	}
	return at
}

// judgeGone holds that an event is kept still against the time since when no endpoint has needed any (guarantees: "What is deleted
// when": a segment, a sixteenth of retention or of dedup_window, goes when no endpoint has needed its events for retention).
func (w *world) judgeGone(e *event, found *story, settled time.Time) {
	const looks = 10 * time.Minute // retention looks every 20 s, and deletes one segment after the other
	kept := w.file.retention + max(w.file.retention, w.file.dedup)/16 + looks
	for _, d := range found.Deliveries {
		if d.State == "failed" {
			return
		}
	}
	if old := time.Since(settled); old > kept {
		w.fail("%s is kept, though no endpoint has needed anything for %s, and retention is %s", e.id, old, w.file.retention)
	}
}

func (w *world) read(raw []byte, into any) { w.must(json.Unmarshal(raw, into)) }

func (w *world) get(m *machine, path string, into any) {
	if !w.exchange(m.admin, "GET", path, adminAuth, "", func(status int, body []byte) {
		if status != 200 {
			w.fail("%s is answered %d: %s", path, status, body)
			return
		}
		w.read(body, into)
	}) {
		w.fail("%s is not answered", path)
	}
}

func (w *world) at(t time.Time) string { return fmt.Sprint(t.Sub(w.began).Round(time.Millisecond)) }
