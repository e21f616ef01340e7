package try

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/exit"
	"realtorbot-relay/sign"
)

// previousSecret is the one before testSecret.
const previousSecret = "whsec_cHJldmlvdXMtc2VjcmV0LW9mLTMyLWJ5dGVzLi4u"

// raw is what the secret behind whsec_ decodes to.
func raw(t *testing.T) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(testSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

func TestVerifyExplainsRealtorBotMismatch(t *testing.T) {
	const accented = `{"name":"Zoë","url":"a/b"}`
	good := realtorBotHeader(testSecret, testEvent)
	sum, err := hex.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, header, body string
		want               string // empty: matches
	}{
		{"right", good, testEvent, ""},
		{"right, with its name", "X-RealtorBot-Signature: " + good, testEvent, ""},
		{"upper case", strings.ToUpper(good), testEvent, "in upper case"},
		{"prefix", "sha256=" + good, testEvent, `starts with "sha256="`},
		{"quotes", `"` + good + `"`, testEvent, "quotes around it"},
		{"base64", base64.StdEncoding.EncodeToString(sum), testEvent, "it is base64"},
		{"several at once", "sha256=" + strings.ToUpper(good) + "\n", testEvent, "upper case"},
		{"cut short", good[:60], testEvent, "60 characters, want 64"},
		{"other header", "webhook-id: " + good, testEvent, ""}, // a wrong name over the right value does no harm
		{"newline added", good, testEvent + "\n", "ends in a line break that was not signed"},
		{"CRLF added", good, testEvent + "\r\n", "ends in a line break that was not signed"},
		{"newline missing", realtorBotHeader(testSecret, testEvent+"\n"), testEvent, "signed, and is missing here"},
		{"byte order mark", good, "\xef\xbb\xbf" + testEvent, "byte order mark"},
		{"re-indented", good, "{\n \"id\" : \"evt_abc123\",\n" + strings.TrimPrefix(testEvent, `{"id":"evt_abc123",`), "is its compact form"},
		{"escaped by a receiver", realtorBotHeader(testSecret, accented), `{"name": "Zo\u00eb", "url": "a\/b"}`, "as JavaScript writes it"},
		{"spaced as by Python", realtorBotHeader(testSecret, `{"a": 1, "b": "x,y:z"}`), `{"a":1,"b":"x,y:z"}`, "as Python writes it"},
		{"ASCII by Python", realtorBotHeader(testSecret, `{"name": "Zo\u00eb \ud83c\udfe0", "url": "a/b"}`), `{"name":"Zoë 🏠","url":"a/b"}`, "ASCII alone (as Python writes it)"},
		{"ASCII by PHP", realtorBotHeader(testSecret, `{"name":"Zo\u00eb \ud83c\udfe0","url":"a\/b"}`), `{"name":"Zoë 🏠","url":"a/b"}`, "as PHP writes it"},
		{"a map of Go", realtorBotHeader(testSecret, `{"a":{"c":1,"d":1.50},"b":"\u003c"}`), `{"b":"<","a":{"d":1.50,"c":1}}`, "as Go writes a map"},
		{"indented by a sender", realtorBotHeader(testSecret, "{\n  \"a\": 1\n}"), `{"a":1}`, "its indented form"},
		{"CRLF for LF", realtorBotHeader(testSecret, "a\nb"), "a\r\nb", "CR LF line breaks where LF"},
		{"LF for CRLF", realtorBotHeader(testSecret, "a\r\nb"), "a\nb", "LF line breaks where CR LF"},
		{"secret decoded", realtorBotHeader(raw(t), testEvent), testEvent, "was base64-decoded"},
		{"secret without whsec_", realtorBotHeader(strings.TrimPrefix(testSecret, "whsec_"), testEvent), testEvent, "without whsec_"},
		{"secret with newline", realtorBotHeader(testSecret+"\n", testEvent), testEvent, "with a line break at its end"},
		{"two mistakes", realtorBotHeader(raw(t), testEvent), testEvent + "\n", "base64-decoded; here it is used as it is written; and the body"},
		{"previous secret", realtorBotHeader(previousSecret, testEvent), testEvent, "signed with the previous secret"},
		{"previous secret, newline", realtorBotHeader(previousSecret, testEvent), testEvent + "\n", "until it has; and the body given here ends in a line break"},
		{"another secret", realtorBotHeader("another", testEvent), testEvent, "none of the usual mistakes"},
		{"webhook-id", "evt_abc123", testEvent, "looks like webhook-id; malformed"},
		{"webhook-timestamp", "webhook-timestamp: 1700000000", testEvent, "looks like webhook-timestamp; malformed"},
		{"Authorization", "Authorization: Bearer abc", testEvent, "this is the value of Authorization; malformed"},
		{"secret for signature", previousSecret, testEvent, "this is a secret and no signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runVerify(t, c.body, "-secret", testSecret, "-previous-secret", previousSecret, "-header", c.header)
			expectVerdict(t, c.want, code, stdout, stderr)
			if strings.Contains(stdout, realtorBotHeader(testSecret, c.body)) {
				t.Errorf("shows the expected signature: %s", stdout)
			}
		})
	}
}

