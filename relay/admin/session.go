package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
)

const (
	sessionCookie = "relay_session"
	// csrfHeader has the other half of a session. A browser sends the cookie to every port of the host, and with what pages of
	// others make it ask for; this half is in the page's own storage, and goes where the page sends it.
	csrfHeader  = "X-CSRF-Token"
	sessionLife = 12 * time.Hour
	// maxSessions are kept; one more ends the oldest.
	maxSessions = 64
)

// session is a browser that showed the token. It is known by two halves: the cookie, and csrf.
type session struct {
	csrf string
	ends time.Time
}

// sessions are in memory: a restart ends them all. They are known by the hash of their id, so that neither a look-up's
// time nor a picture of the memory gives one away. The zero value is ready; safe for concurrent use.
type sessions struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]session
}

// begin opens a session and returns its id, which the browser alone keeps.
func (s *sessions) begin(now time.Time) (id string, one session) {
	id, one = rand.Text()+rand.Text(), session{csrf: rand.Text(), ends: now.Add(sessionLife)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[[sha256.Size]byte]session)
	}
	var first [sha256.Size]byte
	for key, old := range s.open {
		if !old.ends.After(now) {
			delete(s.open, key)
		} else if oldest, ok := s.open[first]; !ok || old.ends.Before(oldest.ends) {
			first = key
		}
	}
	if len(s.open) >= maxSessions {
		delete(s.open, first)
	}
	s.open[sha256.Sum256([]byte(id))] = one
	return id, one
}

// find reports whether a request has both halves of a session.
func (s *sessions) find(ctx *fasthttp.RequestCtx, now time.Time) bool {
	id := ctx.Request.Header.Cookie(sessionCookie)
	if len(id) == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.open[sha256.Sum256(id)]
	return ok && one.ends.After(now) && subtle.ConstantTimeCompare(ctx.Request.Header.Peek(csrfHeader), []byte(one.csrf)) == 1
}

func (s *sessions) end(ctx *fasthttp.RequestCtx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256(ctx.Request.Header.Cookie(sessionCookie)))
}

// sessionState is what a page has to know before it can ask for anything.
type sessionState struct {
	TokenNeeded bool   `json:"token_needed"` // and there is no session yet
	SignedIn    bool   `json:"signed_in"`
	CSRF        string `json:"csrf,omitempty"` // at the sign-in alone: goes into X-CSRF-Token with every request
	Version     string `json:"version,omitempty"`
}

// answerSession answers without a credential: a page asks it whether it needs one.
func (a *Admin) answerSession(ctx *fasthttp.RequestCtx) {
	if a.foreign(ctx) {
		return
	}
	in := a.sessions.find(ctx, time.Now())
	state := sessionState{TokenNeeded: !a.Token.IsZero() && !in, SignedIn: in}
	if !state.TokenNeeded {
		state.Version = a.Version
	}
	answer.Value(ctx, 200, state)
}

func (a *Admin) signOut(ctx *fasthttp.RequestCtx) {
	switch {
	case a.foreign(ctx):
	case !a.sessions.find(ctx, time.Now()):
		answer.Error(ctx, 403, "csrf", "signing out needs the session's cookie and its other half as "+csrfHeader)
	default:
		a.sessions.end(ctx)
		a.setCookie(ctx, "", -1)
		answer.Value(ctx, 200, sessionState{TokenNeeded: true})
	}
}

// signIn exchanges the token for a session. The token is in a JSON body, which a form of a foreign page can't send.
func (a *Admin) signIn(ctx *fasthttp.RequestCtx) {
	if a.foreign(ctx) {
		return
	}
	if a.Token.IsZero() {
		answer.Error(ctx, 409, "no_token", "admin.token is not set: there is nothing to sign in with")
		return
	}
	var given struct{ Token string }
	if err := json.Unmarshal(ctx.PostBody(), &given); err != nil || string(ctx.Request.Header.ContentType()) != "application/json" {
		answer.Error(ctx, 400, "invalid_json", `post {"token":"…"} as application/json`)
		return
	}
	if !a.Token.Admits([]byte(given.Token)) {
		a.refuseToken(ctx, true, "admin sign-in refused: the token is wrong", "this is not admin.token")
		return
	}
	id, one := a.sessions.begin(time.Now())
	a.setCookie(ctx, id, int(sessionLife.Seconds()))
	answer.From(a.Log.Info(), answer.Client(ctx)).Msg("admin sign-in")
	answer.Value(ctx, 200, sessionState{SignedIn: true, CSRF: one.csrf, Version: a.Version})
}

// setCookie sets the session's cookie for so many seconds; -1 removes it.
func (a *Admin) setCookie(ctx *fasthttp.RequestCtx, id string, seconds int) {
	var c fasthttp.Cookie
	c.SetKey(sessionCookie)
	c.SetValue(id)
	c.SetPath("/")
	c.SetHTTPOnly(true)
	c.SetSameSite(fasthttp.CookieSameSiteStrictMode)
	c.SetMaxAge(seconds)
	if seconds < 0 {
		c.SetExpire(fasthttp.CookieExpireDelete)
	}
	c.SetSecure(answer.IsTLS(ctx) || string(ctx.Request.Header.Peek("X-Forwarded-Proto")) == "https")
	ctx.Response.Header.SetCookie(&c)
}
