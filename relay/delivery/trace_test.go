package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// trace plays the life of an endpoint in virtual time: the gate, the verdicts and the decisions are the real ones,
// the queue and the receiver are modelled, and an attempt takes no time.
type trace struct {
	t        *testing.T
	lane     *Lane
	now      time.Time
	receiver func(tr *trace, kind string) client.Outcome

	pending, retrying []*traced
	all               []*traced
	attempts          int
	downs             int
	probes            []time.Time
}

// traced is a delivery of a trace.
type traced struct {
	kind      string
	at        time.Time
	due       time.Time
	charged   int
	charges   []charge // those that failed
	delivered time.Time
	failed    time.Time
}

// charge is an attempt that counts, and what was known of the endpoint when it began.
type charge struct {
	at            time.Time
	down, offline bool
	later         bool // it was told to wait
}

var traceSchedule = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}

func (d *harness) trace(receiver func(tr *trace, kind string) client.Outcome) *trace {
	d.t.Helper()
	queueLane, err := d.Queue.Lane("crm")
	if err != nil {
		d.t.Fatal(err)
	}
	queueLane.SetHealth(queue.Health{})
	tr := &trace{t: d.t, lane: d.dispatcher.newLane(queueLane, newTally()), now: gateStart, receiver: receiver}
	tr.lane.now = func() time.Time { return tr.now }
	tr.lane.probes = &probeBudget{}
	ep := &config.Endpoint{Name: "crm", URL: config.NewURL("http://198.51.100.1/"), Events: []string{"*"}, Enabled: true, Delivery: config.Delivery{
		Concurrency: 16, Retry: traceSchedule, MaxAge: 72 * time.Hour, Lag: 10 * time.Minute}}
	tr.lane.lastEndpoint = ep
	tr.lane.generation.Store(&generation{endpoint: ep})
	tr.lane.gate.configure(ep)
	return tr
}

// run passes time second by second, and within one from when something may be attempted to when it may again; arrive says what comes in.
func (tr *trace) run(duration time.Duration, arrive func(second int) []string) {
	for second := range int(duration / time.Second) {
		for _, kind := range arrive(second) {
			d := &traced{kind: kind, at: tr.now}
			tr.pending, tr.all = append(tr.pending, d), append(tr.all, d)
		}
		end := tr.now.Add(time.Second)
		for range 1000 {
			if tr.step() {
				continue
			}
			again := tr.lane.gate.allow(tr.now).until
			if again.IsZero() || !again.Before(end) {
				break
			}
			tr.now = again
		}
		tr.now = end
	}
}

// step makes one attempt, if one may be made.
func (tr *trace) step() bool {
	l, g := tr.lane, &tr.lane.gate
	p := g.allow(tr.now)
	if !p.retries && !p.firsts || len(tr.pending)+len(tr.retrying) == 0 {
		return false
	}
	if g.isProbed() {
		if again := l.probes.begin(tr.now, g.probeTime(), g.probeWaitSince); !again.IsZero() {
			g.setProbeTime(again)
			return false
		}
	}
	next := 0 // of those that retry, the one that is due first
	for i, d := range tr.retrying {
		if d.due.Before(tr.retrying[next].due) {
			next = i
		}
	}
	retry := len(tr.retrying) > 0 && (p.early || !tr.retrying[next].due.After(tr.now))
	var d *traced
	first := len(tr.pending) > 0 && (p.newFirst || !retry)
	switch {
	case first:
		d, tr.pending = tr.pending[0], tr.pending[1:]
	case retry:
		d = tr.retrying[next]
		tr.retrying = slices.Delete(tr.retrying, next, next+1)
	default:
		if g.isProbed() {
			l.probes.end(0)
		}
		return false
	}
	f := &flight{generation: l.generation.Load(), first: first, probe: g.begin(tr.now, first, 0)}
	if f.probe {
		tr.probes = append(tr.probes, tr.now)
	}
	tr.attempts++
	o := tr.receiver(tr, d.kind)
	o.At = tr.now
	c := charge{at: tr.now, down: g.isDown(), offline: g.offline}
	r := l.judgeLocked(&queue.Delivery{Event: queue.Stored{At: d.at.UnixMilli(), Type: []byte(d.kind)}}, tr.now.Sub(d.at), f, d.charged+1, &o, tr.now)
	if g.end(f.probe); f.probe {
		l.probes.end(0)
	}
	if r.charged {
		c.later = r.verdict.Kind == Later
		tooOld := r.verdict.Kind == Failed && tr.now.Sub(d.at) > g.policy.MaxAge // which is no charge
		if d.charged++; r.verdict.Kind != Delivered && !tooOld {
			d.charges = append(d.charges, c)
		}
	}
	switch {
	case r.verdict.Kind == Delivered:
		d.delivered = tr.now
	case !r.charged && first && !r.toBack:
		tr.pending = slices.Insert(tr.pending, 0, d)
	case r.charged && r.verdict.Kind == Failed:
		d.failed = tr.now
	default:
		d.due = r.due
		tr.retrying = append(tr.retrying, d)
	}
	for _, c := range r.effects {
		switch c {
		case wentDown:
			tr.downs++
		case cameBack:
			for _, d := range tr.retrying {
				d.due = tr.now
			}
		}
	}
	return true
}

