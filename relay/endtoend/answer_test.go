package endtoend

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func TestGonePausesHoldsAndChargesNothing(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(410, 200))
	r := start(t, preamble+endpoint("crm", crm.url, "concurrency = 1"))
	r.post(event("evt_1"))
	r.awaitEndpoint("crm", "is paused", func(ep endpointStats) bool { return ep.State == "paused" && strings.Contains(ep.Reason, "410") })
	r.post(event("evt_2"))
	if ep := r.endpoint("crm"); ep.Pending != 2 || ep.Failed+ep.Retrying+ep.Delivered != 0 {
		t.Errorf("it stands at %+v", ep)
	}
	if s := r.stats(); s.Health.Status != "degraded" || len(s.Health.Reasons) != 1 {
		t.Errorf("health: %+v", s.Health)
	}
	r.awaitLog(`"level":"warn"`, "endpoint is gone and was paused", "evt_1")
	r.kill()
	r = r.again()
	if ep := r.endpoint("crm"); ep.State != "paused" || ep.Pending != 2 || len(crm.all()) != 1 {
		t.Errorf("after a restart it stands at %+v and got %d", ep, len(crm.all()))
	}

	r.turn("POST", "/endpoints/crm/resume")
	all := crm.await(3)
	if all[1].id != "evt_1" || all[1].number != 1 || all[2].id != "evt_2" || all[2].number != 1 {
		t.Errorf("then came attempt %d of %q and attempt %d of %q", all[1].number, all[1].id, all[2].number, all[2].id)
	}
	r.awaitState("evt_2", "crm", "delivered")
}

func TestRetryAfterHoldsTheWholeEndpoint(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			crm := receive(t, func(w http.ResponseWriter, _ *http.Request, a attempt) {
				if a.count == 1 {
					w.Header().Set("Retry-After", "2")
					w.WriteHeader(status)
				}
			})
			other := receive(t, well)
			r := start(t, preamble+endpoint("crm", crm.url, `retry = ["100ms", "100ms"]`)+endpoint("other", other.url))
			r.post(event("evt_1"))
			first := crm.await(1)[0]
			r.awaitEndpoint("crm", "is limited", func(ep endpointStats) bool { return ep.State == "limited" })
			for i := 2; i <= 5; i++ {
				r.post(event(fmt.Sprintf("evt_%d", i)))
			}
			other.await(5)
			for _, a := range crm.await(6)[1:] {
				if a.number != 1 {
					t.Errorf("event %q was charged: attempt %d", a.id, a.number)
				}
				if gap := a.at.Sub(first.at); gap < 2*time.Second {
					t.Errorf("event %q came %s after the answer that asked for 2s", a.id, gap)
				}
			}
			r.awaitEndpoint("crm", "has delivered all", func(ep endpointStats) bool { return ep.Delivered == 5 && ep.Failed == 0 })
		})
	}
}

func TestRetryAfterIsNeverLessThanTheSchedule(t *testing.T) {
	t.Parallel()
	crm := receive(t, func(w http.ResponseWriter, _ *http.Request, a attempt) {
		if a.count == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
		}
	})
	r := start(t, preamble+endpoint("crm", crm.url, `retry = ["2s"]`))
	r.post(event("evt_1"))
	all := crm.await(2)
	if gap := all[1].at.Sub(all[0].at); gap < 2*time.Second {
		t.Errorf("the next attempt came after %s, want 2s", gap)
	}
}

func TestTheSuccessListDecides(t *testing.T) {
	t.Parallel()
	created, strict := receive(t, codes(201)), receive(t, codes(201))
	r := start(t, preamble+endpoint("created", created.url)+endpoint("strict", strict.url, "success = [200]", "retry = []"))
	r.post(event("evt_1"))
	r.awaitState("evt_1", "created", "delivered")
	if s := r.awaitState("evt_1", "strict", "failed"); !strings.HasSuffix(s.Reason, "answered 201 Created") {
		t.Errorf("the reason is %q", s.Reason)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := receive(t, well)
	for _, status := range []int{301, 302, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			crm := receive(t, func(w http.ResponseWriter, _ *http.Request, _ attempt) {
				w.Header().Set("Location", elsewhere.url)
				w.WriteHeader(status)
			})
			r := start(t, preamble+endpoint("crm", crm.url, "retry = []"))
			r.post(event("evt_1"))
			if s := r.awaitState("evt_1", "crm", "failed"); len(s.Attempts) != 1 || s.Attempts[0].Status != status {
				t.Errorf("it is told of as %+v", s)
			}
			if n := len(elsewhere.all()); n != 0 {
				t.Errorf("%d arrived where the redirect leads", n)
			}
		})
	}
}

