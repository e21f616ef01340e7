package rfc3339

import (
	"encoding/json"
	"testing"
	"time"
)

func TestJSON(t *testing.T) {
	type line struct {
		At    Time `json:"at"`
		Other Time `json:"other,omitzero"`
	}
	zone := time.FixedZone("", 2*3600)
	for at, want := range map[time.Time]string{
		time.Date(2026, 1, 31, 5, 0, 0, 0, zone):             `{"at":"2026-01-31T03:00:00.000Z"}`,
		time.Date(2026, 1, 31, 3, 0, 0, 120e6, time.UTC):     `{"at":"2026-01-31T03:00:00.120Z"}`,
		time.Date(2026, 1, 31, 3, 0, 0, 1999999, time.UTC):   `{"at":"2026-01-31T03:00:00.001Z"}`,
		time.Date(2026, 12, 31, 23, 59, 59, 1e9-1, time.UTC): `{"at":"2026-12-31T23:59:59.999Z"}`,
	} {
		text, err := json.Marshal(line{At: Time{at}})
		if err != nil || string(text) != want {
			t.Errorf("%v: %s, %v; want %s", at, text, err, want)
		}
		var back line
		if err := json.Unmarshal(text, &back); err != nil || !back.At.Equal(at.Truncate(time.Millisecond)) || !back.Other.IsZero() {
			t.Errorf("%s is read as %v, %v", text, back.At, err)
		}
	}
	if !Milli(0).IsZero() || Milli(1).UnixMilli() != 1 {
		t.Error("milliseconds are not kept")
	}
}
