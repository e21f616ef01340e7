package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// anySuccess is how the file writes the zero Success.
const anySuccess = "2xx"

// The codes that a list may name: those of final answers that are not a server's failure. 1xx is never final, and a
// 5xx that counted as delivered would be a loss in disguise.
const (
	lowestSuccess  = 200
	highestSuccess = 499
)

// Success tells which status codes count as delivered. The zero Success is "2xx". Immutable, safe for concurrent use.
type Success struct {
	codes []int // sorted; empty for any 2xx
}

// SuccessCodes is the Success of exactly these codes; of none, it is "2xx".
func SuccessCodes(codes ...int) Success {
	sorted := slices.Clone(codes)
	slices.Sort(sorted)
	return Success{codes: slices.Compact(sorted)}
}

// Has reports whether an answer with this status is a success. It allocates nothing.
func (s Success) Has(status int) bool {
	if len(s.codes) == 0 {
		return status >= 200 && status <= 299
	}
	return slices.Contains(s.codes, status)
}

// String is the file's spelling: 2xx, or a list as in [200, 202].
func (s Success) String() string {
	if len(s.codes) == 0 {
		return anySuccess
	}
	texts := make([]string, len(s.codes))
	for i, code := range s.codes {
		texts[i] = strconv.Itoa(code)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// success is "2xx" or a list of codes.
var success = kind{
	schema: schema{"anyOf": []schema{{"const": anySuccess}, {"type": "array", "minItems": 1,
		"items": schema{"type": "integer", "minimum": lowestSuccess, "maximum": highestSuccess}}}},
	bounds: fmt.Sprintf("each %d to %d", lowestSuccess, highestSuccess),
	read: func(t *table, key string, value, into any) {
		values, _ := list(value)
		switch {
		case value == anySuccess:
			*into.(*Success) = Success{}
		case len(values) == 0:
			t.fault(key, `must be "2xx" or a list of codes like [200, 202], not %s`, describeValue(value))
		default:
			*into.(*Success) = SuccessCodes(elements(t, key, values, func(value any) (int, string) {
				code, ok := value.(int64)
				if !ok || code < lowestSuccess || code > highestSuccess {
					return 0, fmt.Sprintf("must be a status code from %d to %d, not %s", lowestSuccess, highestSuccess, describeValue(value))
				}
				return int(code), ""
			})...)
		}
	},
}
