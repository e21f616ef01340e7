package delivery

import "time"

// retryInFlightLocked reports whether a retry is under way, or may be about to be, since a sender asks the queue.
func (l *Lane) retryInFlightLocked() bool {
	if !l.askingSince.IsZero() {
		return true
	}
	for _, f := range l.inFlight {
		if !f.first {
			return true
		}
	}
	return false
}

// bringForwardLocked makes all retries due now, since the endpoint is back. After a restart the lane does so again, as long as some
// of them were not attempted.
func (l *Lane) bringForwardLocked(now time.Time) {
	l.gate.Hastened = now
	l.queueLane.Hasten(now)
}
