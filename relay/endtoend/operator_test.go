package endtoend

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An operator who knows that a receiver is repaired does not wait for the schedule.
func TestResumeHurriesWhatWaitsForARetry(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500, 200))
	r, operate := operated(t, endpoint("crm", crm.url, `retry = ["1h"]`))
	r.post(event("evt_1"))
	crm.await(1)
	eventually(t, "it waits", func() bool { return strings.Contains(operate(0, "events", "evt_1"), `"next_attempt_at":`) })
	mustHave(t, operate(0, "resume", "crm"), "endpoint crm: it was not paused; what waits for it is attempted now")
	eventually(t, "it is delivered", func() bool { return strings.Contains(operate(0, "events", "evt_1"), `"state": "delivered"`) })
	if n := len(crm.all()); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

// Whatever holds an endpoint back but a time: no time is told that is over or means nothing.
func TestNoTimeIsToldForARetryOfWhatIsHeld(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500))
	r, operate := operated(t, endpoint("crm", crm.url, `retry = ["1h", "1h"]`))
	r.post(event("evt_1"))
	crm.await(1)
	told := func() bool {
		return strings.Contains(operate(0, "events", "evt_1"), `"next_attempt_at":`) && strings.Contains(operate(0, "status", "-json"), `"next_retry_at":`)
	}
	eventually(t, "it waits", told)
	operate(0, "pause", "crm")
	if said := operate(0, "events", "evt_1") + operate(0, "status", "-json"); strings.Contains(said, "next_attempt_at\":") || strings.Contains(said, "next_retry_at") {
		t.Errorf("while it is paused: %s", said)
	}
	operate(0, "resume", "crm")
	crm.await(2)
	eventually(t, "it waits again", told)
}

func TestAReplayIsListedAndCancelled(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r, operate := operated(t, endpoint("crm", crm.url))
	r.post(event("evt_1"))
	r.post(event("evt_2"))
	crm.await(2)
	eventually(t, "both are delivered", func() bool {
		return strings.Contains(operate(0, "replay", "crm", "-since", "1h", "-dry-run"), "2 deliveries would go to crm again")
	})
	said := operate(0, "replay", "crm", "-since", "1h", "-rate", "0.01")
	id, _, _ := strings.Cut(strings.TrimPrefix(said, "replay "), ":")
	mustHave(t, operate(0, "replay", "crm", "-list"), "REPLAY  ", id, "running")
	mustHave(t, operate(0, "replay", "crm", "-cancel", id), "replay "+id+": cancelled after ")
	mustHave(t, operate(0, "replay", "crm", "-list"), id, "cancelled")
	mustHave(t, operate(1, "replay", "crm", "-cancel", "rpl_none"), "realtorbot-relay replay: ")
	mustHave(t, operate(2, "replay", "crm", "-list", "-failed"), "stand alone")
	// Who names an event that is not there hears it from the exit code too.
	mustHave(t, operate(1, "replay", "crm", "evt_none"), "there is nothing to do", "evt_none is left out: not kept")
}

func TestWhatIsLeftIsDiscardedByACommand(t *testing.T) {
	t.Parallel()
	crm, old := receive(t, codes(400)), receive(t, well)
	r, operate := operated(t, endpoint("crm", crm.url, "retry = []")+endpoint("old", old.url)+endpoint("empty", old.url))
	operate(0, "pause", "old")
	operate(0, "pause", "empty")
	r.post(`{"id":"evt_1","type":"bot.created","data":{}}`)
	eventually(t, "it has failed", func() bool { return strings.Contains(operate(0, "failed", "crm"), "bot.created") })
	mustHave(t, operate(2, "discard", "crm", "-class", "status"), "filters go with -failed")
	mustHave(t, operate(1, "discard", "crm"), "the endpoint is configured")
	mustHave(t, operate(0, "discard", "crm", "-failed", "-class", "timeout"), "endpoint crm: 0 deliveries that failed: discarded")
	mustHave(t, operate(0, "discard", "crm", "-failed", "-class", "status"), "endpoint crm: 1 delivery that failed: discarded")
	mustHave(t, operate(0, "events", "evt_1"), "discarded", "a replay by its id sends it again")
	mustHave(t, operate(0, "events", "-status", "discarded", "-endpoint", "crm"), "evt_1")
	writeConfig(t, r.dir, strings.ReplaceAll(strings.ReplaceAll(readConfigOf(t, r), `name = "old"`, `name = "new"`), `name = "empty"`, `name = "other"`))
	mustHave(t, operate(0, "reload"), "endpoint old removed", "1 pending stay as orphaned")
	mustHave(t, operate(0, "status"), "old ", "orphaned")
	mustHave(t, operate(0, "discard", "old"), "endpoint old: what was left of it: discarded")
	if said := operate(0, "status"); strings.Contains(said, "orphaned") && strings.Contains(said, "old  ") {
		t.Errorf("it is still listed:\n%s", said)
	}
	if n := strings.Count(r.stderr.String(), "discarded what was left of this endpoint") + strings.Count(r.stderr.String(), "endpoint discarded"); n != 1 {
		t.Errorf("the log has %d lines of it, want 1", n)
	}
	mustHave(t, operate(1, "discard", "old"), "there is no endpoint of this name")
}

func readConfigOf(t *testing.T, r *relay) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A paused endpoint stays paused through a reload, and a reload says so.
func TestAReloadDoesNotTellThatAPausedEndpointGoesOn(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r, operate := operated(t, endpoint("crm", crm.url))
	operate(0, "pause", "crm")
	r.post(event("evt_1"))
	writeConfig(t, r.dir, readConfigOf(t, r)+"concurrency = 2\n")
	if said := operate(0, "reload"); !strings.Contains(said, "1 pending held until it is resumed") || strings.Contains(said, "go on") {
		t.Errorf("it says %s", said)
	}
}

// Without the control socket, a file that is bad elsewhere does not keep an operator from asking the relay that it names.
func TestABadFileDoesNotHideTheRelay(t *testing.T) {
	t.Parallel()
	r, _ := operated(t, quiet())
	ask := func(config string, want int) string {
		t.Helper()
		writeConfig(t, r.dir, config)
		cmd := command(r.dir, "status", "-config", "config.toml")
		cmd.Env = append(r.cmd.Env, "RUNTIME_DIRECTORY=")
		code, stdout, stderr := end(t, cmd)
		if code != want {
			t.Errorf("status ends with %d, want %d: %s%s", code, want, stdout, stderr)
		}
		return stdout + stderr
	}
	good := readConfigOf(t, r)
	mustHave(t, ask(good, 0), "relay ", "ENDPOINT")
	mustHave(t, ask(good+"colour = 1\n", 0), "warning: the file is bad, and the relay is asked where it says:", "colour: unknown key", "ENDPOINT")
	mustHave(t, ask(strings.Replace(good, "[admin]", "[admin]\ncolour = 1", 1), 2), "admin.colour: unknown key")
	mustHave(t, ask(good+"[broken\n", 2), "is not valid TOML")
}

func TestTheManualIsFoundWithoutItsSlash(t *testing.T) {
	t.Parallel()
	r := start(t, preamble)
	client := *r.admin.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := client.Get("http://127.0.0.1/manual")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if to := answer.Header.Get("Location"); answer.StatusCode != 308 || to != "manual/" {
		t.Errorf("answered %d to %q", answer.StatusCode, to)
	}
	if a := r.admin.ask(t, "GET", "/manual", ""); a.status != 200 || !strings.Contains(a.body, "runbook") {
		t.Errorf("who follows is answered %d %.200s", a.status, a.body)
	}
}
