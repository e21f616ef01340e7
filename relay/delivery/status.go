package delivery

import (
	"math"
	"time"
)

// Status is what there is to know about an endpoint, in the form of /stats. Counters without a word about it are the
// lane's own and survive a restart; rates and latencies are those of this process.
type Status struct {
	Name        string     `json:"name"`
	State       string     `json:"state"`            // up, down, offline, paused, disabled or orphaned
	Reason      string     `json:"reason,omitempty"` // why, when it is not up
	Since       *time.Time `json:"since,omitempty"`
	Pending     int64      `json:"pending"`
	Retrying    int64      `json:"retrying"`
	Failed      int64      `json:"failed"`
	Delivered   int64      `json:"delivered"`
	InFlight    int        `json:"in_flight"`
	Attempts    int64      `json:"attempts"`    // since the start
	LagSeconds  float64    `json:"lag_seconds"` // age of the oldest pending event
	NextRetry   *time.Time `json:"next_retry,omitempty"`
	HeldUntil   *time.Time `json:"held_until,omitempty"` // the endpoint asked to be left alone until then
	PerSecond   float64    `json:"delivered_per_second"` // over the last minute
	FailPerSec  float64    `json:"failed_attempts_per_second"`
	AttemptMS   *Quantiles `json:"attempt_ms,omitempty"`  // how long attempts took
	DeliveryMS  *Quantiles `json:"delivery_ms,omitempty"` // from accepted to delivered
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
	StateOffline  = "offline"
	StatePaused   = "paused"
	StateDisabled = "disabled"
	StateOrphaned = "orphaned"
)

// Statuses tells of all endpoints: those configured, in their order, and then the lanes that are left of others.
func (p *Post) Statuses() []Status {
	now := p.now()
	lanes := p.plan.Load().lanes
	list := make([]Status, 0, len(lanes))
	configured := map[string]bool{}
	for _, l := range lanes {
		configured[l.endpoint.Name] = true
		list = append(list, l.status(now))
	}
	for _, kept := range p.queue.Lanes() {
		if !configured[kept.Name()] {
			s := kept.Stats()
			list = append(list, Status{
				Name: kept.Name(), State: StateOrphaned, Reason: "no endpoint of this name is configured; its deliveries are held",
				Pending: s.Pending, Retrying: s.Retrying, Failed: s.Failed, Delivered: s.Delivered,
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
	l.holdLocked(kept.Paused)
	s := Status{
		Name: l.endpoint.Name, State: StateUp,
		Pending: kept.Pending, Retrying: kept.Retrying, Failed: kept.Failed, Delivered: kept.Delivered,
		InFlight: l.gate.inflight, Attempts: l.seen.attempts,
		LagSeconds: age(now, kept.Oldest), NextRetry: moment(kept.NextRetry),
		PerSecond: round(l.seen.delay.perSecond(now)), FailPerSec: round(l.seen.failing.perSecond(now)),
		AttemptMS: l.seen.took.quantiles(), DeliveryMS: l.seen.delay.quantiles(),
		LastSuccess: moment(l.seen.lastSuccess), LastError: l.seen.lastError, LastErrorAt: moment(l.seen.lastErrorAt), Replays: replays,
	}
	receiver, own := l.client.Certificates()
	s.CertificateExpires, s.ClientCertificateExpires = moment(receiver), moment(own)
	if ahead, at := l.tally.clock.seen(); !at.IsZero() {
		s.ClockSkew, s.ClockSeen = new(math.Round(ahead.Seconds()*10)/10), moment(at)
	}
	switch {
	case l.gate.held == disabled:
		s.State, s.Reason = StateDisabled, disabled
	case l.gate.held != "":
		s.State, s.Reason = StatePaused, l.gate.held
	case l.gate.offline:
		s.State, s.Reason = StateOffline, l.seen.lastError
	case l.gate.down:
		s.State, s.Reason = StateDown, l.seen.lastError
	}
	if l.gate.quiet.After(now) {
		s.HeldUntil = moment(l.gate.quiet)
		if s.Reason == "" {
			s.Reason = "the endpoint asked to be left alone (Retry-After)"
		}
	}
	if s.State != StateUp {
		s.Since = moment(l.seen.since)
	}
	return s
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
