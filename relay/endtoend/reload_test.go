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
