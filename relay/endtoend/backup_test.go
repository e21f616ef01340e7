package endtoend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// backUp has the relay's command write a backup to a file.
func (r *relay) backUp() (path, said string) {
	r.t.Helper()
	path = filepath.Join(r.t.TempDir(), "relay.backup")
	f, err := os.Create(path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	cmd := command(r.dir, "backup", "-config", r.asked())
	p := launchTo(r.t, cmd, f)
	if code := p.exit(); code != 0 {
		r.t.Fatalf("backup ends with %d: %s", code, p.stderr.String())
	}
	return path, p.stderr.String()
}

// asked is a configuration with the address that the relay's admin listener was given.
func (r *relay) asked() string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "asked.toml")
	config := strings.Replace(preamble, "127.0.0.1:0\"\n[queue]", r.admin.address+"\"\n[queue]", 1)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// A backup that is made while clients post and endpoints answer, fail and are paused is restored to a relay that owes each of
// them what was owed.
func TestABackupUnderLoadIsRestoredWithAllThatWasAnswered(t *testing.T) {
	t.Parallel()
	crm, bad, held := receive(t, well), receive(t, codes(422)), receive(t, well)
	config := preamble + endpoint("crm", crm.url) + endpoint("bad", bad.url, "retry = []") + endpoint("later", bad.url, `retry = ["1h"]`) + endpoint("held", held.url)
	r := start(t, config)
	r.turn("POST", "/endpoints/held/pause")
	var mu sync.Mutex
	var answered []string
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer func() { stop.Store(true); wg.Wait() }()
	for g := range 4 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				id := fmt.Sprintf("evt_%d_%d", g, i)
				if a := r.offer(event(id)); a.status == 200 {
					mu.Lock()
					answered = append(answered, id)
					mu.Unlock()
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(answered)
	}
	eventually(t, "some are answered", func() bool { return count() >= 300 })
	mu.Lock()
	before := slices.Clone(answered)
	mu.Unlock()
	path, said := r.backUp()
	if more := count(); more <= len(before) {
		eventually(t, "the load goes on", func() bool { return count() > more })
	}
	mustHave(t, said, "a backup of 20", "for 4 endpoints")
	stop.Store(true)
	wg.Wait()
	r.post(event("evt_after"))
	r.kill()

	dir := t.TempDir()
	writeConfig(t, dir, config)
	code, out, errors := end(t, command(dir, "restore", path, "-config", "config.toml"))
	if code != 0 {
		t.Fatalf("restore ends with %d: %s%s", code, out, errors)
	}
	mustHave(t, out, "whole", "restored into "+filepath.Join(dir, "data"))
	after := startIn(t, dir, config)
	after.awaitLog("the queue was restored from a backup of ")
	if n := after.stats().Queue.Events; n < int64(len(before)) {
		t.Errorf("%d events are kept, %d were answered before", n, len(before))
	}
	for _, id := range before {
		after.awaitState(id, "crm", "delivered")
		after.awaitState(id, "bad", "failed")
		after.awaitState(id, "later", "retrying")
		if s := after.story(id, "held"); s.State != "pending" {
			t.Errorf("%s is %s at an endpoint that was paused", id, s.State)
		}
		if crm.counts()[id] == 0 {
			t.Errorf("%s never came to crm", id)
		}
	}
	if ep := after.endpoint("held"); ep.State != "paused" || len(held.all()) > 0 {
		t.Errorf("held is %s and got %d events", ep.State, len(held.all()))
	}
	for i, id := range append(before[:50:50], "evt_after") {
		want := map[bool]string{true: "accepted", false: "duplicate"}[id == "evt_after"]
		var receipt struct{ Status string }
		if a := after.post(event(id)); json.Unmarshal([]byte(a.body), &receipt) != nil || receipt.Status != want {
			t.Errorf("%d: %s is answered %s, want %s", i, id, a.body, want)
		}
	}
	after.stop()
}

