package admin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"realtorbot-relay/relay/answer"
)

// admit checks the credential, Host and Origin. A browser that signed in has a session for a token.
func (a *Admin) admit(ctx *fasthttp.RequestCtx) bool {
	if isTrusted(ctx) {
		return true
	}
	if !a.Token.IsZero() && !a.signedIn(ctx) && !a.known(ctx) {
		return false
	}
	return !a.foreign(ctx)
}

// signedIn reports whether the request comes from a page with a session.
func (a *Admin) signedIn(ctx *fasthttp.RequestCtx) bool {
	return len(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)) == 0 && a.sessions.find(ctx, time.Now())
}

// foreign refuses what a page of somebody else asks for. Without a token the listener is on loopback or a unix socket; then
// a page in the operator's browser must not reach it under a name of its own (DNS rebinding), so only addresses and
// localhost pass as Host. Whatever changes something refuses a foreign Origin in any case.
func (a *Admin) foreign(ctx *fasthttp.RequestCtx) bool {
	if a.Token.IsZero() && !ownHost(string(ctx.Host())) {
		answer.Error(ctx, 403, "foreign_host", "without admin.token this listener answers to its address or localhost only: set one to reach it by a name")
		return true
	}
	origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
	if origin != "" && !ctx.IsGet() && !ctx.IsHead() {
		if _, host, ok := strings.Cut(origin, "://"); !ok || host != string(ctx.Host()) {
			answer.Error(ctx, 403, "foreign_origin", fmt.Sprintf("changes are refused to pages of other origins: this one is of %.128q, and the relay was asked as %.128q; "+
				"if a proxy stands between, have it pass on the Host header as it came", origin, ctx.Host()))
			return true
		}
	}
	return false
}

// known checks the token. It is looked at before anything else is: whoever has it is answered at once, whatever others
// present at the same time, from that address or from anywhere.
func (a *Admin) known(ctx *fasthttp.RequestCtx) bool {
	presented, ok := answer.Bearer(&ctx.Request.Header)
	if ok && a.Token.Admits(presented) {
		return true
	}
	ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
	a.strange(ctx, ok, "admin request refused: token is missing or wrong", "this listener asks for \"Authorization: Bearer\" with admin.token")
	return false
}

// strange answers a request whose token is wrong or, which is no guess, missing.
func (a *Admin) strange(ctx *fasthttp.RequestCtx, guess bool, line, message string) {
	if a.strikes.mayLog() {
		answer.From(a.Log.Warn(), answer.Client(ctx)).Msg(line)
	}
	if guess && !a.strikes.serve(answer.Group(answer.Client(ctx))) {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "2")
		answer.Error(ctx, 429, "too_many_requests", "too many wrong tokens are presented, this one among them; the right one is answered at any time")
		return
	}
	answer.Error(ctx, 401, "unauthorized", message)
}

func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || host == ""
}

const (
	freeStrikes = 5                      // wrong tokens that are answered at once
	firstWait   = 100 * time.Millisecond // of the next one; it doubles
	longestWait = 2 * time.Second
	forgetAfter = 10 * time.Minute // without a wrong token
	mostStruck  = 1024             // addresses that are remembered
	// mostWaiting wrong tokens wait at a time: fewer than the connections that one address may have, however few
	// descriptors there are, so that they never take the place of the right one.
	mostWaiting = 4
	// guesses a second, over all addresses, are dealt with one by one; before, guessBurst of them at once.
	guesses    = 5
	guessBurst = 25
)

// slowdown is how long the answer to the nth wrong token of an address waits.
func slowdown(n int) time.Duration {
	if n <= freeStrikes {
		return 0
	}
	return min(firstWait<<min(n-freeStrikes-1, 16), longestWait)
}

// strikes remembers who presented wrong tokens of late, and bounds what all of them together cost. It knows nothing of right
// ones: behind a proxy all have one address, and one's success is not another's. Its zero value is ready for use, by any
// number of goroutines.
type strikes struct {
	mu      sync.Mutex
	of      map[netip.Addr]strike
	waiting int
	ceiling *rate.Limiter
	door    zerolog.BurstSampler
	now     func() time.Time    // nil: time.Now
	sleep   func(time.Duration) // nil: time.Sleep
}

type strike struct {
	count int
	last  time.Time
}

func (s *strikes) clock() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}

// serve counts a wrong token and has its sender wait: longer with each of its own. Beyond what is dealt with at a time, over
// all addresses, it returns false at once.
func (s *strikes) serve(from netip.Addr) bool {
	s.mu.Lock()
	now := s.clock()
	if s.of == nil {
		s.of, s.ceiling = map[netip.Addr]strike{}, rate.NewLimiter(guesses, guessBurst)
	}
	it := s.of[from]
	if now.Sub(it.last) > forgetAfter {
		it.count = 0
	}
	if _, there := s.of[from]; !there && len(s.of) >= mostStruck {
		s.makeRoomLocked()
	}
	it.count, it.last = it.count+1, now
	s.of[from] = it
	wait := slowdown(it.count)
	if !s.ceiling.AllowN(now, 1) || wait > 0 && s.waiting >= mostWaiting {
		s.mu.Unlock()
		return false
	}
	if wait == 0 {
		s.mu.Unlock()
		return true
	}
	s.waiting++
	sleep := s.sleep
	s.mu.Unlock()
	if sleep == nil {
		sleep = time.Sleep
	}
	sleep(wait)
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	return true
}

// makeRoomLocked forgets the address whose last wrong token is the oldest.
func (s *strikes) makeRoomLocked() {
	var oldest netip.Addr
	var last time.Time
	for address, it := range s.of {
		if last.IsZero() || it.last.Before(last) {
			oldest, last = address, it.last
		}
	}
	delete(s.of, oldest)
}

// mayLog keeps strangers from filling the log.
func (s *strikes) mayLog() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.door.Burst, s.door.Period = 5, time.Second
	return s.door.Sample(zerolog.WarnLevel)
}
