package delivery

import (
	"slices"
	"time"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// settle records the outcome, first in the lane's own state and then in the queue. It waits for the disk only to save a pause.
func (l *Lane) settle(d *queue.Delivery, f *flight, number int, o client.Outcome) {
	now, age := l.now(), d.Age()
	defer l.ended(d, f, &o) // after the queue knows
	if o.Aborted {
		l.queueLane.Release(d, d.Due)
		return
	}
	l.mu.Lock()
	l.stats.attempts++
	l.stats.took.time(now, o.Took)
	down := l.gate.Down
	r := l.judgeLocked(d, age, f, number, &o, now)
	if slices.Contains(r.effects, cameBack) && now.Sub(down) >= probeEvery {
		// No probe has ended a shorter time down, but an attempt that was under way: retries wait as the schedule says, not because
		// of an outage. They may have been charged an attempt a moment ago.
		l.bringForwardLocked(now)
	}
	l.saveHealthLocked()
	l.mu.Unlock()
	l.count(d, age, &o, &r)
	l.logEffects(r.effects, r.verdict.Reason)

	attempt := attemptRecord(number, &o)
	switch {
	case r.verdict.Kind == Delivered:
		l.queueLane.Delivered(d, &attempt)
	case !r.charged && r.toBack:
		d.Attempts-- // Retry adds one, and this attempt is not charged
		l.queueLane.Retry(d, &attempt, r.due)
	case !r.charged:
		if r.record {
			l.queueLane.Note(d, &attempt)
		}
		l.queueLane.Release(d, r.due)
	case r.verdict.Kind == Failed:
		l.queueLane.Failed(d, &attempt, r.verdict.Reason)
	default:
		l.queueLane.Retry(d, &attempt, r.due)
	}
	if r.pauses {
		if err := l.savePause(); err != nil {
			l.log.Error().Err(err).Msg("the pause could not be saved")
		}
	}
	l.logVerdict(d, number, &o, &r)
}

// count adds to what /metrics shows.
func (l *Lane) count(d *queue.Delivery, age time.Duration, o *client.Outcome, r *decision) {
	l.tally.attempted(o, r.offline)
	if d.Attempts == 0 && d.Replay == 0 {
		l.tally.firstAttempt(age - o.Took)
	}
	switch {
	case r.verdict.Kind == Delivered:
		if d.Replay == 0 {
			l.tally.latency.Add(int64(max(age, 0)))
		}
	case r.verdict.Kind == Failed:
		l.tally.failed.Add(1)
		l.reportFailed(d.Event.ID, d.Event.Type, string(o.Class), r.verdict.Reason, 1)
	}
}

// ended ends a flight, and closes the client of a replaced generation after its last attempt.
func (l *Lane) ended(d *queue.Delivery, f *flight, o *client.Outcome) {
	l.mu.Lock()
	l.gate.end(f.probe)
	l.budget.end(&l.share, f.cost, o.Status != 0, l.now())
	l.silence.ended(o)
	delete(l.inFlight, d)
	f.generation.inFlight--
	over := f.generation.replaced && f.generation.inFlight == 0
	l.mu.Unlock()
	if f.probe {
		l.probes.end(o.Took)
	}
	if over {
		f.generation.client.Close()
	}
	l.attemptsEnded.Done()
}

func attemptRecord(number int, o *client.Outcome) queue.Attempt {
	return queue.Attempt{
		Number: number, At: o.At, Took: o.Took,
		DNS: o.Timing.DNS, Connect: o.Timing.Connect, TLS: o.Timing.TLS, FirstByte: o.Timing.FirstByte,
		Status: o.Status, Class: string(o.Class), Error: o.Err, Excerpt: o.Excerpt,
	}
}
