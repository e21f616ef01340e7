package try

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/exit"
	"realtorbot-relay/sign"
)

// realtorBotHeader is the header as the relay sends it.
func realtorBotHeader(secret, body string) string {
	return string(sign.RealtorBot(nil, sign.NewSecret(secret), []byte(body)))
}

func standardHeader(t *testing.T, secret, id string, unix int64, body string) string {
	t.Helper()
	key, err := sign.ParseStandardKey(sign.NewSecret(secret))
	if err != nil {
		t.Fatal(err)
	}
	return string(sign.Standard(nil, []sign.StandardKey{key}, id, unix, []byte(body)))
}

func TestListenSaysWhetherSignaturesMatch(t *testing.T) {
	now := time.Now().Unix()
	stamp := fmt.Sprint(now)
	good, wrong := realtorBotHeader(testSecret, testEvent), realtorBotHeader("another", testEvent)
	goodStandard := standardHeader(t, testSecret, "evt_abc123", now, testEvent)
	wrongStandard := standardHeader(t, testSecret, "evt_other", now, testEvent)
	stale := standardHeader(t, testSecret, "evt_abc123", now-3600, testEvent)
	checking, open := startListen(t, "-addr", "127.0.0.1:0", "-secret", testSecret), startListen(t, "-addr", "127.0.0.1:0")

	for _, c := range []struct {
		name    string
		at      listening
		headers []string
		status  int
		want    string
	}{
		{"both", checking, []string{"X-RealtorBot-Signature", good, "webhook-signature", goodStandard}, 200, "signed ✓ realtorbot, standard\n"},
		{"realtorbot alone", checking, []string{"X-RealtorBot-Signature", good}, 200, "signed ✓ realtorbot\n"},
		{"standard alone", checking, []string{"webhook-signature", goodStandard}, 200, "signed ✓ standard\n"},
		{"two secrets", checking, []string{"webhook-signature", wrongStandard + " " + goodStandard}, 200, "signed ✓ standard\n"},
		{"wrong", checking, []string{"X-RealtorBot-Signature", wrong}, 401, "signature does NOT match: realtorbot: none of the usual"},
		{"one of two", checking, []string{"X-RealtorBot-Signature", wrong, "webhook-signature", goodStandard}, 200, "NOT match: realtorbot: .* \\(standard matches\\)\n"},
		{"stale", checking, []string{"webhook-signature", stale, "webhook-timestamp", fmt.Sprint(now - 3600)}, 401, "standard: the signature is right, but its timestamp is 1h0m\\d+s old"},
		{"unsigned", checking, nil, 401, "unsigned\n"},
		{"unsigned, no secret", open, nil, 200, "unsigned\n"},
		{"signed, no secret", open, []string{"X-RealtorBot-Signature", wrong}, 200, "signed, not checked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(c.at.screen.String())
			status, answer := mustPost(t, c.at.url, testEvent, append([]string{"webhook-id", "evt_abc123", "webhook-timestamp", stamp}, c.headers...)...)
			shown := c.at.screen.String()[before:]
			if status != c.status || !regexp.MustCompile(c.want).MatchString(shown) {
				t.Errorf("status %d, want %d and %q in:\n%s", status, c.status, c.want, shown)
			}
			if wantError := `{"error":{"code":"unauthorized","message":"no signature matches the secret"}}`; (answer == wantError) != (c.status == 401) {
				t.Errorf("answer %q", answer)
			}
			if strings.Contains(shown, good) || strings.Contains(shown, goodStandard) || strings.Contains(shown, testSecret) {
				t.Errorf("shows a secret or a signature:\n%s", shown)
			}
		})
	}
}

