package client

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/sign"
)

// mustRequest reads one request: its head as it came, and its body.
func mustRequest(t *testing.T, in *bufio.Reader) (head string, body []byte) {
	t.Helper()
	var raw bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(in, &raw)))
	if err != nil {
		t.Error(err)
		return
	}
	if body, err = io.ReadAll(request.Body); err != nil {
		t.Error(err)
	}
	head, _, _ = strings.Cut(raw.String(), "\r\n\r\n")
	return head, body
}

// The standard signature is the vector of Standard Webhooks 1.0; the other one was made with
// openssl dgst -sha256 -hmac whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw.
func TestHeadersAreTheDocumentedBytes(t *testing.T) {
	heads := make(chan string, 1)
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, in *bufio.Reader) {
		head, _ := mustRequest(t, in)
		heads <- head
		io.WriteString(conn, answer(200, "", ""))
	})
	ep := testEndpoint("http://" + r.Addr().String() + "/a//b/../c%2Fd?x=%20y&z=1#fragment")
	ep.Secret = sign.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	ep.Signatures = []string{"realtorbot", "standard"}
	ep.Headers = map[string]sign.Secret{"x-tenant": sign.NewSecret("7"), "Authorization": sign.NewSecret("Bearer t")}
	c := mustClient(t, ep)
	c.now = func() time.Time { return time.Unix(1614265330, 999) }
	p := &Request{ID: []byte("msg_p5jXN8AQM9LWM0D4loKWxJek"), Type: []byte("lead.created"),
		Body: []byte(`{"test": 2432232314}`), Attempt: 3, Replay: "rpl_1"}
	if o := c.Attempt(p); o.Status != 200 {
		t.Fatalf("got %+v", o)
	}
	want := strings.Join([]string{
		"POST /a//b/../c%2Fd?x=%20y&z=1 HTTP/1.1",
		"Host: " + r.Addr().String(),
		"User-Agent: RealtorBot-Relay/1.2.3",
		"Content-Type: application/json",
		"Authorization: Bearer t",
		"x-tenant: 7",
		"Content-Length: 20",
		"X-RealtorBot-Signature: 80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c",
		"X-RealtorBot-Event: lead.created",
		"X-RealtorBot-Attempt: 3",
		"X-RealtorBot-Replay: rpl_1",
		"webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek",
		"webhook-timestamp: 1614265330",
		"webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
	}, "\r\n")
	if got := <-heads; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRequestDependsOnTheEndpoint(t *testing.T) {
	const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	const older = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for name, c := range map[string]struct {
		secret, previous string
		schemes          []string
		rb, std          int // signatures in the request
	}{
		"unsigned":   {"", "", []string{"realtorbot", "standard"}, 0, 0},
		"realtorbot": {"anything", "", []string{"realtorbot"}, 1, 0},
		"standard":   {key, "", []string{"standard"}, 0, 1},
		"rotating":   {key, older, []string{"standard", "realtorbot"}, 1, 2},
	} {
		ep := testEndpoint("http://127.0.0.1/")
		ep.Secret, ep.PreviousSecret, ep.Signatures = sign.NewSecret(c.secret), sign.NewSecret(c.previous), c.schemes
		r, err := newTemplate(ep, "1")
		if err != nil {
			t.Fatal(err)
		}
		got := string(r.append(nil, testRequest(), 1))
		if n := strings.Count(got, "X-RealtorBot-Signature: "); n != c.rb {
			t.Errorf("%s: got %d realtorbot signatures in %s", name, n, got)
		}
		if n := strings.Count(got, "v1,"); n != c.std || strings.Contains(got, "webhook-signature") != (c.std > 0) {
			t.Errorf("%s: got %d standard signatures in %s", name, n, got)
		}
		if strings.Contains(got, "Replay") || !strings.Contains(got, "\r\nwebhook-id: evt_1\r\nwebhook-timestamp: 1\r\n") {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func TestURLBecomesAddressHostAndTarget(t *testing.T) {
	for url, want := range map[string][3]string{
		"http://example.com":                 {"example.com:80", "example.com", "/"},
		"https://example.com?a=b":            {"example.com:443", "example.com", "/?a=b"},
		"http://example.com:8080/x?y=/z?":    {"example.com:8080", "example.com:8080", "/x?y=/z?"},
		"http://[::1]/":                      {"[::1]:80", "[::1]", "/"},
		"https://[::1]:8443/a;b,c%00/é#frag": {"[::1]:8443", "[::1]:8443", "/a;b,c%00/%C3%A9"},
		"http://example.com/a b":             {"example.com:80", "example.com", "/a%20b"},
	} {
		r, err := newTemplate(testEndpoint(url), "1")
		if err != nil {
			t.Fatal(err)
		}
		head := "POST " + want[2] + " HTTP/1.1\r\nHost: " + want[1] + "\r\n"
		if r.address != want[0] || !strings.HasPrefix(string(r.head), head) {
			t.Errorf("%s: got %s, %q", url, r.address, r.head)
		}
	}
}

func TestNothingBreaksOutOfItsHeader(t *testing.T) {
	ep := testEndpoint("http://127.0.0.1/")
	ep.Headers = map[string]sign.Secret{"X-A": sign.NewSecret("a\r\nX-Evil: 1")}
	r, err := newTemplate(ep, "1\r\nX-Evil: 2")
	if err != nil {
		t.Fatal(err)
	}
	p := &Request{ID: []byte("i\nX-Evil: 3"), Type: []byte("t\x00\r\nX-Evil: 4"), Replay: "r\r\n\r\nX-Evil: 5"}
	got := string(r.append(nil, p, 1))
	if strings.Contains(got, "\nX-Evil") || strings.Count(got, "\r\n\r\n") != 1 || strings.Count(got, "X-Evil") != 5 {
		t.Errorf("got %q", got)
	}
}

func TestHeadersOfWhatFailedAreOfPrintableASCII(t *testing.T) {
	ep := testEndpoint("http://127.0.0.1/")
	tpl, err := newTemplate(ep, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	r := testRequest()
	if text := string(tpl.append(nil, r, 0)); strings.Contains(text, "Failed") {
		t.Errorf("an event that did not fail is sent as\n%s", text)
	}
	r.CopyOf = &FailedDelivery{Endpoint: "crm", Class: "dns", Reason: "no “host”\r\nX-Evil: 1"}
	want := "\r\nX-RealtorBot-Failed-Endpoint: crm\r\nX-RealtorBot-Failed-Class: dns\r\nX-RealtorBot-Failed-Reason: no ?host???X-Evil: 1\r\n"
	if text := string(tpl.append(nil, r, 0)); !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant in it\n%s", text, want)
	}
}
