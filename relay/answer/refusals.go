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
	RefusedProxy   = "proxy"   // a proxy began it without the PROXY protocol
)

// Refusals counts the connections to a listener that got no place, and tells of them. Safe for concurrent use.
type Refusals struct {
	address, full, proxy atomic.Uint64
	log                  zerolog.Logger
}

// toldEvery is how often a line tells of refused connections: a flood of them must not become one of lines.
const toldEvery = 10 * time.Second

// NewRefusals makes the count of a listener, named as the configuration does: intake or admin.
func NewRefusals(listener string, log zerolog.Logger) *Refusals {
	return &Refusals{log: log.With().Str("listener", listener).Logger().Sample(&zerolog.BurstSampler{Burst: 1, Period: toldEvery})}
}

// Counts are how many were refused since the start, by reason.
func (r *Refusals) Counts() map[string]uint64 {
	return map[string]uint64{RefusedAddress: r.address.Load(), RefusedFull: r.full.Load(), RefusedProxy: r.proxy.Load()}
}

// note counts one; nil counts nothing.
func (r *Refusals) note(why string, from netip.Addr) {
	if r == nil {
		return
	}
	count, said := &r.full, "connections refused: there are as many as there may be"
	switch why {
	case RefusedAddress:
		count, said = &r.address, "connections refused: one address has as many as one may have; if that is a proxy, name it in server.trusted_proxies"
	case RefusedProxy:
		count, said = &r.proxy, "connections refused: server.proxy_protocol asks trusted_proxies for the PROXY protocol, and this one began without"
	}
	n := count.Add(1)
	From(r.log.Warn().Uint64("refused", n), from).Msg(said)
}
