package ingest

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// The content types, and the ways to compress them, that bodies may have.
const (
	typeJSON = 1 + iota
	typeLines

	plain
	gzipped
	zstandard
)

// kindOf reads how a body is written; 0 for a way that nobody here knows.
func kindOf(h *fasthttp.RequestHeader) (kind, encoding int) {
	switch name := mediaType(h.ContentType()); {
	case bytes.EqualFold(name, []byte("application/json")):
		kind = typeJSON
	case bytes.EqualFold(name, []byte("application/x-ndjson")):
		kind = typeLines
	}
	switch name := h.ContentEncoding(); {
	case len(name) == 0 || bytes.EqualFold(name, []byte("identity")):
		encoding = plain
	case bytes.EqualFold(name, []byte("gzip")):
		encoding = gzipped
	case bytes.EqualFold(name, []byte("zstd")):
		encoding = zstandard
	}
	return kind, encoding
}

func mediaType(contentType []byte) []byte {
	if i := bytes.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	return bytes.TrimSpace(contentType)
}
