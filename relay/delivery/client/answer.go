package client

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

var (
	// errInvalidStatus: the status of the answer is below 100.
	errInvalidStatus = errors.New("invalid status code")
	// errNotHTTP: the answer does not begin as HTTP does.
	errNotHTTP = errors.New("no HTTP answer")
	// errHeadTooLong: the status line and headers are longer than headerLimit, or more than mostHeaders lines.
	errHeadTooLong = errors.New("the answer's headers are too long")
)

// readStatus reads the answer that has begun to arrive in s.in, up to its body. It skips interim answers and leaves the rest in
// s.answer.Header, o.Status and o.RetryAfter. After an error there is no status.
func (s *scratch) readStatus(o *Outcome, now time.Time) error {
	s.answer.Reset()
	s.answer.StreamBody = true
	for {
		if err := s.readHead(); err != nil {
			return err
		}
		status := s.answer.StatusCode()
		if status < 100 {
			return errInvalidStatus
		}
		if status < 200 && status != fasthttp.StatusSwitchingProtocols {
			continue
		}
		o.Status = status
		if status == fasthttp.StatusTooManyRequests || status == fasthttp.StatusServiceUnavailable {
			header := &s.answer.Header
			o.RetryAfter = parseRetryAfter(string(header.Peek("Retry-After")), string(header.Peek("Date")), now)
		}
		return nil
	}
}

// readHead reads one status line and its headers. Their lines may end in LF alone (RFC 9112, section 2.2), which fasthttp's
// parser does not take: readHead hands it CRLF.
func (s *scratch) readHead() error {
	head, err := s.peekHead()
	if err != nil {
		return err
	}
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	if _, status, _ := bytes.Cut(line, []byte{' '}); bytes.HasPrefix(bytes.TrimLeft(status, " "), []byte("000")) {
		return errInvalidStatus // fasthttp would take it for 200
	}
	lines := bytes.Count(head, []byte{'\n'})
	if bytes.Count(head, []byte("\r\n")) == lines {
		return s.answer.Header.Read(s.in)
	}
	proper := make([]byte, 0, len(head)+lines)
	for line := range bytes.SplitAfterSeq(head, []byte{'\n'}) {
		if line, ended := bytes.CutSuffix(line, []byte{'\n'}); ended {
			proper = append(append(proper, bytes.TrimSuffix(line, []byte{'\r'})...), "\r\n"...)
		}
	}
	_, _ = s.in.Discard(len(head)) // they are in its buffer
	return s.answer.Header.Read(bufio.NewReaderSize(bytes.NewReader(proper), len(proper)))
}

// peekHead waits until s.in holds a status line and headers up to the empty line behind them, and returns them without
// consuming them. It drops empty lines before them.
func (s *scratch) peekHead() ([]byte, error) {
	searched := 0 // bytes that hold no end
	for {
		_, err := s.in.Peek(searched + 1)
		b, _ := s.in.Peek(s.in.Buffered())
		if blank := len(b) - len(bytes.TrimLeft(b, "\r\n")); searched == 0 && blank > 0 {
			_, _ = s.in.Discard(blank)
			continue
		}
		const begin = "HTTP/"
		if !strings.HasPrefix(begin, string(b[:min(len(b), len(begin))])) {
			return nil, errNotHTTP
		}
		if end := headEnd(b, searched); end > 0 {
			if bytes.Count(b[:end], []byte{'\n'}) > mostHeaders {
				return nil, errHeadTooLong
			}
			return b[:end], nil
		}
		switch {
		case err == nil:
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case s.in == s.wide:
			return nil, errHeadTooLong
		default:
			s.widen(b)
		}
		searched = len(b)
	}
}

// headEnd is the length of the head that b begins with, the empty line behind it included; 0 when b holds no whole one.
// In the first searched bytes its end was searched for before.
func headEnd(b []byte, searched int) int {
	for i := max(searched-2, 0); ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return 0
		}
		i += j + 1
		switch {
		case bytes.HasPrefix(b[i:], []byte{'\n'}):
			return i + 1
		case bytes.HasPrefix(b[i:], []byte("\r\n")):
			return i + 2
		}
	}
}

// hasNoBody reports whether an answer with this status has no body, whatever its headers say (RFC 9112, section 6.3).
func hasNoBody(status int) bool {
	return status < 200 || status == fasthttp.StatusNoContent || status == fasthttp.StatusNotModified
}

// bodyArrived reports whether s.in holds the whole body, or there is none.
func (s *scratch) bodyArrived(status int) bool {
	length := s.answer.Header.ContentLength()
	return hasNoBody(status) || length >= 0 && length <= s.in.Buffered()
}

// readBody reads the beginning of an answer's body into buf, for the excerpt, and reports whether the connection can carry
// another attempt. Its head has been read. Since the status has come, no trouble with the body is an error of the attempt: some
// receivers miscount their Content-Length, and some never end.
//
// It reads at most excerptLimit bytes, of a body of any length. It reads them as a stream, because fasthttp returns nothing of
// a body beyond MaxResponseBodySize.
func (s *scratch) readBody(o *Outcome, buf []byte) (body []byte, reusable bool) {
	body, ended := buf[:0], true
	if !hasNoBody(o.Status) {
		_ = s.answer.ReadBody(s.in, 0) // makes the stream, and reads nothing
		body, ended = readExcerpt(body, s.answer.BodyStream())
		_ = s.answer.CloseBodyStream()
	}
	// Bytes beyond the answer would be taken for the beginning of the next one.
	reusable = ended && !s.answer.ConnectionClose() && s.in.Buffered() == 0 && o.Status != fasthttp.StatusSwitchingProtocols
	return body, reusable
}
