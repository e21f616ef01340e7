package answer

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// wire follows the requests on a connection as their bytes come, so that what is read of a socket is bounded and not only
// what is read of bodies: request line, headers, blank lines in front, the sizes of chunks with their extensions, trailers.
// It is stricter than fasthttp, which reads behind it, wherever two programs on a request's path may disagree. The zero
// wire is before its first request. It is used by one goroutine at a time.
type wire struct {
	at      place
	line    [64]byte // the beginning of the line that is read
	length  int      // of that line so far
	last    byte     // of that line
	head    int      // bytes of the request line, headers and blank lines
	lines   int      // of the headers, or of the trailers
	left    int64    // of a body or a chunk
	body    int64    // what Content-Length says
	chunked bool
	framing int64 // bytes of a body in chunks that are none of the body
	data    int64 // and those that are
}

// place is where in a request the next byte is.
type place uint8

const (
	inFront place = iota // of the request line
	inHead               // in the headers
	inBody               // of a known length
	atSize               // of a chunk
	inChunk              // in its data
	atEnd                // of its data, where a line ends
	inTrailer
)

const (
	// blankBytes are let pass in front of a request: two line ends too many.
	blankBytes = 4
	// mostHeaders is how many headers, and how many trailers, a request may have: fasthttp keeps some 70 bytes for each, as long as the
	// connection lasts, and 8 KiB have room for two thousand.
	mostHeaders = 100
	// sizeBytes is the longest line of a chunk's size, its extensions included.
	sizeBytes = 1 << 10
	// framingBytes is how many bytes a body in chunks may have that are none of it, beside one for each that is.
	framingBytes = 16 << 10
)

// disagreement is why a request can't be read, for the client.
type disagreement string

func (d disagreement) Error() string { return string(d) }

const (
	badLine    disagreement = "a line does not end in CR LF"
	badBlank   disagreement = "a request begins with its request line"
	badSize    disagreement = "the size of a chunk is hexadecimal digits, with nothing behind it but extensions"
	badChunk   disagreement = "a chunk does not end where its size says"
	badFraming disagreement = "the body is in chunks that are more framing than body"
	badHead    disagreement = "the headers do not end"
	badCount   disagreement = "a request may have 100 headers, and as many trailers"
	badBody    disagreement = "the value of Content-Length is a number, without more than a few blanks around it"
)

// read follows bytes that came. After an error nothing more can be understood.
func (w *wire) read(p []byte) error {
	for len(p) > 0 {
		switch w.at {
		case inBody, inChunk:
			n := min(w.left, int64(len(p)))
			p, w.left = p[n:], w.left-n
			if w.left > 0 {
				return nil
			}
			if w.at == inBody {
				*w = wire{}
			} else {
				w.at = atEnd
			}
		default:
			end := bytes.IndexByte(p, '\n')
			piece := p
			if end >= 0 {
				piece = p[:end+1]
			}
			if err := w.piece(piece); err != nil {
				return err
			}
			p = p[len(piece):]
			if end < 0 {
				return nil
			}
			if err := w.ended(); err != nil {
				return err
			}
		}
	}
	return nil
}

// piece is a part of a line, or all of it.
func (w *wire) piece(p []byte) error {
	if w.length < len(w.line) {
		copy(w.line[w.length:], p)
	}
	w.length += len(p)
	if len(p) > 1 {
		w.last = p[len(p)-2]
	}
	if p[len(p)-1] != '\n' {
		w.last = p[len(p)-1]
	}
	switch w.at {
	case inFront, inHead:
		if w.head += len(p); w.head > headerBytes+blankBytes+1 { // which fasthttp has answered by then
			return badHead
		}
	case atSize:
		if w.framing += int64(len(p)); w.length > sizeBytes {
			return badSize
		}
	case atEnd:
		if w.framing += int64(len(p)); w.length > 2 {
			return badChunk
		}
	case inTrailer:
		w.framing += int64(len(p))
	}
	if w.framing > framingBytes+w.data {
		return badFraming
	}
	return nil
}

// ended is the end of a line.
func (w *wire) ended() error {
	if w.length < 2 || w.last != '\r' {
		return badLine
	}
	line, blank := w.line[:min(w.length-2, len(w.line))], w.length == 2
	whole := w.length-2 <= len(w.line)
	w.length, w.last = 0, 0
	switch w.at {
	case inFront:
		if !blank {
			w.at = inHead
		} else if w.head > blankBytes {
			return badBlank
		}
	case inHead:
		if !blank {
			if w.lines++; w.lines > mostHeaders {
				return badCount
			}
			return w.header(line, whole)
		}
		switch {
		case w.chunked:
			w.at, w.lines = atSize, 0
		case w.body > 0:
			w.at, w.left = inBody, w.body
		default:
			*w = wire{}
		}
	case atSize:
		size, ok := sizeOf(line)
		if !ok {
			return badSize
		}
		w.at, w.left = inChunk, size
		w.data += size
		if size == 0 {
			w.at = inTrailer
		}
	case atEnd:
		w.at = atSize
	case inTrailer:
		if blank {
			*w = wire{}
		} else if w.lines++; w.lines > mostHeaders {
			return badCount
		}
	}
	return nil
}

// header notes what a line of the headers says about the body. Whether two of them agree is looked at by framing. whole: nothing of
// the line is missing.
func (w *wire) header(line []byte, whole bool) error {
	switch {
	case isHeader(line, fasthttp.HeaderContentLength):
		if w.body = 0; !whole {
			return badBody // fasthttp would find a number behind so many blanks
		}
		for _, c := range bytes.TrimSpace(line[len(fasthttp.HeaderContentLength)+1:]) {
			if c < '0' || c > '9' || w.body > 1<<50 {
				w.body = 0
				return nil // fasthttp refuses it
			}
			w.body = w.body*10 + int64(c-'0')
		}
	case isHeader(line, fasthttp.HeaderTransferEncoding):
		w.chunked = true // or it is refused
	}
	return nil
}

// sizeOf reads the line of a chunk's size: digits, and extensions behind a semicolon, in which nothing is that a line can't
// have.
func sizeOf(line []byte) (size int64, ok bool) {
	digits := 0
	for _, c := range line {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		case c == ';' && digits > 0:
			for _, c := range line[digits:] {
				if c < ' ' && c != '\t' || c == 0x7f {
					return 0, false
				}
			}
			return size, true
		default:
			return 0, false
		}
		if digits++; digits > 12 {
			return 0, false
		}
		size = size<<4 | int64(c)
	}
	return size, digits > 0
}
