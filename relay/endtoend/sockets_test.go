package endtoend

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// shortDir is a directory whose path leaves room for the name of a unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func listeningOn(intake, admin string) string {
	return "[server]\nlisten = \"" + intake + "\"\n[admin]\nlisten = \"" + admin + "\"\n[queue]\nmin_free = \"0B\"\n"
}

func TestServesOnIPv6(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	crm := receiveOn(t, ln, well)
	r := start(t, listeningOn("[::1]:0", "[::1]:0")+endpoint("crm", crm.url))
	if !strings.HasPrefix(r.intake.address, "[::1]:") || !strings.HasPrefix(r.admin.address, "[::1]:") {
		t.Errorf("it serves on %s and %s", r.intake.address, r.admin.address)
	}
	r.post(event("evt_1"))
	crm.await(1)
	r.awaitState("evt_1", "crm", "delivered")
}

func TestServesOnUnixSocketsAndReusesThoseAKilledRelayLeft(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	dir := shortDir(t)
	intake, admin := filepath.Join(dir, "intake.sock"), filepath.Join(dir, "admin.sock")
	config := listeningOn("unix:"+intake, "unix:"+admin) + endpoint("crm", crm.url, `secret = "`+newSecret()+`"`)
	r := start(t, config)
	if r.intake.address != intake || r.admin.address != admin {
		t.Errorf("it serves on %s and %s", r.intake.address, r.admin.address)
	}
	r.post(event("evt_1"))
	// A socket that somebody answers is not taken away.
	checkRefusedStart(t, t.TempDir(), config, `server\.listen.*intake\.sock.*taken`)
	r.post(event("evt_2"))
	r.awaitState("evt_2", "crm", "delivered")

	r.kill()
	if info, err := os.Stat(intake); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Fatalf("a killed relay leaves no socket behind: %v", err)
	}
	r = r.again()
	r.post(event("evt_3"))
	r.awaitState("evt_3", "crm", "delivered")
	if info, err := os.Stat(intake); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("strangers may use the socket: %v %v", info.Mode(), err)
	}
	r.stop()
	if _, err := os.Stat(intake); !os.IsNotExist(err) {
		t.Errorf("a relay that was stopped leaves its socket behind: %v", err)
	}
}

func TestASocketThatIsNoneIsNotRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "intake.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkRefusedStart(t, t.TempDir(), listeningOn("unix:"+path, "127.0.0.1:0")+quiet(), `server\.listen.*intake\.sock`)
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// passing starts a relay with a listening socket, the way systemd does: as descriptor 3, told by the environment.
func passing(t *testing.T, config, address string) (p *process, dir string) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // the relay has its own
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dir = t.TempDir()
	writeConfig(t, dir, config)
	// LISTEN_PID has to be the relay's own process id, which the shell's becomes.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -config config.toml`, binary)
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{file}
	return launch(t, cmd), dir
}

func TestAPassedSocketTakesThePlaceOfServerListen(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	// The configured address can't be had, and must not be asked for.
	taken := start(t, preamble+quiet())
	p, dir := passing(t, listeningOn(taken.intake.address, "127.0.0.1:0")+endpoint("crm", crm.url), "127.0.0.1:0")
	r := &relay{process: p, dir: dir}
	r.awaitServing()
	if r.intake.address == taken.intake.address {
		t.Errorf("it serves on the configured address %s", r.intake.address)
	}
	r.post(event("evt_1"))
	crm.await(1)
	r.stop()
}

func TestAPassedSocketForEverybodyNeedsACredential(t *testing.T) {
	t.Parallel()
	p, _ := passing(t, preamble+quiet(), "0.0.0.0:0")
	if code := p.exit(); code != 2 || p.stderr.count("\n") != 1 || !p.stderr.has("neither token nor secret") {
		t.Errorf("exit code %d, stderr %q; want 2 and one line", code, p.stderr)
	}
	source := "[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = \"" + newSecret() + "\"\n"
	p, _ = passing(t, preamble+source+quiet(), "0.0.0.0:0")
	p.awaitLog(`"message":"serving"`)
	if !p.stderr.has(`the token of source \"platform\" is sent in clear text`) {
		t.Errorf("it does not warn of the token in clear text: %s", p.stderr)
	}
}

// manager is what a relay tells systemd.
type manager struct {
	path string
	mu   sync.Mutex
	said []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(shortDir(t), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// heard is how often a state was told.
func (m *manager) heard(state string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, said := range m.said {
		if strings.HasPrefix(said, state) {
			n++
		}
	}
	return n
}

func TestTellsItsManagerHowItIs(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	dir := t.TempDir()
	writeConfig(t, dir, preamble+quiet())
	cmd := command(dir, "-config", "config.toml")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	r := &relay{process: launch(t, cmd), dir: dir}
	eventually(t, "it is ready", func() bool { return m.heard("READY=1") == 1 })
	// Ready means that it serves: not one more try is needed.
	r.awaitServing()
	r.post(event("evt_1"))
	eventually(t, "the watchdog is fed time after time", func() bool { return m.heard("WATCHDOG=1") >= 3 })
	r.signal(syscall.SIGHUP)
	eventually(t, "it says that it reloads, and is ready again", func() bool { return m.heard("RELOADING=1") == 1 && m.heard("READY=1") == 2 })
	if m.heard("STOPPING=1") != 0 {
		t.Error("it says that it stops and does not")
	}
	r.stop()
	eventually(t, "it says that it stops", func() bool { return m.heard("STOPPING=1") == 1 })
}

func TestNotReadyWhenItCantServe(t *testing.T) {
	t.Parallel()
	owner := start(t, preamble+quiet())
	m := newManager(t)
	dir := t.TempDir()
	writeConfig(t, dir, listeningOn(owner.intake.address, "127.0.0.1:0")+quiet())
	cmd := command(dir, "-config", "config.toml")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path)
	if code, _, _ := end(t, cmd); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	// What it had told before it ended would be there: a datagram is delivered when it is sent. The one of a later process
	// shows that all before it was read.
	later := startIn(t, t.TempDir(), preamble+quiet(), "NOTIFY_SOCKET="+m.path)
	eventually(t, "the later one is ready", func() bool { return m.heard("READY=1") > 0 })
	later.stop()
	eventually(t, "the later one stops", func() bool { return m.heard("STOPPING=1") > 0 })
	if n := m.heard("READY=1"); n != 1 {
		t.Errorf("ready was told %d times, want once", n)
	}
	if m.heard("WATCHDOG=1") != 0 {
		t.Error("the watchdog is fed although nobody asked")
	}
}
