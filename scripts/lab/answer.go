package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
)

const (
	maxAnswerHeaders = 64
	maxAnswerBody    = 16 << 20
)

var (
	headerLength     = []byte("content-length")
	headerConnection = []byte("connection")
	headerEncoding   = []byte("transfer-encoding")
	valueClose       = []byte("close")

	errNoLength = errors.New("read answer: no content-length")
)

// answer is what the generator wants to know of an HTTP/1.1 response (RFC 9112); the body is read and dropped.
type answer struct {
	status int
	close  bool // the server is about to close the connection
}

// readAnswer reads one response and leaves r at the start of the next. It allocates only when it fails. Responses
// without Content-Length are refused: neither the relay nor a yardstick sends any.
func readAnswer(r *bufio.Reader) (answer, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return answer{}, fmt.Errorf("read status line: %w", err)
	}
	if len(line) < len("HTTP/1.1 200\n") || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return answer{}, fmt.Errorf("read status line %q: not HTTP/1", line)
	}
	status, ok := parseDecimal(line[9:12])
	if !ok || status < 100 {
		return answer{}, fmt.Errorf("read status line %q: no status", line)
	}
	a := answer{status: int(status), close: line[7] == '0'}

	length, hasLength := uint64(0), false
	for n := 0; ; n++ {
		if n > maxAnswerHeaders {
			return answer{}, fmt.Errorf("read answer: more than %d headers", maxAnswerHeaders)
		}
		line, err = r.ReadSlice('\n')
		if err != nil {
			return answer{}, fmt.Errorf("read header: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return answer{}, fmt.Errorf("read header %q: no colon", line)
		}
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, headerLength):
			if len(value) > 9 {
				return answer{}, fmt.Errorf("read content-length %q: too large", value)
			}
			if length, hasLength = parseDecimal(value); !hasLength || length > maxAnswerBody {
				return answer{}, fmt.Errorf("read content-length %q: not a number up to %d", value, maxAnswerBody)
			}
		case bytes.EqualFold(name, headerConnection):
			a.close = a.close || bytes.EqualFold(value, valueClose)
		case bytes.EqualFold(name, headerEncoding):
			return answer{}, errNoLength
		}
	}
	if a.status == 204 || a.status == 304 {
		return a, nil
	}
	if !hasLength {
		return answer{}, errNoLength
	}
	if _, err := r.Discard(int(length)); err != nil {
		return answer{}, fmt.Errorf("read body of %d bytes: %w", length, err)
	}
	return a, nil
}
