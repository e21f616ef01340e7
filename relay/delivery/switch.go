package delivery

import (
	"errors"
	"time"
)

// Pause holds all deliveries until Resume, also across a restart. They are held from now on; an error says that this is not
// on disk.
func (l *Lane) Pause(reason string) error {
	l.mu.Lock()
	l.pauseLocked(reason)
	l.mu.Unlock()
	return l.savePause()
}

// pauseLocked holds all deliveries at once. savePause is to follow.
func (l *Lane) pauseLocked(reason string) {
	now := l.now()
	if l.gate.paused == "" {
		l.gate.Paused = now
		l.report(News{State: StatePaused, Reason: reason, At: now})
	}
	l.gate.paused = reason
	l.keepHealthLocked()
}

// ErrDisabled: only the configuration can enable the endpoint again.
var ErrDisabled = errors.New("the endpoint is disabled in the configuration")

// Resume ends a pause. It also forgets that the endpoint was down or asked to be left alone, so that all that waits is
// attempted now. An error says that this is not on disk, or, ErrDisabled, that nothing was changed.
func (l *Lane) Resume() error {
	l.mu.Lock()
	if l.gate.disabled {
		l.mu.Unlock()
		return ErrDisabled
	}
	l.gate.paused, l.gate.Paused = "", time.Time{}
	l.beginAnewLocked()
	l.deaf.Store(false)
	l.mu.Unlock()
	l.poke()
	return l.savePause()
}

// beginAnewLocked has the endpoint begin anew, with what waits only because it was down.
func (l *Lane) beginAnewLocked() {
	if l.gate.isDown() {
		l.hastenLocked(l.now())
	}
	l.gate.forget()
	l.odd = oddities{}
	l.keepHealthLocked()
}

// hastenLocked brings forward what waits to be retried, since the endpoint is back: now, and again after a restart as long
// as some of it was not attempted.
func (l *Lane) hastenLocked(now time.Time) {
	l.gate.Hastened = now
	l.kept.Hasten(now)
}

// savePause brings to disk whether the lane is paused: what it is now, if somebody changed it meanwhile, so that memory and
// disk agree in the end whoever pauses and resumes at once. The lane's own word is what holds; the queue only keeps it.
func (l *Lane) savePause() error {
	for {
		reason := l.pauseReason()
		if err := l.kept.Pause(reason); err != nil {
			return err
		}
		if l.pauseReason() == reason {
			return nil
		}
	}
}

func (l *Lane) pauseReason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gate.paused
}
