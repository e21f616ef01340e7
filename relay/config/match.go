package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"realtorbot-relay/relay/match"
)

// The bounds of an endpoint's match.
const (
	mostMatched     = 16   // members
	mostMatchValues = 1000 // of one of them
	longestMatch    = 255  // characters, of a way to a member and of a text that it is
)

// matchForms are what a member may be asked to be.
const matchForms = `a text, a number, true or false, a list of these, { exists = true } or { exists = false }`

// matchRule is whose events an endpoint gets.
var matchRule = func() kind {
	scalar := []schema{{"type": "string", "maxLength": longestMatch}, {"type": "number"}, {"type": "boolean"}}
	exists := schema{"type": "object", "additionalProperties": false, "required": []string{"exists"}, "properties": schema{"exists": schema{"type": "boolean"}}}
	several := schema{"type": "array", "minItems": 1, "maxItems": mostMatchValues, "items": schema{"anyOf": scalar}}
	return kind{
		schema: schema{"type": "object", "maxProperties": mostMatched, "propertyNames": schema{"pattern": `^[^.]+(\.[^.]+)*$`, "maxLength": longestMatch},
			"additionalProperties": schema{"anyOf": append(slices.Clone(scalar), several, exists)}},
		read: readMatch,
	}
}()

func readMatch(t *table, key string, value, into any) {
	values, ok := value.(map[string]any)
	if !ok {
		t.fault(key, `must be a table: write %s = { "data.accountId" = "acct_42" }`, key)
		return
	}
	if len(values) > mostMatched {
		t.fault(key, "may name %d members at most, not %d", mostMatched, len(values))
		return
	}
	sub := &table{reader: t.reader, at: t.at.key(key), name: t.label(key), values: values}
	var rule match.Rule
	for _, path := range slices.Sorted(maps.Keys(values)) {
		if condition, ok := sub.condition(path, values[path]); ok {
			rule = append(rule, condition)
		}
	}
	*into.(*match.Rule) = rule
}

// condition reads what is asked of one member.
func (t *table) condition(path string, value any) (c match.Condition, ok bool) {
	c.Path = path
	if !isWay(path) {
		t.faultAt(t.at.key(path), cmp.Or(spell(path), `""`), `is no way to a member: write its names with full stops between them, "data.accountId", of %d characters at most`, longestMatch)
		return c, false
	}
	if inner, isTable := value.(map[string]any); isTable {
		exists, isBool := inner["exists"].(bool)
		switch {
		case len(inner) != 1:
			t.fault(path, "must be %s; the way to a member inside of it stands in quotes: %q", matchForms, path+".…")
			return c, false
		case !isBool:
			for name := range inner {
				t.fault(path, "must be %s; the way to a member inside of it stands in quotes: %q", matchForms, clip(path+"."+name))
			}
			return c, false
		case !t.lines.all().braces[t.at.key(path)]:
			there := ifElse(exists, "there", "not there")
			t.fault(path, `can be read in two ways: write %q = %v for a member of this name that is %v, or %q = { exists = %v } for one that is %s`,
				clip(path+".exists"), exists, exists, clip(path), exists, there)
			return c, false
		}
		c.Exists = exists
		return c, true
	}
	values, isList := list(value)
	switch {
	case !isList:
		v, reason := matchValue(value)
		if reason != "" {
			t.fault(path, "%s", reason)
			return c, false
		}
		c.Values = []match.Value{v}
		return c, true
	case len(values) == 0:
		t.fault(path, "must not be an empty list, which no event is in: write %s", matchForms)
		return c, false
	case len(values) > mostMatchValues:
		t.fault(path, "may be %d values at most, not %d", mostMatchValues, len(values))
		return c, false
	}
	before := map[match.Value]bool{}
	c.Values = elements(t, path, values, func(value any) (match.Value, string) {
		v, reason := matchValue(value)
		if reason == "" && before[v] {
			reason = fmt.Sprintf("%s is in the list already", v)
		}
		before[v] = true
		return v, reason
	})
	return c, len(c.Values) == len(values)
}

