package endtoend

import (
	"strings"
	"testing"
)

func TestDoctorLooksAtARunningRelayAndOpensNothing(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	dir := t.TempDir()
	config := strings.Replace(preamble, "[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"unix:"+dir+"/admin.sock\"", 1) +
		endpoint("crm", crm.url, `secret = "`+newSecret()+`"`)
	r := startIn(t, dir, config)
	r.turn("POST", "/endpoints/crm/test") // the answer tells how the clocks differ
	examine := func(want int, lines ...string) {
		t.Helper()
		code, stdout, stderr := end(t, command(dir, "doctor", "-config", "config.toml"))
		if code != want && !strings.Contains(stdout, "is in memory") { // where temporary files are
			t.Errorf("exit code %d, want %d\n%s%s", code, want, stdout, stderr)
		}
		for _, line := range lines {
			if !strings.Contains(stdout+stderr, line) {
				t.Errorf("it does not say %q:\n%s%s", line, stdout, stderr)
			}
		}
	}
	examine(0, "ok    running ", "ok    reload ", "ok    disk speed ", "ok    disk room ", "ok    store ", "ok    clock skew ", "ok    endpoint crm ")
	r.post(event("evt_1")) // it is still the one that has the queue
	r.awaitState("evt_1", "crm", "delivered")

	writeConfig(t, dir, config+endpoint("lost", "http://nowhere.invalid/"))
	examine(1, "warn  reload ", "endpoint lost added: begins with what is accepted from then on", "fail  endpoint lost ")
	writeConfig(t, dir, config+"colour = 1\n")
	examine(2, "unknown key")
	writeConfig(t, dir, config)
	r.stop()
	examine(0, "warn  running       no relay answers at")
}
