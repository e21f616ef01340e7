package endtoend

import (
	"net"
	"net/http"
	"syscall"
	"testing"
)

func TestStoppingFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	crm := receive(t, until(open, 200))
	r := start(t, preamble+endpoint("crm", crm.url, `timeout = "60s"`))
	r.post(event("evt_1"))
	crm.await(1)

	r.signal(syscall.SIGTERM)
	r.awaitLog(`"message":"stopping`)
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", r.intake.address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	// Operators can look while it stops.
	if ep := r.endpoint("crm"); ep.InFlight != 1 || ep.Pending != 1 {
		t.Errorf("while it stops the endpoint stands at %+v, want one in flight", ep)
	}
	close(open)
	if code := r.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}

	r = r.again()
	if s := r.awaitState("evt_1", "crm", "delivered"); len(s.Attempts) != 1 || s.Attempts[0].Status != 200 {
		t.Errorf("it was recorded as %+v", s)
	}
	r.post(event("evt_2"))
	if a := crm.await(2)[1]; a.id != "evt_2" {
		t.Errorf("after the restart %q was sent again", a.id)
	}
}

func TestShutdownTimeoutCutsShortAndTheSameAttemptIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []int // before the one that hangs
		number  int   // of that attempt
	}{
		"a first attempt": {nil, 1},
		"a retry":         {[]int{500}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := make(chan struct{})
			hold, answered := until(open, 200), len(c.answers)
			crm := receive(t, func(w http.ResponseWriter, request *http.Request, a attempt) {
				if a.count <= answered {
					w.WriteHeader(c.answers[a.count-1])
					return
				}
				hold(w, request, a)
			})
			config := "[server]\nlisten = \"127.0.0.1:0\"\nshutdown_timeout = \"300ms\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[queue]\nmin_free = \"0B\"\n"
			r := start(t, config+endpoint("crm", crm.url, `timeout = "60s"`, `retry = ["100ms", "200ms"]`))
			r.post(event("evt_1"))
			crm.await(answered + 1)
			r.stop()
			close(open)

			r = r.again()
			s := r.awaitState("evt_1", "crm", "delivered")
			all := crm.await(answered + 2)
			if cut, next := all[answered], all[answered+1]; cut.number != c.number || next.number != c.number || len(all) != answered+2 {
				t.Errorf("cut short was attempt %d, then came attempt %d, and %d in all; want %d twice", cut.number, next.number, len(all), c.number)
			}
			if len(s.Attempts) != c.number {
				t.Errorf("it is told of as %+v", s)
			}
		})
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(second.String(), func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			crm := receive(t, until(hold, 200))
			r := start(t, preamble+endpoint("crm", crm.url, `timeout = "60s"`))
			r.post(event("evt_1"))
			crm.await(1)
			r.signal(syscall.SIGTERM)
			r.awaitLog(`"message":"stopping`)
			r.signal(second)
			if code := r.exit(); code != 1 {
				t.Errorf("exit code %d after the second signal, want 1", code)
			}
			close(hold)
			r = r.again()
			if a := crm.await(2)[1]; a.id != "evt_1" || a.number != 1 {
				t.Errorf("after the restart came attempt %d of %q, want the first again", a.number, a.id)
			}
			r.awaitState("evt_1", "crm", "delivered")
		})
	}
}

func TestAnIdleRelayStopsAtOnceDespiteOpenConnections(t *testing.T) {
	t.Parallel()
	r := start(t, preamble+endpoint("crm", reserve(t).url()))
	conn, err := net.Dial("tcp", r.intake.address) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.post(event("evt_1")) // leaves a connection that is kept alive
	r.signal(syscall.SIGTERM)
	if code := r.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