// judged sums up the deliveries of a kind: how many failed, and the longest that one waited or waits.
func (tr *trace) judged(kind string) (failed int, waited time.Duration) {
	for _, unjust := range tr.audit(nil) {
		tr.t.Error(unjust)
	}
	for _, d := range tr.all {
		switch {
		case d.kind != kind:
		case !d.failed.IsZero():
			failed++
		case d.delivered.IsZero():
			waited = max(waited, tr.now.Sub(d.at))
		default:
			waited = max(waited, d.delivered.Sub(d.at))
		}
	}
	return failed, waited
}

func answerOf(status int) client.Outcome {
	if status < 300 {
		return client.Outcome{Status: status}
	}
	return client.Outcome{Status: status, Class: client.ClassStatus, Err: client.StatusText(status)}
}

// An hour with a receiver that answers each status there is, to all events and to one type alone, while the others go well.
func TestEveryStatusForAnHourAloneAndBesideTypesThatGoWell(t *testing.T) {
	d := openHarness(t)
	for status := 200; status < 600; status++ {
		for _, mixed := range []bool{false, true} {
			tr := d.trace(func(_ *trace, kind string) client.Outcome {
				if kind == "good" {
					return answerOf(200)
				}
				return answerOf(status)
			})
			tr.run(time.Hour, func(second int) []string {
				switch {
				case second%10 != 0:
					return nil
				case second == 600: // a burst of what it does not like, and then of what it does
					kinds := slices.Repeat([]string{"odd"}, 20)
					if mixed {
						kinds = append(kinds, slices.Repeat([]string{"good"}, 20)...)
					}
					return kinds
				case mixed:
					return []string{"odd", "good"}
				}
				return []string{"odd"}
			})
			oddFailed, _ := tr.judged("odd")
			goodFailed, goodWaited := tr.judged("good")
			what := fmt.Sprintf("%d, mixed %v: %d downs, %d odd and %d good failed, good waited %v", status, mixed, tr.downs, oddFailed, goodFailed, goodWaited)
			lives := status < 300 || refusesTheEvent(status)
			switch {
			case status < 300 && (oddFailed > 0 || tr.downs > 0):
				t.Error(what)
			case status == 410 && (oddFailed > 0 || tr.lane.gate.pauseReason == ""):
				t.Error(what)
			case status == 429 && (oddFailed > 0 || tr.downs > 0):
				t.Error(what)
			case refusesTheEvent(status) && (tr.downs > 0 || oddFailed == 0):
				t.Error(what)
			case !lives && status != 410 && status != 429 && !mixed && (oddFailed > 0 || tr.downs != 1):
				t.Error(what)
			}
			if mixed && status != 410 {
				limit := 31 * time.Second // a probe, and one that is another's
				if lives {
					limit = 0
				} else if status == 429 {
					limit = 36 * time.Second // three holds, until it is seen that it says so to one type alone
				}
				if goodFailed > 0 || goodWaited > limit {
					t.Error(what)
				}
			}
		}
	}
}

// While it is down it is probed every 15 s, and what was held goes within 15 s of its return.
func TestAnOutageOfAnHourIsOverWithinAProbe(t *testing.T) {
	d := openHarness(t)
	back := gateStart.Add(time.Hour)
	tr := d.trace(func(tr *trace, _ string) client.Outcome {
		if tr.now.Before(back) {
			return client.Outcome{Class: client.ClassConnectRefused, Err: "connect: connection refused"}
		}
		return answerOf(200)
	})
	tr.run(61*time.Minute, func(second int) []string {
		if second < 3600 {
			return []string{"lead"}
		}
		return nil
	})
	if failed, _ := tr.judged("lead"); failed > 0 || tr.downs != 1 {
		t.Errorf("%d failed, down %d times", failed, tr.downs)
	}
	for _, one := range tr.all {
		if one.delivered.IsZero() || one.delivered.Sub(back) > probeEvery {
			t.Fatalf("one is delivered %v after its return", one.delivered.Sub(back))
		}
	}
	for i := 1; i < len(tr.probes)-1; i++ {
		if gap := tr.probes[i].Sub(tr.probes[i-1]); gap != probeEvery {
			t.Errorf("probe %d comes after %v", i, gap)
		}
	}
}

