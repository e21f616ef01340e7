package client

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strconv"
	"strings"
)

// excerpt keeps in o a copy of a body, in the form that people may read: decompressed, and with secrets masked.
func (c *Client) excerpt(o *Outcome, body []byte, encoding string) {
	if len(body) == 0 {
		return
	}
	o.Excerpt = append(make([]byte, 0, len(body)), decompressed(body, encoding)...)
	c.template.mask().apply(o.Excerpt)
}

// readExcerpt fills dst from stream up to excerptLimit; ended reports that the stream came to its end.
func readExcerpt(dst []byte, stream io.Reader) (excerpt []byte, ended bool) {
	for len(dst) < excerptLimit {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := stream.Read(dst[len(dst):min(cap(dst), excerptLimit)])
		dst = dst[:len(dst)+n]
		if err != nil {
			return dst, err == io.EOF
		}
	}
	return dst, false
}

// decompressed returns the text of an excerpt that came compressed, although nobody asked for that: as much as the bytes that
// were read contain, at most excerptLimit. An excerpt in an unknown compression is replaced by a note that names it.
func decompressed(excerpt []byte, encoding string) []byte {
	encoding = strings.ToLower(strings.TrimSpace(encoding))
	if len(excerpt) == 0 || encoding == "" || encoding == "identity" {
		return excerpt
	}
	var text io.Reader
	var err error
	switch encoding {
	case "gzip", "x-gzip":
		text, err = gzip.NewReader(bytes.NewReader(excerpt))
	case "deflate":
		// RFC 9110 means zlib's format; some servers send bare deflate.
		if text, err = zlib.NewReader(bytes.NewReader(excerpt)); err != nil {
			text, err = flate.NewReader(bytes.NewReader(excerpt)), nil
		}
	}
	if text != nil && err == nil {
		// An excerpt may end anywhere: what came out before that is good.
		out, _ := io.ReadAll(io.LimitReader(text, excerptLimit))
		if len(out) > 0 {
			return out
		}
	}
	return []byte("(" + strconv.Itoa(len(excerpt)) + " bytes compressed as " + strconv.Quote(OneLine(encoding)) + ")")
}
