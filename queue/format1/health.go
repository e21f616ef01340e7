package format1

import (
	"math"
	"time"

	"realtorbot-relay/queue/codec"
)

// Health is what was known of an endpoint; all zeros in the records of older versions. Times are queue time; a zero time
// says that something is not so.
type Health struct {
	Failures    int       // failed attempts since the last one that showed that the receiver is alive
	Failing     time.Time // when the first of them failed
	Down        time.Time // since when it is down
	NextProbe   time.Time // when it is probed next while it is down
	Limited     time.Time // since when it asks for a pause, again and again
	Holds       int       // how often in a row it asked without naming a time
	HeldUntil   time.Time // until when it gets nothing
	AtATime     float64   // attempts at a time that it can take; 0: no bound was found
	PerSecond   float64   // attempts a second that it can take; 0: no bound was found
	LastSuccess time.Time
	LastError   string
	LastErrorAt time.Time
	Paused      time.Time // since when it is paused
	Lagging     time.Time // since when it lags

	// Of what the operator was told, and since when it is so.
	ToldDown, ToldLimited, ToldLagging, ToldOffline time.Time

	Flapping time.Time // since when it goes down and comes back again and again
	Changes  int       // how often it went down since then
}

// times are all times of h, in their order on disk.
func (h *Health) times() [14]*time.Time {
	return [...]*time.Time{&h.Failing, &h.Down, &h.NextProbe, &h.Limited, &h.HeldUntil, &h.LastSuccess, &h.LastErrorAt,
		&h.Paused, &h.Lagging, &h.ToldDown, &h.ToldLimited, &h.ToldLagging, &h.ToldOffline, &h.Flapping}
}

func parseHealth(d *codec.Decoder) (h Health) {
	for _, n := range [...]*int{&h.Failures, &h.Holds, &h.Changes} {
		*n = int(min(d.Uvarint(), math.MaxInt32))
	}
	for _, f := range [...]*float64{&h.AtATime, &h.PerSecond} {
		if *f = math.Float64frombits(d.Uvarint()); *f != *f || math.IsInf(*f, 0) {
			d.Fail()
		}
	}
	for _, t := range h.times() {
		if ms := d.Varint(); ms != 0 {
			*t = time.UnixMilli(ms)
		}
	}
	h.LastError = string(d.Text())
	return h
}
