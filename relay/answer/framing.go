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
	badName     = "the header " + unreadMark + " is the relay's own"
)

// framing says what is ambiguous about a request whose headers have been parsed, or "". It looks at them as they came:
// of some of this nothing is left in the parsed form.
func framing(h *fasthttp.RequestHeader) string {
	if version := h.Protocol(); string(version) != "HTTP/1.1" && string(version) != "HTTP/1.0" {
		return badVersion
	}
	if target := h.RequestURI(); len(target) == 0 || target[0] != '/' && string(target) != "*" {
		return badTarget
	}
	length, transfer := false, false
	for raw := h.RawHeaders(); len(raw) > 0; {
		var line []byte
		line, raw, _ = bytes.Cut(raw, []byte{'\n'})
		if len(line) == 0 {
			continue
		}
		switch line[0] {
		case ' ', '\t':
			return badFold
		case 'c', 'C':
			length = length || isHeader(line, fasthttp.HeaderContentLength)
		case 't', 'T':
			if isHeader(line, fasthttp.HeaderTransferEncoding) {
				transfer = true
				if h.ContentLength() != -1 {
					return badTransfer
				}
			}
		case 'r', 'R':
			if isHeader(line, unreadMark) {
				return badName
			}
		}
	}
	if length && transfer {
		return badLength
	}
	return ""
}

// isHeader reports whether a line of the headers is one of this name.
func isHeader(line []byte, name string) bool {
	return len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name))
}