func TestOfAnAnswerAtMost16KiBAreKept(t *testing.T) {
	t.Parallel()
	token := newSecret()
	crm := receive(t, func(w http.ResponseWriter, request *http.Request, _ attempt) {
		w.WriteHeader(500)
		_, _ = fmt.Fprintf(w, "you sent %s\n", request.Header.Get("Authorization"))
		for {
			if _, err := w.Write([]byte(strings.Repeat("x", 4096))); err != nil {
				return // the relay has read enough
			}
		}
	})
	r := start(t, preamble+endpoint("crm", crm.url, "retry = []", `headers = { Authorization = "Bearer `+token+`" }`))
	r.post(event("evt_1"))
	s := r.awaitState("evt_1", "crm", "failed")
	if len(s.Attempts) != 1 || s.Attempts[0].Status != 500 {
		t.Fatalf("it is told of as %.300v", s)
	}
	excerpt := s.Attempts[0].Excerpt
	if len(excerpt) != 16<<10 || !strings.HasPrefix(excerpt, "you sent ***") {
		t.Errorf("%d bytes are kept, beginning with %.100q", len(excerpt), excerpt)
	}
	if got := crm.all()[0].header.Get("Authorization"); got != "Bearer "+token {
		t.Error("the header of the configuration did not arrive as it is written there")
	}
}

func TestAnEndpointThatHangsTimesOut(t *testing.T) {
	t.Parallel()
	crm := receive(t, hanging)
	r := start(t, preamble+endpoint("crm", crm.url, `timeout = "300ms"`, "retry = []"))
	r.post(event("evt_1"))
	s := r.awaitState("evt_1", "crm", "failed")
	if len(s.Attempts) != 1 || s.Attempts[0].Class != "timeout" || !strings.Contains(s.Reason, "300ms") {
		t.Errorf("it is told of as %+v", s)
	}
}

func TestNamesMayNotLeadIntoThePrivateNetworkUnlessAllowed(t *testing.T) {
	t.Parallel()
	everywhere, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	crm := receiveOn(t, everywhere, well)
	port := everywhere.Addr().(*net.TCPAddr).Port

	// localhost is the operator's own word.
	config := preamble + endpoint("local", fmt.Sprintf("http://localhost:%d/webhooks", port), "retry = []")
	refused := 0
	if name, address, ok := privateName(); ok {
		url := fmt.Sprintf("http://%s:%d/webhooks", name, port)
		config += endpoint("refused", url, "retry = []") + endpoint("allowed", url, "retry = []", "allow_private = true")
		refused = 1
		t.Logf("%s is %s", name, address)
	}
	r := start(t, config)
	r.post(event("evt_1"))
	r.awaitState("evt_1", "local", "delivered")
	crm.await(1 + refused)
	if refused > 0 {
		r.awaitState("evt_1", "allowed", "delivered")
		s := r.awaitState("evt_1", "refused", "failed")
		if len(s.Attempts) != 1 || s.Attempts[0].Class != "blocked_address" || !strings.Contains(s.Reason, `allow_private = true for endpoint "refused"`) {
			t.Errorf("it is told of as %+v", s)
		}
	}
	if n := len(crm.all()); n != 1+refused {
		t.Errorf("%d arrived, want %d", n, 1+refused)
	}
}

// privateName is this machine's own name, if it leads to a loopback or private address, as /etc/hosts mostly has it.
func privateName() (name string, address netip.Addr, ok bool) {
	name, err := os.Hostname()
	if err != nil || name == "localhost" || strings.ToLower(name) != name || strings.ContainsAny(name, "_%") {
		return "", address, false
	}
	addresses, err := net.LookupHost(name)
	if err != nil || len(addresses) == 0 {
		return "", address, false
	}
	for _, text := range addresses {
		address, err = netip.ParseAddr(text)
		if err != nil || !address.IsLoopback() && !address.IsPrivate() {
			return "", address, false
		}
	}
	return name, address, true
}

func TestSubscriptionsDecideWhoGetsWhat(t *testing.T) {
	t.Parallel()
	leads, exact, all, none := receive(t, well), receive(t, well), receive(t, well), receive(t, well)
	table := func(name string, to *receiver, events string, more ...string) string {
		return strings.Replace(endpoint(name, to.url, more...), `events = ["*"]`, "events = "+events, 1)
	}
	r := start(t, preamble+"[events]\ncustom = [\"tour.booked\"]\n"+
		table("leads", leads, `["lead.*"]`)+table("exact", exact, `["appointment.scheduled", "tour.booked"]`)+
		table("all", all, `["*"]`)+table("none", none, `["*"]`, "enabled = false"))
	for i, kind := range []string{"lead.created", "lead.scored", "appointment.scheduled", "appointment.cancelled", "tour.booked", "made.up"} {
		r.post(fmt.Sprintf(`{"id":"evt_%d","type":%q,"data":{}}`, i, kind))
	}
	for name, want := range map[string]int64{"leads": 2, "exact": 2, "all": 6} {
		r.awaitEndpoint(name, fmt.Sprintf("has delivered %d", want), func(ep endpointStats) bool { return ep.Delivered == want && ep.Pending == 0 })
	}
	if ep := r.endpoint("none"); ep.State != "disabled" || ep.Delivered != 0 || len(none.all()) != 0 {
		t.Errorf("the disabled one stands at %+v", ep)
	}
}
