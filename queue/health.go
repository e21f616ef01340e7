package queue

import (
	"encoding/binary"
	"math"
	"time"

	"realtorbot-relay/queue/codec"
)

// Health is what the delivering side knows of an endpoint and must know again after a restart. The queue saves it with the
// lane's progress and does not interpret it. Times are the wall clock's; a zero time says that something is not so.
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
	LastError   string // one line; its first 256 bytes are saved
	LastErrorAt time.Time
	Paused      time.Time // since when it is paused
	Lagging     time.Time // since when it lags
	Hastened    time.Time // when waiting retries were brought forward (Hasten), until they have been attempted

	// What was reported to the operator, and since when it has been so.
	ToldDown, ToldLimited, ToldLagging, ToldOffline time.Time

	Flapping time.Time // since when it goes down and comes back again and again
	Changes  int       // how often it went down since then
}

// Health returns what SetHealth got last, also from before a restart. It reads memory, under the lane's lock.
func (l *Lane) Health() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

// SetHealth saves h with the lane's progress. It waits for no disk: h is durable with the next save.
func (l *Lane) SetHealth(h Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.health == h {
		return
	}
	l.health = h
	l.changed()
}

// times are all times of h, in their order on disk.
func (h *Health) times() [15]*time.Time {
	return [...]*time.Time{&h.Failing, &h.Down, &h.NextProbe, &h.Limited, &h.HeldUntil, &h.LastSuccess, &h.LastErrorAt,
		&h.Paused, &h.Lagging, &h.ToldDown, &h.ToldLimited, &h.ToldLagging, &h.ToldOffline, &h.Flapping, &h.Hastened}
}

// moved is h with every time converted.
func (h Health) moved(convert func(time.Time) time.Time) Health {
	for _, t := range h.times() {
		if !t.IsZero() {
			*t = convert(*t)
		}
	}
	return h
}

// append appends h.
func (h *Health) append(dst []byte) []byte {
	for _, n := range [...]int{h.Failures, h.Holds, h.Changes} {
		dst = binary.AppendUvarint(dst, uint64(min(max(n, 0), math.MaxInt32)))
	}
	for _, f := range [...]float64{h.AtATime, h.PerSecond} {
		dst = binary.AppendUvarint(dst, math.Float64bits(f))
	}
	for _, t := range h.times() {
		ms := int64(0)
		if !t.IsZero() {
			ms = t.UnixMilli()
		}
		dst = binary.AppendVarint(dst, ms)
	}
	return codec.AppendText(dst, h.LastError[:min(len(h.LastError), maxReason)])
}

// healthOf reads what append wrote.
func healthOf(d *codec.Decoder) (h Health) {
	for _, n := range [...]*int{&h.Failures, &h.Holds, &h.Changes} {
		v := d.Uvarint()
		if v > math.MaxInt32 {
			d.Fail()
		}
		*n = int(v)
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
	if h.LastError = string(d.Text()); len(h.LastError) > maxReason {
		d.Fail()
	}
	return h
}