func TestARestoreAndDoctorRefuseWhatIsNoWholeBackup(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	config := preamble + endpoint("crm", crm.url)
	r := start(t, config)
	for i := range 20 {
		r.post(event(fmt.Sprint("evt_", i)))
	}
	r.awaitEndpoint("crm", "has delivered all", func(ep endpointStats) bool { return ep.Delivered == 20 })
	path, _ := r.backUp()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeConfig(t, dir, config)
	seed := rand.Int63()
	noise := rand.New(rand.NewSource(seed))
	for n := range 6 {
		at := noise.Intn(len(whole))
		harmed := bytes.Clone(whole)
		harmed[at] ^= 1 << noise.Intn(8)
		if n%2 == 0 {
			harmed = whole[:at]
		}
		if err := os.WriteFile(path, harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, said := end(t, command(dir, "restore", "-config", "config.toml", path))
		if _, err := os.Stat(filepath.Join(dir, "data")); code != 1 || err == nil || strings.Count(said, "\n") != 1 || !strings.Contains(said, "nothing was written") {
			t.Errorf("seed %d, byte %d: restore ends with %d, %v: %s%s", seed, at, code, err, out, said)
		}
		if code, out, _ := end(t, command(dir, "doctor", "-backup", path)); code != 1 || !strings.HasPrefix(out, "fail  backup") {
			t.Errorf("seed %d, byte %d: doctor ends with %d: %s", seed, at, code, out)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := end(t, command(dir, "doctor", "-backup", path)); code != 0 || !strings.Contains(out, "20 events") || !strings.Contains(out, "crm: 0 pending") {
		t.Errorf("of the whole one doctor says %d: %s", code, out)
	}
	if code, _, said := end(t, command(r.dir, "restore", "-config", "config.toml", path)); code != 1 || !strings.Contains(said, "is not empty") {
		t.Errorf("over a queue: %d %s", code, said)
	}
	r.post(event("evt_later"))
	r.stop()
	// Stopped, it is backed up as well, with all that it had.
	path, said := r.backUp()
	mustHave(t, said, "21 events")
	if code, _, said := end(t, command(dir, "restore", "-config", "config.toml", path)); code != 0 {
		t.Errorf("the backup of a stopped one: %d %s", code, said)
	}
	for want, args := range map[string][]string{
		"FILE is missing":       {"restore"},
		"no such file":          {"restore", "-config", "config.toml", "none.backup"},
		"can't be backed up: ":  {"backup", "-config", "elsewhere.toml"},
		"unexpected argument":   {"doctor", "-backup", "x", "y"},
		"1 arguments too many":  {"backup", "-config", "config.toml", "x"},
		"flag provided but not": {"backup", "-json"},
	} {
		writeElsewhere(t, dir)
		if code, _, said := end(t, command(dir, args...)); code == 0 || !strings.Contains(said, want) {
			t.Errorf("%q: %d %s", args, code, said)
		}
	}
}

// writeElsewhere is a configuration of a relay that never was.
func writeElsewhere(t *testing.T, dir string) {
	t.Helper()
	config := strings.NewReplacer("127.0.0.1:0\"\n[queue]", "unix:"+filepath.Join(dir, "none.sock")+"\"\n[queue]\ndir = \"none\"").Replace(preamble)
	if err := os.WriteFile(filepath.Join(dir, "elsewhere.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Megabytes of noise are nothing for a terminal.
func TestABackupIsNotWrittenToATerminal(t *testing.T) {
	t.Parallel()
	_, terminal := openTerminal(t)
	dir := t.TempDir()
	writeConfig(t, dir, preamble)
	p := launchTo(t, command(dir, "backup", "-config", "config.toml"), terminal)
	if code := p.exit(); code != 2 || !p.stderr.has("write it to a file, with > FILE") {
		t.Errorf("it ends with %d: %s", code, p.stderr.String())
	}
}

// openTerminal makes a terminal: what a program writes to it is read from the other side.
func openTerminal(t *testing.T) (side, terminal *os.File) {
	t.Helper()
	side, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { side.Close() })
	if err := unix.IoctlSetPointerInt(int(side.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(side.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return side, terminal
}
