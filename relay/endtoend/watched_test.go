package endtoend

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watched is a relay whose log goes into a pipe that the test reads, or does not.
func watched(t *testing.T, config string) (r *relay, log *os.File) {
	t.Helper()
	log, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	sockets := shortDir(t)
	intake, admin := filepath.Join(sockets, "intake.sock"), filepath.Join(sockets, "admin.sock")
	dir := t.TempDir()
	writeConfig(t, dir, listeningOn("unix:"+intake, "unix:"+admin)+config)
	cmd := command(dir, "-config", "config.toml")
	cmd.Args = append([]string{"/bin/sh", "-c", `exec "$0" "$@" 2>&3`}, append([]string{binary}, cmd.Args[1:]...)...)
	cmd.Path, cmd.ExtraFiles = "/bin/sh", []*os.File{end}
	r = &relay{process: launch(t, cmd), dir: dir, intake: newDoor(t, intake), admin: newDoor(t, admin)}
	_ = end.Close()
	eventually(t, "the relay is healthy", func() bool { return r.intake.ask(t, "GET", "/health", "").status == 200 })
	return r, log
}

// TestALogThatNobodyReadsHoldsNothingUp: every event writes a line, many times more than pipe and memory hold.
func TestALogThatNobodyReadsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r, log := watched(t, "[log]\nlevel = \"debug\"\n"+endpoint("crm", crm.url, "concurrency = 64"))
	const n, batch = 9000, 500
	for i := 0; i < n; i += batch {
		var body strings.Builder
		for k := range batch {
			fmt.Fprintf(&body, "{\"id\":\"evt_%d_%s\",\"type\":\"lead.created\",\"data\":{}}\n", i+k, strings.Repeat("x", 100))
		}
		if a := r.intake.ask(t, "POST", "/events", body.String(), "Content-Type", "application/x-ndjson"); a.status != 200 {
			t.Fatalf("a batch is answered %d %s", a.status, a.body)
		}
	}
	crm.await(n)
	r.awaitEndpoint("crm", "has delivered all", func(ep endpointStats) bool { return ep.Delivered == n })
	if a := r.admin.ask(t, "GET", "/health", ""); a.status != 200 || !strings.Contains(a.body, "nobody reads the log") || !strings.Contains(a.body, "lines of it are lost") {
		t.Errorf("health is answered %d %s", a.status, a.body)
	}
	if a := r.admin.ask(t, "GET", "/metrics", ""); !strings.Contains(a.body, "\nrelay_log_dropped_lines_total ") || strings.Contains(a.body, "\nrelay_log_dropped_lines_total 0\n") {
		t.Errorf("no metric counts the lines: %d", a.status)
	}
	for _, path := range []string{"/endpoints/crm/pause", "/endpoints/crm/resume", "/reload"} {
		if a := r.admin.ask(t, "POST", path, ""); a.status != 200 {
			t.Errorf("POST %s is answered %d %s", path, a.status, a.body)
		}
	}

	// It flows again, for a while.
	text := seen.newTranscript()
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(text, log)
	}()
	eventually(t, "the log tells of what it lacks", func() bool { return text.has("are missing here") })
	eventually(t, "health is ok again", func() bool {
		return strings.Contains(r.admin.ask(t, "GET", "/health", "").body, `"ok"`)
	})
	r.stop()
	<-read
	if !text.has(`"message":"stopped"`) {
		t.Error("the last line is missing")
	}
}

func TestAStopEndsAlthoughNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r, log := watched(t, "[log]\nlevel = \"debug\"\n"+endpoint("crm", crm.url))
	for i := range 800 { // more than a pipe holds
		r.post(event(fmt.Sprintf("evt_%d", i)))
	}
	crm.await(800)
	r.stop()
	_ = log
}

func TestAReaderOfTheLogThatEndsEndsNothing(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	r, log := watched(t, "[log]\nlevel = \"debug\"\n"+endpoint("crm", crm.url))
	_ = log.Close()
	for i := range 50 {
		r.post(event(fmt.Sprintf("evt_%d", i)))
	}
	crm.await(50)
	eventually(t, "health tells of it", func() bool {
		return strings.Contains(r.admin.ask(t, "GET", "/health", "").body, "can't be written (write /dev/stderr: broken pipe)")
	})
	r.stop()
}

// A SIGHUP that comes while the flags are read, before there is a configuration, ends nothing. The relay is held there by a complaint
// that is longer than the pipe that takes it.
func TestAReloadBeforeTheFlagsAreReadEndsNothing(t *testing.T) {
	t.Parallel()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(binary, "serve", "-"+strings.Repeat("x", 100<<10))
	cmd.Stderr = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	defer cmd.Process.Kill()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("it ended with %v, want exit code 2, of a flag that there is not", cmd.ProcessState)
	}
}

// TestAStopBehindManyReloadsIsNotLost: they arrive faster than one of 300 endpoints is done.
func TestAStopBehindManyReloadsIsNotLost(t *testing.T) {
	t.Parallel()
	var config strings.Builder
	config.WriteString(preamble)
	for i := range 300 {
		config.WriteString(endpoint(fmt.Sprintf("e%d", i), "http://127.0.0.1:1/"))
	}
	r := start(t, config.String())
	for range 40 {
		r.signal(syscall.SIGHUP)
		time.Sleep(time.Millisecond) // else the kernel makes one of them
	}
	r.stop()
	if n := r.stderr.count("configuration reloaded"); n > 30 {
		t.Errorf("of 40 signals that pile up %d became reloads of their own", n)
	}
}

// TestAStopDoesNotWaitForAReload: the file that the reload reads never ends.
func TestAStopDoesNotWaitForAReload(t *testing.T) {
	t.Parallel()
	r := start(t, preamble+quiet())
	path := filepath.Join(r.dir, "config.toml")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGHUP)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0) // returns when the reload reads
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	r.post(event("evt_1"))
	r.stop()
}

// TestAStartThatTakesLongIsAnsweredAndCanBeStopped: one of the files that opening the queue reads has no end.
func TestAStartThatTakesLongIsAnsweredAndCanBeStopped(t *testing.T) {
	t.Parallel()
	for _, second := range []bool{false, true} {
		dir, sockets := t.TempDir(), shortDir(t)
		intake, admin := filepath.Join(sockets, "intake.sock"), filepath.Join(sockets, "admin.sock")
		writeConfig(t, dir, listeningOn("unix:"+intake, "unix:"+admin)+quiet())
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(filepath.Join(dir, "data", "FORMAT"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := launch(t, command(dir, "-config", "config.toml"))
		atIntake, atAdmin := newDoor(t, intake), newDoor(t, admin)
		if second {
			eventually(t, "it answers", func() bool {
				if _, err := net.Dial("unix", intake); err != nil {
					return false
				}
				return atIntake.ask(t, "GET", "/health", "").status == 503
			})
			if a := atAdmin.ask(t, "GET", "/health", ""); a.status != 503 || !strings.Contains(a.body, "the queue has been opening since") {
				t.Errorf("health is answered %d %s", a.status, a.body)
			}
			if a := atIntake.ask(t, "POST", "/events", event("evt_1"), "Content-Type", "application/json"); a.status != 503 || a.header.Get("Retry-After") == "" {
				t.Errorf("an event is answered %d %s", a.status, a.body)
			}
		} else {
			eventually(t, "it listens", func() bool { _, err := os.Stat(admin); return err == nil })
		}
		p.signal(syscall.SIGHUP) // which ends nothing
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		for _, path := range []string{intake, admin} {
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("it leaves %s behind: %v", path, err)
			}
		}
	}
}
