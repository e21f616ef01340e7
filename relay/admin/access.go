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
	if !a.Token.IsZero() && !a.signedIn(ctx) && !a.hasToken(ctx) {
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

// hasToken checks the token, before anything else: a client that has it is answered at once, whatever others present at the same
// time, from the same address or any other.
func (a *Admin) hasToken(ctx *fasthttp.RequestCtx) bool {
	presented, ok := answer.Bearer(&ctx.Request.Header)
	if ok && a.Token.Admits(presented) {
		return true
	}
	ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
	a.refuseToken(ctx, ok, "admin request refused: token is missing or wrong", "this listener asks for \"Authorization: Bearer\" with admin.token")
	return false
}

// refuseToken answers a request whose token is wrong or missing; guess says that it is wrong.
func (a *Admin) refuseToken(ctx *fasthttp.RequestCtx, guess bool, line, message string) {
	if a.wrongTokens.mayLog() {
		answer.From(a.Log.Warn(), answer.Client(ctx)).Msg(line)
	}
	if guess {
		ctx.SetConnectionClose() // so that each costs its client a connection
	}
	if guess && !a.wrongTokens.delay(answer.Group(answer.Client(ctx))) {
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
	freeGuesses  = 5                      // wrong tokens that are answered at once
	firstWait    = 100 * time.Millisecond // of the next one; it doubles
	longestWait  = 2 * time.Second
	forgetAfter  = 10 * time.Minute // without a wrong token
	maxAddresses = 1024             // addresses that are remembered
	// mostWaiting wrong tokens wait at a time: fewer than the connections that one address may have, however few
	// descriptors there are, so that they never take the place of the right one.
	maxGuessesWaiting = 4
	// guesses a second, over all addresses, are dealt with one by one; before, guessBurst of them at once.
	guesses    = 5
	guessBurst = 25
)

// slowdown is how long the answer to the nth wrong token of an address waits.
func slowdown(n int) time.Duration {
	if n <= freeGuesses {
		return 0
	}
	return min(firstWait<<min(n-freeGuesses-1, 16), longestWait)
}

// wrongTokens remembers which addresses presented wrong tokens lately, and bounds what all of these requests together cost. It does
// not know about right tokens: behind a proxy all clients have one address, and the success of one says nothing of another. Its zero
// value is ready. Safe for concurrent use.
type wrongTokens struct {
	mu         sync.Mutex
	byAddress  map[netip.Addr]wrongToken
	waiting    int
	ceiling    *rate.Limiter
	logSampler zerolog.BurstSampler
	now        func() time.Time    // nil: time.Now
	sleep      func(time.Duration) // nil: time.Sleep
}

type wrongToken struct {
	count int
	last  time.Time
}

func (w *wrongTokens) clock() time.Time {
	if w.now != nil {
		return w.now()
	}
	return time.Now()
}

// delay counts a wrong token and blocks for as long as its sender has to wait: up to 2 s, longer with each wrong token of that
// address. It holds no lock meanwhile. Beyond what is handled at a time, over all addresses, it returns false at once.
func (w *wrongTokens) delay(from netip.Addr) bool {
	w.mu.Lock()
	now := w.clock()
	if w.byAddress == nil {
		w.byAddress, w.ceiling = map[netip.Addr]wrongToken{}, rate.NewLimiter(guesses, guessBurst)
	}
	it := w.byAddress[from]
	if now.Sub(it.last) > forgetAfter {
		it.count = 0
	}
	if _, there := w.byAddress[from]; !there && len(w.byAddress) >= maxAddresses {
		w.makeRoomLocked()
	}
	it.count, it.last = it.count+1, now
	w.byAddress[from] = it
	wait := slowdown(it.count)
	if !w.ceiling.AllowN(now, 1) || wait > 0 && w.waiting >= maxGuessesWaiting {
		w.mu.Unlock()
		return false
	}
	if wait == 0 {
		w.mu.Unlock()
		return true
	}
	w.waiting++
	sleep := w.sleep
	w.mu.Unlock()
	if sleep == nil {
		sleep = time.Sleep
	}
	sleep(wait)
	w.mu.Lock()
	w.waiting--
	w.mu.Unlock()
	return true
}

// makeRoomLocked forgets the address whose last wrong token is the oldest.
func (w *wrongTokens) makeRoomLocked() {
	var oldest netip.Addr
	var last time.Time
	for address, it := range w.byAddress {
		if last.IsZero() || it.last.Before(last) {
			oldest, last = address, it.last
		}
	}
	delete(w.byAddress, oldest)
}

// mayLog reports whether one more line may be logged: strangers must not fill the log.
func (w *wrongTokens) mayLog() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logSampler.Burst, w.logSampler.Period = 5, time.Second
	return w.logSampler.Sample(zerolog.WarnLevel)
}

type trust struct{}

// Trust marks a request as one that came where only those can connect who may do everything: it needs no token. Only the
// relay itself can set it.
func Trust(ctx *fasthttp.RequestCtx) { ctx.SetUserValue(trust{}, true) }

func isTrusted(ctx *fasthttp.RequestCtx) bool { return ctx.UserValue(trust{}) != nil }
