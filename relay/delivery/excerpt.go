package delivery

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strconv"
	"strings"
)

// unpacked is the text of an excerpt that came compressed, though nobody asked for that: as much of it as comes out of
// the bytes that were read, at most excerptLimit. What nothing here unpacks is said to be compressed instead of shown.
func unpacked(excerpt []byte, encoding string) []byte {
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
		// zlib's form by the letter of RFC 9110, and bare by the habit of some.
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
	return []byte("(" + strconv.Itoa(len(excerpt)) + " bytes compressed as " + strconv.Quote(oneLine(encoding)) + ")")
}
