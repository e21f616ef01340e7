// Package rfc3339 writes a time as every answer of the relay and its alerts have it. Its log has the same layout, in the machine's
// time zone.
package rfc3339

import "time"

// Layout is RFC 3339 with three digits of a second.
const Layout = "2006-01-02T15:04:05.000Z07:00"

// Time is a time that JSON has in UTC, in Layout. With omitzero the zero time is left out.
type Time struct{ time.Time }

// MarshalJSON writes the time.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(make([]byte, 0, len(`""`)+len(Layout)), `"`+Layout+`"`), nil
}

// At is t as it is written, in whole milliseconds.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// Milli is the time of so many milliseconds since 1970, zero for none.
func Milli(at int64) Time {
	if at == 0 {
		return Time{}
	}
	return At(time.UnixMilli(at))
}
