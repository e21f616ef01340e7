package delivery

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// deliver makes one attempt and settles what came of it.
func (l *Lane) deliver(d *queue.Delivery, f *flight) {
	number := d.Attempts + 1
	o := l.attempt(d, f.course, number)
	defer l.starts.recording(&o)()
	l.settle(d, f, number, o)
}

// attempt makes one attempt. A panic in it is one failed attempt, counted and told, and not the end of the process.
func (l *Lane) attempt(d *queue.Delivery, c *course, number int) (o client.Outcome) {
	began := l.now()
	defer func() {
		if what := recover(); what != nil {
			o = client.Outcome{At: began, Took: l.now().Sub(began), Class: client.ClassInternal, Err: client.OneLine(fmt.Sprintf("the relay itself failed: %v", what))}
			l.log.Error().Bytes("event", d.Event.ID).Any("panic", what).Str("stack", string(debug.Stack())).
				Msg("an attempt made the relay fail; it counts as a failed attempt, and others are not touched")
		}
	}()
	r := client.Request{ID: d.Event.ID, Type: d.Event.Type, Body: d.Event.Body, Attempt: number, Replay: queue.ReplayID(d.Replay)}
	if letter := queue.LetterOf(&d.Event); letter != nil {
		r.CopyOf = &client.FailedDelivery{Endpoint: letter.Lane, Class: letter.Class, Reason: letter.Reason}
	}
	return c.client.Attempt(&r)
}

// ruling is what becomes of a delivery after an attempt, all that is known of its endpoint considered.
type ruling struct {
	verdict Verdict
	charged bool
	due     time.Time // when a delivery that is not charged may be attempted again
	note    bool      // the attempt is recorded although it is not charged
	aside   bool      // a first attempt that is not charged makes way: the next probe is another one
	pauses  bool      // the endpoint is paused now, which is to be saved
	offline bool      // nothing left this machine
	changes []change
}

// settle records the outcome, first in the lane's own state and then in the queue.
func (l *Lane) settle(d *queue.Delivery, f *flight, number int, o client.Outcome) {
	now := l.now()
	defer l.landed(d, f, &o) // after the queue knows
	if o.Aborted {
		l.kept.Release(d, d.Due)
		return
	}
	l.mu.Lock()
	l.seen.attempts++
	l.seen.took.time(now, o.Took)
	r := l.judgeLocked(d, f, number, &o, now)
	if slices.Contains(r.changes, cameBack) {
		l.hastenLocked(now)
	}
	l.keepHealthLocked()
	l.mu.Unlock()
	l.count(d, &o, &r, now)
	l.tell(r.changes, r.verdict.Reason)

	attempt := record(number, &o)
	switch {
	case r.verdict.Kind == Delivered:
		l.kept.Delivered(d, &attempt)
	case !r.charged && r.aside:
		d.Attempts-- // Retry counts one
		l.kept.Retry(d, &attempt, r.due)
	case !r.charged:
		if r.note {
			l.kept.Note(d, &attempt)
		}
		l.kept.Release(d, r.due)
	case r.verdict.Kind == Failed:
		l.kept.Failed(d, &attempt, r.verdict.Reason)
	default:
		l.kept.Retry(d, &attempt, r.due)
	}
	if r.pauses {
		if err := l.savePause(); err != nil {
			l.log.Error().Err(err).Msg("the pause could not be saved")
		}
	}
	l.logVerdict(d, number, &o, &r)
}

// judgeLocked rules on an outcome and has the gate learn from it. What is not charged while its endpoint holds what it has is too
// old in the end as well, since what is probed time after time is never due when the housekeeping looks for what is.
func (l *Lane) judgeLocked(d *queue.Delivery, f *flight, number int, o *client.Outcome, now time.Time) ruling {
	r, maxAge := l.ruleLocked(d, f, number, o, now), f.course.endpoint.Delivery.MaxAge
	if why := l.gate.why(); why != "" && !r.charged && !r.pauses && now.Sub(d.Begun()) > maxAge {
		r.charged, r.verdict = true, Verdict{Kind: Failed, Reason: heldTooLong(maxAge, why) + ": " + r.verdict.Reason}
	}
	return r
}

