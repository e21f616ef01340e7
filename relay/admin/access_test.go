package admin

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/sign"
)

func TestWrongTokensWaitLongerEachTime(t *testing.T) {
	o := openHarness(t, testToken)
	var waits []time.Duration
	o.wrongTokens.sleep = func(d time.Duration) { waits = append(waits, d) }
	now := time.Now()
	o.wrongTokens.now = func() time.Time { now = now.Add(time.Second / guesses); return now } // no faster than is dealt with
	wrong := func(times int) {
		for range times {
			if status, _ := o.ask("GET", "/stats", "Authorization: Bearer wrong"); status != 401 {
				t.Fatalf("answered %d", status)
			}
		}
	}
	wrong(freeGuesses)
	for range 10 { // asking without a token is no guess
		o.ask("GET", "/stats")
	}
	if len(waits) != 0 {
		t.Errorf("the first ones wait %v", waits)
	}
	wrong(7)
	want := []time.Duration{100e6, 200e6, 400e6, 800e6, 1600e6, 2e9, 2e9}
	for i := range want {
		if i >= len(waits) || waits[i] != want[i] {
			t.Fatalf("waits %v, want %v", waits, want)
		}
	}
	// The right one does not wait, and is no excuse for the wrong ones: behind a proxy they may be another's.
	waits = nil
	if status, _ := o.ask("GET", "/stats", "Authorization: Bearer "+testToken); status != 200 || len(waits) != 0 {
		t.Errorf("the right token is answered %d after %v", status, waits)
	}
	wrong(1)
	if len(waits) != 1 || waits[0] != longestWait {
		t.Errorf("afterwards waits %v", waits)
	}
	now = now.Add(forgetAfter + time.Second)
	waits = nil
	wrong(freeGuesses)
	if len(waits) != 0 {
		t.Errorf("long afterwards waits %v", waits)
	}
}

// While as many wrong tokens wait as may, one more is refused at once, and the right one is answered: by its own address and
// at the sign-in too, since behind a proxy everybody has one address.
func TestTheRightTokenIsAnsweredWhileWrongOnesWait(t *testing.T) {
	o := openHarness(t, testToken)
	leave := make(chan struct{})
	o.wrongTokens.sleep = func(time.Duration) { <-leave }
	for range freeGuesses {
		o.ask("GET", "/stats", "Authorization: Bearer wrong")
	}
	var guessing sync.WaitGroup
	for range maxGuessesWaiting {
		guessing.Go(func() { o.ask("GET", "/stats", "Authorization: Bearer wrong") })
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		o.wrongTokens.mu.Lock()
		waiting := o.wrongTokens.waiting
		o.wrongTokens.mu.Unlock()
		if waiting == maxGuessesWaiting {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d guesses wait", waiting)
		}
	}
	for range 3 {
		if status, body := o.ask("GET", "/stats", "Authorization: Bearer "+testToken); status != 200 {
			t.Errorf("the right token is answered %d %s", status, body)
		}
		o.signIn()
		if status, body := o.ask("GET", "/stats", "Authorization: Bearer wrong"); status != 429 || code(body) != "too_many_requests" {
			t.Errorf("one more wrong one is answered %d %s", status, body)
		}
	}
	close(leave)
	guessing.Wait()
}

// A connection takes one wrong token, whether it is dealt with or turned away: each further one costs the guesser another connection.
func TestAWrongTokenEndsItsConnection(t *testing.T) {
	o := openHarness(t, testToken)
	now := time.Now()
	o.wrongTokens.now = func() time.Time { return now }
	o.wrongTokens.sleep = func(time.Duration) {}
	for _, tt := range []struct {
		header string
		status int
		ends   bool
	}{{"Authorization: Bearer " + testToken, 200, false}, {"X-No: credential", 401, false}, {"Authorization: Bearer wrong", 401, true}} {
		if answer, _ := o.exchange("GET", "/stats", "", tt.header); answer.StatusCode != tt.status || answer.Close != tt.ends {
			t.Errorf("with %q answered %d, the connection ends: %v", tt.header, answer.StatusCode, answer.Close)
		}
	}
	for range guessBurst {
		o.wrongTokens.delay(netip.MustParseAddr("192.0.2.1"))
	}
	if answer, _ := o.exchange("GET", "/stats", "", "Authorization: Bearer wrong"); answer.StatusCode != 429 || !answer.Close {
		t.Errorf("one too many is answered %d, the connection ends: %v", answer.StatusCode, answer.Close)
	}
}

// However many addresses guess, so many guesses are dealt with; those beyond are turned away, and the right token is not.
func TestGuessingHasACeilingOverAllAddresses(t *testing.T) {
	o := openHarness(t, testToken)
	now := time.Now()
	o.wrongTokens.now = func() time.Time { return now }
	address := netip.MustParseAddr("10.0.0.0")
	served := 0
	for range 10 * guessBurst {
		address = address.Next()
		if o.wrongTokens.delay(address) {
			served++
		}
	}
	if served != guessBurst {
		t.Errorf("%d guesses in one moment, want %d", served, guessBurst)
	}
	if status, _ := o.ask("GET", "/stats", "Authorization: Bearer wrong"); status != 429 {
		t.Errorf("one more is answered %d", status)
	}
	if status, _ := o.ask("GET", "/stats", "Authorization: Bearer "+testToken); status != 200 {
		t.Errorf("the right token is answered %d", status)
	}
	now, served = now.Add(time.Second), 0
	for range guessBurst {
		address = address.Next()
		if o.wrongTokens.delay(address) {
			served++
		}
	}
	if served != guesses {
		t.Errorf("%d guesses a second later, want %d", served, guesses)
	}
}

