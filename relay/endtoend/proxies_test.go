package endtoend

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"realtorbot-relay/sign"
)

// One relay behind a proxy on this machine, and one that trusts nobody.
func TestATrustedProxyNamesTheClientForAllowAndTheLog(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	rest := endpoint("crm", crm.url) + "[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = \"" + newSecret() + "\"\nallow = [\"192.0.2.0/24\"]\n"
	token := rest[strings.Index(rest, "token = \"")+len("token = \"") : strings.Index(rest, "\"\nallow")]
	trusting := start(t, strings.Replace(preamble, "[admin]", "trusted_proxies = [\"127.0.0.0/8\"]\n[admin]", 1)+rest)
	stranger := start(t, preamble+rest)
	for _, c := range []struct {
		name, id, forwarded string
		r                   *relay
		status              int
		logged              string
	}{
		{"a client that is allowed", "evt_1", "192.0.2.7", trusting, 200, ""},
		{"one that claims to be", "evt_2", "192.0.2.7, 203.0.113.9", trusting, 403, `"from":"203.0.113.9"`},
		{"the proxy itself", "evt_3", "", trusting, 403, `"from":"127.0.0.1"`},
		{"a relay that trusts nobody", "evt_4", "192.0.2.7", stranger, 403, `"from":"127.0.0.1"`},
	} {
		headers := []string{"Authorization", "Bearer " + token}
		if c.forwarded != "" {
			headers = append(headers, "X-Forwarded-For", c.forwarded)
		}
		if a := c.r.offer(event(c.id), headers...); a.status != c.status {
			t.Errorf("%s: answered %d %s %v, want %d", c.name, a.status, a.body, a.err, c.status)
		}
		if c.logged != "" {
			c.r.awaitLog(c.logged)
		}
	}
	trusting.awaitState("evt_1", "crm", "delivered")
}

// Seventy clients behind a proxy begin requests of a mebibyte and wait, as strangers. A proxy that is trusted names them, and another client of
// it is served at once; with one that is not, everybody has its address: who has a token is served at once, and who signs as soon as one of them made room.
func TestWhoeverSharesAProxyWithStrangersIsServed(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	token, secret := newSecret(), newSecret()
	rest := endpoint("crm", crm.url) + "[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = \"" + token + "\"\n" +
		"[[source]]\nname = \"edge\"\npath = \"/edge\"\nsecret = \"" + secret + "\"\n"
	padding := strings.Repeat("x", 300_000)
	for _, c := range []struct {
		name, server string
		trusted      bool
	}{{"a proxy that is trusted", "trusted_proxies = [\"127.0.0.1\"]\n", true}, {"one that is not", "", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, strings.Replace(preamble, "[admin]", c.server+"[admin]", 1)+rest)
			strangers, refused := r.strangers(70, "203.0.113.9")
			defer strangers()
			signed := func(id string) answer {
				body := fmt.Sprintf(`{"id":%q,"type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"x":%q}}`, id, padding)
				return r.intake.ask(t, "POST", "/edge", body, "Content-Type", "application/json", "X-Forwarded-For", "192.0.2.7",
					"X-RealtorBot-Signature", string(sign.RealtorBot(nil, sign.NewSecret(secret), []byte(body))))
			}
			for n := range 5 {
				body := fmt.Sprintf(`{"id":"evt_%d","type":"lead.created","data":{"x":%q}}`, n, padding)
				if a := r.offer(body, "Authorization", "Bearer "+token, "X-Forwarded-For", "192.0.2.7"); a.status != 200 {
					t.Errorf("an event with the token is answered %d %s %v", a.status, a.body, a.err)
				}
				if c.trusted {
					if a := signed(fmt.Sprint("signed_", n)); a.status != 200 {
						t.Errorf("a signed event is answered %d %s %v", a.status, a.body, a.err)
					}
				}
			}
			eventually(t, "a signed event is accepted", func() bool { return signed("signed").status == 200 })
			if refused() == 0 {
				t.Error("no stranger was refused: they did not take their share, and this shows nothing")
			}
		})
	}
}

// strangers begins so many requests, each of a mebibyte less ten bytes with a signature that can't be right, and waits until some are refused.
// end closes them.
func (r *relay) strangers(count int, forwardedFor string) (end func(), refused func() int64) {
	r.t.Helper()
	var answered atomic.Int64
	var conns []net.Conn
	var reading sync.WaitGroup
	for range count {
		conn, err := net.Dial("tcp", r.intake.address)
		if err != nil {
			r.t.Fatal(err)
		}
		conns = append(conns, conn)
		reading.Go(func() { // it may be cut, or answered 503
			_, _ = fmt.Fprintf(conn, "POST /edge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Forwarded-For: %s\r\nX-RealtorBot-Signature: %064d\r\nContent-Length: %d\r\n\r\n%s",
				forwardedFor, 0, 1<<20, strings.Repeat(" ", 1<<20-10))
			if n, _ := conn.Read(make([]byte, 512)); n > 0 {
				answered.Add(1)
			}
		})
	}
	eventually(r.t, "strangers are refused", func() bool { return answered.Load() > 0 })
	return func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
		reading.Wait()
	}, answered.Load
}
