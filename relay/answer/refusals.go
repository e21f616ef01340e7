package answer

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// The reasons why a connection is refused, a closed set.
const (
	RefusedAddress = "address" // its address has as many as one may have: behind a proxy, everybody is one
	RefusedFull    = "full"    // there are as many as there may be
	RefusedPace    = "pace"    // its address begins more a second, on which it asks nothing, than one may
	RefusedProxy   = "proxy"   // a proxy began it without the PROXY protocol
)

// refusedSaid is what a line says of each.
var refusedSaid = map[string]string{
	RefusedAddress: "connections refused: one address has as many as one may have; if that is a proxy, name it in server.trusted_proxies",
	RefusedFull:    "connections refused: there are as many as there may be",
	RefusedPace:    "connections refused: one address begins too many a second on which it asks nothing; if that is a proxy, name it in server.trusted_proxies",
	RefusedProxy:   "connections refused: server.proxy_protocol asks trusted_proxies for the PROXY protocol, and this one began without",
}

// Refusals counts the connections to a listener that got no place, and tells of them. Safe for concurrent use.
type Refusals struct{ of map[string]*refusal }

type refusal struct {
	count atomic.Uint64
	log   zerolog.Logger
}

// toldEvery is how often a line tells of connections that were refused for one reason: a flood of them must not become one of
// lines.
const toldEvery = time.Minute

// NewRefusals makes the count of a listener, named as the configuration does: intake or admin.
func NewRefusals(listener string, log zerolog.Logger) *Refusals {
	log = log.With().Str("listener", listener).Logger()
	r := &Refusals{map[string]*refusal{}}
	for why := range refusedSaid {
		r.of[why] = &refusal{log: log.Sample(&zerolog.BurstSampler{Burst: 1, Period: toldEvery})}
	}
	return r
}

// Counts are how many were refused since the start, by reason.
func (r *Refusals) Counts() map[string]uint64 {
	counts := map[string]uint64{}
	for why, one := range r.of {
		counts[why] = one.count.Load()
	}
	return counts
}

// note counts one; nil counts nothing.
func (r *Refusals) note(why string, from netip.Addr) {
	if r == nil {
		return
	}
	one := r.of[why]
	n := one.count.Add(1)
	From(one.log.Warn().Uint64("refused", n), from).Msg(refusedSaid[why])
}
