package client

import (
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Skew is how far an endpoint's clock is off from this machine's, as the Date headers of its answers show it. It reads one
// answer a second at most. Its zero value is ready to use. Safe for concurrent use.
type Skew struct {
	seen  atomic.Int64 // Unix seconds of the answer that was read last; 0 before the first
	nanos atomic.Int64 // how far the endpoint's clock is ahead
}

// learn reads the answer to an attempt that began at at and took took. A Date has whole seconds, and the endpoint wrote it at
// some moment of the attempt: only what these two don't explain is skew.
func (k *Skew) learn(header *fasthttp.ResponseHeader, at time.Time, took time.Duration) {
	if at.Unix() == k.seen.Load() {
		return
	}
	date, err := fasthttp.ParseHTTPDate(header.Peek(fasthttp.HeaderDate))
	if err != nil {
		return
	}
	k.seen.Store(at.Unix())
	ahead, behind := date.Add(time.Second).Sub(at), date.Sub(at.Add(took))
	switch {
	case behind > 0:
		k.nanos.Store(int64(behind))
	case ahead < 0:
		k.nanos.Store(int64(ahead))
	default:
		k.nanos.Store(0)
	}
}

// Last returns how far the endpoint's clock was ahead when last seen, and when that was; a zero time before the first answer.
func (k *Skew) Last() (ahead time.Duration, at time.Time) {
	if seen := k.seen.Load(); seen != 0 {
		return time.Duration(k.nanos.Load()), time.Unix(seen, 0)
	}
	return 0, time.Time{}
}
