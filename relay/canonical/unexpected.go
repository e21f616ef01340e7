package canonical

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"realtorbot-relay/relay/config"
)

// What stands where JSON does not allow it. What word processors, editors, shells and other notations make of JSON is named.
const (
	unexpectedByte = "unexpected character"
	unexpectedEnd  = "unexpected end"
	byteOrderMark  = "unexpected byte order mark"
	wideText       = "the body is in UTF-16"
	curlyQuote     = "unexpected curly quote"
	otherQuote     = "unexpected quote that is not a double one"
	bareWord       = "unexpected text without quotes"
	lateComma      = "unexpected end of an object or array behind a comma"
	comment        = "unexpected comment"
	unseen         = "unexpected character that nobody sees"
)

// hints say for a reason, where that alone does not, what to do.
var hints = map[string]string{
	byteOrderMark: "send UTF-8 without one",
	wideText:      "send it as UTF-8",
	curlyQuote:    `JSON has straight ones, "`,
	otherQuote:    `JSON has double ones, "`,
	bareWord:      "names and texts stand in double quotes, and the only words of JSON are true, false and null",
	lateComma:     "take the comma away",
	comment:       "JSON has none",
	unseen:        "delete it",
	invalidUTF8:   "send the body as UTF-8",
	rawControl:    `write it as an escape, such as \n`,
	badEscape:     `a backslash is written \\`,
}

// unexpected refuses what stands at c.at, or the end when that is there.
func (c *canon) unexpected() bool {
	rest := c.in[c.at:]
	r, _ := utf8.DecodeRune(rest)
	reason := unexpectedByte
	switch {
	case len(rest) == 0:
		reason = unexpectedEnd
	case r == '\uFEFF' && c.at == 0:
		reason = byteOrderMark
	case config.IsCurlyQuote(r):
		reason = curlyQuote
	case r == '\'' || r == '`':
		reason = otherQuote
	case (r == '}' || r == ']') && c.last() == ',':
		reason = lateComma
	case bytes.HasPrefix(rest, []byte("//")) || bytes.HasPrefix(rest, []byte("/*")):
		reason = comment
	case r > 0x7f && unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Zs):
		reason = unseen
	case unicode.IsLetter(r) && strings.IndexByte("\x00{[,:", c.last()) >= 0:
		reason = bareWord
	}
	return c.malformed(reason, c.at)
}

// last is the byte that was read last, but for space; 0 when none was.
func (c *canon) last() byte {
	before := bytes.TrimRight(c.in[:c.at], " \n\r\t")
	if len(before) == 0 {
		return 0
	}
	return before[len(before)-1]
}

// isWide reports whether a text is in UTF-16. All JSON but a number alone begins with two ASCII characters.
func isWide(in []byte) bool { return config.IsUTF16(string(in[:min(len(in), 4)])) }
