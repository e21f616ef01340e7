package delivery

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// skew is how far an endpoint's clock is from this machine's, as the Date headers of its answers show it. It looks at one
// answer a second at most.
type skew struct {
	looked atomic.Int64 // Unix seconds of the answer looked at last; 0 before the first
	nanos  atomic.Int64 // how far the endpoint's clock is ahead
}

// note looks at an answer that came to an attempt begun at, took later. A Date has whole seconds and was written at some
// moment of the attempt: what both explain is no skew.
func (k *skew) note(header *fasthttp.ResponseHeader, at time.Time, took time.Duration) {
	if last := k.looked.Load(); at.Unix() == last {
		return
	}
	date, err := fasthttp.ParseHTTPDate(header.Peek(fasthttp.HeaderDate))
	if err != nil {
		return
	}
	k.looked.Store(at.Unix())
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

// seen tells what was seen last, and when; a zero time when nothing was.
func (k *skew) seen() (ahead time.Duration, at time.Time) {
	if looked := k.looked.Load(); looked != 0 {
		return time.Duration(k.nanos.Load()), time.Unix(looked, 0)
	}
	return 0, time.Time{}
}

// skewFresh is for how long what an answer said about the clocks counts.
const skewFresh = time.Hour

// ClockSkew is how far the clocks of the endpoints are ahead of this machine's, in seconds, as most of those heard from
// within the last hour have it: the median, of two in the middle the smaller skew. endpoints is how many these are; with 0
// nothing is known.
func ClockSkew(statuses []Status, now time.Time) (ahead float64, endpoints int) {
	var all []float64
	for i := range statuses {
		if s := &statuses[i]; s.ClockSkew != nil && now.Sub(*s.ClockSeen) < skewFresh {
			all = append(all, *s.ClockSkew)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if math.Abs(high) < math.Abs(low) {
		low = high
	}
	return low, len(all)
}
