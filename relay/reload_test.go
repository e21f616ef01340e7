package relay

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// A reload waits for the queue's disk where an endpoint is new: who looks at the configuration meanwhile is answered.
func TestWhoLooksDoesNotWaitForAReload(t *testing.T) {
	cfg := testConfig(t, filepath.Join(t.TempDir(), "data"), "http://127.0.0.1:1/")
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	r, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
	if err != nil {
		t.Fatal(err)
	}
	r.applying.lock()
	described := make(chan string, 1)
	go func() { described <- r.describe() }()
	select {
	case text := <-described:
		if !strings.Contains(text, "crm") {
			t.Errorf("it says %q", text)
		}
	case <-time.After(patience):
		t.Error("it waits for the reload")
	}
	r.applying.unlock()
	if err := r.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
