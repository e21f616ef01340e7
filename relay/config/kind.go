package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plain reads a value that needs nothing but itself: parse gives what the field gets, or the reason why it can't.
func plain[T any](parse func(value any) (T, string)) func(*table, string, any, any) {
	return func(t *table, key string, value, into any) {
		parsed, reason := parse(value)
		if reason != "" {
			t.fault(key, "%s", reason)
			return
		}
		*into.(*T) = parsed
	}
}

// elements reads each element of a list; those that one refuses are told and left out.
func elements[T any](t *table, key string, values []any, one func(value any) (T, string)) []T {
	read := make([]T, 0, len(values))
	for i, value := range values {
		element, reason := one(value)
		if reason != "" {
			t.faultAt(t.at.key(key).index(i), fmt.Sprintf("%s[%d]", spell(key), i+1), "%s", reason)
			continue
		}
		read = append(read, element)
	}
	return read
}

func textOf(value any) (text, reason string) {
	text, ok := value.(string)
	if !ok {
		return "", "must be a text in quotes, not " + describeValue(value)
	}
	return text, ""
}

// text is a string that check, unless it is nil, may refuse with a reason.
func text(check func(text string) string, s schema) kind {
	return kind{schema: s.with("type", "string"), read: plain(func(value any) (string, string) {
		text, reason := textOf(value)
		if reason == "" && check != nil {
			reason = check(text)
		}
		return text, reason
	})}
}

// choice is one of a few strings.
func choice(choices ...string) kind {
	return kind{schema: schema{"enum": choices}, bounds: orList(each(choices, strconv.Quote)), read: plain(func(value any) (string, string) {
		text, reason := textOf(value)
		if reason == "" && !slices.Contains(choices, text) {
			reason = fmt.Sprintf("must be %s, not %q", orList(choices), clip(text))
		}
		return text, reason
	})}
}

// texts is a list of different strings, each of which check may refuse with a reason.
func texts(check func(t *table, text string) string, element schema) kind {
	return kind{
		schema: schema{"type": "array", "uniqueItems": true, "items": element.with("type", "string")},
		read: func(t *table, key string, value, into any) {
			if texts, ok := textList(t, key, value, check); ok {
				*into.(*[]string) = texts
			}
		},
	}
}

// textList leaves out what check refuses. ok is false for what is no list.
func textList(t *table, key string, value any, check func(t *table, text string) string) (texts []string, ok bool) {
	values, ok := list(value)
	if !ok {
		t.fault(key, "must be a list of texts in quotes, not %s", describeValue(value))
		return nil, false
	}
	var before []string
	return elements(t, key, values, func(value any) (string, string) {
		text, reason := textOf(value)
		if reason != "" {
			return "", reason
		}
		if reason = check(t, text); reason != "" {
			return "", fmt.Sprintf("%q %s", clip(text), reason)
		}
		if slices.Contains(before, text) {
			return "", fmt.Sprintf("%q is in the list already", text)
		}
		before = append(before, text)
		return text, ""
	}), true
}

// networks is a list of addresses and of networks in CIDR form.
var networks = kind{
	schema: schema{"type": "array", "uniqueItems": true, "items": schema{"type": "string", "pattern": `^[0-9a-fA-F:.]+(/[0-9]+)?$`}},
	read: func(t *table, key string, value, into any) {
		texts, ok := textList(t, key, value, func(_ *table, text string) string { return checkNetwork(text) })
		if !ok {
			return
		}
		var networks []netip.Prefix
		for _, text := range texts {
			network, _ := parseNetwork(text)
			networks = append(networks, network)
		}
		*into.(*[]netip.Prefix) = networks
	},
}

var yesNo = kind{schema: schema{"type": "boolean"}, read: plain(func(value any) (bool, string) {
	yes, ok := value.(bool)
	if !ok {
		return false, "must be true or false, without quotes, not " + describeValue(value)
	}
	return yes, ""
})}

func integer(low, high int) kind {
	k := kind{schema: schema{"type": "integer", "minimum": low, "maximum": high}, bounds: fmt.Sprintf("%d to %d", low, high)}
	k.read = plain(func(value any) (int, string) {
		number, ok := value.(int64)
		if !ok || number < int64(low) || number > int64(high) {
			return 0, fmt.Sprintf("must be a whole number from %d to %d, not %s", low, high, describeValue(value))
		}
		return int(number), ""
	})
	return k
}

// rate is a number of things a second; 0 is no limit.
func rate(things string) kind {
	k := kind{schema: schema{"type": "number", "minimum": 0}, bounds: "0 for no limit"}
	k.read = plain(func(value any) (float64, string) {
		number, ok := value.(float64)
		if whole, isWhole := value.(int64); isWhole {
			number, ok = float64(whole), true
		}
		if !ok || !(number >= 0) || math.IsInf(number, 0) {
			return 0, fmt.Sprintf("must be a number of %s a second, 0 for no limit, not %s", things, describeValue(value))
		}
		return number, ""
	})
	return k
}

// bounded is "a to b", or what there is of it: no duration and no size is below 0, and who reaches the upper end of all of them
// meant something else.
func bounded(low, high, zero, most string) string {
	switch {
	case low == zero && high == most:
		return ""
	case high == most:
		return "at least " + low
	case low == zero:
		return "at most " + high
	}
	return low + " to " + high
}

