package config

import (
	"fmt"
	"strconv"
	"strings"
)

// list is the elements of a TOML array, which the library gives one of two types.
func list(value any) ([]any, bool) {
	switch array := value.(type) {
	case []any:
		return array, true
	case []map[string]any:
		elements := make([]any, len(array))
		for i, element := range array {
			elements[i] = element
		}
		return elements, true
	}
	return nil, false
}

// bareNumber is the text of a non-negative TOML number, "" for anything else.
func bareNumber(value any) string {
	switch number := value.(type) {
	case int64:
		if number >= 0 {
			return strconv.FormatInt(number, 10)
		}
	case float64:
		if number >= 0 && number < 1e12 {
			return strconv.FormatFloat(number, 'f', -1, 64)
		}
	}
	return ""
}

// describeValue shows a value of the wrong type to an operator. It isn't for secrets.
func describeValue(value any) string {
	switch value := value.(type) {
	case string:
		return strconv.Quote(clip(value))
	case int64, float64, bool:
		return fmt.Sprint(value)
	case map[string]any:
		return "a table"
	}
	if elements, ok := list(value); ok {
		if len(elements) == 0 {
			return "an empty list"
		}
		return "a list"
	}
	return "a date or time"
}

// clip shortens what goes into a message.
func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// spell writes a key as a label of one line, quoted when it isn't a bare key.
func spell(key string) string {
	for i := range len(key) {
		if c := key[i]; !isLowerOrDigit(c) && !(c >= 'A' && c <= 'Z') && c != '_' && c != '-' {
			return strconv.Quote(clip(key))
		}
	}
	return clip(key)
}

func isLowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// orList is "a, b or c".
func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
