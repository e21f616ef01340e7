package answer

import (
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// freely is how many times the pace of one address all together may have before anybody's own is looked at.
	freely = 8
	// freelyFor and ownFor are for how long of that more may come at once: after a restart all clients do.
	freelyFor = 2 * time.Second
	ownFor    = time.Second
)

// pace bounds how many connections are begun a second. What an address begins is written down as a time: that until which
// what it took comes back, a step each. Its zero value bounds nothing. It is used by one goroutine at a time.
//
// golang.org/x/time/rate takes nothing back but at once, and a connection gives its leave back when a request on it is answered.
type pace struct {
	step  time.Duration // 0 for no bound
	all   time.Time
	each  map[netip.Addr]time.Time
	swept time.Time
}

func newPace(perSecond int) pace {
	if perSecond <= 0 {
		return pace{}
	}
	return pace{step: time.Second / time.Duration(perSecond), each: map[netip.Addr]time.Time{}}
}

// begin takes leave for an address to begin a connection. While all together begin few, everybody has it.
func (p *pace) begin(address netip.Addr, now time.Time) bool {
	if p.step == 0 || !address.IsValid() {
		return true
	}
	p.sweep(now)
	all, own := max(p.all.Sub(now), 0)+p.step/freely, max(p.each[address].Sub(now), 0)+p.step
	if all > freelyFor && own > ownFor {
		return false
	}
	// Nobody owes more than that, so that nobody pays for longer.
	p.all, p.each[address] = now.Add(min(all, freelyFor)), now.Add(min(own, ownFor))
	return true
}

// giveBack takes it that a connection has not been begun.
func (p *pace) giveBack(address netip.Addr) {
	if until, ok := p.each[address]; ok {
		p.all, p.each[address] = p.all.Add(-p.step/freely), until.Add(-p.step)
	}
}

// sweep forgets, once a while, the addresses that owe nothing.
func (p *pace) sweep(now time.Time) {
	if now.Sub(p.swept) < ownFor {
		return
	}
	p.swept = now
	for address, until := range p.each {
		if !until.After(now) {
			delete(p.each, address)
		}
	}
}

// answered tells that a request on a connection is answered: those don't count among what their address begins. What they cost is
// bounded elsewhere, and who asks is not one of those that only take places. A connection that was reset asked nothing.
func answered(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(*counted); ok && c.paced.IsValid() {
		c.at.mu.Lock()
		c.at.pace.giveBack(c.paced)
		c.at.mu.Unlock()
		c.paced = netip.Addr{}
	}
}
