package ingest

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

const (
	testToken  = "example-token-of-the-platform"
	testSecret = "example-secret"
	whsec      = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the public vectors
)

// Signatures are made here with nothing of ours, as a sender would.
func macOf(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func realtorBotHeader(body string) string {
	return "X-RealtorBot-Signature: " + hex.EncodeToString(macOf([]byte(testSecret), body))
}

func standardHeaders(id string, at time.Time, body string) []string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(whsec, "whsec_"))
	if err != nil {
		panic(err)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	return []string{"webhook-id: " + id, "webhook-timestamp: " + stamp,
		"webhook-signature: v1," + base64.StdEncoding.EncodeToString(macOf(key, id+"."+stamp+"."+body))}
}

func TestCredentialIsCheckedOverTheRawBody(t *testing.T) {
	body := "{ \"id\": \"evt_1\", \"type\": \"test\", \"data\": { \"x\": 1.0 } }\n" // not in canonical form
	token, signature := "Authorization: Bearer "+testToken, realtorBotHeader(body)
	now := time.Now()
	plain := config.Source{}
	withToken := config.Source{Token: sign.NewSecret(testToken)}
	withSecret := config.Source{Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot}
	withBoth := config.Source{Token: sign.NewSecret(testToken), Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot}
	standard := config.Source{Secret: sign.NewSecret(whsec), Scheme: sign.SchemeStandard}
	tests := []struct {
		name    string
		source  config.Source
		headers []string
		status  int
	}{
		{"none asked for", plain, nil, 200},
		{"none asked for, some given", plain, []string{token}, 200},
		{"token", withToken, []string{token}, 200},
		{"token missing", withToken, nil, 401},
		{"token wrong", withToken, []string{token + "x"}, 401},
		{"token cut short", withToken, []string{token[:len(token)-1]}, 401},
		{"token empty", withToken, []string{"Authorization: Bearer "}, 401},
		{"token without Bearer", withToken, []string{"Authorization: " + testToken}, 401},
		{"signature instead of the token", withToken, []string{signature}, 401},
		{"signature", withSecret, []string{signature}, 200},
		{"signature missing", withSecret, nil, 401},
		{"signature of another body", withSecret, []string{realtorBotHeader(body + " ")}, 401},
		{"signature empty", withSecret, []string{"X-RealtorBot-Signature: "}, 401},
		{"signature in capitals", withSecret, []string{strings.ToUpper(signature)}, 401},
		{"token instead of the signature", withSecret, []string{token}, 401},
		{"both", withBoth, []string{token, signature}, 200},
		{"both, token missing", withBoth, []string{signature}, 401},
		{"both, signature missing", withBoth, []string{token}, 401},
		{"standard", standard, standardHeaders("msg_1", now, body), 200},
		{"standard, clock four minutes off", standard, standardHeaders("msg_1", now.Add(4*time.Minute), body), 200},
		{"standard, too old", standard, standardHeaders("msg_1", now.Add(-timestampTolerance-time.Minute), body), 401},
		{"standard, too new", standard, standardHeaders("msg_1", now.Add(timestampTolerance+time.Minute), body), 401},
		{"standard, other body", standard, standardHeaders("msg_1", now, body+" "), 401},
		{"standard, other id", standard, append(standardHeaders("msg_1", now, body), "webhook-id: msg_2"), 401},
		{"standard, missing", standard, nil, 401},
		{"standard, the other scheme's header", standard, []string{signature}, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.source.Name, tt.source.Path = "platform", "/events"
			c := openCounter(t, tt.source)
			answer, got := c.ask("POST", "/events", body, append(tt.headers, asJSON)...)
			if answer.status != tt.status {
				t.Fatalf("answered %d %s, want %d", answer.status, got, tt.status)
			}
			if tt.status == 200 {
				return
			}
			if !strings.HasPrefix(got, `{"error":{"code":"unauthorized",`) || len(answer.header.Peek("WWW-Authenticate")) == 0 {
				t.Errorf("answered %s with %v", got, answer.header)
			}
			if len(c.shelf.bodies) > 0 || c.Counts().Unauthorized.Load() != 1 {
				t.Errorf("stored %q, unauthorized %d", c.shelf.bodies, c.Counts().Unauthorized.Load())
			}
			for _, secret := range []string{testToken, testSecret, whsec[6:]} {
				if strings.Contains(got+c.log.String(), secret) {
					t.Errorf("a secret is shown: %s, %s", got, c.log)
				}
			}
		})
	}
}

