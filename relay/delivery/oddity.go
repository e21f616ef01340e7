package delivery

import (
	"time"

	"realtorbot-relay/relay/delivery/client"
)

// oddities remembers the event types that fail while others go well: what a receiver can't stand of one type says nothing of
// its health. It is its lane's to lock, and begins anew with the process.
type oddities struct {
	types map[string]oddity
	proof time.Time // when the latest attempt that went well began, of any type
}

// oddity is how a type has fared since one of it went well.
type oddity struct {
	since time.Time // it failed for the first time
	times int       // and so often
}

const (
	// maxOddities bounds the types that are remembered.
	maxOddities = 64
	// oddityProof is for how long it counts that another type went well.
	oddityProof = 10 * time.Minute
)

// well notes that an event of the type went well, by an attempt that began at.
func (o *oddities) well(eventType []byte, at time.Time) {
	o.proof = latest(o.proof, at)
	if len(o.types) > 0 {
		delete(o.types, string(eventType))
	}
}

// fails notes that one failed, and reports whether the type has failed more than so many times and alone: an attempt of
// another type that began since then went well, and lately.
func (o *oddities) fails(eventType []byte, now time.Time, times int) (alone bool) {
	one, known := o.types[string(eventType)]
	if !known {
		one.since = now
	}
	one.times++
	if o.types == nil {
		o.types = map[string]oddity{}
	}
	if known || len(o.types) < maxOddities {
		o.types[string(eventType)] = one
	}
	return one.times > times && !o.proof.Before(one.since) && now.Sub(o.proof) < oddityProof
}

// times is how often one failed since one of it went well.
func (o *oddities) times(eventType []byte) int { return o.types[string(eventType)].times }

// wasSent reports whether an attempt that failed got so far that its event may be why.
func wasSent(o *client.Outcome) bool {
	switch o.Class {
	case client.ClassStatus, client.ClassReset, client.ClassBadResponse, client.ClassTimeout:
		return true
	}
	return false
}
