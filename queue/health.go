package queue

import (
	"encoding/binary"
	"math"
	"time"

	"realtorbot-relay/queue/codec"
)

// Health is what whoever delivers knows of an endpoint and must know again after a restart. The queue keeps it with the
// lane's progress and makes nothing of it. Times are the wall clock's; a zero one says that it is not so.
type Health struct {
	Failures    int       // attempts that failed since the last one that showed a receiver that lives
	Failing     time.Time // when the first of these failed
	Down        time.Time // since when it is down
	NextProbe   time.Time // when it is probed next while it is down
	Limited     time.Time // since when it asks to be left alone, again and again
	Holds       int       // how often it asked without naming a time, in a row
	HeldUntil   time.Time // until when it is left alone
	AtATime     float64   // attempts at a time that it was found to bear; 0 when no bound was found
	PerSecond   float64   // attempts a second that it was found to bear; 0 when no bound was found
	LastSuccess time.Time
	LastError   string // one line; its first 256 bytes are kept
	LastErrorAt time.Time
	Paused      time.Time // since when it is paused
	Lagging     time.Time // since when it lags
	Hastened    time.Time // when what waited to be retried was brought forward (Hasten), until that has been attempted

	// What whoever runs the relay was told, and since when it is so.
	ToldDown, ToldLimited, ToldLagging, ToldOffline time.Time

	Flapping time.Time // since when it bounces
	Changes  int       // how often it went down since then
}

// Health returns what SetHealth was given last, before a restart as well.
func (l *Lane) Health() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

// SetHealth keeps h with the lane's progress: it is on disk with the next save, and waits for none.
func (l *Lane) SetHealth(h Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.health == h {
		return
	}
	l.health = h
	l.changed()
}

// times are the moments of h.
func (h *Health) times() [15]*time.Time {
	return [...]*time.Time{&h.Failing, &h.Down, &h.NextProbe, &h.Limited, &h.HeldUntil, &h.LastSuccess, &h.LastErrorAt,
		&h.Paused, &h.Lagging, &h.ToldDown, &h.ToldLimited, &h.ToldLagging, &h.ToldOffline, &h.Flapping, &h.Hastened}
}

// moved is h with every moment turned into another clock's.
func (h Health) moved(turn func(time.Time) time.Time) Health {
	for _, t := range h.times() {
		if !t.IsZero() {
			*t = turn(*t)
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
