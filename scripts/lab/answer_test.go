package main

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

func TestAnswersAreReadOneAfterTheOther(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader(
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: x\r\n\r\nhello"+
			"HTTP/1.1 204 No Content\r\n\r\n"+
			"HTTP/1.1 503 Service Unavailable\r\nconnection: Close\r\ncontent-length: 2\r\n\r\nno"+
			"HTTP/1.0 200 OK\ncontent-length: 0\n\n"), 64)
	for i, want := range []answer{{status: 200}, {status: 204}, {status: 503, close: true}, {status: 200, close: true}} {
		got, err := readAnswer(r)
		if err != nil || got != want {
			t.Errorf("answer %d: got %+v, %v; want %+v", i, got, err, want)
		}
	}
	if rest, _ := io.ReadAll(r); len(rest) != 0 {
		t.Errorf("left over: %q", rest)
	}
}

func TestBrokenAnswersAreErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"not HTTP":          "SSH-2.0-OpenSSH_9.6 and more\r\n\r\n",
		"no status":         "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
		"cut in headers":    "HTTP/1.1 200 OK\r\nContent-Le",
		"cut in body":       "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
		"no length":         "HTTP/1.1 200 OK\r\n\r\n",
		"chunked":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"negative length":   "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"huge length":       "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"header, no colon":  "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
		"headers for ever":  "HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 1000) + "\r\n",
		"line without end":  "HTTP/1.1 200 " + strings.Repeat("x", 100_000),
		"status line short": "HTTP/1.1\r\n\r\n",
	} {
		if got, err := readAnswer(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func TestReadAnswerAllocatesNothing(t *testing.T) {
	const text = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello"
	source := strings.NewReader(text)
	r := bufio.NewReader(source)
	n := testing.AllocsPerRun(100, func() {
		source.Reset(text)
		r.Reset(source)
		if _, err := readAnswer(r); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	f.Add("HTTP/1.1 204 No Content\r\n\r\n")
	f.Add("HTTP/1.1 200\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := readAnswer(bufio.NewReaderSize(strings.NewReader(text), 64))
		if err == nil && (a.status < 100 || a.status > 999) {
			t.Errorf("status %d", a.status)
		}
	})
}
