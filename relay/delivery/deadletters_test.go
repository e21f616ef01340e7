package delivery

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// letterbox receives what failed elsewhere.
type letterbox struct {
	mu     sync.Mutex
	got    []string // event, endpoint, class, reason
	bodies map[string]string
	status int
}

func (b *letterbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h := r.Header
	b.mu.Lock()
	defer b.mu.Unlock()
	id := h.Get("webhook-id")
	b.got = append(b.got, fmt.Sprintf("%s %s %s %s %s", id, h.Get("X-RealtorBot-Event"),
		h.Get("X-RealtorBot-Failed-Endpoint"), h.Get("X-RealtorBot-Failed-Class"), h.Get("X-RealtorBot-Failed-Reason")))
	b.bodies[id] = string(body)
	w.WriteHeader(b.status)
}

func (b *letterbox) arrived() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(slices.Values(b.got))
}

func refuse(*http.Request) int { return 400 }

func newLetterbox(t *testing.T) (*letterbox, string) {
	b := &letterbox{bodies: map[string]string{}, status: 200}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	return b, server.URL
}

func TestWhatFailsGoesToTheEndpointOfOnFailedAsItWas(t *testing.T) {
	refuses, _ := quickReceiver(t, refuse)
	box, url := newLetterbox(t)
	crm, mail, dead := subscriber("crm", refuses), subscriber("mail", refuses), subscriber("dead", url)
	crm.Delivery.Retry, mail.Delivery.Retry, dead.Events = nil, nil, nil
	crm.Delivery.OnFailed, mail.Delivery.OnFailed = "dead", "dead"
	d := openHarness(t, crm, mail, dead)
	d.accept("lead.created", "evt_1", "evt_2")
	d.until("dead", "given four", func(s Status) bool { return s.Delivered == 4 })
	d.until("crm", "without any pending", settled)
	d.until("mail", "without any pending", settled)
	var want []string
	for _, id := range []string{"evt_1", "evt_2"} {
		for _, name := range []string{"crm", "mail"} {
			want = append(want, id+" lead.created "+name+" status gave up after 1 attempt: "+client.StatusText(400))
		}
	}
	if got := box.arrived(); !slices.Equal(got, want) {
		t.Errorf("arrived:\n%q\nwant\n%q", got, want)
	}
	ev, deliveries, found, err := d.Story([]byte("evt_1"))
	if err != nil || !found || len(deliveries) != 4 {
		t.Fatalf("the story has %+v, %v", deliveries, err)
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	if body := box.bodies["evt_1"]; body != string(ev.Body) {
		t.Errorf("the body is %q, was %q", body, ev.Body)
	}
	for _, name := range []string{"crm", "mail"} {
		if s := d.status(name); s.Failed != 2 {
			t.Errorf("%s has %d failed, want 2", name, s.Failed)
		}
	}
}

func TestWhatFailsWhereFailedEventsGoEndsThere(t *testing.T) {
	refuses, _ := quickReceiver(t, refuse)
	box, url := newLetterbox(t)
	box.status = 422
	last, url2 := newLetterbox(t)
	crm, dead, end := subscriber("crm", refuses), subscriber("dead", url), subscriber("end", url2)
	crm.Delivery.Retry, dead.Delivery.Retry = nil, nil
	crm.Events, dead.Events, end.Events = []string{"lead.created"}, []string{"lead.scored"}, nil
	crm.Delivery.OnFailed, dead.Delivery.OnFailed = "dead", "end"
	d := openHarness(t, crm, dead, end)
	d.accept("lead.created", "evt_1")
	d.until("dead", "with one failed", func(s Status) bool { return s.Failed == 1 })
	d.accept("lead.scored", "evt_2") // its own
	d.until("end", "given one", func(s Status) bool { return s.Delivered == 1 })
	if got := last.arrived(); len(got) != 1 || !strings.HasPrefix(got[0], "evt_2 lead.scored dead status ") {
		t.Errorf("the last one was given %q", got)
	}
}

// What was failed and not copied when the relay stopped is copied after the start; what was, is not again.
func TestDeadLettersAreMadeAfterAStartThatWereOwedBefore(t *testing.T) {
	refuses, _ := quickReceiver(t, refuse)
	box, url := newLetterbox(t)
	crm, dead := subscriber("crm", refuses), subscriber("dead", url)
	crm.Delivery.Retry, dead.Events = nil, nil
	crm.Delivery.OnFailed = "dead"
	d := openHarness(t, crm, dead)
	d.accept("lead.created", "evt_1")
	d.until("dead", "given one", func(s Status) bool { return s.Delivered == 1 })
	close(d.dispatcher.deadLetters.stop)
	<-d.dispatcher.deadLetters.done // nobody writes dead letters any more
	d.accept("lead.created", numbered(200)...)
	d.until("crm", "with all failed", func(s Status) bool { return s.Failed == 201 })
	d.dispatcher.deadLetters.stop = make(chan struct{})
	d.restart(crm, dead)
	d.until("dead", "given all", func(s Status) bool { return s.Delivered == 201 })
	if got := box.arrived(); len(got) != 201 || len(slices.Compact(got)) != 201 {
		t.Errorf("%d dead letters arrived, want 201, each once", len(got))
	}
	d.restart(crm, dead)
	d.accept("lead.created", "evt_last")
	d.until("dead", "given the last", func(s Status) bool { return s.Delivered == 202 && settled(s) })
}

// What is held too long while its endpoint is paused is failed without an attempt.
func TestWhatExpiresGoesToTheEndpointOfOnFailed(t *testing.T) {
	url1, _ := quickReceiver(t, well)
	box, url := newLetterbox(t)
	crm, dead := subscriber("crm", url1), subscriber("dead", url)
	crm.Delivery.OnFailed, dead.Events = "dead", nil
	crm.Delivery.MaxAge = time.Hour
	d := openHarness(t, crm, dead)
	if err := d.dispatcher.Lane("crm").Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", numbered(30)...)
	d.skip(2 * time.Hour)
	d.dispatcher.Lane("crm").requestExpiry()
	d.until("dead", "given all", func(s Status) bool { return s.Delivered == 30 })
	for _, got := range box.arrived() {
		if !strings.Contains(got, " crm expired held longer than max_age") {
			t.Errorf("arrived: %q", got)
		}
	}
}

// A reload stores what is configured, then has dead letters owed, then has the lanes follow: the goroutine that writes dead letters may come in between.
func TestADeadLetterThatIsOwedBeforeItsLaneFollowsAReloadIsNotForgotten(t *testing.T) {
	breaks, _ := quickReceiver(t, func(*http.Request) int { return 500 })
	_, url := newLetterbox(t)
	crm, dead := subscriber("crm", breaks), subscriber("dead", url)
	crm.Delivery.Retry, dead.Events = nil, nil
	d := openHarness(t, crm, dead)
	to := crm
	to.Delivery.OnFailed = "dead"
	p, l := d.dispatcher, d.dispatcher.Lane("crm")
	p.applying.Lock()
	old := p.table.Load()
	p.table.Store(newRoutingTable(d.Queue, old.lanes, []*config.Endpoint{&to, old.endpoints[1]}))
	p.configureDeadLetters()
	p.applying.Unlock()
	owing := func() int {
		p.deadLetters.mu.Lock()
		defer p.deadLetters.mu.Unlock()
		return len(p.deadLetters.owing)
	}
	d.accept("lead.created", "evt_1")
	d.until("crm", "with one failed, and asked for it", func(s Status) bool { return s.Failed == 1 && owing() == 0 })
	c, err := client.New(&to, p.version, p.machine, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.configure(&generation{endpoint: &to, client: c})
	d.until("dead", "given one", func(s Status) bool { return s.Delivered == 1 })
}

// However many dead letters one lane owes, and whatever keeps them from being made, the others are asked in between.
func TestALaneThatOwesManyDeadLettersHoldsNobodyUp(t *testing.T) {
	refuses, _ := quickReceiver(t, refuse)
	_, url := newLetterbox(t)
	crm, mail, dead, other := subscriber("crm", refuses), subscriber("mail", refuses), subscriber("dead", url), subscriber("other", url)
	crm.Delivery.Retry, mail.Delivery.Retry, dead.Events = nil, nil, nil
	crm.Events, mail.Events, other.Events = []string{"lead.created"}, []string{"lead.scored"}, []string{"lead.seen"}
	crm.Delivery.OnFailed, mail.Delivery.OnFailed = "dead", "dead"
	d := openHarness(t, crm, mail, dead, other)
	p := d.dispatcher
	close(p.deadLetters.stop)
	<-p.deadLetters.done // from now on they are made here
	p.deadLetters.stop = make(chan struct{})
	count := func(l *Lane) int {
		s := l.queueLane.Stats()
		return int(s.Pending) + int(s.Delivered)
	}
	until := func(what string, wanted func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !wanted(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("waited too long until " + what)
			}
		}
	}
	const many = 500
	d.accept("lead.scored", "evt_mail")
	d.until("mail", "with one failed", func(s Status) bool { return s.Failed == 1 })
	d.accept("lead.created", numbered(many)...)
	d.until("crm", "with all failed", func(s Status) bool { return s.Failed == many })
	saves, n := d.Saves(), 0
	until("all failures are on disk", func() bool {
		n++
		d.accept("lead.seen", fmt.Sprintf("evt_seen_%d", n)) // what settles is saved, and all that was settled before
		return d.Saves() > saves+2
	})
	crmLane, mailLane, deadLane := p.Lane("crm"), p.Lane("mail"), p.Lane("dead")
	p.deadLetters.take()
	p.deadLetters.owes(crmLane)
	failing := map[*Lane]bool{}
	p.writeOwed(failing)
	first := count(deadLane)
	if first == 0 || first >= many/2 {
		t.Fatalf("%d dead letters of one lane are made before anybody else is asked", first)
	}
	p.deadLetters.owes(mailLane) // who owes meanwhile
	p.writeOwed(failing)
	if n := count(deadLane); n != 2*first+1 {
		t.Errorf("%d dead letters are made in two turns, want %d and as many, and the one of the other", n, first)
	}
	until("all are made", func() bool {
		p.writeOwed(failing)
		return count(deadLane) == many+1
	})
	p.deadLetters.done = make(chan struct{})
	go p.writeDeadLetters()
}
