package delivery

import (
	"sync/atomic"
	"time"

	"realtorbot-relay/relay/delivery/client"
)

// network knows when any endpoint was last reached, and since when this machine has had no network. Safe for concurrent use.
type network struct {
	reachedAt    atomic.Pointer[time.Time]
	offlineSince atomic.Pointer[time.Time] // nil while there is a network
}

// noteReached is called when an attempt shows that there is a network.
func (n *network) noteReached(now time.Time) {
	n.reachedAt.Store(&now)
	if n.offlineSince.Load() != nil {
		n.offlineSince.Store(nil)
	}
}

// noteOffline is called when an attempt found no network.
func (n *network) noteOffline(now time.Time) { n.offlineSince.CompareAndSwap(nil, &now) }

// silenceCounts reports whether an attempt that began at at and got no answer says something about its endpoint. While there is no
// network it does not, if it may have used a connection from before: an attempt with a new connection fails at once instead. since
// is since when there has been no network.
func (n *network) silenceCounts(at time.Time) (since time.Time, counts bool) {
	offline := n.offlineSince.Load()
	if offline == nil || at.Sub(*offline) > client.IdleTimeout {
		return time.Time{}, true
	}
	return *offline, false
}

// lastReached returns when any endpoint was last reached, zero before the first time.
func (n *network) lastReached() time.Time {
	if at := n.reachedAt.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// isSilent reports whether an attempt that may have left this machine got no answer.
func isSilent(o *client.Outcome) bool {
	return !o.Local && (o.Class == client.ClassConnectTimeout || o.Class == client.ClassTimeout && o.Status == 0 && o.Timing.FirstByte == 0)
}

// provesNetwork reports whether something beyond this machine must have answered for this outcome. Silence proves nothing, since the
// line may just have been cut; nor does an error of this machine itself.
func provesNetwork(o *client.Outcome) bool {
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
