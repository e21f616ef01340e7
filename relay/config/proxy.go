package config

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"realtorbot-relay/sign"
)

// The kinds of proxy.
const (
	ProxyHTTP   = "http"   // CONNECT for https endpoints, the whole URL in the request line for http ones
	ProxySOCKS5 = "socks5" // RFC 1928
)

// Proxy is what an endpoint's connections go through. The zero Proxy is none: they go straight there, whatever HTTP_PROXY
// and its kin in the environment say.
type Proxy struct {
	Kind string // ProxyHTTP or ProxySOCKS5; empty without a proxy
	Host string // a name or an address, without brackets
	Port uint16
	// User and Password are empty for a proxy that asks for none. A user may be a credential as well: both are hidden.
	User, Password sign.Secret
}

// IsZero reports whether there is no proxy.
func (p Proxy) IsZero() bool { return p.Kind == "" }

// Address is host:port, to dial and to show.
func (p Proxy) Address() string {
	host := p.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(p.Port))
}

// String is the proxy as the file has it, with stars for its credentials; empty without a proxy.
func (p Proxy) String() string {
	if p.IsZero() {
		return ""
	}
	return p.Kind + "://" + ifSet(p.hasCredentials(), "********@") + p.Address()
}

func (p Proxy) hasCredentials() bool { return !p.User.IsZero() || !p.Password.IsZero() }

// proxy is the URL of a proxy, in place or by reference, since it may hold a password. No fault shows any of it but its host. An
// empty one is none, also where the default is another.
var proxy = kind{
	schema: schema{"type": "string", "pattern": `^$|^(env|file|cred):|^([hH][tT][tT][pP]|[sS][oO][cC][kK][sS]5)://`},
	secret: true,
	read: func(t *table, key string, value, into any) {
		inPlace := t.literals
		text := t.secret(key, value)
		if text.IsZero() {
			if value == "" {
				*into.(*Proxy) = Proxy{}
			}
			return // else it has been told why
		}
		proxy, reason := parseProxy(text.Reveal())
		if reason != "" {
			t.fault(key, "%s", reason)
			return
		}
		if !proxy.hasCredentials() {
			t.literals = inPlace
		}
		*into.(*Proxy) = proxy
	},
}

// parseProxy says what is wrong with a proxy's URL, or "".
func parseProxy(text string) (p Proxy, reason string) {
	const example = `must be like "http://proxy.internal:3128" or "socks5://user:password@127.0.0.1:1080"`
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return p, "must be printable ASCII without spaces and backslashes: write others as %XX" + holding(text)
		}
	}
	kind, rest, ok := strings.Cut(text, "://")
	kind = strings.ToLower(kind)
	if !ok || kind != ProxyHTTP && kind != ProxySOCKS5 {
		return p, example
	}
	rest = strings.TrimSuffix(rest, "/")
	if strings.ContainsAny(rest, "/?#") {
		return p, "must end after its port: write / ? and # in a user or password as %2F %3F and %23"
	}
	authority := rest[strings.LastIndexByte(rest, '@')+1:]
	if strings.Contains(authority, "%") {
		return p, "must not have a zone or an escape in its host"
	}
	parsed, err := url.Parse(kind + "://" + rest)
	if err != nil || parsed.Hostname() == "" {
		return p, example
	}
	port, err := strconv.ParseUint(parsed.Port(), 10, 16)
	if err != nil || port == 0 {
		return p, "must name the proxy's port, from 1 to 65535, as in http://proxy.internal:3128"
	}
	p = Proxy{Kind: kind, Host: strings.ToLower(parsed.Hostname()), Port: uint16(port)}
	if addr, err := netip.ParseAddr(p.Host); err == nil {
		if reason := checkAddress(addr.Unmap()); reason != "" {
			return p, reason
		}
	} else if reason := checkName(p.Host); reason != "" {
		return p, reason
	}
	password, _ := parsed.User.Password()
	p.User, p.Password = sign.NewSecret(parsed.User.Username()), sign.NewSecret(password)
	return p, checkProxyCredentials(p)
}

func checkProxyCredentials(p Proxy) string {
	user, password := p.User.Reveal(), p.Password.Reveal()
	for _, c := range []byte(user + password) {
		if c < ' ' || c == 0x7f {
			return "must not have control characters in its user or password"
		}
	}
	switch {
	case p.Kind == ProxyHTTP && strings.Contains(user, ":"):
		return "must not have a colon in its user, which HTTP has no way to say"
	case p.Kind == ProxySOCKS5 && p.hasCredentials() && (user == "" || password == "" || len(user) > 255 || len(password) > 255):
		return "must have a user and a password of 1 to 255 bytes each, or neither: SOCKS 5 has no others"
	}
	return ""
}