func TestVerifyExplainsStandardMismatch(t *testing.T) {
	const id = "evt_abc123"
	now := time.Now().Unix()
	stamp := fmt.Sprint(now)
	good := standardHeader(t, testSecret, id, now, testEvent)
	// with signs as someone does who takes key for the key's bytes and content for what is signed.
	with := func(key, content string) string {
		sum, err := hex.DecodeString(realtorBotHeader(key, content))
		if err != nil {
			t.Fatal(err)
		}
		return "v1," + base64.StdEncoding.EncodeToString(sum)
	}
	content := id + "." + stamp + "." + testEvent
	for _, c := range []struct {
		name, secret, header, id, stamp, body string
		want                                  string // empty: matches
	}{
		{"right", testSecret, good, id, stamp, testEvent, ""},
		{"right, made by hand", testSecret, with(raw(t), content), id, stamp, testEvent, ""},
		{"right, with its name", testSecret, "Webhook-Signature: " + good, id, stamp, testEvent, ""},
		{"right, second of two", testSecret, "v1a,AAAA " + good, id, stamp, testEvent, ""},
		{"old", testSecret, standardHeader(t, testSecret, id, now-7200, testEvent), id, fmt.Sprint(now - 7200), testEvent, "right, but its timestamp is 2h0m"},
		{"in the future", testSecret, standardHeader(t, testSecret, id, now+7200, testEvent), id, fmt.Sprint(now + 7200), testEvent, "in the future"},
		{"milliseconds", testSecret, good, id, stamp + "000", testEvent, "looks like milliseconds"},
		{"a date", testSecret, good, id, "2024-01-15T10:30:00Z", testEvent, "webhook-timestamp must be"},
		{"only v1a", testSecret, "v1a,AAAA", id, stamp, testEvent, `lists no "v1,"`},
		{"hex for base64", testSecret, "webhook-signature: " + realtorBotHeader(testSecret, testEvent), id, stamp, testEvent, "this is the value of X-RealtorBot-Signature"},
		{"id for signature", testSecret, "webhook-signature: " + id, id, stamp, testEvent, `looks like webhook-id; malformed signature: webhook-signature lists no "v1,"`},
		{"previous secret", testSecret, standardHeader(t, previousSecret, id, now, testEvent), id, stamp, testEvent, "signed with the previous secret"},
		{"previous secret, newline", testSecret, standardHeader(t, previousSecret, id, now, testEvent), id, stamp, testEvent + "\n", "until it has; and the body given here ends in"},
		{"another id", testSecret, good, "evt_x", stamp, testEvent, "another id or timestamp"},
		{"body alone", testSecret, with(raw(t), testEvent), id, stamp, testEvent, "the body alone was signed"},
		{"secret as written", testSecret, with(testSecret, content), id, stamp, testEvent, "used as it is written; Standard"},
		{"secret as written, newline", testSecret, with(testSecret, content+"\n"), id, stamp, testEvent, "its base64 must be decoded; and a line break"},
		{"newline added", testSecret, good, id, stamp, testEvent + "\n", "ends in a line break"},
		{"unfit secret", "plain secret", good, id, stamp, testEvent, "must start with whsec_"},
		{"unfit secret as written", "plain secret", with("plain secret", content), id, stamp, testEvent, "the signature was made with it as it is written"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runVerify(t, c.body, "-secret", c.secret, "-previous-secret", previousSecret, "-header", c.header, "-id", c.id, "-timestamp", c.stamp)
			expectVerdict(t, c.want, code, stdout, stderr)
			if strings.Contains(stdout, strings.TrimPrefix(good, "v1,")) {
				t.Errorf("shows a signature: %s", stdout)
			}
		})
	}
}

func expectVerdict(t *testing.T, want string, code int, stdout, stderr string) {
	t.Helper()
	wantCode, wantStart := exit.Well, "matches: "
	if want != "" {
		wantCode, wantStart = exit.Failed, "does NOT match "
	}
	if code != wantCode || !strings.HasPrefix(stdout, wantStart) || !strings.Contains(stdout, want) || stderr != "" {
		t.Errorf("exit %d, stdout %q, stderr %q; want exit %d, %q", code, stdout, stderr, wantCode, want)
	}
	if strings.Count(stdout, "\n") != 1 || strings.Contains(stdout, strings.TrimPrefix(testSecret, "whsec_")) ||
		strings.Contains(stdout, strings.TrimPrefix(previousSecret, "whsec_")) {
		t.Errorf("not one line without the secret: %q", stdout)
	}
}

// failing is a stdin that can't be read.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("pipe broken") }

// endless is a stdin that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestVerifyReportsUnreadableBody(t *testing.T) {
	for want, stdin := range map[string]io.Reader{"pipe broken": failing{}, "more than 16 MiB": endless{}} {
		var stdout, stderr strings.Builder
		code := Verify(t.Context(), []string{"-secret", "s", "-header", strings.Repeat("0", 64)}, stdin, &stdout, &stderr)
		if code != exit.Failed || stdout.Len() > 0 || stderr.String() != "verify: read body: "+want+"\n" {
			t.Errorf("exit %d, stdout %q, stderr %q", code, &stdout, &stderr)
		}
	}
}

func FuzzWhy(f *testing.F) {
	f.Add("sha256="+strings.Repeat("A", 64), "evt_1", "1700000000", []byte(testEvent))
	f.Add("v1,"+strings.Repeat("A", 43)+"=", "a.b", "-1", []byte(`["\ud800",{"a":"\\"}]`))
	f.Add("=", "", "99999999999999999999", []byte("\r\n"))
	f.Fuzz(func(t *testing.T, header, id, stamp string, body []byte) {
		known, now := secrets{sign.NewSecret(testSecret), sign.NewSecret(previousSecret)}, time.Unix(1700000000, 0)
		for _, why := range []string{
			whyRealtorBot(header, body, known),
			whyStandard(header, id, stamp, body, known, now),
			whyStandard(header, id, stamp, body, secrets{current: sign.NewSecret("x")}, now),
		} {
			if why == "" {
				t.Fatal("forged")
			}
			if strings.ContainsFunc(why, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("control characters: %q", why)
			}
		}
	})
}
