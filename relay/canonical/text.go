package canonical

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// text reads the string at c.at, its quotes included. A string without escapes, which is nearly every one, is looked
// through eight bytes at a time and copied as it is: what JSON.stringify escapes can't stand in JSON unescaped.
func (c *canon) text() bool {
	start := c.at
	c.at++
	run := c.at
	stop, foreign := plainRun(c.in, run)
	if foreign && !c.valid(run, stop) {
		return false
	}
	if stop < len(c.in) && c.in[stop] == '"' {
		c.at = stop + 1
		c.out = append(c.out, c.in[start:c.at]...)
		return true
	}
	c.out = append(c.out, '"')
	for {
		c.out = append(c.out, c.in[run:stop]...)
		c.at = stop
		switch b := c.peek(); {
		case stop >= len(c.in):
			return c.unexpected()
		case b == '"':
			c.at++
			c.out = append(c.out, '"')
			return true
		case b != '\\':
			return c.malformed(rawControl, c.at)
		case !c.escape():
			return false
		}
		run = c.at
		stop, foreign = plainRun(c.in, run)
		if foreign && !c.valid(run, stop) {
			return false
		}
	}
}

// escape reads the escape at c.at and writes the character that it means.
func (c *canon) escape() bool {
	from := c.at
	if from+1 >= len(c.in) {
		c.at = len(c.in)
		return c.unexpected()
	}
	c.at += 2
	switch c.in[from+1] {
	case '"':
		c.out = append(c.out, '\\', '"')
	case '\\':
		c.out = append(c.out, '\\', '\\')
	case '/':
		c.out = append(c.out, '/')
	case 'b', 'f', 'n', 'r', 't':
		c.out = append(c.out, '\\', c.in[from+1])
	case 'u':
		unit, ok := c.hex(c.at)
		if !ok {
			return c.malformed(badEscape, from)
		}
		c.at += 4
		if unit >= 0xD800 && unit <= 0xDBFF && c.at+1 < len(c.in) && c.in[c.at] == '\\' && c.in[c.at+1] == 'u' {
			low, ok := c.hex(c.at + 2)
			if !ok {
				return c.malformed(badEscape, c.at)
			}
			if low >= 0xDC00 && low <= 0xDFFF {
				c.at += 6
				unit = 0x10000 + (unit-0xD800)<<10 + (low - 0xDC00)
			}
		}
		c.out = appendCharacter(c.out, unit)
	default:
		return c.malformed(badEscape, from)
	}
	return true
}

// appendCharacter writes r inside a string as JSON.stringify does (ECMA-262, QuoteJSONString).
func appendCharacter(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r >= 0xD800 && r <= 0xDFFF: // half of a surrogate pair, which UTF-8 has no bytes for
		return append(dst, '\\', 'u', 'd', hex[r>>8&0xF], hex[r>>4&0xF], hex[r&0xF])
	case r >= ' ':
		return utf8.AppendRune(dst, r)
	case r == '\b':
		return append(dst, '\\', 'b')
	case r == '\f':
		return append(dst, '\\', 'f')
	case r == '\n':
		return append(dst, '\\', 'n')
	case r == '\r':
		return append(dst, '\\', 'r')
	case r == '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xF])
}

// hex reads four hexadecimal digits at i.
func (c *canon) hex(i int) (unit rune, ok bool) {
	if i+4 > len(c.in) {
		return 0, false
	}
	for _, b := range c.in[i : i+4] {
		switch {
		case b >= '0' && b <= '9':
			b -= '0'
		case b >= 'a' && b <= 'f':
			b -= 'a' - 10
		case b >= 'A' && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(b)
	}
	return unit, true
}

// valid refuses a run of a string that is not UTF-8. A run ends at an ASCII byte or at the end of the text, so it can't
// cut a character in two.
func (c *canon) valid(from, to int) bool {
	if utf8.Valid(c.in[from:to]) {
		return true
	}
	for {
		r, n := utf8.DecodeRune(c.in[from:to])
		if r == utf8.RuneError && n == 1 {
			return c.malformed(invalidUTF8, from)
		}
		from += n
	}
}

// plainRun returns where, from i on, the first quote, backslash or control character stands, or len(in). foreign is true
// when there is a byte beyond ASCII on the way; it may be true when there is none.
func plainRun(in []byte, i int) (stop int, foreign bool) {
	const (
		ones = 0x0101010101010101
		high = 0x80 * ones
	)
	var seen uint64
	for ; i+8 <= len(in); i += 8 {
		// Each of the three tests sets the top bit of the bytes it looks for. It may set it for bytes above such a
		// byte too (a borrow), so only the lowest one set is to be believed.
		w := binary.LittleEndian.Uint64(in[i:])
		seen |= w
		quote, slash := w^('"'*ones), w^('\\'*ones)
		found := ((w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & high
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8, seen&high != 0
		}
	}
	for ; i < len(in); i++ {
		b := in[i]
		if b < ' ' || b == '"' || b == '\\' {
			break
		}
		seen |= uint64(b)
	}
	return i, seen&high != 0
}
