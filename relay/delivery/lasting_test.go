package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

func statesOf(list []Transition) (states []string) {
	for _, n := range list {
		states = append(states, n.State)
	}
	return states
}

func TestLaggingAndCatchingUpAreTold(t *testing.T) {
	slow, arrivals := slowReceiver(t)
	ep := subscriber("crm", slow)
	ep.Delivery.Lag = 10 * time.Minute
	d := openHarness(t, ep)
	lane := d.dispatcher.Lane("crm")
	d.accept("lead.created", "evt_1")
	a := mustArrive(t, arrivals)
	d.leap.Add(int64(11 * time.Minute))
	lane.reportLasting(d.now())
	if s := d.status("crm"); !s.Lagging || s.State != StateUp {
		t.Errorf("it is %+v", s)
	}
	if list := d.dispatcher.TakeTransitions(); len(list) != 0 {
		t.Errorf("reported at once: %+v", list)
	}
	d.leap.Add(int64(2 * time.Minute))
	lane.reportLasting(d.now())
	lane.reportLasting(d.now())
	a.answer <- 200
	d.until("crm", "settled", settled)
	lane.reportLasting(d.now())
	if s := d.status("crm"); s.Lagging {
		t.Errorf("it is %+v", s)
	}
	if list := statesOf(d.dispatcher.TakeTransitions()); fmt.Sprint(list) != "[lagging caught_up]" {
		t.Errorf("reported %v", list)
	}
}

// lostTo has a lane judge an attempt that did not leave this machine.
func lostTo(l *Lane, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := client.Outcome{At: now, Class: client.ClassConnectRefused, Err: "connect to 192.168.1.50:443: no route to host", Unreachable: true, Local: true}
	return l.judgeLocked(&queue.Delivery{Event: queue.Stored{At: now.UnixMilli()}}, 0, &flight{generation: l.generation.Load()}, 1, &o, now).charged
}

// What is on this machine, or the relay itself, is no proof that the cable is in.
func TestWhatIsOnThisMachineIsNoProofOfANetwork(t *testing.T) {
	d := openHarness(t, subscriber("crm", "http://198.51.100.1/"), subscriber("local", "http://127.0.0.1:1/"))
	crm, local := d.dispatcher.Lane("crm"), d.dispatcher.Lane("local")
	now := d.now()
	if lostTo(crm, now) {
		t.Fatal("charged")
	}
	for _, o := range []client.Outcome{{Status: 200, Local: true}, {Class: client.ClassConnectRefused, Local: true, Err: "x"}, {Class: client.ClassInternal, Err: "x"}} {
		now = now.Add(time.Minute)
		o.At = now
		local.mu.Lock()
		local.judgeLocked(&queue.Delivery{}, 0, &flight{generation: local.generation.Load()}, 1, &o, now)
		local.mu.Unlock()
		if now = now.Add(time.Minute); lostTo(crm, now) {
			t.Errorf("charged after %+v elsewhere", o)
		}
	}
	now = now.Add(time.Minute)
	local.mu.Lock()
	local.judgeLocked(&queue.Delivery{}, 0, &flight{generation: local.generation.Load()}, 1, &client.Outcome{At: now, Status: 200}, now)
	local.mu.Unlock()
	if now = now.Add(time.Minute); !lostTo(crm, now) {
		t.Error("not charged although another machine answered")
	}
}

