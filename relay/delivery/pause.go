package delivery

import (
	"errors"
	"time"
)

// Pause holds all deliveries until Resume, also across a restart. It takes effect at once, and then writes to disk; an error says
// that the pause is not on disk.
func (l *Lane) Pause(reason string) error {
	l.mu.Lock()
	l.pauseLocked(reason)
	l.mu.Unlock()
	return l.savePause()
}

// pauseLocked holds all deliveries at once. The caller calls savePause after it.
func (l *Lane) pauseLocked(reason string) {
	now := l.now()
	if l.gate.pauseReason == "" {
		l.gate.Paused = now
		l.report(Transition{State: StatePaused, Reason: reason, At: now})
	}
	l.gate.pauseReason = reason
	l.saveHealthLocked()
}

// ErrDisabled: only the configuration can enable the endpoint again.
var ErrDisabled = errors.New("the endpoint is disabled in the configuration")

// Resume ends a pause, also of an endpoint that is disabled, which stays so. It also forgets that the endpoint was down or asked to
// wait, and makes its retries due, so that all that waits is attempted now. It takes effect at once, and then writes to disk; an
// error says that the change is not on disk or, as ErrDisabled, that there was no pause to end.
func (l *Lane) Resume() error {
	l.mu.Lock()
	wasPaused := l.gate.pauseReason != ""
	if l.gate.disabled && !wasPaused {
		l.mu.Unlock()
		return ErrDisabled
	}
	if wasPaused {
		l.report(Transition{State: TransitionResumed, At: l.now(), Since: l.gate.Paused})
	}
	l.gate.pauseReason, l.gate.Paused = "", time.Time{}
	l.bringForwardLocked(l.now())
	l.resetLocked()
	l.noWake.Store(false)
	l.mu.Unlock()
	l.wakeSender()
	return l.savePause()
}

// resetLocked forgets what is known of the endpoint's health, and brings forward what waits only because the endpoint was down.
func (l *Lane) resetLocked() {
	if l.gate.isDown() {
		l.bringForwardLocked(l.now())
	}
	l.gate.reset()
	l.poison = poisonTypes{}
	l.saveHealthLocked()
}

// savePause writes to disk whether the lane is paused. If somebody changed that meanwhile it writes again, so that memory and disk
// agree in the end, whoever pauses and resumes at the same time. The lane decides; the queue only saves it.
func (l *Lane) savePause() error {
	for {
		reason := l.pauseReason()
		if err := l.queueLane.Pause(reason); err != nil {
			return err
		}
		if l.pauseReason() == reason {
			return nil
		}
	}
}

// IsPaused reports whether all deliveries are held until Resume. It reads memory.
func (l *Lane) IsPaused() bool { return l.pauseReason() != "" }

func (l *Lane) pauseReason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gate.pauseReason
}
