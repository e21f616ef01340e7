package endtoend

import (
	"strings"
	"testing"
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
