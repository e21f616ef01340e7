package relay

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/sign"
)

func TestReloadDoesNotOpenAnIntakeThatOthersReach(t *testing.T) {
	intake, adm := mustListen(t, ":0"), mustListen(t, "127.0.0.1:0")
	cfg := testConfig(t, filepath.Join(t.TempDir(), "data"), "http://127.0.0.1:1/")
	r, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop(context.Background())
	bare := testConfig(t, cfg.Queue.Dir, "http://127.0.0.1:1/") // server.listen is the loopback default
	bare.Sources[0].Token = sign.Secret{}
	if err := r.Reload(bare); err == nil {
		t.Errorf("whoever reaches %s may post now", intake.Addr())
	}
}

func TestSlowStrangerDoesNotEatTheShutdown(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	intake, adm := mustListen(t, "127.0.0.1:0"), mustListen(t, "127.0.0.1:0")
	cfg := testConfig(t, filepath.Join(t.TempDir(), "data"), receiver.URL)
	r, err := Start(cfg, "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "POST /events HTTP/1.1\r\nHost: x\r\nX-Slow: "} {
		conn, err := net.Dial("tcp", intake.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte(text))
	}
	<-time.After(100 * time.Millisecond)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r.Stop(ctx)
	t.Logf("stopped after %v, ctx %v", time.Since(begin), ctx.Err())
	if ctx.Err() != nil {
		t.Error("nothing was left for the deliveries")
	}
}

// Whatever a stop waits for, it comes back: a reload that never lets go, a disk that hangs.
func TestAStopComesBackWhateverDoesNotEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := within(ctx, time.Minute, func() error { return errors.New("not saved") }); err == nil || err.Error() != "not saved" {
		t.Errorf("what was said within the time: %v", err)
	}
	hangs := make(chan struct{})
	defer close(hangs)
	if err := within(ctx, time.Millisecond, func() error { <-hangs; return nil }); err == nil || !strings.Contains(err.Error(), "does not end") {
		t.Errorf("of a stop that hangs: %v", err)
	}
}
