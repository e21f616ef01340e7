package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// longest bounds every duration of the file: ten years.
const longest = 3650 * day

var errDuration = errors.New(`must be a duration like "10s", "5m", "72h" or "7d"`)

// parseDuration reads Go's spelling ("1h30m", "250ms") with days before it ("7d", "1d12h"). Its error says what is
// wrong and what would be right.
func parseDuration(text string) (time.Duration, error) {
	if text != "" && text != "0" && strings.Trim(text, "0123456789") == "" {
		return 0, fmt.Errorf("has no unit: write %q", clip(text)+"s")
	}
	total, rest := time.Duration(0), text
	if days, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || strings.HasPrefix(after, "-") || strings.HasPrefix(after, "+") {
			return 0, fmt.Errorf("%w, not %q", errDuration, clip(text))
		}
		if n > uint64(longest/day) {
			return 0, fmt.Errorf("must be at most %s, not %q", formatDuration(longest), clip(text))
		}
		total, rest = time.Duration(n)*day, after
	}
	if rest != "" || text == "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return 0, fmt.Errorf("%w, not %q", errDuration, clip(text))
		}
		if d > longest {
			return 0, fmt.Errorf("must be at most %s, not %q", formatDuration(longest), clip(text))
		}
		total += d
	}
	return total, nil
}

// formatDuration writes d as an operator would: 72h and not 72h0m0s.
func formatDuration(d time.Duration) string {
	if d > 30*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// unit is one that a duration or a size may have, in nanoseconds or bytes.
type unit struct {
	name string
	size int64
}

// The units of sizes, largest first.
var sizeUnits = []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

var errSize = errors.New(`must be a size like "512KiB", "1MiB" or "2GiB"`)

// parseSize reads a whole number of B, KiB, MiB or GiB into bytes. Units that could mean 1000 or 1024 are refused. Its
// error says what is wrong and what would be right.
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	number, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%w, not %q", errSize, clip(text))
	}
	written := text[len(digits):]
	for _, unit := range sizeUnits {
		if written != unit.name {
			continue
		}
		if number > math.MaxInt64/uint64(unit.size) {
			return 0, fmt.Errorf("is more than any disk has: %q", clip(text))
		}
		return int64(number) * unit.size, nil
	}
	if written == "" {
		return 0, fmt.Errorf("has no unit: write %q", formatSize(int64(number)))
	}
	// "1M", "1MB", "1mb", "1 MiB": all of them get the one spelling that can't be misread.
	for _, unit := range sizeUnits {
		if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(written)), unit.name[:1]) {
			return 0, fmt.Errorf("has a unit that is not B, KiB, MiB or GiB: write \"%d%s\"", number, unit.name)
		}
	}
	return 0, fmt.Errorf("%w, not %q", errSize, clip(text))
}

// formatSize writes a number of bytes in the largest unit that divides it: 1MiB, 1000B.
func formatSize(bytes int64) string {
	for _, unit := range sizeUnits {
		if bytes >= unit.size && bytes%unit.size == 0 {
			return strconv.FormatInt(bytes/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(bytes, 10) + "B"
}
