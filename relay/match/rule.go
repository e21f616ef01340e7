package match

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Rule is what an endpoint asks of an event: all of its conditions. One without any asks for nothing. Its conditions have different
// paths, and stand in the order of these, so that equal rules are deeply equal.
type Rule []Condition

// Condition is what is asked of one member of an event.
type Condition struct {
	Path   string  // names joined by full stops, from the event on
	Values []Value // the member is one of them. Without any, Exists decides
	Exists bool    // the member is there, whatever its value, or is not there
}

// String is the rule on one line, for people: data.accountId is acct_42, data.test is missing.
func (r Rule) String() string {
	parts := make([]string, len(r))
	for i := range r {
		parts[i] = r[i].Path + " is " + r[i].wanted()
	}
	return strings.Join(parts, ", ")
}

// MarshalJSON is the rule in the spelling of the file: {"data.accountId":"acct_42"}.
func (r Rule) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, c := range r {
		var value any = map[string]bool{"exists": c.Exists}
		switch {
		case len(c.Values) == 1:
			value = c.Values[0]
		case len(c.Values) > 1:
			value = c.Values
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write match of %q: %w", c.Path, err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(AppendText(nil, c.Path))
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// wantedLimit is how many of the values that a condition asks for are named.
const wantedLimit = 3

// wanted names what the condition asks of its member.
func (c *Condition) wanted() string {
	switch {
	case len(c.Values) == 0 && c.Exists:
		return "there"
	case len(c.Values) == 0:
		return missing
	case len(c.Values) > wantedLimit:
		return fmt.Sprintf("one of %s and %d others", c.Values[0], len(c.Values)-1)
	}
	texts := make([]string, len(c.Values))
	for i, v := range c.Values {
		texts[i] = v.String()
	}
	return strings.Join(texts, " or ")
}

// holds reports whether a member with this value, nil for none, is what the condition asks for.
func (c *Condition) holds(value []byte) bool {
	if len(c.Values) == 0 {
		return c.Exists == (value != nil)
	}
	if value == nil {
		return false
	}
	var buf [maxWhole]byte
	is := same(value, &buf)
	return slices.ContainsFunc(c.Values, func(v Value) bool { return string(v) == string(is) })
}

// why says why a member with this value, nil for none, is not what the condition asks for.
func (c *Condition) why(value []byte) string {
	return c.Path + " is " + shown(string(value)) + ", not " + c.wanted()
}
