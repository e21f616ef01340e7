package config

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
)

// reader collects what is wrong, and what is merely odd, while one file is read.
type reader struct {
	file     string
	lines    lineMap
	secrets  Resolver
	faults   Faults
	odd      Faults // becomes Config.Warnings
	literals int    // secrets that stand in the file itself
	outside  bool   // the file is read by somebody who may not have what the relay has
	absent   Faults // then, the secrets that could not be had
}

// table is one table of the file while it is read. Its keys are asked for one by one with the default already in
// place; what nobody asked for is unknown, and rest reports it. A key that can't be used keeps its default, so that
// reading goes on and finds the other faults too.
type table struct {
	*reader
	at     place
	name   string // for faults: "endpoint.crm"; "" for the root
	values map[string]any
	keys   []string // asked for so far
}

// fault reports a key of the table, or the table itself for the key "".
func (t *table) fault(key, format string, args ...any) {
	t.faultAt(t.place(key), spell(key), format, args...)
}

// faultAt is fault for something inside a key, such as an element of its list, which label names.
func (t *table) faultAt(at place, label, format string, args ...any) {
	t.faults = append(t.faults, t.remark(at, label, format, args...))
}

// lacks reports a secret that can't be had.
func (t *table) lacks(key string, err error) {
	if t.outside {
		t.absent = append(t.absent, t.remark(t.place(key), spell(key), "%s", err))
		return
	}
	t.fault(key, "%s", err)
}

func (t *table) warn(key, format string, args ...any) {
	t.odd = append(t.odd, t.remark(t.place(key), spell(key), format, args...))
}

func (t *table) remark(at place, label, format string, args ...any) Fault {
	return Fault{File: t.file, Line: t.lines.find(at), Key: t.label(label), Text: fmt.Sprintf(format, args...)}
}

func (t *table) place(key string) place {
	if key == "" {
		return t.at
	}
	return t.at.key(key)
}

func (t *table) label(key string) string {
	if t.name == "" || key == "" {
		return t.name + key
	}
	return t.name + "." + key
}

func (t *table) line(key string) int { return t.lines.find(t.place(key)) }

// take returns a key's value, if the file has it, and makes the key a known one.
func (t *table) take(key string) (any, bool) {
	t.keys = append(t.keys, key)
	value, ok := t.values[key]
	return value, ok
}

// has reports whether the file has the key.
func (t *table) has(key string) bool {
	_, ok := t.values[key]
	return ok
}

// rest reports the keys that nobody asked for.
func (t *table) rest() {
	unknown := make([]string, 0, len(t.values))
	for key := range t.values {
		if !slices.Contains(t.keys, key) {
			unknown = append(unknown, key)
		}
	}
	sort.Strings(unknown)
	for _, key := range unknown {
		t.faultAt(t.at.key(key), spell(key), "unknown key%s", suggest(key, t.keys))
	}
}

// sub is the table under a key; empty if the file has none.
func (t *table) sub(key string) *table {
	sub := &table{reader: t.reader, at: t.at.key(key), name: t.label(key)}
	value, ok := t.take(key)
	if !ok {
		return sub
	}
	if sub.values, ok = value.(map[string]any); ok {
		return sub
	}
	if t.name == "" {
		t.fault(key, "must be one table: write [%s]", key)
	} else {
		t.fault(key, `must be a table: write %s = { Name = "value" }`, key)
	}
	return sub
}

// subs are the tables of the array of tables under a key.
func (t *table) subs(key string) []*table {
	value, ok := t.take(key)
	if !ok {
		return nil
	}
	elements, ok := list(value)
	if !ok {
		t.fault(key, "may be there several times: write [[%s]]", key)
		return nil
	}
	subs := make([]*table, 0, len(elements))
	for i, element := range elements {
		sub := &table{reader: t.reader, at: t.at.key(key).index(i), name: fmt.Sprintf("%s[%d]", t.label(key), i+1)}
		if sub.values, ok = element.(map[string]any); !ok {
			sub.fault("", "must be a table: write [[%s]]", key)
			continue
		}
		subs = append(subs, sub)
	}
	return subs
}

// text reads a string and reports whether the file has a usable one.
func (t *table) text(key string, into *string) bool {
	value, ok := t.take(key)
	if !ok {
		return false
	}
	text, ok := value.(string)
	if !ok {
		t.fault(key, "must be a text in quotes, not %s", describeValue(value))
		return false
	}
	*into = text
	return true
}

// choice reads a string that is one of a few.
func (t *table) choice(key string, into *string, choices ...string) {
	var text string
	if !t.text(key, &text) {
		return
	}
	if !slices.Contains(choices, text) {
		t.fault(key, "must be %s, not %q", orList(choices), clip(text))
		return
	}
	*into = text
}

