package client

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(answer(200, "", "ok")))
	f.Add([]byte(answer(503, "Retry-After: 5\r\nDate: Fri, 02 Jan 2026 03:05:00 GMT\r\n", "")))
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 200 OK\r\n\r\nuntil the end"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\nmore"))
	f.Add([]byte("HTTP/1.1 204 No Content\r\n\r\nbody"))
	f.Add([]byte("\r\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*initialBuffer) + "\n\nuntil the end"))
	s := scratches.New().(*scratch)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s.begin(bytes.NewReader(raw))
		defer s.end()
		var o Outcome
		err := s.readStatus(&o, time.Unix(0, 0))
		if (err == nil) != (o.Status != 0) {
			t.Fatalf("status %d with error %v", o.Status, err)
		}
		if err != nil {
			return
		}
		body, reusable := s.readBody(&o, nil)
		switch {
		case len(body) > excerptLimit:
			t.Errorf("excerpt of %d bytes", len(body))
		case o.Status < 100 || o.Status > 999:
			t.Errorf("status %d", o.Status)
		case reusable && s.in.Buffered() > 0:
			t.Errorf("%d bytes left for the next answer", s.in.Buffered())
		}
	})
}
