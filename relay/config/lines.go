package config

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
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

// lineMap tells on which line, from 1, each place of a TOML text is first spoken of, and which tables are written in braces. The toml
// library knows lines for syntax errors only: of what is right it tells the keys and their order.
type lineMap struct {
	lines  map[place]int
	braces map[place]bool
}

// find is the line of p or, when p isn't in the text, of the innermost table around it that is; 0 without any.
func (m lineMap) find(p place) int {
	for p != "" {
		if line, ok := m.lines[p]; ok {
			return line
		}
		p = p[:strings.LastIndexAny(string(p), keyStep+indexStep)]
	}
	return 0
}

// textLines are the lines of a text, which are found when the first of them is asked for: a text that is as it should be has none to
// tell, and of thousands of files nearly all are. The nil textLines knows none.
type textLines struct {
	text  string
	keys  []toml.Key
	found *lineMap
}

func (l *textLines) all() lineMap {
	if l == nil {
		return lineMap{}
	}
	if l.found == nil {
		found := locate(l.text, l.keys)
		l.found = &found
	}
	return *l.found
}

// lexeme is what a TOML text is made of, as far as lines and keys go: comments, strings of the four kinds, newlines, what gives
// structure, and all else that is no white space.
var lexeme = regexp.MustCompile(`#[^\n]*|"""(?s:[^\\]|\\.)*?"{3,5}|'''(?s:.)*?'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|\n|[\[\]{},=]|[^\s\[\]{},="'#]+`)

// locate finds the places of a TOML text that the toml library has accepted and whose keys, in their order, it has told.
func locate(text string, keys []toml.Key) lineMap {
	l := &locator{lexemes: lexeme.FindAllString(text, -1), keys: keys, line: 1, found: lineMap{map[place]int{}, map[place]bool{}}, lengths: map[place]int{}}
	table, depth := place(""), 0 // depth is how many keys lead to the table
	for l.more("") {
		if l.peek() == "[" {
			table, depth = l.header()
		} else {
			l.entry(table, depth)
		}
	}
	return l.found
}

// locator is a position in a TOML text and what was found before it.
type locator struct {
	lexemes []string   // what is still to come
	keys    []toml.Key // those of the headers and entries that are still to come
	line    int
	found   lineMap
	lengths map[place]int // of the arrays of tables that [[headers]] built so far
}

// peek is what comes next, empty at the end.
func (l *locator) peek() string {
	if len(l.lexemes) == 0 {
		return ""
	}
	return l.lexemes[0]
}

func (l *locator) next() {
	l.line += strings.Count(l.lexemes[0], "\n")
	l.lexemes = l.lexemes[1:]
}

// more passes newlines, comments and commas. It reports whether something follows before the end of a list or an inline table,
// which it passes too, or of the text.
func (l *locator) more(end string) bool {
	for s := l.peek(); s != "" && strings.Contains("\n,#", s[:1]); s = l.peek() {
		l.next()
	}
	if s := l.peek(); s == "" || s == end {
		l.lexemes = l.lexemes[min(1, len(l.lexemes)):]
		return false
	}
	return true
}

// names are the names that lead from a table to the next key, and passes what they are written with up to one of the ends.
func (l *locator) names(depth int, ends string) (names []string) {
	for s := l.peek(); s != "" && !strings.Contains(ends, s); s = l.peek() {
		l.next()
	}
	if len(l.keys) > 0 {
		names, l.keys = l.keys[0][min(depth, len(l.keys[0])):], l.keys[1:]
	}
	return names
}

// mark notes the line of a place unless it was spoken of before.
func (l *locator) mark(p place, line int) place {
	if _, ok := l.found.lines[p]; !ok {
		l.found.lines[p] = line
	}
	return p
}

// header passes "[name]" or "[[name]]" and returns the table that the following entries belong to. A name on the way that is an
// array of tables stands for its last element.
func (l *locator) header() (p place, depth int) {
	l.next()
	isList := l.peek() == "["
	names := l.names(0, "\n")
	for i, name := range names {
		p = l.mark(p.key(name), l.line)
		if isList && i == len(names)-1 {
			l.lengths[p]++
		}
		if n := l.lengths[p]; n > 0 {
			p = l.mark(p.index(n-1), l.line)
		}
	}
	return p, len(names)
}

// entry passes "names = value" of a table.
func (l *locator) entry(p place, depth int) {
	for _, name := range l.names(depth, "=") {
		p, depth = l.mark(p.key(name), l.line), depth+1
	}
	if l.peek() == "=" {
		l.next()
		l.value(p, depth)
	}
}

// value passes a value and marks the elements and entries inside it.
func (l *locator) value(p place, depth int) {
	switch l.peek() {
	case "[":
		l.next()
		for i := 0; l.more("]"); i++ {
			l.value(l.mark(p.index(i), l.line), depth)
		}
	case "{":
		l.found.braces[p] = true
		l.next()
		for l.more("}") {
			l.entry(p, depth)
		}
	default:
		for s := l.peek(); s != "" && !strings.Contains(",]}#\n", s[:1]); s = l.peek() { // a date may have a space in it
			l.next()
		}
	}
}
