package delivery

import (
	"math/rand/v2"
	"slices"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// decision is what becomes of a delivery after an attempt: the verdict, and what the lane knows of the endpoint beside it.
type decision struct {
	verdict Verdict
	charged bool
	due     time.Time // when the delivery may be attempted again, charged or not; of no use when it is delivered or failed
	record  bool      // the attempt is recorded although it is not charged
	toBack  bool      // a first attempt that is not charged goes behind all that waits, so that the next probe is another delivery
	pauses  bool      // the endpoint was paused, which is to be saved
	offline bool      // the attempt did not leave this machine
	effects []effect
}

// judgeLocked decides on the outcome of an attempt of a delivery of some age, and has the gate learn from it. A delivery that is not
// charged, of an endpoint that holds its deliveries, expires here: while it is a probe time after time, it is never due when the
// housekeeping looks for old ones.
func (l *Lane) judgeLocked(d *queue.Delivery, age time.Duration, f *flight, number int, o *client.Outcome, now time.Time) decision {
	r, maxAge := l.decideLocked(d, age, f, number, o, now), f.generation.endpoint.Delivery.MaxAge
	if why := l.gate.holdReason(); why != "" && !r.charged && !r.pauses && age > maxAge {
		r.charged, r.verdict = true, Verdict{Kind: Failed, Reason: heldTooLong(maxAge, why) + ": " + r.verdict.Reason}
	}
	return r
}

// decideLocked is judgeLocked without the expiry.
func (l *Lane) decideLocked(d *queue.Delivery, age time.Duration, f *flight, number int, o *client.Outcome, now time.Time) (r decision) {
	g, p := &l.gate, f.generation.endpoint.Delivery
	r.verdict = Judge(*o, number, p)
	v := &r.verdict
	plain := o.Err
	if plain == "" && v.Kind != Delivered {
		plain = client.StatusText(o.Status)
	}
	if f.generation.replaced && l.lastEndpoint != nil && !sameReceiver(f.generation.endpoint, l.lastEndpoint) {
		// What the previous receiver answered says nothing about the one that is configured now.
		r.charged, r.record, r.due = v.Kind == Delivered, true, now
		if v.Kind != Delivered {
			*v = Verdict{Kind: Retry, Reason: plain}
		}
		return r
	}
	unreachable, since := o.Unreachable, o.At
	if isSilent(o) {
		if offline, counts := l.network.silenceCounts(o.At); !counts {
			unreachable, since = true, latest(o.At, offline)
		}
	}
	if unreachable {
		charged, c := g.unreachable(since, now, l.network.lastReached())
		r.effects = append(r.effects, c)
		if !charged {
			l.network.noteOffline(now)
			g.LastError, g.LastErrorAt = plain, now
			if g.backoffSetAt.Equal(now) {
				g.probeAt = l.probes.schedule(g.probeAt, now)
			}
			r.offline, r.due, *v = true, g.probeAt, Verdict{Kind: Retry, Reason: plain}
			return r
		}
	} else {
		if provesNetwork(o) {
			l.network.noteReached(now)
		}
		r.effects = append(r.effects, l.onlineLocked(now))
	}
	if v.Kind == Delivered {
		if d.Replay == 0 {
			l.stats.delay.add(now, max(age, 0))
		} else {
			l.stats.delay.tick(now) // the age of what is replayed says nothing
		}
		r.charged = true
		l.poison.succeeded(d.Event.Type, o.At)
		r.effects = append(r.effects, l.answeredLocked(now, true))
		return r
	}
	g.LastError, g.LastErrorAt = plain, now
	l.stats.failing.tick(now)
	r.charged, r.due = !f.probe, now.Add(v.Wait+jitter(p.Jitter))
	switch {
	case v.Kind == Gone:
		r.charged, r.record, r.pauses, r.due = false, true, true, now
		l.pauseLocked("the endpoint answered 410 Gone") // at once, for the other senders
		return r
	case v.Kind == Later:
		if !g.isProbed() && l.poison.failed(d.Event.Type, now, downAfter) {
			// It says so to this type only: the others need not wait, nor go slower.
			if l.poison.failures(d.Event.Type) == downAfter+1 {
				g.AtATime, g.PerSecond = 0, 0
			}
			r.due = now.Add(max(v.Hold, g.retryWait(len(p.Retry))))
		} else {
			r.effects = append(r.effects, g.askedToWait(o.At, now, v.Hold))
			r.due = g.HeldUntil
		}
		if f.probe && g.isDown() {
			// The time that it asked for is no place in the budget: all others would come behind it.
			g.NextProbe = latest(g.HeldUntil, l.probes.schedule(now.Add(probeEvery), now))
		}
		if age > p.MaxAge {
			r.charged, *v = true, Verdict{Kind: Failed, Reason: "not taken for longer than max_age (" + p.MaxAge.String() + "): " + plain}
			return r
		}
		// The next attempt is another event: it may refuse this one only.
		r.charged, r.record, r.toBack = false, g.isWorthRecording(o.Status, now), f.first
		return r
	case v.Alive:
		r.effects = append(r.effects, l.answeredLocked(now, false))
	case !g.isDown() && wasSent(o) && l.poison.failed(d.Event.Type, now, 1):
		// That it can't process one type says nothing about its health, whatever the status.
	default:
		r.effects = append(r.effects, l.failedLocked(now, plain, &r))
	}
	if r.charged {
		return r
	}
	// A probe charges nobody. An endpoint that refused only this event is up, and is sent the event again at once. Otherwise the
	// delivery goes behind all that waits, so that the next probe is another one.
	*v = Verdict{Kind: Retry, Alive: v.Alive, Reason: plain}
	r.toBack, r.record = f.first && !v.Alive, g.isWorthRecording(o.Status, now)
	switch {
	case v.Alive:
		r.due = now
	case g.isDown():
		r.due = now.Add(slices.Max(append([]time.Duration{probeEvery}, p.Retry...)))
	default: // it was only out of reach, or another attempt succeeded meanwhile
		r.due = now.Add(g.retryWait(d.Attempts))
	}
	return r
}

// jitter is a random time from 0 to most.
func jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}
