package config

import (
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
	names, paths := seen{}, seen{}
	sources := make([]Source, 0, len(tables))
	for _, t := range tables {
		var s Source
		t.ownName(&s.Name, names)
		if s.Name == ownSource {
			t.fault("name", "%q is the relay's own, under which its alerts are kept: choose another", ownSource)
		}
		readSourcePath(t, &s.Path, paths)
		readSourceCredential(t, &s, server)
		if t.networks("allow", &s.Allow); len(s.Allow) > 0 && strings.HasPrefix(server.Listen, "unix:") {
			t.fault("allow", "does nothing on a unix socket, whose clients have no address: leave it out, and give the socket's "+
				"directory to those who may post")
		}
		t.rate("rate", &s.Rate, "requests")
		readMaxQueued(t, &s.MaxQueued, server)
		t.rest()
		sources = append(sources, s)
	}
	return sources
}

func readMaxQueued(t *table, into *int64, server Server) {
	t.size("max_queued", into, 0, 1<<50)
	if least := max(leastQueued, server.MaxBody); *into > 0 && *into < least {
		t.fault("max_queued", "must be 0B, for no limit, or from %s on, not %q: a request may have that much (server.max_body)", formatSize(least), formatSize(*into))
	}
}

// leastQueued is the least of a source's events that may be kept, in bytes.
const leastQueued = 1 << 20

func readSourcePath(t *table, into *string, paths seen) {
	if !t.text("path", into) {
		if !t.has("path") {
			t.fault("path", `is missing: write path = "/events"`)
		}
		return
	}
	if reason := checkSourcePath(*into); reason != "" {
		t.fault("path", "%s, not %q", reason, clip(*into))
		return
	}
	if *into == healthPath {
		t.fault("path", "%s is the relay's own: choose another", healthPath)
		return
	}
	if line, twice := paths.before(*into, t.line("path")); twice {
		t.fault("path", "%q is the path of the source at line %d already", *into, line)
	}
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

func readSourceCredential(t *table, s *Source, server Server) {
	hasToken := t.token("token", &s.Token)
	hasSecret := t.secret("secret", &s.Secret)
	t.judgeSecret("token", s.Token, false)
	t.judgeSecret("secret", s.Secret, false)
	if t.token("previous_token", &s.PreviousToken) && !hasToken {
		t.fault("previous_token", "needs token beside it, which it is the former one of")
	}
	if t.secret("previous_secret", &s.PreviousSecret) && !hasSecret {
		t.fault("previous_secret", "needs secret beside it, which it is the former one of")
	}
	t.judgeSecret("previous_token", s.PreviousToken, false)
	t.judgeSecret("previous_secret", s.PreviousSecret, false)
	t.choice("scheme", &s.Scheme, SchemeRealtorBot, SchemeStandard)
	if hasSecret && s.Scheme == "" {
		s.Scheme = SchemeRealtorBot
	}
	if t.has("scheme") && !hasSecret {
		t.fault("scheme", "checks nothing without a secret: set secret, or leave scheme out")
	}
	if s.Scheme == SchemeStandard {
		t.standardKey("secret", s.Secret)
		t.standardKey("previous_secret", s.PreviousSecret)
	}
	if hasToken && !IsLoopback(server.Listen) && server.TLSCert == "" {
		t.warn("token", "is sent in clear text by those on other machines: set server.tls_cert and tls_key, or listen on loopback behind "+
			"a proxy that speaks TLS; a secret, which signs, is not sent")
	}
	if hasToken || hasSecret || server.ClientCA != "" {
		return
	}
	if IsLoopback(server.Listen) {
		t.warn("", "has neither token nor secret: every program on this machine can post")
		return
	}
	t.fault("", "has neither token nor secret, and other machines can connect to server.listen: "+
		"set one, or listen on 127.0.0.1, [::1] or unix:/path")
}

// networks reads a list of addresses and of networks in CIDR form.
func (t *table) networks(key string, into *[]netip.Prefix) {
	var texts []string
	t.texts(key, &texts, func(text string) string {
		if _, ok := parseNetwork(text); !ok {
			return `must be an address or a network like "192.0.2.0/24" or "2001:db8::/32"`
		}
		return ""
	})
	for _, text := range texts {
		network, _ := parseNetwork(text)
		*into = append(*into, network)
	}
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

// seen remembers on which line each name was used first.
type seen map[string]int

// before returns the line of an earlier use of name, or notes this as the first.
func (s seen) before(name string, line int) (first int, twice bool) {
	if first, twice = s[name]; !twice {
		s[name] = line
	}
	return first, twice
}

// ownName reads the name of a source or an endpoint, which has to be there, well-formed and unique, and names the table
// after it for the faults that follow.
func (t *table) ownName(into *string, names seen) {
	if !t.text("name", into) {
		if !t.has("name") {
			t.fault("name", `is missing: write name = "…" with 1-64 of a-z 0-9 _ -`)
		}
		return
	}
	if !isName(*into) {
		t.fault("name", "must be 1-64 of a-z 0-9 _ -, the first a letter or digit, not %q", clip(*into))
		return
	}
	if line, twice := names.before(*into, t.line("name")); twice {
		t.fault("name", "%q is the name of another at line %d: choose one that is free", *into, line)
		return
	}
	group, _, _ := strings.Cut(t.name, "[")
	t.name = group + "." + *into
}

func isName(text string) bool {
	if text == "" || len(text) > 64 || !isLowerOrDigit(text[0]) {
		return false
	}
	for i := range len(text) {
		if c := text[i]; !isLowerOrDigit(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
