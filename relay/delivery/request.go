package delivery

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// request writes the bytes of an endpoint's attempts. Names of headers go out as they are written here: HTTP doesn't
// care, but people who compare a capture with a manual do. It never changes, and is safe for concurrent use.
type request struct {
	head     []byte // request line and the headers that are the same each time, endpoint's own included
	signer   *sign.Signer
	scheme   string // http or https
	host     string // without port and brackets
	address  string // host:port, to dial and to show
	tunnels  bool   // an HTTP proxy is asked for a tunnel, not for the whole URL
	signsRB  bool
	signsStd bool
	mask     mask // of what a receiver echoes
}

// newRequest prepares the requests for ep. Errors don't show the URL, which may hold credentials.
func newRequest(ep *config.Endpoint, version string) (*request, error) {
	u, err := url.Parse(ep.URL.Reveal())
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, &endpointError{ep.Name, "url is not an http or https URL with a host"}
	}
	signer, err := sign.NewSigner(ep.Signatures, ep.Secret, ep.PreviousSecret)
	if err != nil {
		return nil, &endpointError{ep.Name, err.Error()}
	}
	r := &request{
		signer:   signer,
		scheme:   u.Scheme,
		host:     u.Hostname(),
		address:  dialAddress(u),
		signsRB:  !ep.Secret.IsZero() && slices.Contains(ep.Signatures, sign.SchemeRealtorBot),
		signsStd: !ep.Secret.IsZero() && slices.Contains(ep.Signatures, sign.SchemeStandard),
	}

	// An address that was checked has to be connected to: of a whole URL, a proxy takes the host for itself.
	r.tunnels = r.scheme == "https" || ep.Delivery.ProxyLookup == config.LookupAddress
	head := []byte("POST ")
	if ep.Delivery.Proxy.Kind == config.ProxyHTTP && !r.tunnels {
		head = appendHeader(head, "http://", u.Host) // no tunnel: the proxy is asked for the whole URL
	}
	head = append(head, requestTarget(ep.URL.Reveal())...)
	head = append(head, " HTTP/1.1"...)
	head = appendHeader(head, "\r\nHost: ", u.Host)
	head = appendHeader(head, "\r\nUser-Agent: RealtorBot-Relay/", version)
	if value := proxyAuthorization(ep.Delivery.Proxy); value != "" && !r.tunnels && ep.Delivery.Proxy.Kind == config.ProxyHTTP {
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
	r.head = head
	r.mask = newMask(ep)
	return r, nil
}

// append adds the request for p to dst up to the empty line before the body. unix is the attempt's time in seconds.
func (r *request) append(dst []byte, p *Parcel, unix int64) []byte {
	dst = append(dst, r.head...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(p.Body)), 10)
	if r.signsRB {
		dst = append(dst, "\r\nX-RealtorBot-Signature: "...)
		dst = r.signer.RealtorBot(dst, p.Body)
	}
	dst = appendHeader(dst, "\r\nX-RealtorBot-Event: ", p.Type)
	dst = append(dst, "\r\nX-RealtorBot-Attempt: "...)
	dst = strconv.AppendInt(dst, int64(p.Attempt), 10)
	if p.Replay != "" {
		dst = appendHeader(dst, "\r\nX-RealtorBot-Replay: ", p.Replay)
	}
	if p.Failed != nil {
		dst = appendFailed(dst, p.Failed)
	}
	dst = appendHeader(dst, "\r\nwebhook-id: ", p.ID)
	dst = append(dst, "\r\nwebhook-timestamp: "...)
	dst = strconv.AppendInt(dst, unix, 10)
	if r.signsStd {
		dst = append(dst, "\r\nwebhook-signature: "...)
		dst = append(dst, r.signer.Standard(nil, string(p.ID), unix, p.Body)...)
	}
	return append(dst, "\r\n\r\n"...)
}

// appendHeader adds prefix and text, in which a control character becomes a space: whatever text is, it stays in its
// header. Event ids, types and configured headers were checked on their way in; this is the second lock.
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

// requestTarget is the path and query of rawURL as they are written. Only bytes that can't stand in a request line
// (space, control, beyond ASCII) are percent-encoded.
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

// endpointError is a fault of an endpoint's configuration that shows none of its values.
type endpointError struct{ endpoint, reason string }

func (e *endpointError) Error() string {
	return "prepare endpoint " + strconv.Quote(e.endpoint) + ": " + e.reason
}
