package simulate

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// newOperator edits the file, pauses, resumes and discards.
func (w *world) newOperator(m *machine, mean time.Duration) {
	w.act("operator", func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		e := w.file.endpoints[r.IntN(len(w.file.endpoints))]
		switch r.IntN(8) {
		case 0:
			w.reload(m, "edit", e.name, func() { e.events = subscription(r) })
		case 1:
			w.reload(m, "edit", e.name, func() { e.concurrency = 1 + r.IntN(8) })
		case 2:
			w.order(m, "pause", e.name)
			w.sleep(around(20*time.Minute, r))
			w.order(m, "resume", e.name)
		case 3, 4:
			typ := ""
			if r.IntN(2) == 0 {
				typ = types[r.IntN(len(types))]
			}
			w.discard(m, e.name, typ)
		default: // whoever was paused because it said 410
			for _, e := range w.file.endpoints {
				w.order(m, "resume", e.name)
			}
		}
		if !w.byAccount {
			return
		}
		switch r.IntN(6) {
		case 0:
			w.reload(m, "edit", e.name, func() { w.file.ask(e, anAccount(r)) })
		case 1: // two change places
			w.swap(m, e, w.file.endpoints[r.IntN(len(w.file.endpoints))])
		}
	})
}

// swap has two endpoints change places: each asks for the other's events.
func (w *world) swap(m *machine, e, other *endpoint) {
	w.reload(m, "edit", "", func() {
		mine := e.whose
		w.file.ask(e, other.whose)
		w.file.ask(other, mine)
	})
}

// newSwapper has two endpoints change places time after time while what has gathered for them is delivered, from a disk that takes its
// time.
func (w *world) newSwapper(m *machine, mean time.Duration) {
	w.act("swapper", func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		two := r.Perm(len(w.file.endpoints))
		e, other := w.file.endpoints[two[0]], w.file.endpoints[two[1]]
		for _, name := range []string{e.name, other.name} {
			w.order(m, "pause", name)
		}
		w.sleep(around(10*time.Minute, r))
		m.mu.Lock()
		l := m.life
		m.mu.Unlock()
		if l != nil {
			l.disk.setReads(300 * time.Millisecond)
			defer l.disk.setReads(0)
		}
		for _, name := range []string{e.name, other.name} { // whose retries come at once, and are read slowly
			c := w.ledger.begin("resume", name, "")
			w.command(m, c, "POST", "/endpoints/"+name+"/resume", "")
		}
		for range 10 + r.IntN(30) {
			w.swap(m, e, other)
			w.sleep(around(300*time.Millisecond, r))
		}
	})
}

// subscription is to some types, or to all.
func subscription(r *rand.Rand) (list []string) {
	if r.IntN(2) == 0 {
		return []string{"*"}
	}
	for _, i := range r.Perm(len(types))[:1+r.IntN(len(types))] {
		list = append(list, types[i])
	}
	return list
}

// anAccount is whose events an endpoint may ask for.
func anAccount(r *rand.Rand) (o whose) {
	switch r.IntN(6) {
	case 0:
	case 1:
		o.exists = "true"
	case 2:
		o.exists = "false"
	default:
		for _, i := range r.Perm(len(accounts))[:1+r.IntN(2)] {
			o.values = append(o.values, accounts[i])
		}
	}
	return o
}

// order has the relay do something, and notes it.
func (w *world) order(m *machine, what, endpoint string) (done bool) {
	c := w.ledger.begin(what, endpoint, "")
	done = w.command(m, c, "POST", "/endpoints/"+endpoint+"/"+what, "") != ""
	if done && what == "resume" {
		w.judgeResumed(m, endpoint, c)
	}
	return done
}

