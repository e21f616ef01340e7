package config

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"realtorbot-relay/relay/address"
)

// unixPrefix begins a listen address that is the path of a unix socket.
const unixPrefix = "unix:"

// longestUnixPath is what fits into the kernel's sockaddr_un with its closing zero, in bytes.
const longestUnixPath = 107

// IsLoopback reports whether only this machine can connect to a listen address, as the file writes it or as a
// listener's own Addr().String() does: a loopback address, localhost or unix:/path. An address without host listens
// everywhere.
func IsLoopback(listen string) bool {
	if strings.HasPrefix(listen, unixPrefix) {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// hasFreePort reports whether the system chooses the port, so that two listeners of one address don't meet.
func hasFreePort(listen string) bool {
	_, port, err := net.SplitHostPort(listen)
	return err == nil && strings.Trim(port, "0") == ""
}

// checkListen says what is wrong with a listen address, host:port or unix:/path, or "".
func checkListen(text string) string {
	if path, ok := strings.CutPrefix(text, unixPrefix); ok {
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") {
			return `must be unix: and an absolute path, like "unix:/run/realtorbot-relay/intake.sock"`
		}
		if len(path) > longestUnixPath {
			return "has a path longer than the " + strconv.Itoa(longestUnixPath) + " bytes that a unix socket can have"
		}
		return ""
	}
	const example = `must be host:port or unix:/path, like "127.0.0.1:8080" or "[::1]:8080", not `
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return example + strconv.Quote(clip(text))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "must end in a port from 0 to 65535, not " + strconv.Quote(clip(port))
	}
	if host == "" {
		return ""
	}
	if _, err := netip.ParseAddr(host); err != nil && checkName(host) != "" {
		return example + strconv.Quote(clip(text))
	}
	return ""
}

// target is what the text of an endpoint's URL says about where it leads.
type target struct {
	addr  netip.Addr // the host if it is written as an address, IPv4 where it means IPv4; else the zero Addr
	host  string     // in lower case
	https bool
}

// isLoopback reports whether the URL leads to this machine by its own words.
func (t target) isLoopback() bool {
	return t.host == "localhost" || t.addr.IsValid() && address.Classify(t.addr) == address.Loopback
}

// isLocal reports whether the URL's own words keep it on this machine or on a private network.
func (t target) isLocal() bool {
	return t.isLoopback() || t.addr.IsValid() && address.Classify(t.addr) == address.Private
}

// checkURL says what is wrong with an endpoint's URL, or "". It judges the text alone; what a name resolves to is
// judged at each connection. A reason shows at most the host, since user and query may be credentials.
func checkURL(text string) (where target, reason string) {
	const example = `must be a URL like "https://example.com/webhooks"`
	for _, c := range []byte(text) {
		if c <= ' ' || c == 0x7f || c == '\\' {
			return where, "must not hold spaces, control characters or backslashes: write them as %XX"
		}
	}
	if what := unseen(text); what != "" {
		return where, "must not hold " + what + ": type it anew"
	}
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return where, example + ", beginning with http:// or https://"
	}
	if strings.Contains(rest, "#") {
		return where, "must not have a fragment: leave out # and what follows"
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority = rest[:end]
	}
	if strings.Contains(authority, "@") {
		return where, "must not hold a user or password: send them as headers = { Authorization = \"env:NAME\" }"
	}
	if strings.Contains(authority, "%") {
		return where, "must not have a zone or an escape in its host"
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" {
		return where, example
	}
	if port := parsed.Port(); port != "" || strings.HasSuffix(authority, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return where, "must have a port from 1 to 65535, or none"
		}
	}
	where = target{host: strings.ToLower(parsed.Hostname()), https: scheme == "https"}
	if addr, err := netip.ParseAddr(where.host); err == nil {
		if addr.Is4() && strings.HasPrefix(authority, "[") {
			return where, example
		}
		where.addr = addr.Unmap()
		return where, checkAddress(where.addr)
	}
	return where, checkName(where.host)
}

// checkAddress refuses literal addresses to which no delivery can be meant.
func checkAddress(addr netip.Addr) string {
	class := address.Classify(addr)
	switch {
	case addr.IsUnspecified():
		return addr.String() + " is no address to connect to: for this machine write 127.0.0.1 or [::1]"
	case addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return addr.String() + " is a group's address, not a machine's"
	case class == address.LinkLocal || class == address.Special:
		return addr.String() + " is " + class.String() + ": it is never delivered to"
	}
	return ""
}

// checkName says what is wrong with a host name, or "". A name whose last label is a number is one of the old
// spellings of an IPv4 address (127.1, 0x7f.0.0.1, 2130706433), which every resolver reads its own way.
func checkName(host string) string {
	quoted := strconv.Quote(clip(host))
	if strings.HasSuffix(host, ".") {
		return "must have a host without a dot at its end, not " + quoted
	}
	if len(host) > 253 {
		return "must have a host of at most 253 bytes"
	}
	labels := strings.Split(strings.ToLower(host), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "must have a valid host name, not " + quoted
		}
		for i := range len(label) {
			if c := label[i]; !isLowerOrDigit(c) && c != '-' && c != '_' {
				return "must have a host name of a-z 0-9 - . (others in their xn-- form), not " + quoted
			}
		}
	}
	if last := labels[len(labels)-1]; isNumber(last) {
		return "must have an IPv4 host of four plain decimal numbers, like 192.0.2.1, not " + quoted
	}
	return ""
}

// isNumber reports whether a host's label is decimal, octal or hexadecimal.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