// A stranger chooses how much work the documented form of a body is, however small the body: it is made when his turn comes. A
// body that is signed as it came waits for no turn, however large, nor does one that has no other form.
func TestStrangersWaitForTheirTurnWithSmallBodiesToo(t *testing.T) {
	c := openCounter(t, config.Source{Name: "edge", Path: "/edge", Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot},
		config.Source{Name: "standard", Path: "/standard", Secret: sign.NewSecret(whsec), Scheme: sign.SchemeStandard})
	address := c.open(patience)
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		c.memory.verifying.enter(owner{source: "another"})
	}
	post := func(body, signed string) *bufio.Reader {
		return bufio.NewReader(say(t, address, fmt.Sprintf("POST /edge HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
			asJSON, realtorBotHeader(signed), len(body), body)))
	}
	const event = `{ "type": "test", "data": { "n": 5e-324 } }`
	stranger := post(event, "another body")
	eventually(t, "the stranger waits", func() bool {
		c.memory.verifying.mu.Lock()
		defer c.memory.verifying.mu.Unlock()
		return len(c.memory.verifying.waiting) == 1
	})
	if status, said := hear(t, post(event, event)); status != 200 {
		t.Errorf("what is signed as it came is answered %d %s", status, said)
	}
	large := `{ "type": "test", "data": { "x": "` + strings.Repeat("x", mostForm) + `" } }`
	if status, said := hear(t, post(large, large)); status != 200 {
		t.Errorf("a large one that is signed as it came is answered %d %s", status, said)
	}
	if status, said := hear(t, post(large, "another body")); status != 401 {
		t.Errorf("one too large for another form is answered %d %s", status, said)
	}
	for size, body := range map[string]string{"a small body": event, "a large one": large} {
		for signed, want := range map[string]int{"another body": 401, body: 200} {
			answer, said := c.ask("POST", "/standard", body, append(standardHeaders("msg_1", time.Now(), signed), asJSON)...)
			if answer.status != want {
				t.Errorf("%s of the other scheme is answered %d %s, want %d", size, answer.status, said, want)
			}
		}
	}
	c.memory.verifying.leave()
	if status, said := hear(t, stranger); status != 401 {
		t.Errorf("the stranger is answered %d %s", status, said)
	}
}

// What strangers have decompressed takes nothing of what those with a credential have, nor the other way round.
func TestStrangersDecompressWithMemoryOfTheirOwn(t *testing.T) {
	c := openCounter(t, config.Source{Name: "edge", Path: "/edge", Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot},
		config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)})
	packed := zstdOf(eventText("evt_1", "test"))
	post := func(path, credential string) int {
		answer, _ := c.ask("POST", path, packed, asJSON, "Content-Encoding: zstd", credential)
		return answer.status
	}
	for _, of := range []struct {
		budget                   *budget
		withSignature, withToken int
	}{{c.memory.known, 401, 503}, {c.memory.windows, 503, 200}} {
		var all reservation
		all.begin(of.budget, owner{source: "another"}, of.budget.all, nil)
		if err := all.Take(int(of.budget.all) - 4<<10); err != nil {
			t.Fatal(err)
		}
		if stranger, known := post("/edge", realtorBotHeader("another body")), post("/events", "Authorization: Bearer "+testToken); stranger != of.withSignature || known != of.withToken {
			t.Errorf("without memory of %d bytes: a stranger is answered %d, want %d; with the token %d, want %d", of.budget.all, stranger, of.withSignature, known, of.withToken)
		}
		all.end()
	}
}

// A connection takes one wrong token: each further one costs the guesser another connection.
func TestAWrongTokenEndsItsConnection(t *testing.T) {
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)})
	address := c.open(patience)
	for _, tt := range []struct {
		header string
		status int
		ends   bool
	}{{"Authorization: Bearer " + testToken, 400, false}, {"X-No: credential", 401, false}, {"Authorization: Bearer wrong", 401, true}} {
		in := bufio.NewReader(say(t, address, strings.Repeat("POST /events HTTP/1.1\r\nHost: localhost\r\n"+asJSON+"\r\n"+tt.header+"\r\nContent-Length: 0\r\n\r\n", 2)))
		first, _ := hear(t, in)
		_, err := in.Peek(1)
		if first != tt.status || (err == io.EOF) != tt.ends {
			t.Errorf("with %q answered %d, and then %v", tt.header, first, err)
		}
	}
}

