package delivery

import (
	"math"
	"slices"
	"time"

	"realtorbot-relay/relay/rfc3339"
)

// Status describes an endpoint, in the form of /stats. Counters outlive a restart unless their comment says otherwise; rates and
// latencies are those of this process.
type Status struct {
	Name        string       `json:"name"`
	State       string       `json:"state"`            // up, down, limited, offline, paused, disabled or orphaned
	Reason      string       `json:"reason,omitempty"` // why, when it is not up
	Since       rfc3339.Time `json:"state_began_at,omitzero"`
	Pending     int64        `json:"pending"`
	Retrying    int64        `json:"retrying"`
	Failed      int64        `json:"failed"`
	Expired     int64        `json:"expired,omitempty"` // of these, since the start: held too long while the endpoint was disabled or orphaned
	Delivered   int64        `json:"delivered"`
	InFlight    int          `json:"in_flight"`
	Attempts    int64        `json:"attempts"`    // since the start
	LagSeconds  float64      `json:"lag_seconds"` // age of the oldest pending event
	Lagging     bool         `json:"lagging,omitempty"`
	NextRetry   rfc3339.Time `json:"next_retry_at,omitzero"` // missing while something other than a time decides
	HoldEnds    rfc3339.Time `json:"hold_ends_at,omitzero"`  // it asked to wait until then
	NextProbe   rfc3339.Time `json:"next_probe_at,omitzero"` // while it is down or offline
	Concurrency int          `json:"concurrency,omitempty"`  // attempts at a time that it takes, when these are fewer than configured
	Pace        float64      `json:"pace,omitempty"`         // attempts a second that it takes, once it asked for fewer
	PerSecond   float64      `json:"delivered_per_second"`   // over the last minute
	FailPerSec  float64      `json:"failed_attempts_per_second"`
	SuccessRate *float64     `json:"success_rate,omitempty"` // of the attempts of the last hour, 1 when all succeeded; nil when there were none
	AttemptMS   *Quantiles   `json:"attempt_ms,omitempty"`   // how long attempts took
	DeliveryMS  *Quantiles   `json:"delivery_ms,omitempty"`  // from accepted to delivered
	LastSuccess rfc3339.Time `json:"last_success_at,omitzero"`
	LastError   string       `json:"last_error,omitempty"`
	LastErrorAt rfc3339.Time `json:"last_error_at,omitzero"`
	Replays     []Replay     `json:"replays,omitempty"`            // those that run
	ClockSkew   *float64     `json:"clock_skew_seconds,omitempty"` // how far its clock is ahead of this machine's, by its latest answer
	ClockSeen   rfc3339.Time `json:"clock_seen_at,omitzero"`

	CertificateExpires       rfc3339.Time `json:"certificate_expires_at,omitzero"`        // the receiver's, as last seen
	ClientCertificateExpires rfc3339.Time `json:"client_certificate_expires_at,omitzero"` // the one of client_cert

	paused bool // also while it is disabled
}

// byClockOf is t as it is told at now: as it was read, or, when the wall clock was set since, by the wall clock as it is then.
func byClockOf(now, t time.Time) time.Time {
	if told := now.Add(t.Sub(now)); !t.IsZero() && told.Round(0).Sub(t.Round(0)).Abs() >= time.Second {
		return told
	}
	return t // the two clocks never agree to the nanosecond, and a time that is told twice is the same
}

// Attempted is when a retry that is due then is attempted, as the endpoint stands: not before the wait that it asked for is over,
// and at no time that is known while it is neither up nor limited.
func (s *Status) Attempted(due time.Time) (at rfc3339.Time) {
	if due.IsZero() || s.State != StateUp && s.State != StateLimited {
		return at
	}
	if s.HoldEnds.After(due) {
		return s.HoldEnds
	}
	return rfc3339.At(due)
}

// The states of an endpoint.
const (
	StateUp       = "up"
	StateDown     = "down"
	StateLimited  = "limited" // it says 429, or 503 with a time
	StateOffline  = "offline"
	StatePaused   = "paused"
	StateDisabled = "disabled"
	StateOrphaned = "orphaned"
)

