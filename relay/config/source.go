package config

import (
	"fmt"
	"net/netip"
	"strings"

	"realtorbot-relay/sign"
)

// ownSource is the name of the source that the relay's alerts are events of.
const ownSource = "relay"

// healthPath is the intake's own; no source can have it.
const healthPath = "/health"

// readSources reads every [[source]]. It needs [server] read before it, since who may go without a credential depends
// on who can connect.
func readSources(root *table, server Server) []Source {
	tables := root.subs("source")
	if !root.has("source") {
		if !IsLoopback(server.Listen) {
			root.faultAt(root.at.key("server").key("listen"), "server.listen", "lets other machines post events "+
				"without a credential: add a [[source]] with token or secret, or listen on 127.0.0.1, [::1] or unix:/path")
		}
		return []Source{defaultSource()}
	}
	if len(tables) == 0 && len(root.faults) == 0 {
		root.fault("source", "is empty: write a [[source]], or leave it out for %s without a credential", defaultSource().Path)
	}
	return readSourceTables(tables, server)
}

func readSourceTables(tables []*table, server Server) []Source {
	section := sectionOf("source")
	sources := make([]Source, 0, len(tables))
	for _, t := range tables {
		var s Source
		section.preset(&s)
		section.read(t, &s)
		if s.Name == ownSource {
			t.fault("name", "%q is the relay's own, under which its alerts are kept: choose another", ownSource)
		}
		checkSourceCredential(t, &s, server)
		if len(s.Allow) > 0 && strings.HasPrefix(server.Listen, "unix:") {
			t.fault("allow", "does nothing on a unix socket, whose clients have no address: leave it out, and give the socket's "+
				"directory to those who may post")
		}
		if least := max(leastQueued, server.MaxBody); s.MaxQueued > 0 && s.MaxQueued < least {
			t.fault("max_queued", "must be 0B, for no limit, or from %s on, not %q: a request may have that much (server.max_body)",
				formatSize(least), formatSize(s.MaxQueued))
		}
		sources = append(sources, s)
	}
	return sources
}

// leastQueued is the least of a source's events that may be kept, in bytes.
const leastQueued = 1 << 20

// sourcePath is a path of the intake that no other source has.
var sourcePath = kind{
	schema: schema{"type": "string", "pattern": `^/[a-zA-Z0-9/_.~-]{0,255}$`, "not": schema{"pattern": `//|(^|/)\.\.?(/|$)|^` + healthPath + `$`}},
	bounds: "of a-z A-Z 0-9 / _ . ~ -",
	read: func(t *table, key string, value, into any) {
		path, reason := textOf(value)
		if reason != "" {
			t.fault(key, "%s", reason)
			return
		}
		*into.(*string) = path
		if reason := checkSourcePath(path); reason != "" {
			t.fault(key, "%s, not %q", reason, clip(path))
		} else if path == healthPath {
			t.fault(key, "%s is the relay's own: choose another", healthPath)
		} else if line, twice := t.twice(key, path); twice {
			t.fault(key, "%q is the path of the source at line %d already", path, line)
		}
	},
}

// checkSourcePath admits only paths that no HTTP library normalizes into others.
func checkSourcePath(path string) string {
	const valid = "must begin with / and have only a-z A-Z 0-9 / _ . ~ - in it"
	if !strings.HasPrefix(path, "/") || len(path) > 256 {
		return valid
	}
	for _, c := range []byte(strings.ToLower(path)) {
		if !isLowerOrDigit(c) && !strings.ContainsRune("/_.~-", rune(c)) {
			return valid
		}
	}
	if strings.Contains(path, "//") {
		return "must not have // in it"
	}
	for _, step := range strings.Split(path, "/") {
		if step == "." || step == ".." {
			return "must not have . or .. as a step"
		}
	}
	return ""
}

// sentInClear is what a token is warned about with: of server.listen by Load, of another address by SentInClear.
const sentInClear = "is sent in clear text by those on other machines: set server.tls_cert and tls_key, or listen on loopback behind " +
	"a proxy that speaks TLS; a secret, which signs, is not sent"

// SentInClear warns of each token of a source that others send in clear text to an address of the intake, in the form of
// Server.Listen. Load has warned of Server.Listen itself: a socket that systemd passes may be elsewhere.
func (c *Config) SentInClear(address string) (lines []string) {
	if IsLoopback(address) || !IsLoopback(c.Server.Listen) || c.Server.TLSCert != "" {
		return nil
	}
	for i := range c.Sources {
		if !c.Sources[i].Token.IsZero() {
			lines = append(lines, fmt.Sprintf("the token of source %q %s", c.Sources[i].Name, sentInClear))
		}
	}
	return lines
}

func checkSourceCredential(t *table, s *Source, server Server) {
	hasToken, hasSecret := t.named("token"), t.named("secret")
	if t.named("previous_token") && !hasToken {
		t.fault("previous_token", "needs token beside it: previous_token is the one that token replaced")
	}
	if t.named("previous_secret") && !hasSecret {
		t.fault("previous_secret", "needs secret beside it: previous_secret is the one that secret replaced")
	}
	if hasSecret && s.Scheme == "" {
		s.Scheme = sign.SchemeRealtorBot
	}
	if t.has("scheme") && !hasSecret {
		t.fault("scheme", "checks nothing without a secret: set secret, or leave scheme out")
	}
	if s.Scheme == sign.SchemeStandard {
		t.standardKey("secret", s.Secret)
		t.standardKey("previous_secret", s.PreviousSecret)
	}
	if hasToken && !IsLoopback(server.Listen) && server.TLSCert == "" {
		t.warn("token", sentInClear)
	}
	switch {
	case hasToken || hasSecret:
		return
	case t.included:
		t.fault("", "has neither token nor secret, and an included file opens the intake to nobody without a credential: set one")
		return
	case server.ClientCA != "":
		return
	}
	if IsLoopback(server.Listen) {
		t.warn("", "has neither token nor secret: every program on this machine can post")
		return
	}
	t.fault("", "has neither token nor secret, and other machines can connect to server.listen: "+
		"set one, or listen on 127.0.0.1, [::1] or unix:/path")
}

func checkNetwork(text string) string {
	if _, ok := parseNetwork(text); !ok {
		return `must be an address or a network like "192.0.2.0/24" or "2001:db8::/32"`
	}
	return ""
}

// parseNetwork takes IPv4 in its own form only: a client's address is compared after an IPv4 one was unmapped. Bits
// beyond the length must be zero, since they may be what was meant.
func parseNetwork(text string) (network netip.Prefix, ok bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), addr.Zone() == "" && !addr.Is4In6()
	}
	network, err := netip.ParsePrefix(text)
	return network, err == nil && network == network.Masked() && !network.Addr().Is4In6()
}

// standardKey checks a secret that Standard Webhooks signatures are made with. An empty one is somebody else's matter.
func (t *table) standardKey(key string, secret sign.Secret) {
	if secret.IsZero() {
		return
	}
	if _, err := sign.ParseStandardKey(secret); err != nil {
		t.fault(key, `with "standard" must be whsec_ and the base64 of 24 to 64 bytes; `+
			`make one with: echo "whsec_$(openssl rand -base64 32)"`)
	}
}