func (l *Lane) ruleLocked(d *queue.Delivery, f *flight, number int, o *client.Outcome, now time.Time) (r ruling) {
	g, p := &l.gate, f.course.endpoint.Delivery
	r.verdict = Judge(*o, number, p)
	v := &r.verdict
	plain := o.Err
	if plain == "" && v.Kind != Delivered {
		plain = client.StatusText(o.Status)
	}
	if f.course.former && l.last != nil && !leadsTo(f.course.endpoint, l.last) {
		// What the place says where the endpoint was before is no word of the one where it is now.
		r.charged, r.note, r.due = v.Kind == Delivered, true, now
		if v.Kind != Delivered {
			*v = Verdict{Kind: Retry, Reason: plain}
		}
		return r
	}
	nowhere, since := o.Unreachable, o.At
	if isSilent(o) {
		if dark, hears := l.reach.hears(o.At); !hears {
			nowhere, since = true, latest(o.At, dark)
		}
	}
	if nowhere {
		charged, c := g.lost(since, now, l.reach.latest())
		r.changes = append(r.changes, c)
		if !charged {
			l.reach.lost(now)
			g.LastError, g.LastErrorAt = plain, now
			if g.waited.Equal(now) {
				g.probe = l.probes.place(g.probe, now)
			}
			r.offline, r.due, *v = true, g.probe, Verdict{Kind: Retry, Reason: plain}
			return r
		}
	} else {
		if isProof(o) {
			l.reach.note(now)
		}
		r.changes = append(r.changes, l.onlineLocked(now))
	}
	if v.Kind == Delivered {
		if d.Replay == 0 {
			l.seen.delay.add(now, max(now.Sub(time.UnixMilli(d.Event.At)), 0))
		} else {
			l.seen.delay.tick(now) // how old it was is no measure of anything
		}
		r.charged = true
		l.odd.well(d.Event.Type, o.At)
		r.changes = append(r.changes, l.livesLocked(now, true))
		return r
	}
	g.LastError, g.LastErrorAt = plain, now
	l.seen.failing.tick(now)
	r.charged, r.due = !f.probe, now.Add(v.Wait+jitter(p.Jitter))
	switch {
	case v.Kind == Gone:
		r.charged, r.note, r.pauses, r.due = false, true, true, now
		l.pauseLocked("the endpoint answered 410 Gone") // at once, for the other senders
		return r
	case v.Kind == Later:
		if !g.isSpared() && l.odd.fails(d.Event.Type, now, downAfter) {
			// It says so to this type alone: the others need not wait, nor go slower.
			if l.odd.times(d.Event.Type) == downAfter+1 {
				g.AtATime, g.PerSecond = 0, 0
			}
			r.due = now.Add(max(v.Hold, g.scheduled(len(p.Retry))))
		} else {
			r.changes = append(r.changes, g.asks(o.At, now, v.Hold))
			r.due = g.HeldUntil
		}
		if f.probe && g.isDown() {
			g.NextProbe = l.probes.place(latest(g.HeldUntil, now.Add(probeEvery)), now)
		}
		if now.Sub(d.Begun()) > p.MaxAge {
			r.charged, *v = true, Verdict{Kind: Failed, Reason: "not taken for longer than max_age (" + p.MaxAge.String() + "): " + plain}
			return r
		}
		// The next one is to be another: it may be this event that it has enough of.
		r.charged, r.note, r.aside = false, g.isWorthNoting(o.Status, now), f.first
		return r
	case v.Lives:
		r.changes = append(r.changes, l.livesLocked(now, false))
	case !g.isDown() && wasSent(o) && l.odd.fails(d.Event.Type, now, 1):
		// What it can't stand of one type says nothing of its health, whatever status it says it with.
	default:
		r.changes = append(r.changes, l.failsLocked(now, plain, &r))
	}
	if r.charged {
		return r
	}
	// A probe charges nobody. What refused one event alone does so again once the endpoint is up; else the delivery goes
	// behind all that waits, so that the next probe is another one.
	*v = Verdict{Kind: Retry, Lives: v.Lives, Reason: plain}
	r.aside, r.note = f.first && !v.Lives, g.isWorthNoting(o.Status, now)
	switch {
	case v.Lives:
		r.due = now
	case g.isDown():
		r.due = now.Add(slices.Max(append([]time.Duration{probeEvery}, p.Retry...)))
	default: // it was only out of reach, or something that went well beside it brought it back
		r.due = now.Add(g.scheduled(d.Attempts))
	}
	return r
}

