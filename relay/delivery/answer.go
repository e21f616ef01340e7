package delivery

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"
)

// errInvalidStatus is an answer whose status is none: below 100.
var errInvalidStatus = errors.New("invalid status code")

// readAnswer reads the answer that has begun to arrive in s.reader, into s.answer and o.Status, and returns the beginning
// of its body (valid until s is used again) and whether the connection is fit for another attempt.
//
// From an answer of any length at most excerptLimit bytes of body are read. Buffering the body within fasthttp's own limit
// would lose them: an answer beyond MaxResponseBodySize comes back empty. So the body is read as a stream, into the buffer
// that the request was written from.
//
// With an error, either there is no status (o.Status is 0), or there is one and the body did not end in time. A body that
// breaks off otherwise is no error: the status has come, and receivers that miscount their Content-Length mean it.
func (s *scratch) readAnswer(o *Outcome, now time.Time) (body []byte, reusable bool, err error) {
	s.answer.Reset()
	s.answer.StreamBody = true
	if line, _ := s.reader.Peek(len("HTTP/1.1 000")); bytes.HasSuffix(line, []byte(" 000")) {
		return nil, false, errInvalidStatus // fasthttp would take it for 200
	}
	if err := s.answer.ReadLimitBody(s.reader, 0); err != nil {
		return nil, false, err
	}
	defer s.answer.CloseBodyStream()

	status := s.answer.StatusCode()
	if status < 100 {
		return nil, false, errInvalidStatus
	}
	o.Status = status
	if status == fasthttp.StatusTooManyRequests || status == fasthttp.StatusServiceUnavailable {
		header := &s.answer.Header
		o.RetryAfter = ParseRetryAfter(string(header.Peek("Retry-After")), string(header.Peek("Date")), now)
	}

	ended := true
	if stream := s.answer.BodyStream(); stream != nil {
		body, ended, err = readExcerpt(s.buf[:0], stream)
		s.buf = body
		if err != nil && !isTimeout(err) {
			err = nil
		}
	}
	// Bytes beyond the answer would be taken for the next one's beginning.
	reusable = ended && !s.answer.ConnectionClose() && s.reader.Buffered() == 0 &&
		status != fasthttp.StatusSwitchingProtocols
	return body, reusable, err
}

// readExcerpt fills dst from stream up to excerptLimit; ended tells that the stream came to its end.
func readExcerpt(dst []byte, stream io.Reader) (excerpt []byte, ended bool, err error) {
	for len(dst) < excerptLimit {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := stream.Read(dst[len(dst):min(cap(dst), excerptLimit)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, true, nil
		}
		if err != nil {
			return dst, false, err
		}
	}
	return dst, false, nil
}