// texts reads a list of strings, each of which check may refuse with a reason. Refused ones are left out.
func (t *table) texts(key string, into *[]string, check func(text string) string) {
	value, ok := t.take(key)
	if !ok {
		return
	}
	elements, ok := list(value)
	if !ok {
		t.fault(key, "must be a list of texts in quotes, not %s", describeValue(value))
		return
	}
	texts := make([]string, 0, len(elements))
	for i, element := range elements {
		at, label := t.at.key(key).index(i), fmt.Sprintf("%s[%d]", key, i+1)
		text, ok := element.(string)
		if !ok {
			t.faultAt(at, label, "must be a text in quotes, not %s", describeValue(element))
			continue
		}
		if reason := check(text); reason != "" {
			t.faultAt(at, label, "%q %s", clip(text), reason)
			continue
		}
		if slices.Contains(texts, text) {
			t.faultAt(at, label, "%q is in the list already", text)
			continue
		}
		texts = append(texts, text)
	}
	*into = texts
}

func (t *table) yesNo(key string, into *bool) {
	value, ok := t.take(key)
	if !ok {
		return
	}
	yes, ok := value.(bool)
	if !ok {
		t.fault(key, "must be true or false, without quotes, not %s", describeValue(value))
		return
	}
	*into = yes
}

func (t *table) integer(key string, into *int, low, high int) {
	value, ok := t.take(key)
	if !ok {
		return
	}
	number, ok := value.(int64)
	if !ok || number < int64(low) || number > int64(high) {
		t.fault(key, "must be a whole number from %d to %d, not %s", low, high, describeValue(value))
		return
	}
	*into = int(number)
}

// rate reads a number of things a second; 0 is no limit.
func (t *table) rate(key string, into *float64, things string) {
	value, ok := t.take(key)
	if !ok {
		return
	}
	number, ok := value.(float64)
	if whole, isWhole := value.(int64); isWhole {
		number, ok = float64(whole), true
	}
	if !ok || !(number >= 0) || math.IsInf(number, 0) {
		t.fault(key, "must be a number of %s a second, 0 for no limit, not %s", things, describeValue(value))
		return
	}
	*into = number
}

// rateBytes reads a number of bytes a second; 0 is no limit.
func (t *table) rateBytes(key string, into *int64) {
	const least, most = 1 << 10, 1 << 40
	bytes := *into
	if t.size(key, &bytes, 0, most); bytes > 0 && bytes < least {
		t.fault(key, "must be 0B, for no limit, or at least %s a second", formatSize(least))
		return
	}
	*into = bytes
}

func (t *table) duration(key string, into *time.Duration, low, high time.Duration) {
	if value, ok := t.take(key); ok {
		if d, reason := durationOf(value, low, high); reason != "" {
			t.fault(key, "%s", reason)
		} else {
			*into = d
		}
	}
}

// durations reads a list of at most limit durations.
func (t *table) durations(key string, into *[]time.Duration, limit int, low, high time.Duration) {
	value, ok := t.take(key)
	if !ok {
		return
	}
	elements, ok := list(value)
	if !ok {
		t.fault(key, `must be a list of durations like ["1s", "5m"], not %s`, describeValue(value))
		return
	}
	if len(elements) > limit {
		t.fault(key, "must be at most %d durations, not %d", limit, len(elements))
		return
	}
	durations := make([]time.Duration, 0, len(elements))
	for i, element := range elements {
		d, reason := durationOf(element, low, high)
		if reason != "" {
			t.faultAt(t.at.key(key).index(i), fmt.Sprintf("%s[%d]", key, i+1), "%s", reason)
			continue
		}
		durations = append(durations, d)
	}
	*into = durations
}

func durationOf(value any, low, high time.Duration) (d time.Duration, reason string) {
	text, ok := value.(string)
	if !ok {
		if number := bareNumber(value); number != "" {
			return 0, fmt.Sprintf("must be a duration in quotes: write %q", number+"s")
		}
		return 0, fmt.Sprintf(`must be a duration like "10s", not %s`, describeValue(value))
	}
	d, err := parseDuration(text)
	if err != nil {
		return 0, err.Error()
	}
	if d < low || d > high {
		lowest := formatDuration(low)
		if low == time.Nanosecond {
			return 0, fmt.Sprintf("must be more than 0 and at most %s, not %q", formatDuration(high), clip(text))
		}
		return 0, fmt.Sprintf("must be from %s to %s, not %q", lowest, formatDuration(high), clip(text))
	}
	return d, ""
}

func (t *table) size(key string, into *int64, low, high int64) {
	value, ok := t.take(key)
	if !ok {
		return
	}
	text, ok := value.(string)
	if !ok {
		if whole, isWhole := value.(int64); isWhole && whole >= 0 {
			t.fault(key, "must be a size in quotes: write %q", formatSize(whole))
		} else {
			t.fault(key, `must be a size like "1MiB", not %s`, describeValue(value))
		}
		return
	}
	bytes, err := parseSize(text)
	if err != nil {
		t.fault(key, "%s", err)
		return
	}
	if bytes < low || bytes > high {
		t.fault(key, "must be from %s to %s, not %q", formatSize(low), formatSize(high), clip(text))
		return
	}
	*into = bytes
}
