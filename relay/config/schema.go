package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// schema is a JSON Schema or a part of one.
type schema map[string]any

// with is the schema with one more member.
func (s schema) with(name string, value any) schema {
	more := schema{name: value}
	maps.Copy(more, s)
	return more
}

// Schema is the JSON Schema (draft 7, which editors of TOML read) of the file. It admits every file that Load accepts. It refuses
// unknown and missing keys, wrong types and single values that are out of bounds; what one key asks of another, of files and of
// the environment, it does not know.
func Schema() []byte {
	properties := schema{}
	for i := range sections {
		s := &sections[i]
		keys, needed := schema{}, []string{}
		for j := range s.keys {
			k := &s.keys[j]
			keys[k.name] = k.property()
			if k.needed != "" {
				needed = append(needed, k.name)
			}
		}
		if s.name == "" {
			maps.Copy(properties, keys)
			continue
		}
		about := s.about + ifSet(s.restart, " A change needs a restart.")
		property := schema{"type": "object", "additionalProperties": false, "properties": keys, "description": about}
		if s.list {
			property["required"] = needed
			property = schema{"type": "array", "minItems": ifElse(s.name == "source", 1, 0), "items": property, "description": about}
		}
		properties[s.name] = property
	}
	text, err := json.MarshalIndent(schema{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": "Realtor Bot Relay",
		"type": "object", "additionalProperties": false, "properties": properties,
		"definitions": schema{"compound_duration": compound},
	}, "", "  ")
	if err != nil {
		panic(err) // it is made of texts, numbers and lists
	}
	return append(text, '\n')
}

// property is the key's schema with what an editor shows beside it.
func (k *key) property() schema {
	p := k.kind.schema.with("description", k.text())
	if k.normal != nil {
		p["default"] = k.normal
	}
	return p
}

// text says what the key means and what it may be, as far as its meaning doesn't name all choices.
func (k *key) text() string {
	choices, _ := k.kind.schema["enum"].([]string)
	unnamed := slices.ContainsFunc(choices, func(choice string) bool { return !strings.Contains(k.about, strconv.Quote(choice)) })
	parts := []string{k.about, ifSet(unnamed || len(choices) == 0, k.kind.bounds), ifSet(k.kind.secret, `may be "env:NAME", "file:/path" or "cred:name"`)}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "; ")
}

var durationUnits = []unit{
	{"ns", 1}, {"(us|µs|μs)", int64(time.Microsecond)}, {"ms", int64(time.Millisecond)}, {"s", int64(time.Second)},
	{"m", int64(time.Minute)}, {"h", int64(time.Hour)}, {"d", int64(day)},
}

// compound is how durations of several parts, with a sign or a fraction are written. Their bounds are no matter of a pattern.
var (
	compound = func() schema {
		const part = `(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))`
		return schema{"pattern": "^([0-9]+d(" + part + "+|0)|[-+](" + part + "+|0)|" + part + "{2,}|([0-9]+\\.[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))$"}
	}()
	compoundDuration = schema{"$ref": "#/definitions/compound_duration"}
)

// longestBound is the largest number that a pattern bounds from above. Who writes a larger one has the relay's answer alone.
const longestBound = 9_999_999

// quantities matches the whole numbers with a unit that are from low to high.
func quantities(units []unit, low, high int64) string {
	var ways []string
	for _, u := range units {
		if least, most := (low+u.size-1)/u.size, high/u.size; least <= most {
			ways = append(ways, "("+numbers(least, most)+")"+u.name)
		}
	}
	return "^0*(" + strings.Join(ways, "|") + ")$"
}

// numbers matches the decimal numbers from low to high, without zeros before them. Beyond longestBound it knows no end.
func numbers(low, high int64) string {
	endless := high > longestBound
	if endless {
		high = 9
		for high < max(low, longestBound)*10 {
			high = high*10 + 9
		}
	}
	var ways []string
	if low == 0 {
		ways, low = append(ways, "0"), 1
	}
	least, most := -1, -1 // digits behind the first, of the lengths of which every number matches
	for low <= high {
		// The most digits at the end that may be any, and then the largest step of the digit before them.
		free, block := 0, int64(1)
		for low%(block*10) == 0 && low+block*10-1 <= high {
			free, block = free+1, block*10
		}
		first := low / block % 10
		last := min(9, first+(high-low+1)/block-1)
		if low == block && last == 9 {
			least, most = ifElse(least < 0, free, least), free
		} else {
			ways = append(ways, ifSet(low/block >= 10, strconv.FormatInt(low/block/10, 10))+fmt.Sprintf("[%d-%d]", first, last)+ifSet(free > 0, fmt.Sprintf("[0-9]{%d}", free)))
		}
		low += (last - first + 1) * block
	}
	if least >= 0 {
		ways = append(ways, fmt.Sprintf("[1-9][0-9]{%d,%s}", least, ifSet(!endless, strconv.Itoa(most))))
	}
	return strings.Join(ways, "|")
}

// subscription offers the types that are known; those of events.custom are texts to it.
func subscription() schema {
	known := append([]string{"*"}, groups(catalogue)...)
	known = append(known, catalogue...)
	known = append(known, groups(alerts)...)
	known = append(known, alerts...)
	return schema{"anyOf": []schema{{"enum": known}, {"pattern": typePattern + "|" + groupPattern}}}
}
