package store

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"realtorbot-relay/queue/codec"
)

// A table of zeros, over which Badger ends the process, is damage before Badger sees it; one that no start knows of is not.
func TestATableWithoutAnEndIsDamage(t *testing.T) {
	t.Parallel()
	sh := tabled(t)
	sh.must(os.WriteFile(filepath.Join(sh.o.Dir, "999999.sst"), make([]byte, 4096), 0o600))
	sh.reopen()
	sh.mustHold()
	sh.must(sh.Close(testLimit))
	sh.rewrite(sh.files("*.sst")[0], func(raw []byte) []byte { clear(raw); return raw })
	if _, err := openUnforked(sh.o); !errors.Is(err, codec.ErrDamaged) {
		t.Fatalf("open says %v", err)
	}
}

// The third start after two that ended inside Badger is refused, and the store can be set aside.
func TestAStoreThatEndsTheProcessIsRefused(t *testing.T) {
	t.Parallel()
	sh := tabled(t)
	sh.must(sh.Close(testLimit))
	for n := range maxDeaths {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChildOpensAStore$")
		cmd.Env = append(os.Environ(), openEnv+"="+sh.o.Dir)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || bytes.Contains(out, []byte("it came back")) {
			t.Fatalf("start %d ended with %v:\n%s", n+1, err, out)
		}
	}
	if _, err := openUnforked(sh.o); !errors.Is(err, ErrDied) {
		t.Fatalf("the third start says %v", err)
	}
	if _, err := openUnforked(sh.o); !errors.Is(err, ErrDied) {
		t.Fatalf("the fourth start says %v", err)
	}
	sh.must(SetAside(sh.o.Dir, sh.o.Dir+".aside", nil))
	sh.open()
	if sh.Applied() != 0 {
		t.Errorf("the new store is at %d", sh.Applied())
	}
}

const openEnv = "RELAY_STORE_OPEN"

// TestChildOpensAStore is the child's side; in the parent there is nothing to open.
func TestChildOpensAStore(t *testing.T) {
	if dir := os.Getenv(openEnv); dir != "" {
		_, err := openUnforked(Options{Dir: dir, MemTable: 1 << 20, Fault: func(place string, _ bool) error {
			if place == AtMapLog {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}})
		t.Fatalf("it came back: %v", err)
	}
}

// Starts that end after Opened, that come back with an error, or whose store is closed are not counted.
func TestOnlyStartsThatEndWhileTheyOpenAreCounted(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	sh.fill(0, 10)
	for range 2 * maxDeaths {
		sh.must(sh.Opened())
		sh.reopen()
	}
	sh.must(sh.Opened())
	sh.must(sh.Close(testLimit))
	manifest := sh.files("MANIFEST")[0]
	raw, err := os.ReadFile(manifest)
	sh.must(err)
	sh.must(os.Remove(manifest))
	for range 2 * maxDeaths {
		if _, err := openUnforked(sh.o); !errors.Is(err, codec.ErrDamaged) {
			t.Fatalf("open says %v", err)
		}
	}
	sh.must(os.WriteFile(manifest, raw, 0o600))
	sh.open()
	sh.mustHold()
	for range 2 * maxDeaths { // closed before it came to Opened
		sh.reopen()
	}
}
