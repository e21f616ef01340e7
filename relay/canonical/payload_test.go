package canonical

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// Payload is an event at random, odd on purpose, without the numbers for which the documented receiver is known to
// disagree. It is for the tests that see the whole relay.
func Payload(r *rand.Rand, id string) []byte {
	g := &generator{r}
	for {
		event := fmt.Appendf(nil, `%s{"id":%q,"type":"lead.created","data":{"first":`, g.space(nil), id)
		event = append(g.value(event, 4), `,"2":`...)
		event = append(g.value(event, 2), `},"more":`...)
		event = append(g.value(event, 2), '}')
		if form, _, ok := canonicalForm(event); ok && !keepsNumber(form) {
			return event
		}
	}
}

// keepsNumber reports whether a number in canonical JSON has another text than JavaScript gives it. The oracle is
// encoding/json, which writes the numbers that Payload makes as JavaScript does.
func keepsNumber(form []byte) bool {
	for i := 0; i < len(form); i++ {
		switch c := form[i]; {
		case c == '"':
			for i++; form[i] != '"'; i++ {
				if form[i] == '\\' {
					i++
				}
			}
		case c == '-' || '0' <= c && c <= '9':
			end := i + 1
			for end < len(form) && form[end] != ',' && form[end] != ']' && form[end] != '}' {
				end++
			}
			f, err := strconv.ParseFloat(string(form[i:end]), 64)
			if err != nil {
				return true
			}
			if text, err := json.Marshal(f); err != nil || string(text) != string(form[i:end]) {
				return true
			}
			i = end - 1
		}
	}
	return false
}