// discard has the relay discard an endpoint's failed deliveries, of one type or all.
func (w *world) discard(m *machine, endpoint, typ string) {
	path := "/endpoints/" + endpoint + "/failed"
	if typ != "" {
		path += "?type=" + typ
	}
	before, told := w.listFailed(m, endpoint)
	c := w.ledger.begin("discard", endpoint, typ)
	said := w.command(m, c, "DELETE", path, "")
	after, toldAgain := w.listFailed(m, endpoint)
	if told && toldAgain && said != "" && len(w.ledger.replays(endpoint, nil)) == 0 {
		w.judgeDiscarded(c, before, after)
	}
}

// judgeDiscarded holds what is failed after a discard against what was failed before it. Nothing is replayed.
func (w *world) judgeDiscarded(c *command, before, after []failedDelivery) {
	for i := range before {
		f := &before[i]
		still := slices.ContainsFunc(after, func(g failedDelivery) bool { return g.ID == f.ID })
		switch {
		case still && (c.typ == "" || c.typ == f.Type):
			w.fail("%s: %s, %s, is failed still, though %q was discarded", c.endpoint, f.ID, f.Type, c.typ)
		case !still && c.typ != "" && c.typ != f.Type && w.relay().off.Load() == 0 && time.Since(f.FailedAt) < w.file.failedRetention:
			w.fail("%s: %s, %s, is failed no more, though only %q was discarded", c.endpoint, f.ID, f.Type, c.typ)
		}
	}
}

// newSwitcher disables endpoints for a while, and rotates secrets and tokens.
func (w *world) newSwitcher(m *machine, mean time.Duration) {
	w.act("switcher", func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		e := w.file.endpoints[r.IntN(len(w.file.endpoints))]
		switch r.IntN(4) {
		case 0:
			o := w.file.origins[r.IntN(len(w.file.origins))]
			w.reload(m, "rotate", "", func() {
				o.previous, o.current = o.current, fmt.Sprintf("example-credential-of-%s-%d", o.name, r.Uint64())
			})
			w.sleep(around(20*time.Minute, r))
			w.reload(m, "rotate", "", func() { o.previous = "" })
			return
		case 1:
			w.reload(m, "rotate", e.name, func() { e.secret = fmt.Sprintf("example-secret-of-%s-%d", e.name, r.Uint64()) })
			return
		}
		w.reload(m, "edit", e.name, func() { e.enabled = false })
		if w.sleep(around(20*time.Minute, r)) && r.IntN(2) == 0 { // it stays disabled
			w.order(m, "pause", e.name)
			w.sleep(around(time.Minute, r))
			w.order(m, "resume", e.name)
			w.sleep(around(20*time.Minute, r))
		}
		w.reload(m, "edit", e.name, func() { e.enabled = true })
	})
}

// newReplayer has deliveries made again.
func (w *world) newReplayer(m *machine, mean time.Duration) {
	w.act("replayer", func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		c := w.replay(m, w.file.endpoints[r.IntN(len(w.file.endpoints))].name, r)
		if c == nil || c.replay == "" || r.IntN(6) > 0 || !w.sleep(around(5*time.Minute, r)) {
			return
		}
		x := w.ledger.begin("cancel", c.endpoint, "")
		w.ledger.mu.Lock()
		c.cancel = x
		w.ledger.mu.Unlock()
		w.command(m, x, "DELETE", "/endpoints/"+c.endpoint+"/replays/"+c.replay, "")
	})
}

