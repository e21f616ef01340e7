package endtoend

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/sign"
)

func sum(key, text string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// realtorBot is X-RealtorBot-Signature as Realtor Bot's documentation has it.
func realtorBot(secret, body string) string { return hex.EncodeToString(sum(secret, body)) }

// standard is webhook-signature as Standard Webhooks 1.0 has it.
func standard(t *testing.T, secret, id, timestamp, body string) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	return "v1," + base64.StdEncoding.EncodeToString(sum(string(key), id+"."+timestamp+"."+body))
}

// The vector of Standard Webhooks.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTimestamp = "1614265330"
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestOnlyTheSourcesCredentialLetsIn(t *testing.T) {
	t.Parallel()
	if got := standard(t, vectorSecret, vectorID, vectorTimestamp, vectorBody); got != vectorSignature {
		t.Fatalf("this test signs the vector as %s, want %s", got, vectorSignature)
	}
	token, secret, both := newSecret(), newSecret(), newSecret()
	r := start(t, preamble+quiet()+`
[[source]]
name = "platform"
path = "/token"
token = "`+token+`"
[[source]]
name = "realtorbot"
path = "/signed"
secret = "`+secret+`"
[[source]]
name = "standard"
path = "/standard"
secret = "`+vectorSecret+`"
scheme = "standard"
[[source]]
name = "both"
path = "/both"
token = "`+token+`"
secret = "`+both+`"
`)
	body := "{\n  \"id\": \"evt_1\", \"type\": \"test\", \"data\": {\"price\": 1.0}\n}" // signed as it is, or as the documentation's JSON.stringify has it
	stamped := func(age time.Duration) string { return strconv.FormatInt(time.Now().Add(-age).Unix(), 10) }
	now, old, ahead := stamped(0), stamped(time.Hour), stamped(-time.Hour)
	const signature, id, timestamp, standardHeader = "X-RealtorBot-Signature", "webhook-id", "webhook-timestamp", "webhook-signature"

	for _, c := range []struct {
		name, path string
		headers    []string
	}{
		{"no token", "/token", nil},
		{"another token", "/token", []string{"Authorization", "Bearer x" + token[1:]}},
		{"a longer token", "/token", []string{"Authorization", "Bearer " + token + "0"}},
		{"an empty token", "/token", []string{"Authorization", "Bearer "}},
		{"another way", "/token", []string{"Authorization", "Basic " + token}},
		{"a signature instead", "/token", []string{signature, realtorBot(token, body)}},
		{"no signature", "/signed", nil},
		{"another key's", "/signed", []string{signature, realtorBot(secret+"x", body)}},
		{"another body's", "/signed", []string{signature, realtorBot(secret, body+" ")}},
		{"of another event's documented form", "/signed", []string{signature, realtorBot(secret, `{"id":"evt_1","type":"test","data":{"price":2}}`)}},
		{"an empty key's", "/signed", []string{signature, realtorBot("", body)}},
		{"no hex", "/signed", []string{signature, strings.Repeat("x", 64)}},
		{"no standard signature", "/standard", []string{id, "m", timestamp, now}},
		{"another id's", "/standard", []string{id, "m2", timestamp, now, standardHeader, standard(t, vectorSecret, "m", now, body)}},
		{"another time's", "/standard", []string{id, "m", timestamp, now, standardHeader, standard(t, vectorSecret, "m", old, body)}},
		{"too old", "/standard", []string{id, "m", timestamp, old, standardHeader, standard(t, vectorSecret, "m", old, body)}},
		{"too new", "/standard", []string{id, "m", timestamp, ahead, standardHeader, standard(t, vectorSecret, "m", ahead, body)}},
		{"another version's", "/standard", []string{id, "m", timestamp, now, standardHeader, "v2" + standard(t, vectorSecret, "m", now, body)[2:]}},
		{"the wrong scheme", "/standard", []string{signature, realtorBot(vectorSecret, body)}},
		{"token alone", "/both", []string{"Authorization", "Bearer " + token}},
		{"signature alone", "/both", []string{signature, realtorBot(both, body)}},
	} {
		a := r.intake.ask(t, "POST", c.path, body, append([]string{"Content-Type", "application/json"}, c.headers...)...)
		if code, _, _ := a.failure(); a.status != 401 || code != "unauthorized" {
			t.Errorf("%s: answered %d %s, want 401", c.name, a.status, a.body)
		}
		// Whoever has no credential learns nothing about the body either.
		a = r.intake.ask(t, "POST", c.path, "not JSON", append([]string{"Content-Type", "application/json"}, c.headers...)...)
		if a.status != 401 {
			t.Errorf("%s, with a bad body: answered %d %s, want 401", c.name, a.status, a.body)
		}
	}
	if s := r.stats(); s.Totals.Accepted != 0 || s.Totals.Unauthorized != 2*21 || s.Queue.Events != 0 {
		t.Errorf("stats: %+v", s)
	}

	// The vector itself is good but old, which is answered as any other wrong one.
	if a := r.intake.ask(t, "POST", "/standard", vectorBody, "Content-Type", "application/json", id, vectorID, timestamp, vectorTimestamp, standardHeader, vectorSignature); a.status != 401 {
		t.Errorf("the vector of 2021: answered %d %s, want 401", a.status, a.body)
	}
	for path, headers := range map[string][]string{
		"/token":    {"Authorization", "Bearer " + token},
		"/signed":   {signature, realtorBot(secret, body)},
		"/standard": {id, "m", timestamp, now, standardHeader, "v1,AAAA " + standard(t, vectorSecret, "m", now, body)},
		"/both":     {"Authorization", "Bearer " + token, signature, realtorBot(both, body)},
		"/signed?x": {signature, realtorBot(secret, `{"id":"evt_1","type":"test","data":{"price":1}}`)},
	} {
		if a := r.intake.ask(t, "POST", path, body, append([]string{"Content-Type", "application/json"}, headers...)...); a.status != 200 {
			t.Errorf("%s with its credential: answered %d %s", path, a.status, a.body)
		}
	}
	if s := r.stats(); s.Totals.Accepted != 1 || s.Totals.Duplicates != 4 {
		t.Errorf("stats: %+v", s.Totals)
	}
}

