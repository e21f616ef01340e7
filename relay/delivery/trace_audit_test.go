package delivery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/delivery/client"
)

// audit names what was judged unjustly. A delivery fails only after all its charged attempts, each made while the endpoint
// was not down and this machine not offline, or after max_age; nobody is charged for being told to wait, and no attempt is charged that was made while cut, if that is
// given, says that the cable was out.
func (tr *trace) audit(cut func(at time.Time) bool) (unjust []string) {
	maxAge := tr.lane.gate.policy.MaxAge
	for _, d := range tr.all {
		if !d.failed.IsZero() && len(d.charges) != len(traceSchedule)+1 && d.failed.Sub(d.at) <= maxAge {
			unjust = append(unjust, fmt.Sprintf("%s failed after %d charged attempts and %v", d.kind, len(d.charges), d.failed.Sub(d.at)))
		}
		for _, c := range d.charges {
			switch {
			case c.down:
				unjust = append(unjust, d.kind+" was charged while the endpoint was down")
			case c.offline:
				unjust = append(unjust, d.kind+" was charged while this machine was offline")
			case c.later:
				unjust = append(unjust, d.kind+" was charged for being told to wait")
			case cut != nil && cut(c.at):
				unjust = append(unjust, d.kind+" was charged while the cable was out")
			}
		}
	}
	return unjust
}

// restart has another lane go on with what the queue keeps of this one.
func (d *harness) restartTrace(tr *trace) {
	old := tr.lane
	old.queueLane.SetHealth(old.gate.Health)
	tr.lane = d.dispatcher.newLane(old.queueLane, newTally())
	tr.lane.now, tr.lane.probes, tr.lane.network, tr.lane.lastEndpoint = old.now, old.probes, old.network, old.lastEndpoint
	tr.lane.generation.Store(old.generation.Load())
	tr.lane.gate.configure(old.lastEndpoint)
}

