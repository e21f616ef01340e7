package delivery

import (
	"time"

	"realtorbot-relay/queue"
)

// expire gives up what was held longer than MaxAge, a bounded number at a time. Only an endpoint that is down or paused
// holds deliveries; one that is merely slow still gets them all. Retries are held by a pause alone. What a replay has not
// taken up waits for its endpoint however long. It returns how many.
func (l *Lane) expire(now time.Time) (gone int) {
	l.mu.Lock()
	held, down := l.gate.held, l.gate.down
	l.mu.Unlock()
	why := "down"
	switch {
	case held == disabled:
		why = "disabled"
	case held != "":
		why = "paused"
	case !down:
		return 0
	}
	for ; gone < expireAtATime; gone++ {
		if d, _ := l.kept.Take(); d == nil || !l.expireOne(d, now, why) {
			break
		}
	}
	for ; held != "" && gone < expireAtATime; gone++ {
		if d, _ := l.kept.TakeDue(now); d == nil || !l.expireOne(d, now, why) {
			break
		}
	}
	return gone
}

const expireAtATime = 500

// expireOne gives the delivery up if it is too old, else puts it back.
func (l *Lane) expireOne(d *queue.Delivery, now time.Time, why string) bool {
	if now.Sub(d.Begun()) <= l.endpoint.Delivery.MaxAge {
		l.kept.Release(d, now)
		return false
	}
	reason := "held longer than max_age (" + l.endpoint.Delivery.MaxAge.String() + ") while the endpoint was " + why
	l.kept.Failed(d, nil, reason)
	l.tally.failed.Add(1)
	l.reportFailed(d.Event.ID, d.Event.Type, "expired", reason)
	l.log.Error().Bytes("event", d.Event.ID).Bytes("type", d.Event.Type).Str("class", "expired").Str("reason", reason).Msg("delivery failed for good")
	return true
}
