package delivery

import (
	"time"

	"realtorbot-relay/relay/delivery/client"
)

// poisonTypes remembers the event types that fail while others succeed: that a receiver can't process one type says nothing about its
// health. It belongs to its lane, under the lane's lock, and begins anew with the process.
type poisonTypes struct {
	types       map[string]poisonType
	lastSuccess time.Time // when the latest attempt began that succeeded, of any type
}

// poisonType counts the failures of a type since one of it succeeded.
type poisonType struct {
	firstFailed time.Time // when it failed for the first time
	failures    int
}

const (
	// maxPoisonTypes bounds the types that are remembered.
	maxPoisonTypes = 64
	// poisonProof is for how long a success of another type counts.
	poisonProof = 10 * time.Minute
)

// succeeded notes that an event of the type succeeded, by an attempt that began at at.
func (p *poisonTypes) succeeded(eventType []byte, at time.Time) {
	p.lastSuccess = latest(p.lastSuccess, at)
	if len(p.types) > 0 {
		delete(p.types, string(eventType))
	}
}

// failed notes that an event of the type failed. It reports whether the type failed alone, and more than times times: an attempt of
// another type that began since the first of these failures succeeded, and lately.
func (p *poisonTypes) failed(eventType []byte, now time.Time, times int) (alone bool) {
	one, known := p.types[string(eventType)]
	if !known {
		one.firstFailed = now
	}
	one.failures++
	if p.types == nil {
		p.types = map[string]poisonType{}
	}
	if known || len(p.types) < maxPoisonTypes {
		p.types[string(eventType)] = one
	}
	return one.failures > times && !p.lastSuccess.Before(one.firstFailed) && now.Sub(p.lastSuccess) < poisonProof
}

// failures is how often the type failed since one of it succeeded.
func (p *poisonTypes) failures(eventType []byte) int { return p.types[string(eventType)].failures }

// wasSent reports whether an attempt that failed got so far that its event may be the cause.
func wasSent(o *client.Outcome) bool {
	switch o.Class {
	case client.ClassStatus, client.ClassReset, client.ClassBadResponse, client.ClassTimeout:
		return true
	}
	return false
}
