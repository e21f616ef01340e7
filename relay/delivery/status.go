package delivery

import (
	"math"
	"time"
)

// Status is what there is to know about an endpoint, in the form of /stats. Counters without a word about it are the
// lane's own and survive a restart; rates and latencies are those of this process.
type Status struct {
	Name        string     `json:"name"`
	State       string     `json:"state"`            // up, down, limited, offline, paused, disabled or orphaned
	Reason      string     `json:"reason,omitempty"` // why, when it is not up
	Since       *time.Time `json:"since,omitempty"`
	Pending     int64      `json:"pending"`
	Retrying    int64      `json:"retrying"`
	Failed      int64      `json:"failed"`
	Expired     int64      `json:"expired,omitempty"` // of these, what became failed since the start for having been held too long while it was disabled or orphaned
	Delivered   int64      `json:"delivered"`
	InFlight    int        `json:"in_flight"`
	Attempts    int64      `json:"attempts"`    // since the start
	LagSeconds  float64    `json:"lag_seconds"` // age of the oldest pending event
	Lagging     bool       `json:"lagging,omitempty"`
	NextRetry   *time.Time `json:"next_retry,omitempty"`
	HeldUntil   *time.Time `json:"held_until,omitempty"`  // the endpoint asked to be left alone until then
	NextProbe   *time.Time `json:"next_probe,omitempty"`  // while it is down or offline
	Concurrency int        `json:"concurrency,omitempty"` // attempts at a time that it bears, when these are fewer than configured
	Pace        float64    `json:"pace,omitempty"`        // attempts a second that it bears, once it asked for fewer
	PerSecond   float64    `json:"delivered_per_second"`  // over the last minute
	FailPerSec  float64    `json:"failed_attempts_per_second"`
	SuccessRate *float64   `json:"success_rate,omitempty"` // of the attempts of the last hour, 1 when all went well; nil when there were none
	AttemptMS   *Quantiles `json:"attempt_ms,omitempty"`   // how long attempts took
	DeliveryMS  *Quantiles `json:"delivery_ms,omitempty"`  // from accepted to delivered
	LastSuccess *time.Time `json:"last_success,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	Replays     []Replay   `json:"replays,omitempty"`            // those that run
	ClockSkew   *float64   `json:"clock_skew_seconds,omitempty"` // how far its clock is ahead of this machine's, by its latest answer
	ClockSeen   *time.Time `json:"clock_seen,omitempty"`

	CertificateExpires       *time.Time `json:"certificate_expires,omitempty"`        // the receiver's, as last seen
	ClientCertificateExpires *time.Time `json:"client_certificate_expires,omitempty"` // the one of client_cert
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

// Statuses tells of all endpoints: those configured, in their order, and then the lanes that are left of others.
func (p *Post) Statuses() []Status {
	now := p.now()
	plan := p.plan.Load()
	list := make([]Status, 0, len(plan.lanes))
	configured := make(map[string]bool, len(plan.lanes))
	for _, l := range plan.lanes {
		configured[l.name] = true
		list = append(list, l.status(now))
	}
	for _, kept := range p.queue.Lanes() {
		if !configured[kept.Name()] {
			s := kept.Stats()
			list = append(list, Status{
				Name: kept.Name(), State: StateOrphaned, Reason: "no endpoint of this name is configured; its deliveries are held", Since: moment(s.Unserved),
				Pending: s.Pending, Retrying: s.Retrying, Failed: s.Failed, Expired: s.Expired, Delivered: s.Delivered,
				LagSeconds: age(now, s.Oldest), NextRetry: moment(s.NextRetry), Replays: runningReplays(kept),
			})
		}
	}
	return list
}

func (l *Lane) status(now time.Time) Status {
	kept := l.kept.Stats()
	replays := runningReplays(l.kept)
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.gate
	s := Status{
		Name: l.name, State: StateUp,
		Pending: kept.Pending, Retrying: kept.Retrying, Failed: kept.Failed, Expired: kept.Expired, Delivered: kept.Delivered,
		InFlight: g.inflight, Attempts: l.seen.attempts,
		LagSeconds: age(now, kept.Oldest), Lagging: !g.Lagging.IsZero(), NextRetry: moment(kept.NextRetry),
		PerSecond: round(l.seen.delay.perSecond(now)), FailPerSec: round(l.seen.failing.perSecond(now)),
		SuccessRate: l.seen.successRate(now), AttemptMS: l.seen.took.quantiles(now), DeliveryMS: l.seen.delay.quantiles(now),
		LastSuccess: moment(g.LastSuccess), LastError: g.LastError, LastErrorAt: moment(g.LastErrorAt), Replays: replays,
	}
	if c := l.course.Load(); c != nil {
		receiver, own := c.client.Certificates()
		s.CertificateExpires, s.ClientCertificateExpires = moment(receiver), moment(own)
	}
	if ahead, at := l.tally.skew.Last(); !at.IsZero() {
		s.ClockSkew, s.ClockSeen = new(math.Round(ahead.Seconds()*10)/10), moment(at)
	}
	switch {
	case g.disabled:
		s.State, s.Reason, s.Since = StateDisabled, "disabled in the configuration", moment(kept.Unserved)
	case g.paused != "":
		s.State, s.Reason, s.Since = StatePaused, g.paused, moment(g.Paused)
	case g.offline:
		s.State, s.Reason, s.Since = StateOffline, g.LastError, moment(g.dark)
	case g.isDown():
		s.State, s.Reason, s.Since = StateDown, g.LastError, moment(g.Down)
	case g.isLimited():
		s.State, s.Reason, s.Since = StateLimited, g.LastError, moment(g.Limited)
	}
	if s.State == StateDown || s.State == StateOffline {
		s.NextProbe = moment(g.place())
	}
	if g.HeldUntil.After(now) {
		s.HeldUntil = moment(g.HeldUntil)
	}
	if most := g.most(); most < g.policy.Concurrency && !g.isSpared() {
		s.Concurrency = most
	}
	s.Pace = round(g.PerSecond)
	return s
}

// successRate is rounded down, so that it is 1 only when nothing failed.
func (s *seen) successRate(now time.Time) *float64 {
	well, failed := s.delay.inHour(now), s.failing.inHour(now)
	if well+failed == 0 {
		return nil
	}
	return new(math.Floor(float64(well)/float64(well+failed)*10000) / 10000)
}

func round(perSecond float64) float64 { return math.Round(perSecond*1000) / 1000 }

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}

func age(now, at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(now.Sub(at).Seconds(), 0)
}
