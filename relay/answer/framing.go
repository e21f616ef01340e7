package answer

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// Why a request that fasthttp would take is not one that can be read. Each is a way for two programs on a request's path
// to understand different things (RFC 9112, sections 3.2, 5.2 and 6.3).
const (
	badVersion  = "the version must be HTTP/1.1 or HTTP/1.0"
	badTarget   = "the target must be a path, like /events"
	badFold     = "a header goes on in a second line"
	badLength   = "Content-Length and Transfer-Encoding exclude each other"
	badTransfer = "Transfer-Encoding must be chunked"
	badMark     = "the header " + unreadMark + " is the relay's own"
	badName     = "the name of a header has a character that names do not have"
	badHost     = "Host must be one host, with or without a port"
	badPairs    = "a request may have 100 parameters, and as many cookies"
)

// mostPairs is how many parameters of the query, and how many cookies, a request may have. Each takes twenty times the two bytes that it
// may have come as, once somebody asks for one of them.
const mostPairs = 100

// framing says what is ambiguous about a request whose headers have been parsed, or "". It looks at them as they came:
// of some of this nothing is left in the parsed form.
func framing(h *fasthttp.RequestHeader) string {
	if version := h.Protocol(); string(version) != "HTTP/1.1" && string(version) != "HTTP/1.0" {
		return badVersion
	}
	if target := h.RequestURI(); len(target) == 0 || target[0] != '/' && string(target) != "*" {
		return badTarget
	}
	if bytes.Count(h.RequestURI(), []byte{'&'}) >= mostPairs {
		return badPairs
	}
	length, transfer, host := false, false, false
	for raw := h.RawHeaders(); len(raw) > 0; {
		var line []byte
		line, raw, _ = bytes.Cut(raw, []byte{'\n'})
		if len(line) == 0 || line[0] == '\r' {
			continue
		}
		switch line[0] {
		case ' ', '\t':
			return badFold
		case 'c', 'C':
			length = length || isHeader(line, fasthttp.HeaderContentLength)
			if isHeader(line, fasthttp.HeaderCookie) && bytes.Count(line, []byte{';'}) >= mostPairs {
				return badPairs
			}
		case 't', 'T':
			if isHeader(line, fasthttp.HeaderTransferEncoding) {
				transfer = true
				if h.ContentLength() != -1 {
					return badTransfer
				}
			}
		case 'r', 'R':
			if isHeader(line, unreadMark) {
				return badMark
			}
		case 'h', 'H':
			if isHeader(line, fasthttp.HeaderHost) {
				if host || !isHost(bytes.TrimSpace(line[len(fasthttp.HeaderHost)+1:])) {
					return badHost
				}
				host = true
			}
		}
		if !hasName(line) {
			return badName
		}
	}
	if length && transfer {
		return badLength
	}
	return ""
}

// hasName reports whether a line of the headers begins with a name (RFC 9110, section 5.6.2) and a colon.
func hasName(line []byte) bool {
	for i, c := range line {
		switch {
		case c == ':':
			return i > 0
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_':
		case bytes.IndexByte([]byte("!#$%&'*+.^`|~"), c) < 0:
			return false
		}
	}
	return false
}

// isHost reports whether a value has nothing in it that no host and port have (RFC 3986, section 3.2): in particular no
// user, path or list.
func isHost(value []byte) bool {
	for _, c := range value {
		if c <= ' ' || c >= 0x7f || bytes.IndexByte([]byte("@/\\?#,\"<>^`{|}"), c) >= 0 {
			return false
		}
	}
	return true
}

// isHeader reports whether a line of the headers is one of this name.
func isHeader(line []byte, name string) bool {
	return len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name))
}
