package ingest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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
	withSecret := config.Source{Secret: sign.NewSecret(testSecret), Scheme: config.SchemeRealtorBot}
	withBoth := config.Source{Token: sign.NewSecret(testToken), Secret: sign.NewSecret(testSecret), Scheme: config.SchemeRealtorBot}
	standard := config.Source{Secret: sign.NewSecret(whsec), Scheme: config.SchemeStandard}
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
	_, err := newSource(config.Source{Name: "platform", Secret: sign.NewSecret("example-secret"), Scheme: config.SchemeStandard})
	if err == nil || !strings.Contains(err.Error(), `"platform"`) || strings.Contains(err.Error(), "example-secret") {
		t.Errorf("error %v", err)
	}
}
