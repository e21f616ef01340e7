package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// signedIn signs in and returns the cookie and the CSRF value.
func (o *harness) signIn() (cookie *http.Cookie, csrf string) {
	o.t.Helper()
	answer, body := o.exchange("POST", "/session", `{"token":"`+testToken+`"}`, "Content-Type: application/json")
	var said sessionState
	if err := json.Unmarshal([]byte(body), &said); err != nil || answer.StatusCode != 200 || len(answer.Cookies()) != 1 || said.CSRF == "" {
		o.t.Fatalf("sign-in: %d %s", answer.StatusCode, body)
	}
	return answer.Cookies()[0], said.CSRF
}

// The cookie goes to every port of its host, so that it opens nothing without the other half, which no answer to it has.
func TestASessionNeedsBothItsHalves(t *testing.T) {
	o := openHarness(t, testToken)
	cookie, csrf := o.signIn()
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.MaxAge != 12*3600 || cookie.Secure || len(cookie.Value) < 26 {
		t.Errorf("the cookie is %s", cookie)
	}
	with := "Cookie: " + cookie.Name + "=" + cookie.Value
	own := "Origin: " + o.url
	for _, c := range []struct {
		method, path string
		headers      []string
		status       int
	}{
		{"GET", "/stats", []string{with, csrfHeader + ": " + csrf}, 200},
		{"HEAD", "/live", []string{with, csrfHeader + ": " + csrf}, 200},
		{"GET", "/stats", []string{with}, 401},
		{"GET", "/live", []string{with}, 401},
		{"GET", "/stats", []string{with, csrfHeader + ": "}, 401},
		{"GET", "/stats", []string{csrfHeader + ": " + csrf}, 401},
		{"GET", "/stats", nil, 401},
		{"GET", "/stats", []string{with + "x", csrfHeader + ": " + csrf}, 401},
		{"GET", "/stats", []string{with, csrfHeader + ": " + csrf, "Authorization: Bearer wrong"}, 401},
		{"POST", "/endpoints/crm/pause", []string{with, own}, 401},
		{"POST", "/endpoints/crm/pause", []string{with, own, csrfHeader + ": " + csrf + "x"}, 401},
		{"POST", "/endpoints/crm/pause", []string{own, csrfHeader + ": " + csrf}, 401},
		{"POST", "/endpoints/crm/pause", []string{with, "Origin: https://evil.example", csrfHeader + ": " + csrf}, 403},
		{"DELETE", "/session", []string{with, own}, 403},
	} {
		if answer, body := o.exchange(c.method, c.path, "", c.headers...); answer.StatusCode != c.status {
			t.Errorf("%s %s with %q: %d %s, want %d", c.method, c.path, c.headers, answer.StatusCode, body, c.status)
		}
	}
	if s := o.Dispatcher.Statuses()[0]; s.State != "up" {
		t.Fatalf("the endpoint was changed: %s", s.State)
	}
	if answer, body := o.exchange("POST", "/endpoints/crm/pause", "", with, own, csrfHeader+": "+csrf); answer.StatusCode != 200 {
		t.Errorf("with everything right: %d %s", answer.StatusCode, body)
	}
	for _, c := range []struct {
		headers []string
		in      bool
	}{{[]string{with}, false}, {[]string{csrfHeader + ": " + csrf}, false}, {[]string{with, csrfHeader + ": " + csrf}, true}} {
		_, body := o.exchange("GET", "/session", "", c.headers...)
		if strings.Contains(body, csrf) || strings.Contains(body, `"signed_in": true`) != c.in || strings.Contains(body, "1.2.3") != c.in {
			t.Errorf("with %q: %s", c.headers, body)
		}
	}
	if answer, _ := o.exchange("DELETE", "/session", "", with, own, csrfHeader+": "+csrf); answer.StatusCode != 200 {
		t.Errorf("signing out: %d", answer.StatusCode)
	}
	if answer, _ := o.exchange("GET", "/stats", "", with, csrfHeader+": "+csrf); answer.StatusCode != 401 {
		t.Errorf("after signing out: %d", answer.StatusCode)
	}
	if strings.Contains(o.log.String(), testToken) || strings.Contains(o.log.String(), cookie.Value) {
		t.Errorf("a secret is in the log: %s", o.log)
	}
}

func TestSignInRefuses(t *testing.T) {
	o := openHarness(t, testToken)
	right := `{"token":"` + testToken + `"}`
	for _, c := range []struct {
		body, kind, origin string
		status             int
		code               string
	}{
		{right, "text/plain", o.url, 400, "invalid_json"}, // what a form of a foreign page can send
		{right, "application/json", "https://evil.example", 403, "foreign_origin"},
		{`{"token"`, "application/json", o.url, 400, "invalid_json"},
		{`{"token":"wrong"}`, "application/json", o.url, 401, "unauthorized"},
		{`{}`, "application/json", o.url, 401, "unauthorized"},
	} {
		answer, body := o.exchange("POST", "/session", c.body, "Content-Type: "+c.kind, "Origin: "+c.origin)
		if answer.StatusCode != c.status || code(body) != c.code || len(answer.Cookies()) > 0 {
			t.Errorf("%+v: %d %s", c, answer.StatusCode, body)
		}
	}
	if answer, body := openHarness(t, "").exchange("POST", "/session", right, "Content-Type: application/json"); answer.StatusCode != 409 {
		t.Errorf("without a token: %d %s", answer.StatusCode, body)
	}
}

// Guessing at the sign-in is as slow as guessing elsewhere.
func TestWrongTokensAtTheSignInAreStrikes(t *testing.T) {
	o := openHarness(t, testToken)
	var waits []time.Duration
	o.wrongTokens.sleep = func(wait time.Duration) { waits = append(waits, wait) }
	for range freeGuesses + 2 {
		if answer, _ := o.exchange("POST", "/session", `{"token":"wrong"}`, "Content-Type: application/json"); answer.StatusCode != 401 {
			t.Fatalf("answered %d", answer.StatusCode)
		}
	}
	if len(waits) != 2 || waits[0] != slowdown(freeGuesses+1) || waits[1] != slowdown(freeGuesses+2) {
		t.Errorf("waited %v", waits)
	}
	o.signIn()
	if len(o.wrongTokens.byAddress) != 1 {
		t.Error("the right token forgives wrong ones, which may be another's")
	}
}

func TestSessionsEndAndAreFew(t *testing.T) {
	var s sessions
	began := time.Now()
	halves := map[string]string{}
	begin := func(now time.Time) string {
		id, one := s.begin(now)
		halves[id] = one.csrf
		return id
	}
	find := func(id string, now time.Time) bool {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.SetCookie(sessionCookie, id)
		ctx.Request.Header.Set(csrfHeader, halves[id])
		return s.find(&ctx, now)
	}
	first := begin(began)
	if !find(first, began.Add(sessionLife-time.Second)) || find(first, began.Add(sessionLife)) || find("", began) {
		t.Error("a session does not end when it should")
	}
	second := begin(began.Add(time.Second))
	for i := range maxSessions - 1 {
		s.begin(began.Add(time.Duration(i+2) * time.Second))
	}
	if find(first, began) || !find(second, began) || len(s.open) != maxSessions {
		t.Errorf("%d sessions are kept, and of the two oldest the wrong one", len(s.open))
	}
	s.begin(began.Add(2 * sessionLife))
	if len(s.open) != 1 {
		t.Errorf("%d sessions are kept that have ended", len(s.open)-1)
	}
}
