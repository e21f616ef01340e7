package config

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// place names a table, a key or a list element of a TOML text by its way from the root. The zero place is the root.
type place string

// Each step of a place begins with one of these bytes, which no bare key has.
const (
	keyStep   = "\x00"
	indexStep = "\x01"
)

// deepestPlace bounds the length of a place, and with it the work for a text of nothing but brackets or dots. What lies
// deeper shares the place of what holds it; a configuration file needs four steps.
const deepestPlace = 32

func (p place) key(name string) place { return p.step(keyStep + name) }
func (p place) index(i int) place     { return p.step(indexStep + strconv.Itoa(i)) }

func (p place) step(s string) place {
	if strings.Count(string(p), keyStep)+strings.Count(string(p), indexStep) >= deepestPlace {
		return p
	}
	return p + place(s)
}

// lineMap tells on which line, from 1, each place of a TOML text is first spoken of. The toml library knows that for
// syntax errors only.
type lineMap map[place]int

// find is the line of p or, when p isn't in the text, of the innermost table around it that is; 0 without any.
func (m lineMap) find(p place) int {
	for p != "" {
		if line, ok := m[p]; ok {
			return line
		}
		p = p[:strings.LastIndexAny(string(p), keyStep+indexStep)]
	}
	return 0
}

// locate reads a TOML text for nothing but positions. It expects a text that the toml library has accepted; of any
// other it makes what it can, without failing.
func locate(text string) lineMap {
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} { // the byte order marks that the library passes over
		if after, ok := strings.CutPrefix(text, mark); ok {
			text = after
			break
		}
	}
	l := &locator{text: text, line: 1, lines: lineMap{}, lengths: map[place]int{}}
	table := place("")
	for l.skipBlank(); !l.atEnd(); l.skipBlank() {
		if l.peek() == '[' {
			table = l.header()
		} else {
			l.entry(table)
		}
		l.skipLine()
	}
	return l.lines
}

// locator is a position in a TOML text and what was found before it.
type locator struct {
	text    string
	pos     int
	line    int
	lines   lineMap
	lengths map[place]int // of the arrays of tables that [[headers]] built so far
}

func (l *locator) atEnd() bool { return l.pos >= len(l.text) }

// peek is the next byte, 0 at the end.
func (l *locator) peek() byte {
	if l.atEnd() {
		return 0
	}
	return l.text[l.pos]
}

// advance passes n bytes and counts the lines among them.
func (l *locator) advance(n int) {
	end := min(l.pos+n, len(l.text))
	l.line += strings.Count(l.text[l.pos:end], "\n")
	l.pos = end
}

// take passes s if it comes next.
func (l *locator) take(s string) bool {
	if !strings.HasPrefix(l.text[l.pos:], s) {
		return false
	}
	l.advance(len(s))
	return true
}

// skip passes all bytes that are in set; skipTo all that aren't.
func (l *locator) skip(set string) {
	rest := l.text[l.pos:]
	l.advance(len(rest) - len(strings.TrimLeft(rest, set)))
}

func (l *locator) skipTo(set string) {
	n := strings.IndexAny(l.text[l.pos:], set)
	if n < 0 {
		n = len(l.text) - l.pos
	}
	l.advance(n)
}

func (l *locator) skipLine()  { l.skipTo("\n") }
func (l *locator) skipSpace() { l.skip(" \t") }

// skipBlank passes white space, newlines and comments.
func (l *locator) skipBlank() {
	for l.skip(" \t\r\n"); l.peek() == '#'; l.skip(" \t\r\n") {
		l.skipLine()
	}
}

// mark notes the line of a place unless it was spoken of before.
func (l *locator) mark(p place, line int) {
	if _, ok := l.lines[p]; !ok {
		l.lines[p] = line
	}
}

// header passes "[name" or "[[name" and returns the table that the following entries belong to. A name on the way that
// is an array of tables stands for its last element.
func (l *locator) header() place {
	line := l.line
	l.advance(1)
	isList := l.take("[")
	names := l.names()
	p := place("")
	for i, name := range names {
		p = p.key(name)
		l.mark(p, line)
		if isList && i == len(names)-1 {
			l.lengths[p]++
		}
		if n := l.lengths[p]; n > 0 {
			p = p.index(n - 1)
			l.mark(p, line)
		}
	}
	return p
}

// entry passes "names = value" of a table.
func (l *locator) entry(table place) {
	line, p := l.line, table
	for _, name := range l.names() {
		p = p.key(name)
		l.mark(p, line)
	}
	l.skipSpace()
	if l.take("=") {
		l.skipSpace()
		l.value(p)
	}
}

// names passes a key, bare, quoted or dotted, and returns its parts.
func (l *locator) names() (names []string) {
	for {
		l.skipSpace()
		start := l.pos
		switch l.peek() {
		case '"':
			l.quoted()
			names = append(names, unescape(unquoted(l.text[start:l.pos])))
		case '\'':
			l.quoted()
			names = append(names, unquoted(l.text[start:l.pos]))
		default:
			l.skipTo(" \t\r\n.=[]{},#\"'")
			if l.pos == start {
				return names
			}
			names = append(names, l.text[start:l.pos])
		}
		l.skipSpace()
		if !l.take(".") {
			return names
		}
	}
}

// value passes a value and marks the elements and entries inside it.
func (l *locator) value(p place) {
	switch l.peek() {
	case '"', '\'':
		l.quoted()
	case '[':
		l.advance(1)
		for i := 0; l.more("]"); i++ {
			before, element := l.pos, p.index(i)
			l.mark(element, l.line)
			l.value(element)
			if l.pos == before {
				return
			}
		}
	case '{':
		l.advance(1)
		for l.more("}") {
			before := l.pos
			l.entry(p)
			if l.pos == before {
				return
			}
		}
	default: // a number, a date, true or false
		l.skipTo(",]}#\n")
	}
}

// more passes blanks and commas inside a list or an inline table, and reports whether something follows before its end,
// which it passes too.
func (l *locator) more(end string) bool {
	for l.skipBlank(); l.take(","); l.skipBlank() {
	}
	return !l.atEnd() && !l.take(end)
}

// quoted passes a string of any of the four kinds. One that isn't closed reaches to the end of its line or, if it may
// have several, of the text.
func (l *locator) quoted() {
	quote := l.text[l.pos : l.pos+1]
	closing, stops := quote, quote+"\\\n"
	if strings.HasPrefix(l.text[l.pos:], quote+quote+quote) {
		closing, stops = quote+quote+quote, quote+"\\"
	}
	l.advance(len(closing))
	for l.skipTo(stops); !l.atEnd(); l.skipTo(stops) {
		switch {
		case l.take(closing):
			if len(closing) == 3 { // up to two quotes may stand before the closing three
				l.take(quote)
				l.take(quote)
			}
			return
		case l.peek() == '\n':
			return
		case l.peek() == '\\' && quote == `"`:
			l.advance(2)
		default:
			l.advance(1)
		}
	}
}

// unquoted cuts the quotes of a one-line string, of which the closing one may be missing.
func unquoted(s string) string {
	quote := s[:1]
	return strings.TrimSuffix(s[1:], quote)
}

// unescape resolves the escapes of a basic string; a malformed one stays as it is.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if n := strings.IndexByte("btnfre", s[i]); n >= 0 {
			b.WriteByte("\b\t\n\f\r\x1b"[n])
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[i]]
		if i+digits < len(s) && digits > 0 {
			if code, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32); err == nil && code <= utf8.MaxRune {
				b.WriteRune(rune(code))
				i += digits
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
