package client

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestSkewIsWhatNoMomentOfTheAttemptExplains(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	for _, tt := range []struct {
		date string
		took time.Duration
		want time.Duration
		seen bool
	}{
		{"Fri, 02 Jan 2026 03:04:05 GMT", 100 * time.Millisecond, 0, true},
		{"Fri, 02 Jan 2026 03:04:06 GMT", 500 * time.Millisecond, 0, true}, // written at its end
		{"Fri, 02 Jan 2026 03:04:15 GMT", 400 * time.Millisecond, 9 * time.Second, true},
		{"Fri, 02 Jan 2026 03:04:04 GMT", 100 * time.Millisecond, -600 * time.Millisecond, true},
		{"Fri, 02 Jan 2026 02:04:05 GMT", time.Second, -(time.Hour - 400*time.Millisecond), true},
		{"", 0, 0, false},
		{"yesterday", 0, 0, false},
	} {
		var k Skew
		var header fasthttp.ResponseHeader
		if err := header.Read(bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nDate: " + tt.date + "\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
		k.learn(&header, at, tt.took)
		if ahead, seen := k.Last(); ahead != tt.want || !seen.IsZero() != tt.seen {
			t.Errorf("%q after %s: %s, seen %v, want %s", tt.date, tt.took, ahead, seen, tt.want)
		}
	}
}