// A machine in the local network that is switched off is reported, and what it was due becomes failed after max_age.
func TestOfflineObeysMaxAgeAndIsTold(t *testing.T) {
	d := openHarness(t, subscriber("crm", "http://127.0.0.1:1/"))
	lane := d.dispatcher.Lane("crm")
	if err := lane.Pause("until the test is ready"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", numbered(3)...)
	d.until("crm", "pending", func(s Status) bool { return s.Pending == 3 })
	now := d.now()
	lane.mu.Lock()
	lane.gate.pauseReason = ""
	lane.askingSince = time.Now() // so that no sender looks
	lane.mu.Unlock()
	d.dispatcher.TakeTransitions()
	for range 100 {
		if lostTo(lane, now) {
			t.Fatal("charged")
		}
		lane.reportLasting(now)
		now = now.Add(time.Hour)
	}
	if s := d.status("crm"); s.State != StateOffline || s.Since.IsZero() || !strings.Contains(s.Reason, "no route") {
		t.Errorf("it is %+v", s)
	}
	d.leap.Store(int64(100 * time.Hour))
	if n := lane.expire(now); n != 3 {
		t.Errorf("%d became failed, want 3", n)
	}
	lane.mu.Lock()
	lane.judgeLocked(&queue.Delivery{}, 0, &flight{generation: lane.generation.Load()}, 1, &client.Outcome{At: now, Status: 200}, now)
	lane.mu.Unlock()
	if reported := statesOf(d.dispatcher.TakeTransitions()); fmt.Sprint(reported) != "[offline online]" {
		t.Errorf("reported %v", reported)
	}
}

// alone takes the lanes out of sight of the housekeeping until back; what is accepted goes to them as before.
func (d *harness) alone() (back func()) {
	table := d.dispatcher.table.Load()
	hidden := newRoutingTable(nil, nil, nil)
	hidden.routes.Store(table.routes.Load())
	d.dispatcher.table.Store(hidden)
	for d.dispatcher.roundBegan.Load() != nil { // one is under way
		runtime.Gosched()
	}
	for _, l := range table.lanes { // and what it asked for
		d.comeTo(l, func() bool { return l.askingSince.IsZero() && (!l.expireNext || l.senders == 0) })
	}
	return func() { d.dispatcher.table.Store(table) }
}

// What expires at once is one line with a count.
func TestExpiryOfManyIsOneLine(t *testing.T) {
	d := openHarness(t, subscriber("crm", "http://127.0.0.1:1/"))
	lane := d.dispatcher.Lane("crm")
	var log bytes.Buffer
	lane.log = zerolog.New(&log)
	if err := lane.Pause("by the operator"); err != nil {
		t.Fatal(err)
	}
	const many = 2*expireAtATime + 300
	d.accept("lead.created", numbered(many)...)
	back := d.alone()
	d.leap.Add(int64(73 * time.Hour))
	d.accept("lead.created", "evt_young")
	now := d.now() // in which the whole run is, however long the machine takes
	gone := 0
	for deadline := time.Now().Add(patience); gone < many && time.Now().Before(deadline); {
		gone += lane.expire(now)
	}
	if s := lane.queueLane.Stats(); gone != many || s.Failed != many || s.Pending != 1 {
		t.Errorf("%d became failed: %+v", gone, s)
	}
	lane.expire(now.Add(gatherOver - time.Millisecond))
	if log.Len() > 0 {
		t.Errorf("reported before it was over: %s", log.String())
	}
	lane.expire(now.Add(gatherOver))
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), fmt.Sprintf(`"deliveries":%d,`, many)) {
		t.Errorf("%d lines: %s", lines, log.String())
	}
	if f := d.dispatcher.TakeFailures(anyEndpoint); len(f) != 1 || f[0].Count != many || f[0].Classes["expired"] != many {
		t.Errorf("reported %+v", f)
	}
	back()
	// A lane that holds nothing old enough is not asked again at once.
	lane.mu.Lock()
	rests := lane.nextExpiry.After(d.now())
	lane.mu.Unlock()
	if lane.expire(d.now()); !rests {
		lane.mu.Lock()
		rests = lane.nextExpiry.After(d.now())
		lane.mu.Unlock()
	}
	if !rests {
		t.Error("it is asked again each round")
	}
}