func (l *Lane) onlineLocked(now time.Time) change {
	g := &l.gate
	if !g.ToldOffline.IsZero() {
		l.report(News{State: NewsOnline, At: now, Since: g.ToldOffline})
		g.ToldOffline = time.Time{}
	}
	return g.online()
}

func (l *Lane) livesLocked(now time.Time, well bool) change {
	g := &l.gate
	c := g.lives(now, well)
	if n, tell := l.damper.up(&g.Health, c == cameBack, now); tell {
		l.report(n)
	}
	if !g.ToldLimited.IsZero() {
		l.report(News{State: StateUp, At: now, Since: g.ToldLimited})
		g.ToldLimited = time.Time{}
	}
	return c
}

func (l *Lane) failsLocked(now time.Time, reason string, r *ruling) change {
	g := &l.gate
	c := g.fails(now)
	switch c {
	case wentDown:
		if n, tell := l.damper.down(&g.Health, reason, now); tell {
			l.report(n)
		}
	case stayedDown:
		r.pauses = true
		l.pauseLocked("nothing was delivered for " + g.policy.DisableAfter.String() + " (disable_after): " + reason)
	}
	if g.isDown() {
		g.NextProbe = l.probes.place(now.Add(probeEvery), now)
	}
	return c
}

// jitter is a random part of most.
func jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// count adds to what /metrics shows.
func (l *Lane) count(d *queue.Delivery, o *client.Outcome, r *ruling, now time.Time) {
	l.tally.note(o, !r.offline)
	if d.Attempts == 0 && d.Replay == 0 {
		l.tally.first(d.Event.At, o.At)
	}
	switch {
	case r.verdict.Kind == Delivered:
		if d.Replay == 0 {
			l.tally.latency.Add(int64(max(now.Sub(time.UnixMilli(d.Event.At)), 0)))
		}
	case r.verdict.Kind == Failed:
		l.tally.failed.Add(1)
		l.reportFailed(d.Event.ID, d.Event.Type, string(o.Class), r.verdict.Reason, 1)
	}
}

// landed ends a flight, and closes the connections of a former course once nothing is under way on them.
func (l *Lane) landed(d *queue.Delivery, f *flight, o *client.Outcome) {
	l.mu.Lock()
	l.gate.landed(f.probe)
	l.places.give(&l.stake, f.cost, o.Status != 0, l.now())
	l.start.ended(o)
	delete(l.under, d)
	f.course.under--
	over := f.course.former && f.course.under == 0
	l.mu.Unlock()
	if f.probe {
		l.probes.end(o.Took)
	}
	if over {
		f.course.client.Close()
	}
	l.attempts.Done()
}

// isSilent reports that nothing came of an attempt that may have left this machine.
func isSilent(o *client.Outcome) bool {
	return !o.Local && (o.Class == client.ClassConnectTimeout || o.Class == client.ClassTimeout && o.Status == 0 && o.Timing.FirstByte == 0)
}

// isProof reports that o could not have come about unless something beyond this machine answered. Silence, on a line that
// has just been cut as on any other, proves nothing; nor does what this machine itself says.
func isProof(o *client.Outcome) bool {
	if o.Local {
		return false
	}
	switch o.Class {
	case client.ClassConnectTimeout, client.ClassBlockedAddress, client.ClassDNS, client.ClassInternal:
		return false
	case client.ClassTimeout:
		return o.Status != 0 || o.Timing.FirstByte > 0
	}
	return true
}

func record(number int, o *client.Outcome) queue.Attempt {
	return queue.Attempt{
		Number: number, At: o.At, Took: o.Took,
		DNS: o.Timing.DNS, Connect: o.Timing.Connect, TLS: o.Timing.TLS, FirstByte: o.Timing.FirstByte,
		Status: o.Status, Class: string(o.Class), Error: o.Err, Excerpt: o.Excerpt,
	}
}
