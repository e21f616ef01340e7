package match

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Value is a text, a number or a boolean in the form in which the relay keeps it: "acct_42" with its quotes, 42, true. Two are equal
// when they are the same string: 1, 1.0 and 1e0 are all kept as 1, and the text "1" is another value.
type Value string

// Text is the value of a text.
func Text(text string) Value { return Value(AppendText(nil, text)) }

// Whole is the value of a whole number.
func Whole(n int64) Value { return Value(strconv.FormatInt(n, 10)) }

// Number is the value of a number that is not infinite.
func Number(f float64) Value {
	if f == 0 {
		return "0" // -0 too
	}
	text, err := json.Marshal(f) // as JavaScript writes it
	if err != nil {
		panic(err) // it is infinite, or none
	}
	return Value(text)
}

// Bool is the value of a boolean.
func Bool(is bool) Value { return Value(strconv.FormatBool(is)) }

// AppendText adds text as JavaScript's JSON.stringify writes it.
func AppendText(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range []byte(text) {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c == '\f':
			dst = append(dst, `\f`...)
		case c < ' ':
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// MarshalJSON is the value as it is.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(v), nil }

// String is the value for people, on one line: a text without its quotes where it can't be taken for anything else.
func (v Value) String() string { return shown(string(v)) }

// missing is what a member is that is not there.
const missing = "missing"

// shownLimit is how many bytes of a value are shown.
const shownLimit = 64

func shown(value string) string {
	switch {
	case value == "":
		return missing
	case value[0] == '{':
		return "an object"
	case value[0] == '[':
		return "a list"
	case value[0] != '"':
		return cut(value)
	}
	text := strings.Trim(value, `"`)
	if plainText(text) {
		return cut(text)
	}
	return cut(value)
}

// plainText reports whether a text is a name, which needs no quotes.
func plainText(text string) bool {
	letter := false
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			letter = true
		case c >= '0' && c <= '9' || strings.IndexByte("._-:@/", c) >= 0:
		default:
			return false
		}
	}
	_, err := strconv.ParseFloat(text, 64)
	return letter && err != nil && text != "true" && text != "false" && text != "null" && text != missing && text != "there"
}

func cut(text string) string {
	if len(text) <= shownLimit {
		return text
	}
	end := shownLimit
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// same is what a value of an event is compared by: itself, but of a number that kept its own text, as whole numbers do that JavaScript
// would change, its digits without point and exponent. buf is scratch.
func same(value []byte, buf *[maxWhole]byte) []byte {
	if len(value) > 0 && (value[0] == '-' || value[0] >= '0' && value[0] <= '9') && bytes.ContainsAny(value, ".eE") {
		if digits, ok := wholeDigits(value, buf[:0]); ok {
			return digits
		}
	}
	return value
}

// mostDigits is how many digits a whole number has at most that a configuration can ask for; maxWhole is that with its sign.
const (
	mostDigits = 19
	maxWhole   = mostDigits + 1
)

// wholeDigits appends the digits of a number that is a whole one and has mostDigits at most.
func wholeDigits(number, dst []byte) (digits []byte, ok bool) {
	if number[0] == '-' {
		dst, number = append(dst, '-'), number[1:]
	}
	exponent, from := 0, len(dst)
	if at := bytes.IndexAny(number, "eE"); at >= 0 {
		e, err := strconv.Atoi(strings.TrimPrefix(string(number[at+1:]), "+"))
		if err != nil || e < -1<<24 || e > 1<<24 {
			return nil, false
		}
		exponent, number = e, number[:at]
	}
	zeros := 0 // at the end of what was read
	for i, c := range number {
		switch {
		case c == '.':
			exponent -= len(number) - 1 - i
			continue
		case c == '0':
			zeros++
			continue
		}
		if len(dst) == from {
			zeros = 0 // those in front
		}
		if len(dst)-from+zeros >= mostDigits {
			return nil, false
		}
		for ; zeros > 0; zeros-- {
			dst = append(dst, '0')
		}
		dst = append(dst, c)
	}
	exponent += zeros
	if len(dst) == from {
		return nil, false // zero, which is kept as 0
	}
	if exponent < 0 || exponent > mostDigits-(len(dst)-from) {
		return nil, false
	}
	for ; exponent > 0; exponent-- {
		dst = append(dst, '0')
	}
	return dst, true
}