// What the documentation signs is JSON.stringify(body), whatever a proxy made of the spaces and numbers on the way.
func TestTheSignatureMayBeOverTheDocumentedForm(t *testing.T) {
	withSecret := config.Source{Name: "platform", Path: "/events", Secret: sign.NewSecret(testSecret), Scheme: sign.SchemeRealtorBot}
	const posted = "{ \"type\": \"test\", \"data\": { \"b\": 1.0, \"1\": \"\\u00e9\" } }\n"
	const form = `{"type":"test","data":{"1":"é","b":1}}`
	const batch, batchForm = "[ {\"type\":\"test\",\"data\":{}} , {\"type\":\"test\",\"data\":{\"x\":1e2}} ]", `[{"type":"test","data":{}},{"type":"test","data":{"x":100}}]`
	tests := []struct {
		name, body, signed string
		status             int
	}{
		{"as it came", posted, posted, 200},
		{"as JSON.stringify writes it", posted, form, 200},
		{"a batch", batch, batchForm, 200},
		{"neither", posted, strings.TrimSpace(posted), 401},
		{"of another value", posted, strings.Replace(form, "1}", "2}", 1), 401},
		{"not JSON", "not JSON", "not", 401},
		{"cut short", posted[:20], form, 401},
		{"not JSON, signed", "not JSON", "not JSON", 400},
	}
	for _, tt := range tests {
		c := openCounter(t, withSecret)
		if answer, got := c.ask("POST", "/events", tt.body, asJSON, realtorBotHeader(tt.signed)); answer.status != tt.status {
			t.Errorf("%s: answered %d %s, want %d", tt.name, answer.status, got, tt.status)
		}
	}
	// Standard Webhooks signs bytes.
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Secret: sign.NewSecret(whsec), Scheme: sign.SchemeStandard})
	if answer, _ := c.ask("POST", "/events", posted, append(standardHeaders("msg_1", time.Now(), form), asJSON)...); answer.status != 401 {
		t.Errorf("standard: answered %d, want 401", answer.status)
	}
}

func TestPreviousCredentialsAreTakenWhileTheyRotate(t *testing.T) {
	const body = `{"type":"test","data":{}}`
	const newer = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	old := config.Source{Name: "platform", Path: "/events", PreviousToken: sign.NewSecret(testToken), Token: sign.NewSecret("example-token-to-come")}
	signed := config.Source{Name: "signed", Path: "/signed", PreviousSecret: sign.NewSecret(testSecret), Secret: sign.NewSecret("example-secret-to-come"), Scheme: sign.SchemeRealtorBot}
	standard := config.Source{Name: "standard", Path: "/standard", PreviousSecret: sign.NewSecret(whsec), Secret: sign.NewSecret(newer), Scheme: sign.SchemeStandard}
	for range 2 {
		c := openCounter(t, old, signed, standard)
		want := 200
		if old.PreviousToken.IsZero() {
			want = 401
		}
		for path, headers := range map[string][]string{
			"/events": {"Authorization: Bearer " + testToken}, "/signed": {realtorBotHeader(body)}, "/standard": standardHeaders("msg_1", time.Now(), body),
		} {
			if answer, _ := c.ask("POST", path, body, append(headers, asJSON)...); answer.status != want {
				t.Errorf("%s with what was before: answered %d, want %d", path, answer.status, want)
			}
		}
		if answer, _ := c.ask("POST", "/events", body, asJSON, "Authorization: Bearer example-token-to-come"); answer.status != 200 {
			t.Errorf("with the token to come: answered %d", answer.status)
		}
		// The control: once the rotation is over they are strangers.
		old.PreviousToken, signed.PreviousSecret, standard.PreviousSecret = sign.Secret{}, sign.Secret{}, sign.Secret{}
	}
}

func TestSourceTakesOnlyFromItsNetworks(t *testing.T) {
	s, err := newSource(config.Source{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::1/128")}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"192.0.2.255:80": true, "[::ffff:192.0.2.1]:80": true, "192.0.3.1:80": false, "[2001:db8::1]:80": true, "[2001:db8::2]:80": false,
		"127.0.0.1:80": false, "[::192.0.2.1]:80": false,
	} {
		at, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.admitsFrom(at.AddrPort().Addr().Unmap().WithZone("")); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if !s.admitsFrom(netip.Addr{}) {
		t.Error("a unix socket is asked for an address")
	}
	// Before any credential is looked at; the requests of these tests come from 0.0.0.0.
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken), Allow: s.Allow})
	answer, got := c.ask("POST", "/events", "{}", asJSON)
	if answer.status != 403 || !strings.HasPrefix(got, `{"error":{"code":"forbidden",`) || c.Counts().Forbidden.Load() != 1 {
		t.Errorf("answered %d %s", answer.status, got)
	}
}