// Behind a proxy each client has wrong tokens of its own, those that share an IPv6 network together; what a client says of itself
// without a proxy that is trusted gives it no new ones.
func TestStrikesCountForTheClientThatAProxyNames(t *testing.T) {
	o := openHarness(t, testToken)
	waited := 0
	o.wrongTokens.sleep = func(time.Duration) { waited++ }
	now := time.Now()
	o.wrongTokens.now = func() time.Time { now = now.Add(time.Second / guesses); return now }
	wrong := func(from *http.Client, client string) (waits bool) {
		t.Helper()
		before := waited
		if status, body := o.askFrom(from, "GET", "/stats", "Authorization: Bearer wrong", "X-Forwarded-For: "+client); status != 401 {
			t.Fatalf("%s is answered %d %s", client, status, body)
		}
		return waited > before
	}
	for i := range freeGuesses {
		if wrong(byProxy, "192.0.2.7") || wrong(byProxy, "2001:db8::1") || wrong(http.DefaultClient, fmt.Sprint("192.0.2.", 100+i)) {
			t.Errorf("wrong token %d of each waits", i+1)
		}
	}
	for _, c := range []struct {
		name   string
		from   *http.Client
		client string
		waits  bool
	}{
		{"one more of it", byProxy, "192.0.2.7", true},
		{"of it with somebody that it made up", byProxy, "203.0.113.9, 192.0.2.7", true},
		{"of another client", byProxy, "192.0.2.8", false},
		{"of another with the first one made up", byProxy, "192.0.2.7, 192.0.2.9", false},
		{"of the same IPv6 network", byProxy, "2001:db8::2", true},
		{"of another IPv6 network", byProxy, "2001:db8:0:1::1", false},
		{"without a proxy, under a name that nobody had", http.DefaultClient, "192.0.2.200", true},
	} {
		if waits := wrong(c.from, c.client); waits != c.waits {
			t.Errorf("%s: waits %v", c.name, waits)
		}
	}
	before := waited
	if status, _ := o.askFrom(byProxy, "GET", "/stats", "Authorization: Bearer "+testToken, "X-Forwarded-For: 192.0.2.7"); status != 200 || waited > before {
		t.Errorf("the right one of it is answered %d", status)
	}
	if !strings.Contains(o.log.String(), `"from":"192.0.2.7"`) {
		t.Errorf("the log does not name the client: %s", o.log.String())
	}
}

func TestStrikesTakeLittleMemory(t *testing.T) {
	var s wrongTokens
	now := time.Now()
	s.now = func() time.Time { now = now.Add(time.Millisecond); return now }
	first := netip.MustParseAddr("10.0.0.0")
	for address := first; len(s.byAddress) < maxAddresses; address = address.Next() {
		s.delay(address)
	}
	s.delay(netip.MustParseAddr("192.0.2.1"))
	if len(s.byAddress) != maxAddresses || s.byAddress[first].count != 0 || s.byAddress[netip.MustParseAddr("192.0.2.1")].count != 1 {
		t.Errorf("%d addresses are remembered, the oldest %d times", len(s.byAddress), s.byAddress[first].count)
	}
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	o := openHarness(t, testToken)
	begin := time.Now()
	for range 50 {
		o.ask("GET", "/stats")
	}
	most := 5 * (2 + int(time.Since(begin)/time.Second))
	if n := strings.Count(o.log.String(), "token is missing or wrong"); n == 0 || n > most {
		t.Errorf("%d lines in the log, want 1 to %d", n, most)
	}
}

func TestHealthTellsAForeignPageNoReasons(t *testing.T) {
	o := openHarness(t, "")
	if status, body := o.ask("POST", "/endpoints/crm/pause"); status != 200 {
		t.Fatalf("pause: %d %s", status, body)
	}
	if _, body := o.ask("GET", "/health"); !strings.Contains(body, "crm") {
		t.Errorf("to the operator: %s", body)
	}
	if status, body := o.ask("GET", "/health", "Host: evil.example"); status != 200 || strings.Contains(body, "crm") {
		t.Errorf("to a page: %d %s", status, body)
	}
}

// Guessing is no faster while there is no queue yet.
func TestGuessingHasItsCeilingWhileTheQueueIsNotOpen(t *testing.T) {
	w := &Waiting{Token: sign.NewSecret(testToken), Log: zerolog.Nop(), Why: func() error { return nil }}
	ask := func(token string) int {
		var ctx fasthttp.RequestCtx
		ctx.Request.SetRequestURI("/stats")
		ctx.Request.Header.Set("Authorization", "Bearer "+token)
		w.Handle(&ctx)
		return ctx.Response.StatusCode()
	}
	if status := ask("wrong"); status != 401 {
		t.Fatalf("answered %d", status)
	}
	w.admin.wrongTokens.sleep = func(time.Duration) {}
	turned := 0
	for range 10 * guessBurst {
		if ask("wrong") == 429 {
			turned++
		}
	}
	if turned == 0 {
		t.Error("none is turned away")
	}
	if status := ask(testToken); status != 503 {
		t.Errorf("the right one is answered %d", status)
	}
}