// A receiver that takes three in ten seconds and then asks to wait for twenty loses nothing, and is soon asked
// only what it bears.
func TestALimitedReceiverIsFoundOutAndLosesNothing(t *testing.T) {
	d := openHarness(t)
	var taken []time.Time
	var refused []time.Time
	tr := d.trace(func(tr *trace, _ string) client.Outcome {
		taken = slices.DeleteFunc(taken, func(at time.Time) bool { return tr.now.Sub(at) >= 10*time.Second })
		if len(taken) == 3 {
			refused = append(refused, tr.now)
			o := answerOf(429)
			o.RetryAfter = 20 * time.Second
			return o
		}
		taken = append(taken, tr.now)
		return answerOf(200)
	})
	tr.run(time.Hour, func(second int) []string {
		if second == 0 {
			return slices.Repeat([]string{"lead"}, 125)
		}
		return nil
	})
	failed, waited := tr.judged("lead")
	t.Logf("%d attempts for 125 deliveries, %d refused, the last delivered after %v, pace %.3f", tr.attempts, len(refused), waited, tr.lane.gate.PerSecond)
	if failed > 0 || waited > 20*time.Minute || len(refused) > 25 {
		t.Errorf("%d failed, the last was delivered after %v, %d attempts were refused", failed, waited, len(refused))
	}
}

// A delivery that alone is told 429, while others of its type go well, is charged nothing and becomes failed after max_age.
func TestWhatIsToldToWaitForeverBecomesFailedAfterMaxAge(t *testing.T) {
	d := openHarness(t)
	tr := d.trace(nil)
	judge := func(status int) decision {
		o := answerOf(status)
		o.At = tr.now
		return tr.lane.judgeLocked(&queue.Delivery{Event: queue.Stored{At: gateStart.UnixMilli(), Type: []byte("lead")}}, tr.now.Sub(gateStart),
			&flight{generation: tr.lane.generation.Load()}, 1, &o, tr.now)
	}
	for ; tr.now.Sub(gateStart) <= 72*time.Hour; tr.now = tr.now.Add(time.Hour) {
		if r := judge(429); r.charged || r.verdict.Kind != Later {
			t.Fatalf("after %v: %+v", tr.now.Sub(gateStart), r)
		}
		judge(200)
	}
	if r := judge(429); !r.charged || r.verdict.Kind != Failed {
		t.Errorf("after %v: %+v", tr.now.Sub(gateStart), r)
	}
}

// Few deliveries of an endpoint that never comes back are probed in turn before any of them is due, and too old in the end.
func TestWhatIsProbedInTurnBecomesFailedAfterMaxAge(t *testing.T) {
	d := openHarness(t)
	for name, o := range map[string]client.Outcome{
		"down":         {Status: 500, Class: client.ClassStatus, Err: "answered 500"},
		"hanging":      {Class: client.ClassTimeout, Err: "no answer"},
		"out of reach": {Class: client.ClassConnectRefused, Err: "no route to host", Unreachable: true},
		"limited":      {Status: 429, Class: client.ClassStatus, Err: "answered 429", RetryAfter: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			tr := d.trace(func(*trace, string) client.Outcome { return o })
			tr.t, tr.lane.network = t, &network{}
			tr.lane.gate.policy.MaxAge = time.Hour
			tr.lane.lastEndpoint.Delivery.MaxAge = time.Hour
			arrive := func(second int) []string {
				if second == 0 {
					return []string{"lead", "lead", "lead"}
				}
				return nil
			}
			tr.run(time.Hour, arrive)
			if failed, _ := tr.judged("lead"); failed > 0 {
				t.Errorf("%d failed within max_age", failed)
			}
			tr.run(10*time.Minute, func(int) []string { return nil })
			if failed, _ := tr.judged("lead"); failed != 3 {
				t.Errorf("%d of 3 failed, %d attempts", failed, tr.attempts)
			}
		})
	}
}
