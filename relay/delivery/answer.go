package delivery

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

var (
	// errInvalidStatus is an answer whose status is none: below 100.
	errInvalidStatus = errors.New("invalid status code")
	// errNotHTTP is an answer that begins otherwise than one of HTTP does.
	errNotHTTP = errors.New("no HTTP answer")
	// errHeadTooLong is a status line and headers beyond headerLimit.
	errHeadTooLong = errors.New("the answer's headers are too long")
)

// readStatus reads the answer that has begun to arrive in s.in up to its body: interim answers are passed over, and the
// rest is in s.answer.Header, o.Status and o.RetryAfter. After an error there is no status.
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
			o.RetryAfter = ParseRetryAfter(string(header.Peek("Retry-After")), string(header.Peek("Date")), now)
		}
		return nil
	}
}

// readHead reads one status line and its headers, whose lines may end in LF alone (RFC 9112, section 2.2); fasthttp's
// parser wants CRLF, and gets it.
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
// taking them out. Empty lines before them are dropped.
func (s *scratch) peekHead() ([]byte, error) {
	looked := 0 // bytes in which there is no end
	for {
		_, err := s.in.Peek(looked + 1)
		b, _ := s.in.Peek(s.in.Buffered())
		if blank := len(b) - len(bytes.TrimLeft(b, "\r\n")); looked == 0 && blank > 0 {
			_, _ = s.in.Discard(blank)
			continue
		}
		const begin = "HTTP/"
		if !strings.HasPrefix(begin, string(b[:min(len(b), len(begin))])) {
			return nil, errNotHTTP
		}
		if end := headEnd(b, looked); end > 0 {
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
		looked = len(b)
	}
}

// headEnd is the length of the head that b begins with, the empty line behind it included; 0 when b holds no whole one.
// In the first looked bytes its end was looked for before.
func headEnd(b []byte, looked int) int {
	for i := max(looked-2, 0); ; {
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

// bodyless are the answers that have no body, whatever their headers say (RFC 9112, section 6.3).
func bodyless(status int) bool {
	return status < 200 || status == fasthttp.StatusNoContent || status == fasthttp.StatusNotModified
}

// bodyHasCome reports that the body is in s.in already, or that there is none.
func (s *scratch) bodyHasCome(status int) bool {
	length := s.answer.Header.ContentLength()
	return bodyless(status) || length >= 0 && length <= s.in.Buffered()
}

// readBody reads the beginning of the body of an answer whose head was read into buf, for the excerpt, and says whether
// the connection is fit for another attempt. The status has come: whatever becomes of the body, that is no error of the
// attempt. There are receivers that miscount their Content-Length, and some that never end.
//
// From a body of any length at most excerptLimit bytes are read. Buffering it within fasthttp's own limit would lose them:
// an answer beyond MaxResponseBodySize comes back empty. So it is read as a stream.
func (s *scratch) readBody(o *Outcome, buf []byte) (body []byte, reusable bool) {
	body, ended := buf[:0], true
	if !bodyless(o.Status) {
		_ = s.answer.ReadBody(s.in, 0) // makes the stream, and reads nothing
		body, ended = readExcerpt(body, s.answer.BodyStream())
		_ = s.answer.CloseBodyStream()
	}
	// Bytes beyond the answer would be taken for the next one's beginning.
	reusable = ended && !s.answer.ConnectionClose() && s.in.Buffered() == 0 && o.Status != fasthttp.StatusSwitchingProtocols
	return body, reusable
}

// readExcerpt fills dst from stream up to excerptLimit; ended tells that the stream came to its end.
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
