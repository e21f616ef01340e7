package client

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// Request is what one attempt sends. The Client reads it during Attempt and keeps nothing of it.
type Request struct {
	ID, Type []byte          // of the event
	Body     []byte          // in canonical form: sent and signed byte for byte
	Attempt  int             // number of the attempt, from 1
	Replay   string          // value of X-RealtorBot-Replay; empty leaves the header out
	CopyOf   *FailedDelivery // nil, which leaves the X-RealtorBot-Failed headers out, unless the event is sent on for on_failed
}

// FailedDelivery is a delivery that failed at another endpoint, whose on_failed names this one.
type FailedDelivery struct{ Endpoint, Class, Reason string }

// template writes the requests to an endpoint. Names of headers go out as they are written here: HTTP doesn't care, but people
// who compare a capture with a manual do. It is immutable.
type template struct {
	head     []byte // request line and the headers that are the same each time, endpoint's own included
	signer   *sign.Signer
	scheme   string // http or https
	host     string // without port and brackets
	address  string // host:port, to dial and to show
	tunnels  bool   // an HTTP proxy is asked for a tunnel, not for the whole URL
	signsRB  bool
	signsStd bool
	mask     func() mask // of what a receiver echoes; made when something is masked for the first time
}

// newTemplate prepares the requests to ep. Its errors don't show the URL, which may hold credentials.
func newTemplate(ep *config.Endpoint, version string) (*template, error) {
	u, err := url.Parse(ep.URL.Reveal())
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, &endpointError{ep.Name, "url is not an http or https URL with a host"}
	}
	signer, err := sign.NewSigner(ep.Signatures, ep.Secret, ep.PreviousSecret)
	if err != nil {
		return nil, &endpointError{ep.Name, err.Error()}
	}
	t := &template{
		signer:   signer,
		scheme:   u.Scheme,
		host:     u.Hostname(),
		address:  dialAddress(u),
		signsRB:  !ep.Secret.IsZero() && slices.Contains(ep.Signatures, sign.SchemeRealtorBot),
		signsStd: !ep.Secret.IsZero() && slices.Contains(ep.Signatures, sign.SchemeStandard),
	}

	// A proxy that gets a whole URL looks its host up itself. Where the address that was checked has to be the one that is
	// connected to, the proxy is asked for a tunnel.
	t.tunnels = t.scheme == "https" || ep.Delivery.ProxyLookup == config.LookupAddress
	head := []byte("POST ")
	if ep.Delivery.Proxy.Kind == config.ProxyHTTP && !t.tunnels {
		head = appendHeader(head, "http://", u.Host) // no tunnel: the proxy is asked for the whole URL
	}
	head = append(head, requestTarget(ep.URL.Reveal())...)
	head = append(head, " HTTP/1.1"...)
	head = appendHeader(head, "\r\nHost: ", u.Host)
	head = appendHeader(head, "\r\nUser-Agent: RealtorBot-Relay/", version)
	if value := proxyAuthorization(ep.Delivery.Proxy); value != "" && !t.tunnels && ep.Delivery.Proxy.Kind == config.ProxyHTTP {
		head = appendHeader(head, "\r\nProxy-Authorization: ", value)
	}
	head = append(head, "\r\nContent-Type: application/json"...)
	names := make([]string, 0, len(ep.Headers))
	for name := range ep.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := ep.Headers[name].Reveal()
		head = appendHeader(head, "\r\n", name)
		head = appendHeader(head, ": ", value)
	}
	t.head = head
	t.mask = sync.OnceValue(func() mask { return newMask(ep) })
	return t, nil
}

// append adds the request for r to dst, up to the empty line before the body. unix is the attempt's time in seconds.
func (t *template) append(dst []byte, r *Request, unix int64) []byte {
	dst = append(dst, t.head...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Body)), 10)
	if t.signsRB {
		dst = append(dst, "\r\nX-RealtorBot-Signature: "...)
		dst = t.signer.RealtorBot(dst, r.Body)
	}
	dst = appendHeader(dst, "\r\nX-RealtorBot-Event: ", r.Type)
	dst = append(dst, "\r\nX-RealtorBot-Attempt: "...)
	dst = strconv.AppendInt(dst, int64(r.Attempt), 10)
	if r.Replay != "" {
		dst = appendHeader(dst, "\r\nX-RealtorBot-Replay: ", r.Replay)
	}
	if r.CopyOf != nil {
		dst = appendFailed(dst, r.CopyOf)
	}
	dst = appendHeader(dst, "\r\nwebhook-id: ", r.ID)
	dst = append(dst, "\r\nwebhook-timestamp: "...)
	dst = strconv.AppendInt(dst, unix, 10)
	if t.signsStd {
		dst = append(dst, "\r\nwebhook-signature: "...)
		dst = append(dst, t.signer.Standard(nil, string(r.ID), unix, r.Body)...)
	}
	return append(dst, "\r\n\r\n"...)
}

// appendFailed adds the headers that say which delivery failed and why, in printable ASCII.
func appendFailed(dst []byte, f *FailedDelivery) []byte {
	dst = appendHeader(dst, "\r\nX-RealtorBot-Failed-Endpoint: ", f.Endpoint)
	dst = appendHeader(dst, "\r\nX-RealtorBot-Failed-Class: ", f.Class)
	dst = append(dst, "\r\nX-RealtorBot-Failed-Reason: "...)
	for _, c := range f.Reason {
		if c < ' ' || c > '~' {
			c = '?'
		}
		dst = append(dst, byte(c))
	}
	return dst
}

// appendHeader adds prefix and text, with a space for each control character: no text can end its header and begin another.
// Event ids, types and configured headers were checked on their way in; this is the second check.
func appendHeader[T string | []byte](dst []byte, prefix string, text T) []byte {
	dst = append(dst, prefix...)
	start := len(dst)
	dst = append(dst, text...)
	for i, c := range dst[start:] {
		if (c < ' ' && c != '\t') || c == 0x7f {
			dst[start+i] = ' '
		}
	}
	return dst
}

// requestTarget returns the path and query of rawURL as they are written. It percent-encodes only bytes that can't stand in a
// request line (space, control, beyond ASCII).
func requestTarget(rawURL string) []byte {
	_, rest, _ := strings.Cut(rawURL, "://")
	rest, _, _ = strings.Cut(rest, "#")
	target := "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		target = rest[i:]
	}
	out := make([]byte, 0, len(target)+1)
	if target[0] == '?' {
		out = append(out, '/')
	}
	const hex = "0123456789ABCDEF"
	for _, c := range []byte(target) {
		if c <= ' ' || c >= 0x7f {
			out = append(out, '%', hex[c>>4], hex[c&15])
			continue
		}
		out = append(out, c)
	}
	return out
}

func dialAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// endpointError says what is wrong with an endpoint's configuration, and shows none of its values.
type endpointError struct{ endpoint, reason string }

func (e *endpointError) Error() string {
	return "prepare endpoint " + strconv.Quote(e.endpoint) + ": " + e.reason
}
