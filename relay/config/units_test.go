package config

import (
	"testing"
	"time"
)

func TestDurationsAreReadWithTheirUnits(t *testing.T) {
	for _, test := range []struct {
		text  string
		want  time.Duration
		fault string
	}{
		{"10s", 10 * time.Second, ""},
		{"1h30m", 90 * time.Minute, ""},
		{"250ms", 250 * time.Millisecond, ""},
		{"1.5s", 1500 * time.Millisecond, ""},
		{"7d", 168 * time.Hour, ""},
		{"1d12h", 36 * time.Hour, ""},
		{"0", 0, ""},
		{"0s", 0, ""},
		{"-1h", -time.Hour, ""}, // ranges refuse it
		{"10", 0, `has no unit: write "10s"`},
		{"", 0, `must be a duration like "10s", "5m", "72h" or "7d", not ""`},
		{"d", 0, `must be a duration like "10s", "5m", "72h" or "7d", not "d"`},
		{"1d-2h", 0, `must be a duration like "10s", "5m", "72h" or "7d", not "1d-2h"`},
		{"1.5d", 0, `must be a duration like "10s", "5m", "72h" or "7d", not "1.5d"`},
		{"5 m", 0, `must be a duration like "10s", "5m", "72h" or "7d", not "5 m"`},
		{"3651d", 0, `must be at most 3650d, not "3651d"`},
		{"99999h", 0, `must be at most 3650d, not "99999h"`},
		{"99999999999d", 0, `must be a duration like "10s", "5m", "72h" or "7d", not "99999999999d"`},
	} {
		got, err := parseDuration(test.text)
		if fault := errText(err); got != test.want || fault != test.fault {
			t.Errorf("%q: got %v, %q; want %v, %q", test.text, got, fault, test.want, test.fault)
		}
	}
}

func TestSizesAreReadWithTheirUnits(t *testing.T) {
	const like = `must be a size like "512KiB", "1MiB" or "2GiB", not `
	for _, test := range []struct {
		text  string
		want  int64
		fault string
	}{
		{"0B", 0, ""},
		{"1000B", 1000, ""},
		{"512KiB", 512 << 10, ""},
		{"1MiB", 1 << 20, ""},
		{"8GiB", 8 << 30, ""},
		{"1048576", 0, `has no unit: write "1MiB"`},
		{"1000", 0, `has no unit: write "1000B"`},
		{"1M", 0, `has a unit that is not B, KiB, MiB or GiB: write "1MiB"`},
		{"2gb", 0, `has a unit that is not B, KiB, MiB or GiB: write "2GiB"`},
		{"1k", 0, `has a unit that is not B, KiB, MiB or GiB: write "1KiB"`},
		{"1 MiB", 0, `has a unit that is not B, KiB, MiB or GiB: write "1MiB"`},
		{"5b", 0, `has a unit that is not B, KiB, MiB or GiB: write "5B"`},
		{"5 ", 0, like + `"5 "`},
		{"1TiB", 0, like + `"1TiB"`},
		{"1.5MiB", 0, like + `"1.5MiB"`},
		{"-1MiB", 0, like + `"-1MiB"`},
		{"MiB", 0, like + `"MiB"`},
		{"", 0, like + `""`},
		{"9999999999GiB", 0, `is more than any disk has: "9999999999GiB"`},
	} {
		got, err := parseSize(test.text)
		if fault := errText(err); got != test.want || fault != test.fault {
			t.Errorf("%q: got %d, %q; want %d, %q", test.text, got, fault, test.want, test.fault)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDurationsAreWrittenAsOperatorsDo(t *testing.T) {
	for text, d := range map[string]time.Duration{
		"0s": 0, "100ms": 100 * time.Millisecond, "10s": 10 * time.Second, "5m": 5 * time.Minute, "1m30s": 90 * time.Second,
		"72h": 72 * time.Hour, "720h": 720 * time.Hour, "1h30m": 90 * time.Minute, "3650d": longest, "10h": 10 * time.Hour,
		"20m": 20 * time.Minute,
	} {
		if got := formatDuration(d); got != text {
			t.Errorf("%d ns: got %q, want %q", d, got, text)
		}
	}
}

// FuzzUnits: what is accepted and written again means the same.
func FuzzUnits(f *testing.F) {
	for _, text := range []string{"10s", "1d12h", "7d", "1MiB", "1M", "5 ", "", "9223372036854775807B", "1h1d", "-0s", "3650d1ns"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseDuration(text); err == nil {
			if again, err := parseDuration(formatDuration(d)); d <= longest && (err != nil || again != d) {
				t.Errorf("duration %q is %v, written again %q: %v, %v", text, d, formatDuration(d), again, err)
			}
		}
		if n, err := parseSize(text); err == nil {
			if again, err := parseSize(formatSize(n)); err != nil || again != n {
				t.Errorf("size %q is %d, written again %q: %d, %v", text, n, formatSize(n), again, err)
			}
		}
	})
}