// replay has the relay make deliveries again: those that failed, of one type or all; some of these and some that went well, by their
// ids; or whatever was accepted for an hour.
func (w *world) replay(m *machine, endpoint string, r *rand.Rand) *command {
	failed, ok := w.listFailed(m, endpoint)
	if !ok {
		return nil
	}
	c := w.ledger.begin("replay", endpoint, "")
	ask := map[string]any{}
	if r.IntN(2) == 0 {
		ask["rate"] = []float64{0.1, 1, 20}[r.IntN(3)]
	}
	w.ledger.mu.Lock()
	c.failed = failed
	switch n := r.IntN(7); {
	case n < 3:
		ask["failed"] = true
	case n < 4:
		c.typ = types[r.IntN(len(types))]
		ask["failed"], ask["type"] = true, c.typ
	case n < 6 || m.off.Load() != 0:
		for range 1 + r.IntN(5) {
			if len(failed) > 0 {
				c.ids = append(c.ids, failed[r.IntN(len(failed))].ID)
			}
			if n := len(w.ledger.order); n > 0 {
				c.ids = append(c.ids, w.ledger.order[r.IntN(n)].id)
			}
		}
		ask["ids"] = c.ids
	default:
		c.since = time.Now().Add(-time.Hour)
		ask["since"] = "1h"
	}
	empty := ask["ids"] != nil && len(c.ids) == 0
	w.ledger.mu.Unlock()
	if empty {
		return nil
	}
	body, err := json.Marshal(ask)
	w.must(err)
	said := w.command(m, c, "POST", "/endpoints/"+endpoint+"/replay", string(body))
	var got struct {
		Total  int
		Replay struct{ ID string }
	}
	if said != "" {
		w.read([]byte(said), &got)
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	c.total, c.replay = got.Total, got.Replay.ID
	if said != "" && c.replay == "" {
		c.replay = "none" // there was nothing to do
	}
	return c
}

// listFailed returns an endpoint's failed deliveries; false when they were not told.
func (w *world) listFailed(m *machine, endpoint string) (list []failedDelivery, ok bool) {
	for after := ""; ; {
		var page struct {
			Deliveries []failedDelivery
			Next       string
		}
		ok = false
		w.exchange(m.admin, "GET", "/endpoints/"+endpoint+"/failed?limit=1000&after="+after, adminAuth, "", func(status int, body []byte) {
			if ok = status == 200; ok {
				w.read(body, &page)
			}
		})
		list = append(list, page.Deliveries...)
		if after = page.Next; !ok || after == "" {
			return list, ok
		}
	}
}

// command sends a command that was begun, and notes its end. It returns the answer, empty when it may not have been done.
func (w *world) command(m *machine, c *command, method, path, body string) (said string) {
	w.exchange(m.admin, method, path, adminAuth, body, func(status int, got []byte) {
		switch {
		case status == 200 || status == 202:
			said = string(got)
		case m.troubledSince(c.at) || w.disk.tight(c.at, critical):
		case status == 409 && (c.what == "replay" || c.what == "resume" && w.disabled(c.endpoint, c.at, time.Now()) != no):
			// Four replays run, or there is nothing to resume.
		case status == 404 && c.what == "cancel": // it has ended
		default:
			w.fail("%s of %s is answered %d: %s", c.what, c.endpoint, status, got)
		}
	})
	if said != "" {
		w.ledger.finish(c)
	}
	w.say("operator", "%s %s %s %s: %.300s", c.what, c.endpoint, c.typ, body, said)
	return said
}

// reload edits the file and has the relay follow it. A relay that does not run follows it when it starts.
func (w *world) reload(m *machine, what, name string, edit func()) {
	w.file.editing <- struct{}{}
	defer func() { <-w.file.editing }()
	c := w.ledger.begin(what, name, "")
	w.file.change(func([]*endpoint) { edit() })
	w.writeFile(m)
	followed := false
	w.exchange(m.admin, "POST", "/reload", adminAuth, "", func(status int, body []byte) {
		if followed = status == 200; !followed && !m.troubledSince(c.at) {
			w.fail("a reload is answered %d: %s", status, body)
		}
	})
	if followed {
		w.file.follow()
		w.ledger.finish(c)
	}
	w.say("operator", "%s %s, followed %v", what, name, followed)
}

// writeFile writes the file as it is for the machine's present life.
func (w *world) writeFile(m *machine) {
	w.must(os.WriteFile(m.configPath(), []byte(w.file.text(m, m.dataDir(m.lives))), 0o600))
}