func TestListenShowsEventsReadably(t *testing.T) {
	l := startListen(t, "-addr", "127.0.0.1:0", "-secret", testSecret)
	headers := []string{"X-RealtorBot-Event", "lead.created", "webhook-id", "evt_abc123",
		"X-RealtorBot-Signature", realtorBotHeader(testSecret, testEvent)}

	mustPost(t, strings.Replace(l.url, "/webhooks/realtorbot", "/some/other/path?x=1", 1), testEvent, append(headers, "X-RealtorBot-Attempt", "1")...)
	mustPost(t, l.url, testEvent, append(headers, "X-RealtorBot-Attempt", "2")...)
	mustPost(t, l.url, `{"id":"evt_2","type":"test"}`)

	_, shown, _ := strings.Cut(l.screen.String(), "\n\n")
	shown = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d\d\d`).ReplaceAllString(shown, "TIME")
	const body = `{
  "id": "evt_abc123",
  "type": "lead.created",
  "timestamp": "2024-01-15T10:30:00Z",
  "data": {
    "leadId": "lead_xyz789",
    "score": 75
  }
}

`
	want := "TIME  lead.created  evt_abc123  attempt 1  signed ✓ realtorbot\n" + body +
		"TIME  lead.created  evt_abc123  attempt 2  repeat  signed ✓ realtorbot\n" + body +
		"TIME  test  evt_2  attempt -  unsigned\n{\n  \"id\": \"evt_2\",\n  \"type\": \"test\"\n}\n\n"
	if shown != want {
		t.Errorf("got:\n%s\nwant:\n%s", shown, want)
	}
	if code := l.stop(); code != exit.Well {
		t.Errorf("exit %d", code)
	}
}

func TestListenMakesPayloadsHarmless(t *testing.T) {
	l := startListen(t, "-addr", "127.0.0.1:0")
	evil := "\x1b]0;title\x07\x1b[2J\u009b31m\u202egnp.\x7f\x00\xff"
	mustPost(t, l.url, evil, "X-RealtorBot-Event", "\u009b31mlead\xff", "webhook-id", "evt\u009b1")
	mustPost(t, l.url, "{\"id\":\"evt_\u009b\u202e\",\"type\":\"\x7f\"}")

	shown := l.screen.String()
	if hit := regexp.MustCompile(`[^\n\x20-\x7e✓…]`).FindString(shown); hit != "" {
		t.Errorf("%q got through:\n%q", hit, shown)
	}
	for _, want := range []string{`\u001b]0;title\u0007`, `\u009b31m\u202egnp.`, `\u007f\u0000\xff`, "(not JSON)", `\u009b31mlead\xff`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q not shown in:\n%s", want, shown)
		}
	}
}

func TestListenServesIPv6(t *testing.T) {
	l := startListen(t, "-addr", "[::1]:0")
	if !strings.HasPrefix(l.url, "http://[::1]:") {
		t.Fatalf("url %s", l.url)
	}
	if status, _ := mustPost(t, l.url, testEvent); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestListenOnEveryAddressNamesOneThatWorks(t *testing.T) {
	l := startListen(t, "-addr", ":0")
	if !strings.HasPrefix(l.url, "http://127.0.0.1:") {
		t.Fatalf("url %s", l.url)
	}
	if status, _ := mustPost(t, l.url, testEvent); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestListenRefusesWhatIsNoEvent(t *testing.T) {
	l := startListen(t, "-addr", "127.0.0.1:0")
	for _, c := range []struct{ name, request, status, code string }{
		{"another method", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "405", "method_not_allowed"},
		{"a huge body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", "413", "too_large"},
		{"huge headers", "POST / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", "431", "headers_too_large"},
		{"a bad header", "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hunter2\r\nX: \x01\r\n\r\n", "400", "bad_request"},
		{"no HTTP", "\x16\x03\x01 hello\r\n\r\n", "400", "bad_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.Split(l.url, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			buffer := make([]byte, 4096)
			n, _ := io.ReadAtLeast(conn, buffer, 100)
			answer := string(buffer[:n])
			if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) || !strings.Contains(answer, `{"error":{"code":"`+c.code+`"`) {
				t.Errorf("answer %q", answer)
			}
		})
	}
	l.screen.await(t, `refused with 413`)
	l.screen.await(t, `(?s)refused with 400.*refused with 400`)
	if shown := l.screen.String(); strings.Contains(shown, "hunter2") {
		t.Errorf("shows a token:\n%s", shown)
	}
}

func TestListenOnTakenPort(t *testing.T) {
	first := startListen(t, "-addr", "127.0.0.1:0")
	address := strings.Split(first.url, "/")[2]
	var stdout, stderr bytes.Buffer
	code := Listen(t.Context(), []string{"-addr", address}, &stdout, &stderr)
	want := "listen: address " + address + " is taken by another program: stop that one, or choose another port with -addr\n"
	if code != exit.Failed || stderr.String() != want || stdout.Len() > 0 {
		t.Errorf("exit %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
}

func TestListenStopsAlsoBeforeItServes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := Listen(ctx, []string{"-addr", "127.0.0.1:0"}, io.Discard, io.Discard); code != exit.Well {
		t.Errorf("exit %d", code)
	}
}

func TestSeenForgetsTheOldest(t *testing.T) {
	var s seen
	for i := range seenMax + 1 {
		if s.before(fmt.Sprint(i)) {
			t.Fatalf("%d is new", i)
		}
	}
	if !s.before("1") || !s.before(fmt.Sprint(seenMax)) {
		t.Error("recent ids are forgotten")
	}
	if s.before("0") {
		t.Error("the oldest id isn't forgotten")
	}
	if len(s.ids) != seenMax || len(s.oldest) != seenMax {
		t.Errorf("%d ids, %d in order; want %d", len(s.ids), len(s.oldest), seenMax)
	}
}