// ParseCondition reads a member and what it is, as in data.accountId=acct_42, or says what is wrong. A value that is no text in quotes
// is looked for as a text and, where JSON has it so, as a number, true or false.
func ParseCondition(text string) (c match.Condition, wrong string) {
	path, value, ok := strings.Cut(text, "=")
	if !ok || !isWay(path) || utf8.RuneCountInString(value) > longestMatch {
		return c, fmt.Sprintf("must be a member and its value, such as data.accountId=acct_42, each of %d characters at most", longestMatch)
	}
	c.Path = path
	var literal any
	decoder := json.NewDecoder(strings.NewReader(value))
	decoder.UseNumber()
	if !json.Valid([]byte(value)) || decoder.Decode(&literal) != nil {
		literal = nil
	}
	switch is := literal.(type) {
	case string:
		c.Values = []match.Value{match.Text(is)}
		return c, ""
	case bool:
		c.Values = []match.Value{match.Bool(is)}
	case json.Number:
		if n, err := is.Int64(); err == nil {
			c.Values = []match.Value{match.Whole(n)}
		} else if f, err := is.Float64(); err == nil && math.Abs(f) < exactNumber {
			c.Values = []match.Value{match.Number(f)}
		}
	}
	c.Values = append(c.Values, match.Text(value))
	return c, ""
}

// isWay reports whether a text is the way to a member.
func isWay(path string) bool {
	return path != "" && !slices.Contains(strings.Split(path, "."), "") && utf8.RuneCountInString(path) <= longestMatch
}

// exactNumber is the whole number from which on a number with a point may be another than the one that was written.
const exactNumber = 1 << 53

func matchValue(value any) (v match.Value, reason string) {
	switch value := value.(type) {
	case string:
		if utf8.RuneCountInString(value) > longestMatch {
			return "", fmt.Sprintf("may have %d characters at most", longestMatch)
		}
		return match.Text(value), ""
	case bool:
		return match.Bool(value), ""
	case int64:
		return match.Whole(value), ""
	case float64:
		switch {
		case math.IsNaN(value) || math.IsInf(value, 0):
			return "", "must be a number that JSON has, not " + strconv.FormatFloat(value, 'g', -1, 64)
		case math.Abs(value) >= exactNumber:
			return "", "is a whole number that is not kept exactly as it is written here: write it without point and exponent"
		}
		return match.Number(value), ""
	}
	return "", "must be " + matchForms + ", not " + describeValue(value)
}

// Candidate is an event about which endpoints are asked. Its body was read once, for all of them.
type Candidate struct {
	eventType string
	members   *match.Members
	found     match.Found
}

// NewCandidate reads an event, whose body is in canonical form, for endpoints. It keeps nothing of it. It makes what it needs anew each
// time: it is meant for people who ask.
func NewCandidate(endpoints []*Endpoint, eventType string, body []byte) *Candidate {
	rules := make([]match.Rule, len(endpoints))
	for i, e := range endpoints {
		rules[i] = e.Match
	}
	c := &Candidate{eventType: eventType, members: match.MembersOf(rules...)}
	c.members.Read(body, &c.found)
	return c
}

// NotFor says why an event is not for the endpoint as it is configured, which is one of those that it was read for, as a word and a
// sentence about the endpoint; both are empty when it is for it.
func (e *Endpoint) NotFor(c *Candidate) (reason, note string) {
	if !e.Subscribes(c.eventType) {
		subscribed := "it subscribes to nothing: it is given what fails elsewhere"
		if len(e.Events) > 0 {
			subscribed = "it subscribes to " + strings.Join(e.Events, ", ")
		}
		return NotSubscribed, subscribed
	}
	if why := e.NotMatched(c); why != "" {
		return NotMatched, why
	}
	if !e.Enabled {
		return Disabled, "it is disabled: events accepted meanwhile are not for it"
	}
	return "", ""
}

// NotMatched says for what member an event is not the endpoint's own, as NotFor does; "" when it is.
func (e *Endpoint) NotMatched(c *Candidate) string { return c.members.Why(e.Match, &c.found) }

// Why an event is not for an endpoint.
const (
	NotSubscribed = "not_subscribed"
	NotMatched    = "not_matched"
	Disabled      = "disabled"
)