// Statuses describes all endpoints: those configured, in their order, and then those of which only a lane is left that holds
// something. It takes one lane's lock after the other, and for each waits for the disk for 0.1 s at most.
func (d *Dispatcher) Statuses() []Status {
	now := d.now()
	table := d.table.Load()
	list := make([]Status, 0, len(table.lanes))
	configured := make(map[string]bool, len(table.lanes))
	for _, l := range table.lanes {
		configured[l.name] = true
		list = append(list, l.status(now))
	}
	for _, queueLane := range d.queue.Lanes() {
		if !configured[queueLane.Name()] {
			s, replays := queueLane.Stats(), runningReplays(queueLane)
			if s.Pending+s.Retrying+s.Failed == 0 && len(replays) == 0 {
				continue // it holds nothing
			}
			list = append(list, Status{
				Name: queueLane.Name(), State: StateOrphaned, Reason: "no endpoint of this name is configured; its deliveries are held", Since: rfc3339.At(s.Unserved),
				Pending: s.Pending, Retrying: s.Retrying, Failed: s.Failed, Expired: s.Expired, Delivered: s.Delivered,
				LagSeconds: ageSeconds(now, s.Oldest), Replays: replays,
			})
		}
	}
	return list
}

func (l *Lane) status(now time.Time) Status {
	stats := l.queueLane.Stats()
	replays := runningReplays(l.queueLane)
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.gate
	told := func(t time.Time) rfc3339.Time { return rfc3339.At(byClockOf(now, t)) }
	s := Status{
		Name: l.name, State: StateUp,
		Pending: stats.Pending, Retrying: stats.Retrying, Failed: stats.Failed, Expired: stats.Expired, Delivered: stats.Delivered,
		InFlight: g.inFlight, Attempts: l.stats.attempts,
		LagSeconds: ageSeconds(now, stats.Oldest), Lagging: !g.Lagging.IsZero(),
		PerSecond: roundRate(l.stats.delay.perSecond(now)), FailPerSec: roundRate(l.stats.failing.perSecond(now)),
		SuccessRate: l.stats.successRate(now), AttemptMS: l.stats.took.quantiles(now), DeliveryMS: l.stats.delay.quantiles(now),
		LastSuccess: told(g.LastSuccess), LastError: g.LastError, LastErrorAt: told(g.LastErrorAt), Replays: replays,
	}
	if g := l.generation.Load(); g != nil {
		receiver, own := g.client.Certificates()
		s.CertificateExpires, s.ClientCertificateExpires = rfc3339.At(receiver), rfc3339.At(own)
	}
	if ahead, at := l.tally.skew.Last(); !at.IsZero() {
		s.ClockSkew, s.ClockSeen = new(math.Round(ahead.Seconds()*10)/10), told(at)
	}
	switch {
	case g.disabled:
		s.State, s.Reason, s.Since = StateDisabled, "disabled in the configuration", rfc3339.At(stats.Unserved)
		if g.pauseReason != "" {
			s.Reason += ", and " + g.pauseReason
		}
	case g.pauseReason != "":
		s.State, s.Reason, s.Since = StatePaused, g.pauseReason, told(g.Paused)
	case g.offline:
		s.State, s.Reason, s.Since = StateOffline, g.LastError, told(g.unreachableSince)
	case g.isDown():
		s.State, s.Reason, s.Since = StateDown, g.LastError, told(g.Down)
	case g.isLimited():
		s.State, s.Reason, s.Since = StateLimited, g.LastError, told(g.Limited)
	}
	if s.State == StateDown || s.State == StateOffline {
		s.NextProbe = told(g.probeTime())
	}
	if g.HeldUntil.After(now) {
		s.HoldEnds = told(g.HeldUntil)
	}
	s.NextRetry = s.Attempted(byClockOf(now, stats.NextRetry))
	s.paused = g.pauseReason != ""
	if most := g.maxInFlight(); most < g.policy.Concurrency && !g.isProbed() {
		s.Concurrency = most
	}
	s.Pace = roundRate(g.PerSecond)
	return s
}

// successRate is rounded down, so that it is 1 only when nothing failed.
func (s *laneStats) successRate(now time.Time) *float64 {
	succeeded, failed := s.delay.inHour(now), s.failing.inHour(now)
	if succeeded+failed == 0 {
		return nil
	}
	return new(math.Floor(float64(succeeded)/float64(succeeded+failed)*10000) / 10000)
}

func roundRate(perSecond float64) float64 { return math.Round(perSecond*1000) / 1000 }

func ageSeconds(now, at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(now.Sub(at).Seconds(), 0)
}

// clockSkewFresh is for how long what an answer said about the clocks counts.
const clockSkewFresh = time.Hour

// ClockSkew returns how many seconds the clocks of the endpoints are ahead of this machine's: the median of those that answered
// within the last hour; of two in the middle, the smaller skew. endpoints is how many these are; with 0 nothing is known.
func ClockSkew(statuses []Status, now time.Time) (ahead float64, endpoints int) {
	var all []float64
	for i := range statuses {
		if s := &statuses[i]; s.ClockSkew != nil && now.Sub(s.ClockSeen.Time) < clockSkewFresh {
			all = append(all, *s.ClockSkew)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if math.Abs(high) < math.Abs(low) {
		low = high
	}
	return low, len(all)
}
