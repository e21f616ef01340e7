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
	ID, Type, Class, Reason string
	Attempts, Status        int
	Accepted                time.Time `json:"accepted_at"`
	FailedAt                time.Time `json:"failed_at"`
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
		w.judgeSearches(m, &ep, states[ep.name])
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
func (w *world) judgeKept(ep *endpoint, f *failedDelivery) {
	// retained is how long after its time at the latest retention has looked at a failed delivery: it runs every 20 s.
	const retained = 2 * time.Minute
	if old := time.Since(f.FailedAt); old > w.file.failedRetention+retained {
		w.fail("%s: %s is failed since %s, and failed_retention is %s", ep.name, f.ID, old, w.file.failedRetention)
	}
	for _, c := range w.ledger.discards(ep.name, f.Type) {
		if !c.done.IsZero() && f.FailedAt.Before(c.at.Add(-unsaved)) {
			w.fail("%s: %s is failed since %s, and was discarded at %s", ep.name, f.ID, w.at(f.FailedAt), w.at(c.at))
		}
	}
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

// judgeSearches holds what searches find against the stories.
func (w *world) judgeSearches(m *machine, ep *endpoint, states map[string]string) {
	for _, state := range []string{"", "pending", "retrying", "delivered", "failed", "discarded"} {
		found := map[string]bool{}
		for after := ""; ; {
			var page struct {
				Events []struct{ ID string }
				Next   string
			}
			w.get(m, "/events?limit=300&endpoint="+ep.name+"&status="+state+"&after="+after, &page)
			for _, e := range page.Events {
				if found[e.ID] {
					w.fail("a search for what is %q for %s finds %s twice", state, ep.name, e.ID)
				}
				found[e.ID] = true
				if is := states[e.ID]; is == "" || state != "" && is != state {
					w.fail("a search for what is %q for %s finds %s, whose story says %q", state, ep.name, e.ID, is)
				}
			}
			if after = page.Next; after == "" {
				break
			}
		}
		for id, is := range states {
			if (state == "" || is == state) && !found[id] {
				w.fail("a search for what is %q for %s does not find %s, whose story says %q", state, ep.name, id, is)
			}
		}
	}
}

// judgeFailed holds the reason of a failed delivery against what happened.
func (w *world) judgeFailed(ep *endpoint, f *failedDelivery, state string) {
	if state != "failed" {
		w.fail("%s lists %s as failed, and its story says %q", ep.name, f.ID, state)
	}
	w.judgeKept(ep, f)
	r := w.ledger.receivers[ep.name]
	var last *request
	if d := r.deliveries[f.ID]; d != nil {
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

func (w *world) story(m *machine, id string) (found *story) {
	w.exchange(m.admin, "GET", "/events/"+id, adminToken, "", func(status int, body []byte) {
		if status == 200 {
			found = new(story)
			w.read(body, found)
		}
	})
	return found
}

func (w *world) read(raw []byte, into any) { w.must(json.Unmarshal(raw, into)) }

func (w *world) get(m *machine, path string, into any) {
	if !w.exchange(m.admin, "GET", path, adminToken, "", func(status int, body []byte) {
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