func TestTheAdminTokenIsAskedForEverywhereButHealthAndThePage(t *testing.T) {
	t.Parallel()
	token := newSecret()
	config := strings.Replace(preamble, "[queue]", "token = \""+token+"\"\n[queue]", 1)
	r := start(t, config+quiet())
	r.post(event("evt_1"))
	for _, path := range []string{"GET /stats", "GET /events/evt_1", "GET /endpoints", "GET /metrics", "GET /nothing", "POST /endpoints/crm/pause", "DELETE /endpoints/crm"} {
		method, path, _ := strings.Cut(path, " ")
		for _, presented := range []string{"", "Bearer x", "Bearer " + token + "x", token} {
			a := r.admin.ask(t, method, path, "", "Authorization", presented)
			if code, _, _ := a.failure(); a.status != 401 || code != "unauthorized" {
				t.Errorf("%s %s with a wrong token: answered %d %s", method, path, a.status, a.body)
			}
		}
		r.admin.ask(t, "GET", "/stats", "", "Authorization", "Bearer "+token) // or wrong ones would wait longer each time
	}
	if a := r.admin.ask(t, "GET", "/stats", "", "Authorization", "Bearer "+token); a.status != 200 || !strings.Contains(a.body, `"state": "up"`) {
		t.Errorf("with the token: answered %d %s", a.status, a.body)
	}
	// The page itself is the same for everybody: it asks for the token and shows nothing without it.
	if a := r.admin.ask(t, "GET", "/", ""); a.status != 200 || strings.Contains(a.body, "evt_1") || strings.Contains(a.body, "crm") {
		t.Errorf("the page without the token: answered %d %.200s", a.status, a.body)
	}
	if a := r.admin.ask(t, "GET", "/health", ""); a.status != 200 {
		t.Errorf("health without the token: answered %d %s", a.status, a.body)
	}
}

func TestForeignPagesCantOperate(t *testing.T) {
	t.Parallel()
	r := start(t, preamble+quiet())
	a := r.admin.ask(t, "POST", "/endpoints/crm/pause", "", "Origin", "http://evil.example")
	if code, _, _ := a.failure(); a.status != 403 || code != "foreign_origin" {
		t.Errorf("a foreign origin: answered %d %s", a.status, a.body)
	}
	if ep := r.endpoint("crm"); ep.State != "up" {
		t.Errorf("the endpoint is %s", ep.State)
	}
}

func TestWhatIsSentVerifiesAlsoWhileASecretIsRotated(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	secret, previous := newStandardSecret(), newStandardSecret()
	r := start(t, preamble+endpoint("crm", crm.url, `secret = "`+secret+`"`, `previous_secret = "`+previous+`"`, `signatures = ["realtorbot", "standard"]`))
	r.post(`{"id":"evt_1","type":"lead.created","data":{"name":"Zo\u00eb","price":1.0}}`)

	a := crm.await(1)[0]
	if got := a.header.Get("X-RealtorBot-Signature"); got != realtorBot(secret, a.body) {
		t.Errorf("X-RealtorBot-Signature is %s", got)
	}
	timestamp := a.header.Get("webhook-timestamp")
	for name, key := range map[string]string{"current": secret, "previous": previous} {
		parsed, err := sign.ParseStandardKey(sign.NewSecret(key))
		if err != nil {
			t.Fatal(err)
		}
		if err := sign.VerifyStandard(a.header.Get("webhook-signature"), a.id, timestamp, []byte(a.body), time.Now(), time.Minute, parsed); err != nil {
			t.Errorf("with the %s secret: %v", name, err)
		}
	}
	want := standard(t, secret, "evt_1", timestamp, a.body) + " " + standard(t, previous, "evt_1", timestamp, a.body)
	if got := a.header.Get("webhook-signature"); got != want {
		t.Errorf("webhook-signature is %s, want %s", got, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-RealtorBot-Event": "lead.created", "X-RealtorBot-Attempt": "1", "webhook-id": "evt_1",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.HasPrefix(a.header.Get("User-Agent"), "RealtorBot-Relay/") {
		t.Errorf("User-Agent is %q", a.header.Get("User-Agent"))
	}
}