func duration(low, high time.Duration) kind {
	forms := []schema{{"pattern": quantities(durationUnits, int64(low), int64(high))}, compoundDuration}
	if low == 0 {
		forms = append(forms, schema{"const": "0"}) // the one that needs no unit
	}
	return kind{
		schema: schema{"type": "string", "anyOf": forms},
		bounds: bounded(formatDuration(low), formatDuration(high), "0s", formatDuration(longest)),
		read:   plain(func(value any) (time.Duration, string) { return durationOf(value, low, high) }),
	}
}

// durations is a list of at most so many durations, each above 0.
func durations(limit int, high time.Duration) kind {
	element := duration(1, high)
	return kind{
		schema: schema{"type": "array", "maxItems": limit, "items": element.schema},
		bounds: fmt.Sprintf("at most %d, each above 0 and at most %s", limit, formatDuration(high)),
		read: func(t *table, key string, value, into any) {
			values, ok := list(value)
			switch {
			case !ok:
				t.fault(key, `must be a list of durations like ["1s", "5m"], not %s`, describeValue(value))
			case len(values) > limit:
				t.fault(key, "must be at most %d durations, not %d", limit, len(values))
			default:
				*into.(*[]time.Duration) = elements(t, key, values, func(value any) (time.Duration, string) { return durationOf(value, 1, high) })
			}
		},
	}
}

func durationOf(value any, low, high time.Duration) (d time.Duration, reason string) {
	text, ok := value.(string)
	if !ok {
		if number := bareNumber(value); number != "" {
			return 0, fmt.Sprintf("must be a duration in quotes, with its unit: %q if seconds are meant", number+"s")
		}
		return 0, fmt.Sprintf(`must be a duration like "10s", not %s`, describeValue(value))
	}
	d, err := parseDuration(text)
	switch {
	case err != nil:
		return 0, err.Error()
	case low <= d && d <= high:
		return d, ""
	case low == time.Nanosecond:
		return 0, fmt.Sprintf("must be more than 0 and at most %s, not %q", formatDuration(high), clip(text))
	}
	return 0, fmt.Sprintf("must be from %s to %s, not %q", formatDuration(low), formatDuration(high), clip(text))
}

// largest bounds every size of the file that has no bound of its own, in bytes.
const largest = 1 << 50

func size(low, high int64) kind {
	return kind{
		schema: schema{"type": "string", "pattern": quantities(sizeUnits, low, high)},
		bounds: bounded(formatSize(low), formatSize(high), "0B", formatSize(largest)),
		read:   plain(func(value any) (int64, string) { return sizeOf(value, low, high) }),
	}
}

// rateBytes is a number of bytes a second; 0 is no limit.
var rateBytes = func() kind {
	const least, most = 1 << 10, 1 << 40
	return kind{
		schema: schema{"type": "string", "anyOf": []schema{{"pattern": quantities(sizeUnits, 0, 0)}, {"pattern": quantities(sizeUnits, least, most)}}},
		bounds: `"0B": no limit, else at least ` + formatSize(least),
		read: plain(func(value any) (int64, string) {
			bytes, reason := sizeOf(value, 0, most)
			if reason == "" && bytes > 0 && bytes < least {
				reason = fmt.Sprintf("must be 0B, for no limit, or at least %s a second", formatSize(least))
			}
			return bytes, reason
		}),
	}
}()

func sizeOf(value any, low, high int64) (bytes int64, reason string) {
	text, ok := value.(string)
	if !ok {
		if whole, isWhole := value.(int64); isWhole && whole >= 0 {
			return 0, fmt.Sprintf("must be a size in quotes: write %q", formatSize(whole))
		}
		return 0, fmt.Sprintf(`must be a size like "1MiB", not %s`, describeValue(value))
	}
	bytes, err := parseSize(text)
	switch {
	case err != nil:
		return 0, err.Error()
	case bytes < low || bytes > high:
		return 0, fmt.Sprintf("must be from %s to %s, not %q", formatSize(low), formatSize(high), clip(text))
	}
	return bytes, ""
}

// ownName is the name of a source or an endpoint, well-formed and unique. The faults that follow name the table after it.
var ownName = kind{
	schema: schema{"type": "string", "pattern": `^[a-z0-9][a-z0-9_-]{0,63}$`},
	bounds: "1-64 of a-z 0-9 _ -, the first a letter or digit",
	read: func(t *table, key string, value, into any) {
		name, reason := textOf(value)
		if reason != "" {
			t.fault(key, "%s", reason)
			return
		}
		*into.(*string) = name
		if !isName(name) {
			t.fault(key, "must be 1-64 of a-z 0-9 _ -, the first a letter or digit, not %q", clip(name))
		} else if line, twice := t.twice(key, name); twice {
			t.fault(key, "%q is the name of another at line %d: choose one that is free", name, line)
		} else {
			group, _, _ := strings.Cut(t.name, "[")
			t.name = group + "." + name
		}
	},
}

func isName(text string) bool {
	if text == "" || len(text) > 64 || !isLowerOrDigit(text[0]) {
		return false
	}
	for i := range len(text) {
		if c := text[i]; !isLowerOrDigit(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