func TestSourceTakesNoMoreThanItsRate(t *testing.T) {
	for _, signature := range []bool{false, true} {
		source := config.Source{Name: "platform", Path: "/events", Rate: 2.5, Token: sign.NewSecret(testToken)}
		if signature {
			source.Secret, source.Scheme = sign.NewSecret(testSecret), sign.SchemeRealtorBot
		}
		c := openCounter(t, source, config.Source{Name: "other", Path: "/other"})
		now := time.Now()
		c.now = func() time.Time { return now }
		const body = `{"type":"test","data":{}}`
		with := []string{asJSON, "Authorization: Bearer " + testToken, realtorBotHeader(body)}
		c.ask("POST", "/events", body, asJSON, "Authorization: Bearer x", realtorBotHeader(body)) // strangers use up nothing
		c.ask("POST", "/events", body, asJSON, "Authorization: Bearer "+testToken+"x")
		for i := range 3 {
			if answer, got := c.ask("POST", "/events", body, with...); answer.status != 200 {
				t.Fatalf("request %d: answered %d %s", i, answer.status, got)
			}
		}
		answer, got := c.ask("POST", "/events", body, with...)
		if answer.status != 429 || string(answer.header.Peek("Retry-After")) != "1" || !strings.HasPrefix(got, `{"error":{"code":"too_many_requests",`) {
			t.Errorf("answered %d, Retry-After %q, %s", answer.status, answer.header.Peek("Retry-After"), got)
		}
		if c.Counts().Limited.Load() != 1 {
			t.Errorf("limited %d", c.Counts().Limited.Load())
		}
		if answer, _ := c.ask("POST", "/other", body, asJSON); answer.status != 200 {
			t.Errorf("another source is answered %d", answer.status)
		}
		now = now.Add(400 * time.Millisecond) // one more
		for _, want := range []int{200, 429} {
			if answer, _ := c.ask("POST", "/events", body, with...); answer.status != want {
				t.Errorf("0.4 s later answered %d, want %d", answer.status, want)
			}
		}
	}
}

func TestCredentialComesBeforeTheBody(t *testing.T) {
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)})
	if answer, _ := c.ask("POST", "/events", "not JSON", "Content-Type: text/plain"); answer.status != 401 {
		t.Errorf("answered %d to a stranger, want 401", answer.status)
	}
}

func TestPathsHaveTheirOwnCredentials(t *testing.T) {
	c := openCounter(t, config.Source{Name: "one", Path: "/one", Token: sign.NewSecret("example-token-one")},
		config.Source{Name: "two", Path: "/two", Token: sign.NewSecret("example-token-two")})
	for path, want := range map[string]int{"/one": 401, "/two": 200} {
		if answer, _ := c.ask("POST", path, eventText("evt_1", "test"), asJSON, "Authorization: Bearer example-token-two"); answer.status != want {
			t.Errorf("%s answered %d, want %d", path, answer.status, want)
		}
	}
	if c.shelf.source != "two" {
		t.Errorf("stored from source %q", c.shelf.source)
	}
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	c := openCounter(t, config.Source{Name: "platform", Path: "/events", Token: sign.NewSecret(testToken)})
	begin := time.Now()
	for range 50 {
		c.ask("POST", "/events", "{}", asJSON)
	}
	most := 5 * (2 + int(time.Since(begin)/time.Second))
	if n := strings.Count(c.log.String(), "\n"); n == 0 || n > most {
		t.Errorf("%d lines in the log, want 1 to %d", n, most)
	}
}

func TestBadSecretIsNoSource(t *testing.T) {
	_, err := newSource(config.Source{Name: "platform", Secret: sign.NewSecret("example-secret"), Scheme: sign.SchemeStandard})
	if err == nil || !strings.Contains(err.Error(), `"platform"`) || strings.Contains(err.Error(), "example-secret") {
		t.Errorf("error %v", err)
	}
}