// What expires one by one for hours is a line a minute, another reason is another line, and a stop leaves nothing untold.
func TestWhatExpiresOneByOneIsALineAMinute(t *testing.T) {
	d := openHarness(t, subscriber("crm", "http://127.0.0.1:1/"))
	lane := d.dispatcher.Lane("crm")
	var log bytes.Buffer
	lane.log = zerolog.New(&log)
	defer d.alone()()
	began := d.now()
	at := func(s int) *unsentRun {
		return &unsentRun{class: classExpired, text: "paused", began: began.Add(time.Duration(s) * time.Second), count: 1}
	}
	reported := func(want ...int) {
		t.Helper()
		var got []int
		for line := range strings.Lines(log.String()) {
			var said struct{ Deliveries int }
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				t.Fatal(err)
			}
			got = append(got, said.Deliveries)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("reported of %v, want %v", got, want)
		}
	}
	for s := range 60 {
		lane.countUnsent(at(s))
		lane.logUnsentWhenDue(at(s).began, true)
	}
	reported()
	lane.logUnsentWhenDue(at(60).began, true)
	reported(60)
	lane.countUnsent(at(61))
	other := at(62)
	other.text = "down"
	lane.countUnsent(other)
	reported(60, 1)
	lane.unconfigure()
	reported(60, 1, 1)
	lane.unconfigure()
	reported(60, 1, 1)
}

func TestDisabledKeepsWhatItHasHoweverLong(t *testing.T) {
	ep := subscriber("crm", "http://127.0.0.1:1/")
	d := openHarness(t, ep)
	lane := d.dispatcher.Lane("crm")
	if err := lane.Pause("by the operator"); err != nil {
		t.Fatal(err)
	}
	d.accept("lead.created", numbered(10)...)
	ep.Enabled = false
	d.apply(ep)
	d.leap.Add(int64(73 * time.Hour))
	if n := lane.expire(d.now()); n != 0 {
		t.Errorf("%d became failed", n)
	}
	ep.Enabled = true
	d.apply(ep)
	if s := d.status("crm"); s.State != StatePaused || s.Reason != "by the operator" || s.Pending != 10 {
		t.Errorf("enabled again it is %+v", s)
	}
}

func TestAnEndpointThatStaysDownIsPaused(t *testing.T) {
	url, _ := quickReceiver(t, func(*http.Request) int { return 500 })
	ep := subscriber("crm", url)
	ep.Delivery.DisableAfter = 5 * time.Hour
	d := openHarness(t, ep)
	d.accept("lead.created", numbered(20)...)
	d.until("crm", "down", func(s Status) bool { return s.State == StateDown && s.InFlight == 0 && !s.NextProbe.IsZero() })
	d.skip(4 * time.Hour)
	d.until("crm", "probed", func(s Status) bool { return s.InFlight == 0 && s.LastErrorAt.After(d.now().Add(-time.Minute)) })
	if s := d.status("crm"); s.State != StateDown {
		t.Errorf("it is %+v", s)
	}
	d.skip(2 * time.Hour)
	d.until("crm", "paused", func(s Status) bool { return s.State == StatePaused && strings.Contains(s.Reason, "disable_after") })
	if reported := statesOf(d.dispatcher.TakeTransitions()); fmt.Sprint(reported) != "[down paused]" {
		t.Errorf("reported %v", reported)
	}
}

// Poison: what a receiver refuses of one event holds up nothing else, and what it can't stand of one type neither.
func TestPoisonHoldsUpNothingElse(t *testing.T) {
	for _, status := range []int{400, 422, 500} {
		var good atomic.Int32
		url, _ := quickReceiver(t, func(r *http.Request) int {
			if r.Header.Get("X-RealtorBot-Event") == "email.opened" {
				return status
			}
			good.Add(1)
			return 200
		})
		ep := subscriber("crm", url)
		ep.Delivery.Retry = []time.Duration{5 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}
		d := openHarness(t, ep)
		d.accept("email.opened", "p1", "p2", "p3", "p4", "p5")
		d.until("crm", "through with the poison", func(s Status) bool { return s.Retrying == 5 && s.InFlight == 0 })
		d.accept("lead.created", numbered(100)...)
		for began := d.now(); good.Load() < 100; d.skip(time.Second) {
			if d.now().Sub(began) > time.Minute {
				<-time.After(time.Millisecond)
			}
			if d.now().Sub(began) > time.Hour {
				t.Fatalf("%d: after an hour %d of 100 good ones are delivered: %+v", status, good.Load(), d.status("crm"))
			}
		}
		if status < 500 && d.status("crm").State != StateUp {
			t.Errorf("%d: it is %+v", status, d.status("crm"))
		}
	}
}
