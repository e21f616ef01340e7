package endtoend

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

// TestLookingAtStatsDisturbsNoDelivery looks all the time, while each event is posted only after the one before arrived:
// no later one wakes a sender that an earlier one failed to wake.
func TestLookingAtStatsDisturbsNoDelivery(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r := start(t, preamble+endpoint("crm", crm.url))
	done := make(chan struct{})
	defer close(done)
	for range 6 {
		go func() {
			for {
				select {
				case <-done:
					return
				default:
					r.admin.ask(t, "GET", "/stats", "")
				}
			}
		}()
	}
	deliverInTurn(t, r, crm, 3000)
}

func TestAnAttemptUnderWayAtAReloadKeepsItsSchedule(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	crm := receive(t, until(open, 500))
	config := preamble + endpoint("crm", crm.url, `retry = ["200ms"]`)
	r := start(t, config)
	r.post(event("evt_1"))
	crm.await(1)
	r.reload(config + "rate = 500\n")
	close(open)
	if a := crm.await(2)[1]; a.number != 2 {
		t.Errorf("then came attempt %d", a.number)
	}
}

func TestGoneToAnAttemptUnderWayAtAReloadPauses(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	crm := receive(t, until(open, 410))
	config := preamble + endpoint("crm", crm.url, `retry = ["200ms"]`)
	r := start(t, config)
	r.post(event("evt_1"))
	crm.await(1)
	r.reload(config + "rate = 500\n")
	close(open)
	r.awaitEndpoint("crm", "is paused", func(ep endpointStats) bool { return ep.State == "paused" })
	r.turn("POST", "/endpoints/crm/resume")
	if a := crm.await(2)[1]; a.number != 1 {
		t.Errorf("then came attempt %d", a.number)
	}
}

// TestAReloadCantOpenTheIntakeToStrangers: the listener stays what it was, so the sources have to suit it.
func TestAReloadCantOpenTheIntakeToStrangers(t *testing.T) {
	t.Parallel()
	token := newSecret()
	withToken := "[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = \"" + token + "\"\n" + quiet()
	for name, begin := range map[string]func(t *testing.T) *relay{
		"configured": func(t *testing.T) *relay {
			return start(t, listeningOn("0.0.0.0:0", "127.0.0.1:0")+withToken)
		},
		"passed": func(t *testing.T) *relay {
			p, dir := passing(t, preamble+withToken, "0.0.0.0:0")
			r := &relay{process: p, dir: dir}
			r.awaitServing()
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := begin(t)
			writeConfig(t, r.dir, preamble+quiet()) // by its own words it listens on loopback, and asks for no credential
			r.signal(syscall.SIGHUP)
			r.awaitLog(`"message":"`, "reload")
			eventually(t, "the reload is over", func() bool {
				return r.stderr.has("nothing was changed") || r.stderr.has("configuration reloaded")
			})
			_, port, _ := net.SplitHostPort(r.intake.address)
			stranger := newDoor(t, net.JoinHostPort("127.0.0.1", port))
			a := stranger.ask(t, "POST", "/events", event("evt_1"), "Content-Type", "application/json")
			if a.status != 401 || !strings.Contains(a.body, "unauthorized") {
				t.Errorf("after the reload an event without a credential is answered %d %s", a.status, a.body)
			}
		})
	}
}

// TestAReloadIsPlannedBeforeItIsMade: the plan says what it means for what is queued, check prints it, and nothing is
// changed until the reload itself.
func TestAReloadIsPlannedBeforeItIsMade(t *testing.T) {
	t.Parallel()
	token := newSecret()
	crm := receive(t, well)
	open := strings.Replace(preamble, "[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"unix:"+t.TempDir()+"/admin.sock\"\ntoken = \""+token+"\"", 1)
	config := open + endpoint("crm", crm.url) + endpoint("other", crm.url)
	dir := t.TempDir()
	writeConfig(t, dir, config)
	r := &relay{process: launch(t, command(dir, "-config", "config.toml")), dir: dir}
	r.awaitServing()
	bearer := []string{"Authorization", "Bearer " + token}
	ask := func(path string) answer { t.Helper(); return r.admin.ask(t, "POST", path, "", bearer...) }
	if a := ask("/endpoints/crm/pause"); a.status != 200 {
		t.Fatalf("pause: %d %s", a.status, a.body)
	}
	for _, id := range []string{"evt_1", "evt_2", "evt_3"} {
		r.post(event(id))
	}

	check := func(want ...string) {
		t.Helper()
		code, stdout, _ := end(t, command(dir, "check", "-config", "config.toml"))
		if code != 0 {
			t.Errorf("check ends with %d", code)
		}
		for _, text := range want {
			if !strings.Contains(stdout, text) {
				t.Errorf("check does not say %q:\n%s", text, stdout)
			}
		}
	}
	check("admin.sock: a reload changes nothing\n")
	writeConfig(t, dir, open+strings.Replace(endpoint("other", crm.url), "*", "lead.*", 1))
	check("  endpoint crm removed: 3 pending stay as orphaned\n", "  endpoint other changed (events)\n")
	if a := r.admin.ask(t, "POST", "/reload?dry_run=1", ""); a.status != 401 {
		t.Errorf("without the token: %d %s", a.status, a.body)
	}
	if a := ask("/reload?dry_run=1"); a.status != 200 || !strings.Contains(a.body, `"applied": false`) || !strings.Contains(a.body, "3 pending stay as orphaned") {
		t.Errorf("the plan is %d %s", a.status, a.body)
	}
	if a := r.post(event("evt_4")); !strings.Contains(a.body, `"endpoints":2`) {
		t.Errorf("after plans alone an event is answered %s", a.body)
	}
	if a := ask("/reload"); a.status != 200 || !strings.Contains(a.body, `"applied": true`) || !strings.Contains(a.body, "4 pending stay as orphaned") {
		t.Errorf("the reload is answered %d %s", a.status, a.body)
	}
	if a := r.post(event("evt_5")); !strings.Contains(a.body, `"endpoints":1`) {
		t.Errorf("after the reload an event is answered %s", a.body)
	}
	check("admin.sock: a reload changes nothing\n")
	r.stop()
	check("admin.sock: nothing to compare with\n")
}
