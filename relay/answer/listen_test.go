package answer

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustListen(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := Listen("server.listen", address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestTakenPortIsNamed(t *testing.T) {
	ln := mustListen(t, "127.0.0.1:0")
	defer ln.Close()
	_, err := Listen("server.listen", ln.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "server.listen") || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("error %v", err)
	}
}

func TestUnixSocketIsTakenOverFromTheDeadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "intake.sock")
	first := mustListen(t, "unix:"+path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen("server.listen", "unix:"+path); err == nil || !strings.Contains(err.Error(), "the socket is taken") {
		t.Errorf("beside one that lives: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that was killed leaves it
	first.Close()
	second := mustListen(t, "unix:"+path)
	second.Close()

	if err := os.WriteFile(path, []byte("a file of somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("server.listen", "unix:"+path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(path); err != nil || len(text) == 0 {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestConnectionsLeaveDescriptorsForTheQueue(t *testing.T) {
	for descriptors, want := range map[uint64][4]int{
		1 << 20: {4096, 1024, 256, 64}, 8192: {4096, 1024, 256, 64}, 1024: {512, 128, 64, 16}, 256: {128, 32, 16, 8}, 20: {16, 8, 16, 8},
	} {
		intake, adm := shares(descriptors, 0, true)
		if got := [4]int{intake.All, intake.PerAddress, adm.All, adm.PerAddress}; got != want {
			t.Errorf("of %d descriptors: %v, want %v", descriptors, got, want)
		}
	}
	if descriptors() == 0 {
		t.Error("this process may open nothing")
	}
}

func TestConnectionsLeaveMemoryForTheRest(t *testing.T) {
	for _, tt := range []struct {
		memory       uint64
		secured      bool
		all, address int
	}{{256 << 20, false, 1024, 256}, {256 << 20, true, 512, 128}, {1 << 30, false, 4096, 1024}, {1 << 30, true, 2048, 512}, {1 << 40, true, 4096, 1024}, {1 << 20, true, 16, 8}} {
		if intake, adm := shares(1<<20, tt.memory, tt.secured); intake.All != tt.all || intake.PerAddress != tt.address || adm.All != 256 {
			t.Errorf("of %d bytes, secured %v: %d and %d connections, want %d and %d", tt.memory, tt.secured, intake.All, intake.PerAddress, tt.all, tt.address)
		}
	}
}
