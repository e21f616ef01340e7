package delivery

import (
	"time"

	"realtorbot-relay/queue"
)

// damper decides what of an endpoint's going down and coming back is told, so that one that bounces is told to be flapping
// and not each time. What was told is in the health that it is given and outlives a restart.
type damper struct {
	downs []time.Time // the latest
	last  time.Time   // when it changed last
}

const (
	// An endpoint that went down flapDowns times within flapWithin is flapping, until nothing has changed for steadyAfter.
	flapDowns   = 3
	flapWithin  = 30 * time.Minute
	steadyAfter = 15 * time.Minute
	// ToldAfter is how long it lasts until it is told that an endpoint is limited, or can't be reached from here.
	ToldAfter = 10 * time.Minute
)

// down notes that the endpoint went down. tell is false when there is nothing to tell.
func (b *damper) down(h *queue.Health, reason string, now time.Time) (n News, tell bool) {
	b.last = now
	if !h.Flapping.IsZero() {
		h.Changes++
		return n, false
	}
	if b.downs = append(b.downs, now); len(b.downs) > flapDowns {
		b.downs = b.downs[1:]
	}
	if len(b.downs) == flapDowns && now.Sub(b.downs[0]) <= flapWithin {
		h.Flapping, h.Changes, h.ToldDown = b.downs[0], flapDowns, time.Time{}
		return News{State: NewsFlapping, Reason: reason, At: now, Since: h.Flapping, Count: h.Changes}, true
	}
	if !h.ToldDown.IsZero() {
		return n, false
	}
	h.ToldDown = now
	return News{State: StateDown, Reason: reason, At: now}, true
}

// up notes that the endpoint is not down; back tells that it was until now. It may have been told to be down and have been
// resumed since.
func (b *damper) up(h *queue.Health, back bool, now time.Time) (n News, tell bool) {
	if back {
		b.last = now
	}
	if h.ToldDown.IsZero() {
		return n, false
	}
	n = News{State: StateUp, At: now, Since: h.ToldDown}
	h.ToldDown = time.Time{}
	return n, true
}

// steady looks whether a flapping endpoint has kept to one state for long enough.
func (b *damper) steady(h *queue.Health, now time.Time) (n News, tell bool) {
	if h.Flapping.IsZero() {
		return n, false
	}
	if b.last.IsZero() {
		b.last = now // after a restart
	}
	if now.Sub(b.last) < steadyAfter {
		return n, false
	}
	n = News{State: NewsSteady, At: now, Since: h.Flapping, Count: h.Changes}
	if !h.Down.IsZero() {
		n.Reason, h.ToldDown = h.LastError, h.Down
	}
	h.Flapping, h.Changes, b.downs = time.Time{}, 0, nil
	return n, true
}
