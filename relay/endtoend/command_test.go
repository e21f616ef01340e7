package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// operated is a relay with a token that only it has, and a runtime directory as systemd makes one.
func operated(t *testing.T, config string) (r *relay, operate func(want int, args ...string) string) {
	t.Helper()
	token, runtime, dir := newSecret(), shortDir(t), t.TempDir()
	admin := filepath.Join(runtime, "admin.sock")
	config = strings.Replace(preamble, "[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"unix:"+admin+"\"\ntoken = \"env:THE_TOKEN\"", 1) + config
	writeConfig(t, dir, config)
	cmd := command(dir, "-config", "config.toml")
	cmd.Env = append(os.Environ(), "THE_TOKEN="+token, "RUNTIME_DIRECTORY="+runtime)
	r = &relay{process: launch(t, cmd), dir: dir}
	r.awaitServing()
	return r, func(want int, args ...string) string {
		t.Helper()
		cmd := command(dir, append(args, "-config", "config.toml")...)
		cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+runtime)
		code, stdout, stderr := end(t, cmd)
		if code != want {
			t.Errorf("%q ends with %d, want %d:\n%s%s", args, code, want, stdout, stderr)
		}
		return stdout + stderr
	}
}

func mustHave(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in:\n%s", want, text)
		}
	}
}

func TestARelayIsOperatedByCommands(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(400, 200))
	r, operate := operated(t, endpoint("crm", crm.url, "retry = []"))
	mustHave(t, operate(0, "pause", "crm"), "endpoint crm: paused")
	mustHave(t, operate(0, "status"), `endpoint "crm" is paused: paused by the operator`, "ENDPOINT", "crm       paused  ")
	r.post(event("evt_1"))
	mustHave(t, operate(0, "resume", "crm"), "endpoint crm: resumed")
	eventually(t, "it has failed", func() bool { return strings.Contains(operate(0, "failed", "crm"), "evt_1") })
	mustHave(t, operate(0, "failed", "crm", "-class", "status"), "FAILED AT", "evt_1", "lead.created")
	if said := operate(0, "failed", "crm", "-class", "timeout"); strings.Contains(said, "evt_1") {
		t.Errorf("the filter is not heeded:\n%s", said)
	}
	mustHave(t, operate(0, "events", "-status", "failed"), "evt_1", "crm failed")
	mustHave(t, operate(0, "replay", "crm", "-failed", "-dry-run"), "1 delivery would go to crm again")
	mustHave(t, operate(0, "replay", "crm", "-failed"), "1 delivery goes to crm again")
	r.awaitLog(`"message":"serving"`)
	eventually(t, "it is delivered", func() bool { return strings.Contains(operate(0, "events", "evt_1"), `"state": "delivered"`) })
	mustHave(t, operate(0, "replay", "crm", "evt_1", "evt_none"), "1 delivery goes to crm again", "evt_none is left out: not kept")
	mustHave(t, operate(1, "replay", "crm", "evt_none"), "there is nothing to do", "evt_none is left out: not kept")
	mustHave(t, operate(0, "replay", "crm", "-failed"), "there is nothing to do")
	mustHave(t, operate(1, "pause", "crm/../crm"), `no endpoint of this name`)
	r.post(event("evt_2"))
	eventually(t, "another is delivered", func() bool { return strings.Contains(operate(0, "events", "evt_2"), `"state": "delivered"`) })
	mustHave(t, operate(0, "replay", "crm", "-since", "1h", "-rate", "0.01"), "2 deliveries go to crm again")
	mustHave(t, operate(0, "status"), "\nreplay ", " to crm: ", " of 2 taken up; ")
	mustHave(t, operate(0, "test", "crm"), "delivered: 200 after ")
	mustHave(t, operate(0, "status", "-json"), `"uptime_seconds":`)
	mustHave(t, operate(1, "pause", "nobody"), "there is no endpoint of this name")
	mustHave(t, operate(2, "replay", "crm"), "say what to deliver again: ids, or -failed, or -since")
	mustHave(t, operate(2, "replay", "crm", "evt_1", "-failed"), "only one of these")
	mustHave(t, operate(1, "events", "evt_none"), "realtorbot-relay events: ")
	r.stop()
	mustHave(t, operate(1, "status"), "no relay answers at ")
}

// TestAReloadThatFailedIsSaidToWhoeverAskedForIt: to systemctl by the exit code, to Prometheus, and by health until the file
// is followed again.
func TestAReloadThatFailedIsSaidToWhoeverAskedForIt(t *testing.T) {
	t.Parallel()
	r, operate := operated(t, quiet())
	path := filepath.Join(r.dir, "config.toml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	health := func(wanted string) {
		t.Helper()
		said := ""
		eventually(t, "health says "+wanted, func() bool { said = operate(0, "status"); return strings.Contains(said, wanted) })
	}
	mustHave(t, operate(0, "reload"), "nothing changes")
	writeConfig(t, r.dir, string(good)+"colour = 1\n")
	health("was changed and is not what is followed: reload it")
	mustHave(t, operate(1, "reload"), "endpoint.crm.colour: unknown key")
	health("is not followed: the reload at ")
	writeConfig(t, r.dir, string(good)+"rate = 5\n")
	mustHave(t, operate(0, "reload", "-dry-run"), "endpoint crm changed (rate)")
	mustHave(t, operate(0, "reload"), "endpoint crm changed (rate)")
	health(": ok\n")
}

// TestCheckAsksTheRelayForSecretsThatOnlyItHas: as root beside a service whose token is in its environment alone.
func TestCheckAsksTheRelayForSecretsThatOnlyItHas(t *testing.T) {
	t.Parallel()
	r, operate := operated(t, quiet())
	mustHave(t, operate(0, "check"), "only the relay that runs has admin.token: it was asked", "admin     http ", "token ********", "a reload changes nothing")
	path := filepath.Join(r.dir, "config.toml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeConfig(t, r.dir, string(good)+"headers = { X-Key = \"env:NOBODY_HAS_THIS\" }\n")
	if said := operate(2, "check"); !strings.Contains(said, "NOBODY_HAS_THIS") || strings.Contains(said, "THE_TOKEN") {
		t.Errorf("what the relay has is told as missing, or what it lacks is not:\n%s", said)
	}
	writeConfig(t, r.dir, string(good)+"colour = 1\n")
	mustHave(t, operate(2, "check"), "unknown key")
	writeConfig(t, r.dir, string(good))
	r.stop()
	mustHave(t, operate(2, "check"), "THE_TOKEN")
}

func TestTheControlSocketIsForRootAndTheRelayAlone(t *testing.T) {
	t.Parallel()
	r, _ := operated(t, quiet())
	socket := filepath.Join(filepath.Dir(r.admin.address), "control.sock")
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("its mode is %v, %v", info, err)
	}
	if a := newDoor(t, socket).ask(t, "GET", "/stats", ""); a.status != 200 {
		t.Errorf("stats there are answered %d %s", a.status, a.body)
	}
	if a := r.admin.ask(t, "GET", "/stats", ""); a.status != 401 {
		t.Errorf("stats at the admin listener are answered %d without its token", a.status)
	}
	r.stop()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("it is left behind: %v", err)
	}
}