// An hour with a receiver of every kind, with reloads, restarts and freezes in it: nothing fails that should not, and
// nothing is charged that was nobody's fault.
func TestEveryKindOfReceiverIsJudgedJustlyForAnHour(t *testing.T) {
	d := openHarness(t)
	between := func(tr *trace, from, to time.Duration) bool {
		at := tr.now.Sub(gateStart)
		return at >= from && at < to
	}
	unreachable := client.Outcome{Class: client.ClassConnectRefused, Err: "connect: no route to host", Unreachable: true}
	quota := func(status int, hold time.Duration) func(*trace, string) client.Outcome { // ten a minute
		var minute time.Duration
		taken := 0
		return func(tr *trace, _ string) client.Outcome {
			if now := tr.now.Sub(gateStart) / time.Minute; now != minute {
				minute, taken = now, 0
			}
			if taken == 10 {
				o := answerOf(status)
				o.RetryAfter = hold
				return o
			}
			taken++
			return answerOf(200)
		}
	}
	for _, k := range []struct {
		kind     string
		receiver func(tr *trace, kind string) client.Outcome
		cut      bool // the cable is out from minute 10 to 40
		reached  bool // another endpoint is reached all the time
		found    bool // another endpoint finds the cable out
		failed   string
		down     bool
	}{
		{kind: "well", receiver: func(*trace, string) client.Outcome { return answerOf(200) }},
		{kind: "poison", failed: "odd", receiver: func(_ *trace, kind string) client.Outcome {
			if kind == "odd" {
				return answerOf(422)
			}
			return answerOf(200)
		}},
		{kind: "429 with a time", receiver: quota(429, 20*time.Second)},
		{kind: "429 without", receiver: quota(429, 0)},
		{kind: "503 with a time", receiver: quota(503, 20*time.Second)},
		{kind: "flapping", down: true, receiver: func(tr *trace, _ string) client.Outcome {
			if tr.now.Sub(gateStart)/(2*time.Minute)%2 == 1 {
				return answerOf(500)
			}
			return answerOf(200)
		}},
		{kind: "hanging", down: true, receiver: func(*trace, string) client.Outcome {
			return client.Outcome{Class: client.ClassTimeout, Err: "no answer"}
		}},
		{kind: "a LAN host that is off", down: true, reached: true, receiver: func(tr *trace, _ string) client.Outcome {
			if between(tr, 10*time.Minute, 40*time.Minute) {
				return unreachable
			}
			return answerOf(200)
		}},
		{kind: "a cable that is out", cut: true, receiver: func(tr *trace, _ string) client.Outcome {
			if between(tr, 10*time.Minute, 40*time.Minute) {
				return unreachable
			}
			return answerOf(200)
		}},
		// Another endpoint finds it out first: what goes out meanwhile on connections of before is not heard of again.
		{kind: "a cable that is cut under what is under way", cut: true, found: true, receiver: func(tr *trace, _ string) client.Outcome {
			switch {
			case between(tr, 10*time.Minute, 10*time.Minute+client.IdleTimeout):
				return client.Outcome{Class: client.ClassTimeout, Err: "no answer"}
			case between(tr, 10*time.Minute, 40*time.Minute):
				return unreachable
			}
			return answerOf(200)
		}},
	} {
		t.Run(k.kind, func(t *testing.T) {
			tr := d.trace(k.receiver)
			tr.t, tr.lane.network = t, &network{}
			tr.run(time.Hour, func(second int) []string {
				if k.reached {
					tr.lane.network.noteReached(tr.now)
				}
				if k.found && between(tr, 10*time.Minute, 11*time.Minute) {
					tr.lane.network.noteOffline(tr.now)
				}
				switch {
				case second%420 == 419:
					d.restartTrace(tr)
				case second%300 == 299:
					tr.lane.gate.configure(tr.lane.lastEndpoint)
				case second%780 == 779:
					tr.now = tr.now.Add(2 * time.Minute) // frozen
				}
				if second%10 == 0 {
					return []string{"odd", "good"}
				}
				return nil
			})
			var cut func(time.Time) bool
			if k.cut {
				cut = func(at time.Time) bool {
					return !at.Before(gateStart.Add(10*time.Minute)) && at.Before(gateStart.Add(40*time.Minute))
				}
			}
			for _, unjust := range tr.audit(cut) {
				t.Error(unjust)
			}
			failed := map[string]int{}
			for _, one := range tr.all {
				if !one.failed.IsZero() {
					failed[one.kind]++
				}
			}
			if n := failed[k.failed]; len(failed) > min(n, 1) || k.failed != "" && n == 0 || (tr.downs > 0) != k.down {
				t.Errorf("%v failed, down %d times", failed, tr.downs)
			}
			t.Logf("%d deliveries, %d attempts, %v failed, down %d times", len(tr.all), tr.attempts, failed, tr.downs)
		})
	}
}

// The control: what is unjust is found.
func TestTheAuditOfATraceFindsWhatIsUnjust(t *testing.T) {
	d := openHarness(t)
	five := make([]charge, len(traceSchedule)+1)
	for i := range five {
		five[i].at = gateStart.Add(time.Duration(i) * time.Minute)
	}
	with := func(change func(c *charge)) []charge {
		charges := append([]charge(nil), five...)
		change(&charges[2])
		return charges
	}
	for _, c := range []struct {
		want    string
		charges []charge
		failed  time.Duration
	}{
		{"", five, time.Hour},
		{"", nil, 73 * time.Hour},
		{"after 4 charged attempts", five[:4], time.Hour},
		{"after 0 charged attempts", nil, time.Hour},
		{"endpoint was down", with(func(c *charge) { c.down = true }), time.Hour},
		{"machine was offline", with(func(c *charge) { c.offline = true }), time.Hour},
		{"told to wait", with(func(c *charge) { c.later = true }), time.Hour},
		{"cable was out", with(func(c *charge) { c.at = gateStart.Add(20 * time.Minute) }), time.Hour},
	} {
		tr := d.trace(nil)
		tr.all = []*traced{{kind: "lead", at: gateStart, charges: c.charges, failed: gateStart.Add(c.failed)}}
		unjust := tr.audit(func(at time.Time) bool { return at.Equal(gateStart.Add(20 * time.Minute)) })
		if (len(unjust) > 0) != (c.want != "") || len(unjust) > 0 && !strings.Contains(unjust[0], c.want) {
			t.Errorf("want %q, found %q", c.want, unjust)
		}
	}
}
