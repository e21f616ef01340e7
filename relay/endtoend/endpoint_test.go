package endtoend

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestANewEndpointStartsAtTheEndOfTheLog(t *testing.T) {
	t.Parallel()
	old, added := receive(t, well), receive(t, well)
	config := preamble + endpoint("old", old.url)
	r := start(t, config)
	for i := range 5 {
		r.post(event(fmt.Sprintf("before_%d", i)))
	}
	r.stop()
	r = startIn(t, r.dir, config+endpoint("added", added.url))
	if ep := r.endpoint("added"); ep.Pending != 0 || ep.State != "up" {
		t.Errorf("the new one stands at %+v", ep)
	}
	if a := r.post(event("after")); !strings.Contains(a.body, `"endpoints":2`) {
		t.Errorf("the event after it is answered %s", a.body)
	}
	r.awaitState("after", "added", "delivered")
	if all := added.all(); len(all) != 1 || all[0].id != "after" {
		t.Errorf("the new one got %d, want the one after it", len(all))
	}
	old.await(6)
}

func TestARemovedEndpointKeepsWhatItHoldsUntilItComesBack(t *testing.T) {
	t.Parallel()
	crm, other := receive(t, well), receive(t, well)
	kept := preamble + endpoint("other", other.url)
	r := start(t, kept+endpoint("crm", crm.url))
	r.turn("POST", "/endpoints/crm/pause")
	for i := range 10 {
		r.post(event(fmt.Sprintf("evt_%d", i)))
	}
	r.stop()

	r = startIn(t, r.dir, kept)
	if ep := r.endpoint("crm"); ep.State != "orphaned" || ep.Pending != 10 || ep.Delivered != 0 {
		t.Errorf("once removed it stands at %+v, want 10 pending", ep)
	}
	if s := r.stats(); s.Health.Status != "degraded" {
		t.Errorf("health: %+v", s.Health)
	}
	if a := r.post(event("meanwhile")); !strings.Contains(a.body, `"endpoints":1`) {
		t.Errorf("an event meanwhile is answered %s", a.body)
	}
	r.awaitState("meanwhile", "other", "delivered")
	r.kill()

	r = startIn(t, r.dir, kept+endpoint("crm", crm.url))
	if ep := r.endpoint("crm"); ep.State != "paused" || ep.Pending != 10 {
		t.Errorf("back again it stands at %+v, want paused with 10 pending", ep)
	}
	r.turn("POST", "/endpoints/crm/resume")
	r.awaitEndpoint("crm", "has delivered what it held", func(ep endpointStats) bool { return ep.Delivered == 10 })
	for id, n := range crm.counts() {
		if n != 1 || id == "meanwhile" {
			t.Errorf("event %q arrived %d times", id, n)
		}
	}
}

func TestGivingUpAnOrphan(t *testing.T) {
	t.Parallel()
	crm, other := receive(t, codes(500)), receive(t, well)
	kept := preamble + endpoint("other", other.url)
	r := start(t, kept+endpoint("crm", crm.url, `retry = ["10m"]`))
	for i := range 3 {
		r.post(event(fmt.Sprintf("evt_%d", i)))
	}
	r.awaitEndpoint("crm", "retries", func(ep endpointStats) bool { return ep.Retrying == 3 })

	a := r.admin.ask(t, "DELETE", "/endpoints/crm", "")
	if code, _, _ := a.failure(); a.status != 409 || code != "configured" {
		t.Errorf("giving up a configured one is answered %d %s", a.status, a.body)
	}
	a = r.admin.ask(t, "DELETE", "/endpoints/nobody", "")
	if code, _, _ := a.failure(); a.status != 404 || code != "no_endpoint" {
		t.Errorf("giving up one that never was is answered %d %s", a.status, a.body)
	}
	r.reload(kept)
	if ep := r.endpoint("crm"); ep.State != "orphaned" || ep.Retrying != 3 {
		t.Errorf("once removed it stands at %+v", ep)
	}
	r.turn("DELETE", "/endpoints/crm")
	if ep := r.endpoint("crm"); ep.Name != "" {
		t.Errorf("once given up it stands at %+v", ep)
	}
	r.awaitLog("the operator discarded", `"retrying":3`)
	r.kill()
	r = r.again()
	if ep := r.endpoint("crm"); ep.Name != "" {
		t.Errorf("after a restart it stands at %+v", ep)
	}

	// One that comes back begins anew.
	r.reload(kept + endpoint("crm", crm.url, `retry = ["10m"]`))
	r.post(event("evt_new"))
	r.awaitState("evt_new", "crm", "retrying")
	if ep := r.endpoint("crm"); ep.Retrying != 1 || ep.Pending+ep.Failed != 0 || len(crm.all()) != 4 {
		t.Errorf("back again it stands at %+v and got %d in all", ep, len(crm.all()))
	}
}

