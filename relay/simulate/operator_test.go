package simulate

import (
	"math/rand/v2"
	"os"
	"time"
)

// newOperator edits the file, pauses, resumes and discards.
func (w *world) newOperator(m *machine, mean time.Duration) {
	w.act("operator", func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) {
		e := w.file.endpoints[r.IntN(len(w.file.endpoints))]
		switch r.IntN(8) {
		case 0:
			w.reload(m, e.name, func() {
				e.events = subscription(r)
			})
		case 1:
			w.reload(m, e.name, func() { e.concurrency = 1 + r.IntN(8) })
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
			w.reload(m, e.name, func() { e.whose = anAccount(r) })
		case 1: // two change places
			other := w.file.endpoints[r.IntN(len(w.file.endpoints))]
			w.reload(m, "", func() { e.whose, other.whose = other.whose, e.whose })
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
	done = w.command(m, c, "POST", "/endpoints/"+endpoint+"/"+what)
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
	w.command(m, w.ledger.begin("discard", endpoint, typ), "DELETE", path)
}

// command sends a command that was begun, and notes its end.
func (w *world) command(m *machine, c *command, method, path string) (done bool) {
	said := ""
	w.exchange(m.admin, method, path, adminToken, "", func(status int, body []byte) {
		said = string(body)
		if done = status == 200; !done && !m.troubledSince(c.at) && !w.disk.tight(c.at, critical) {
			w.fail("%s of %s is answered %d: %s", c.what, c.endpoint, status, body)
		}
	})
	if done {
		w.ledger.finish(c)
	}
	w.say("operator", "%s %s %s, done %v: %s", c.what, c.endpoint, c.typ, done, said)
	return done
}

// reload edits the file and has the relay follow it. A relay that does not run follows it when it starts.
func (w *world) reload(m *machine, name string, edit func()) {
	c := w.ledger.begin("edit", name, "")
	w.file.change(func([]*endpoint) { edit() })
	w.writeFile(m)
	followed := false
	w.exchange(m.admin, "POST", "/reload", adminToken, "", func(status int, body []byte) {
		if followed = status == 200; !followed && !m.troubledSince(c.at) {
			w.fail("a reload is answered %d: %s", status, body)
		}
	})
	if followed {
		w.file.follow()
		w.ledger.finish(c)
	}
	w.say("operator", "edits %s, followed %v", name, followed)
}

// writeFile writes the file as it is for the machine's present life.
func (w *world) writeFile(m *machine) {
	w.must(os.WriteFile(m.configPath(), []byte(w.file.text(m, m.dataDir(m.lives))), 0o600))
}
