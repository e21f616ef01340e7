package delivery

import (
	"time"

	"realtorbot-relay/queue"
)

// flapDetector decides which transitions between down and up are reported: an endpoint that goes down again and again is reported
// as flapping, and not each time. What was reported is kept in the health that it is given, and outlives a restart. It belongs to
// its lane, under the lane's lock.
type flapDetector struct {
	downs     []time.Time // when the endpoint went down, the latest times
	changedAt time.Time   // when it went down or up last
}

const (
	// An endpoint that went down flapDowns times within flapWithin is flapping, until nothing has changed for steadyAfter.
	flapDowns   = 3
	flapWithin  = 30 * time.Minute
	steadyAfter = 15 * time.Minute
)

// down notes that the endpoint went down. report is false when there is nothing to report.
func (f *flapDetector) down(h *queue.Health, reason string, now time.Time) (n Transition, report bool) {
	f.changedAt = now
	if !h.Flapping.IsZero() {
		h.Changes++
		return n, false
	}
	if f.downs = append(f.downs, now); len(f.downs) > flapDowns {
		f.downs = f.downs[1:]
	}
	if len(f.downs) == flapDowns && now.Sub(f.downs[0]) <= flapWithin {
		h.Flapping, h.Changes, h.ToldDown = f.downs[0], flapDowns, time.Time{}
		return Transition{State: TransitionFlapping, Reason: reason, At: now, Since: h.Flapping, Count: h.Changes}, true
	}
	if !h.ToldDown.IsZero() {
		return n, false
	}
	h.ToldDown = now
	return Transition{State: StateDown, Reason: reason, At: now}, true
}

// up notes that the endpoint is not down; back is set when it was down until now. An endpoint that was reported as down may have
// been resumed since.
func (f *flapDetector) up(h *queue.Health, back bool, now time.Time) (n Transition, report bool) {
	if back {
		f.changedAt = now
	}
	if h.ToldDown.IsZero() {
		return n, false
	}
	n = Transition{State: StateUp, At: now, Since: h.ToldDown}
	h.ToldDown = time.Time{}
	return n, true
}

// steady checks whether a flapping endpoint has kept one state for long enough.
func (f *flapDetector) steady(h *queue.Health, now time.Time) (n Transition, report bool) {
	if h.Flapping.IsZero() {
		return n, false
	}
	if f.changedAt.IsZero() {
		f.changedAt = now // after a restart
	}
	if now.Sub(f.changedAt) < steadyAfter {
		return n, false
	}
	n = Transition{State: TransitionSteady, At: now, Since: h.Flapping, Count: h.Changes}
	if !h.Down.IsZero() {
		n.Reason, h.ToldDown = h.LastError, h.Down
	}
	h.Flapping, h.Changes, f.downs = time.Time{}, 0, nil
	return n, true
}