// reload has a running relay take another configuration.
func (r *relay) reload(config string) {
	r.t.Helper()
	const done = `"message":"configuration reloaded"`
	before := r.stderr.count(done)
	writeConfig(r.t, r.dir, config)
	r.signal(syscall.SIGHUP)
	eventually(r.t, "the configuration is reloaded", func() bool { return r.stderr.count(done) > before })
}

func TestReloadingAddsRemovesAndChangesWithoutLosingEvents(t *testing.T) {
	t.Parallel()
	stays, goes, comes := receive(t, well), receive(t, well), receive(t, well)
	base := preamble + endpoint("stays", stays.url)
	withGoing := base + endpoint("goes", goes.url)
	withComing := base + endpoint("comes", comes.url, `headers = { X-Own = "yes" }`)
	r := start(t, withGoing)

	// Events come all the time. Each answer says to how many endpoints.
	stop, posted := make(chan struct{}), make(chan int)
	deliveries := 0
	go func() {
		n := 0
		defer func() { posted <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			a := r.offer(event(fmt.Sprintf("evt_%d", n)))
			if a.status != 200 {
				t.Errorf("event %d is answered %d %s %v", n, a.status, a.body, a.err)
				return
			}
			deliveries += strings.Count(a.body, `"endpoints":2`) + 1
			n++
		}
	}()
	for range 5 {
		r.reload(withComing)
		r.reload(base)
		r.reload(strings.Replace(withGoing, "[[endpoint]]", "[delivery]\nconcurrency = 3\n[[endpoint]]", 1))
		r.reload(withGoing)
	}
	r.reload(withGoing + endpoint("comes", comes.url, "rate = 100000"))
	close(stop)
	events := <-posted

	eventually(t, "all have arrived", func() bool { return len(stays.all())+len(goes.all())+len(comes.all()) >= deliveries })
	for name, receiver := range map[string]*receiver{"stays": stays, "goes": goes, "comes": comes} {
		ep := r.awaitEndpoint(name, "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying == 0 })
		counts := receiver.counts()
		if int(ep.Delivered) != len(counts) || len(receiver.all()) != len(counts) || ep.Failed != 0 {
			t.Errorf("endpoint %q got %d of %d events and stands at %+v", name, len(receiver.all()), len(counts), ep)
		}
	}
	if n := len(stays.counts()); n != events {
		t.Errorf("the one that stays got %d of %d events", n, events)
	}
	t.Logf("%d events, %d deliveries, 21 reloads", events, deliveries)
}

func TestABadReloadChangesNothingAndSaysWhy(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	good := preamble + endpoint("crm", crm.url)
	r := start(t, good)
	bad := good + endpoint("crm", crm.url, "colour = 1")
	writeConfig(t, r.dir, bad)
	r.signal(syscall.SIGHUP)
	r.awaitLog(`"level":"error"`, "nothing was changed", `"faults":2`)
	line := func(text string) int { return 1 + strings.Count(bad[:strings.LastIndex(bad, text)], "\n") }
	r.awaitLog(`"level":"error"`, fmt.Sprintf("config.toml:%d: endpoint[2].name: ", line("name = ")), "is the name of another")
	r.awaitLog(`"level":"error"`, fmt.Sprintf("config.toml:%d: endpoint[2].colour: unknown key", line("colour = ")))
	r.post(event("evt_1"))
	r.awaitState("evt_1", "crm", "delivered")
	if n := len(r.stats().Endpoints); n != 1 {
		t.Errorf("there are %d endpoints", n)
	}

	// What only a start can change is named, and the rest applied.
	r.reload(strings.Replace(good, "min_free = \"0B\"", "min_free = \"1MiB\"", 1))
	r.awaitLog(`"level":"warn"`, `"setting":"queue"`)
}

func TestPauseAndResumeSurviveARestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*relay){
		"SIGTERM": func(r *relay) { r.stop() },
		"SIGKILL": func(r *relay) { r.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crm := receive(t, well)
			r := start(t, preamble+endpoint("crm", crm.url))
			r.turn("POST", "/endpoints/crm/pause")
			r.post(event("evt_1"))
			end(r)
			r = r.again()
			r.post(event("evt_2"))
			if ep := r.endpoint("crm"); ep.State != "paused" || ep.Pending != 2 || ep.Attempts != 0 || !strings.Contains(ep.Reason, "operator") {
				t.Errorf("after the restart it stands at %+v", ep)
			}
			if s := r.story("evt_1", "crm"); s.State != "pending" || len(s.Attempts) != 0 {
				t.Errorf("the event is told of as %+v", s)
			}
			r.turn("POST", "/endpoints/crm/resume")
			end(r)
			r = r.again()
			r.awaitEndpoint("crm", "has delivered both", func(ep endpointStats) bool { return ep.State == "up" && ep.Delivered == 2 })
		})
	}
}
