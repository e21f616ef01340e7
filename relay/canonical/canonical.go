package canonical

import (
	"fmt"
	"runtime"

	"realtorbot-relay/relay/match"
	"realtorbot-relay/relay/memory"
)

const (
	// maxDepth is how deep objects and arrays may nest, the event itself being the first level.
	maxDepth = 128
	// maxMembers is how many members the objects of an event may have together.
	maxMembers = 100_000
	// maxEvents is how many events a batch may have.
	maxEvents = 10_000
)

// What a body is refused for. Those of canon are completed with the byte at which they were found, and with the hint to them.
// What stands where it may not is in unexpected.go.
const (
	invalidUTF8       = "invalid UTF-8"
	rawControl        = "unescaped control character in a string"
	badEscape         = "invalid escape in a string"
	tooDeep           = "objects and arrays nested deeper than 128"
	duplicateName     = "duplicate member name"
	manyMembersReason = "an event may have 100000 members at most: one too many"
	manyEvents        = "a batch may have 10000 events at most"
)

// canon rewrites JSON text (RFC 8259) in the form that JavaScript's JSON.stringify(JSON.parse(text)) gives it
// (ECMA-262, SerializeJSONProperty and Number::toString), in one pass that appends to out while it reads in.
// It is stricter than JSON.parse where a JavaScript receiver and others would understand different things: duplicate
// member names and invalid UTF-8 are refused, and so is deep nesting. Numbers that would be lost keep their own text (see
// appendNumber).
//
// Its methods that read report false when they refuse; why is then in fault, and the other fields may be left half-way.
type canon struct {
	in      []byte   // what is read: the caller's, neither written to nor kept
	at      int      // the next byte of in
	out     []byte   // what was written: grows, and is cut back by the Parser alone
	members []member // a stack: the members read so far of every object that is open, the innermost object's last
	count   int      // of members that were read since the start of an event
	tables  []int32  // a stack: the tables of names of the objects that are open and have many members
	spare   []byte   // scratch of whoever writes to it last, never across a call
	digits  digits   // scratch of appendNumber
	fault   fault
	account memory.Account // what all of this is taken from before it is allocated
	worked  uint8          // wraps around

	place *match.Member // of the object or member that is read next; nil: nobody asks for what is in it
	found match.Found   // of the event that is read

	shuffles []shuffle // the objects read so far whose members are to be put into order
	strays   []member  // their members
}

// fault is why reading stopped. at is an offset in canon.in, or -1 where none would help.
type fault struct {
	reason  string
	at      int
	notJSON bool  // no JSON parser would take it, as opposed to JSON that we refuse
	many    bool  // there is more of something than may be
	memory  error // why there is no memory for it
}

// text says what is wrong to a client. line is where in an NDJSON body canon.in was found, counted from 1; 0 means that
// canon.in was the whole body.
func (f fault) text(line int) string {
	text := f.reason
	if f.at >= 0 {
		text = fmt.Sprintf("%s at byte %d", text, f.at)
		if line > 0 {
			text = fmt.Sprintf("%s of line %d", text, line)
		}
	}
	if hint := hints[f.reason]; hint != "" {
		text += ": " + hint
	}
	return text
}

// read takes in as the text to read from its start. out and the scratch stay.
func (c *canon) read(in []byte) bool {
	c.in, c.at = in, 0
	c.begin()
	return c.room(len(in) + stampRoom)
}

// begin forgets what was read of the event before.
func (c *canon) begin() {
	c.place = nil
	c.found.Reset()
	c.members, c.tables, c.shuffles, c.strays, c.count = c.members[:0], c.tables[:0], c.shuffles[:0], c.strays[:0], 0
}

// room makes room for more bytes in out. What is read is never longer when it is written, but for numbers and for what is
// put in, so that room for the rest of the text is all that is needed in between.
func (c *canon) room(more int) bool {
	if cap(c.out)-len(c.out) >= more {
		return true
	}
	want := max(len(c.out)+more, 2*cap(c.out))
	if err := memory.Take(c.account, want); err != nil { // and the old one stays, in which there may be events
		return c.full(err)
	}
	out := make([]byte, len(c.out), want)
	copy(out, c.out)
	c.out = out
	return true
}

// alone reads a text that must hold one value, with nothing but space around it.
func (c *canon) alone() bool {
	start := len(c.out)
	c.space()
	return c.value(1) && c.ended() && c.settle(start, nil)
}

// ended reports that nothing but space is left, and refuses anything else.
func (c *canon) ended() bool {
	c.space()
	return c.at == len(c.in) || c.unexpected()
}

// value reads the value at c.at, which is not space. depth is the level that it has when it is an object or an array.
func (c *canon) value(depth int) bool {
	c.letOthers()
	switch c.peek() {
	case '"':
		return c.text()
	case '{':
		base := len(c.members)
		ok := c.object(depth)
		c.members = c.members[:base]
		return ok
	case '[':
		return c.array(depth)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return c.number()
	case 't':
		return c.word("true")
	case 'f':
		return c.word("false")
	case 'n':
		return c.word("null")
	}
	return c.unexpected()
}

// letOthers lets others have the processor now and then: who works on a large body would else have it for 10 ms at a time, and
// a commit, for which many wait, needs it for a moment again and again.
func (c *canon) letOthers() {
	if c.worked++; c.worked%workedBefore == 0 {
		runtime.Gosched()
	}
}

// workedBefore is how many values are read, or objects put in order, before others have the processor.
const workedBefore = 128

// object reads the object at c.at and leaves its members on the stack, in the order in which they were written; the
// caller takes them off.
func (c *canon) object(depth int) bool {
	if depth > maxDepth {
		return c.refuse(tooDeep, c.at)
	}
	base, open := len(c.members), len(c.out)
	seen, place := names{at: len(c.tables)}, c.place
	c.out = append(c.out, '{')
	c.at++
	c.space()
	if c.peek() == '}' {
		c.at++
		c.out = append(c.out, '}')
		return true
	}
	ordered, last := true, uint32(0)
	for {
		if c.peek() != '"' {
			return c.unexpected()
		}
		from, m := c.at, member{start: int32(len(c.out))}
		if !c.text() {
			return false
		}
		name := c.out[m.start+1 : len(c.out)-1]
		inside := place.Inside(name)
		switch has, ok := seen.has(c, c.members[base:], name); {
		case !ok:
			return false
		case has:
			return c.refuse(duplicateName, from)
		case c.count >= maxMembers:
			return c.exceeds(manyMembersReason, from)
		}
		c.count++
		m.rank = rank(name)
		ordered = ordered && m.rank >= last
		last = m.rank
		c.space()
		if c.peek() != ':' {
			return c.unexpected()
		}
		c.at++
		c.out = append(c.out, ':')
		m.value = int32(len(c.out))
		c.space()
		c.place = inside
		if !c.value(depth + 1) {
			return false
		}
		m.end = int32(len(c.out))
		if inside != nil {
			c.found.Note(inside, c.out[m.value:])
		}
		if len(c.members) == cap(c.members) {
			var err error
			if c.members, err = memory.Grow(c.account, c.members, 1); err != nil {
				return c.full(err)
			}
		}
		c.members = append(c.members, m)
		c.space()
		switch c.peek() {
		case ',':
			c.at++
			c.out = append(c.out, ',')
			c.space()
			continue
		case '}':
			c.at++
			c.out = append(c.out, '}')
		default:
			return c.unexpected()
		}
		c.tables = c.tables[:seen.at]
		return ordered || c.stray(open, c.members[base:])
	}
}

// array reads the array at c.at.
func (c *canon) array(depth int) bool {
	if depth > maxDepth {
		return c.refuse(tooDeep, c.at)
	}
	c.out = append(c.out, '[')
	c.at++
	c.place = nil
	c.space()
	if c.peek() == ']' {
		c.at++
		c.out = append(c.out, ']')
		return true
	}
	for {
		if !c.value(depth + 1) {
			return false
		}
		c.space()
		switch c.peek() {
		case ',':
			c.at++
			c.out = append(c.out, ',')
			c.space()
		case ']':
			c.at++
			c.out = append(c.out, ']')
			return true
		default:
			return c.unexpected()
		}
	}
}

// word reads true, false or null.
func (c *canon) word(w string) bool {
	from := c.at
	for i := range len(w) {
		switch {
		case c.at >= len(c.in):
			return c.unexpected()
		case c.in[c.at] != w[i]:
			return c.malformed(bareWord, from)
		}
		c.at++
	}
	c.out = append(c.out, w...)
	return true
}

// number reads the number at c.at.
func (c *canon) number() bool {
	start, plain := c.at, true
	if c.peek() == '-' {
		c.at++
	}
	first := c.at
	if c.peek() == '0' {
		c.at++
	} else if !c.digitsRun() {
		return false
	}
	if c.peek() == '.' {
		plain = false
		c.at++
		if !c.digitsRun() {
			return false
		}
	}
	if b := c.peek(); b == 'e' || b == 'E' {
		plain = false
		c.at++
		if b := c.peek(); b == '+' || b == '-' {
			c.at++
		}
		if !c.digitsRun() {
			return false
		}
	}
	text := c.in[start:c.at]
	switch {
	case plain && c.in[first] == '0':
		c.out = append(c.out, '0') // -0 too
	case plain && c.at-first <= exactDigits:
		c.out = append(c.out, text...)
	default:
		if !c.room(longestNumber + len(c.in) - c.at) {
			return false
		}
		c.out = appendNumber(c.out, text, &c.digits)
	}
	return true
}

// digitsRun reads one digit or more.
func (c *canon) digitsRun() bool {
	i := c.at
	for i < len(c.in) && c.in[i]-'0' <= 9 {
		i++
	}
	if i == c.at {
		return c.unexpected()
	}
	c.at = i
	return true
}

// space moves over the four bytes that are space in JSON.
func (c *canon) space() {
	i := c.at
	for i < len(c.in) && c.in[i] <= ' ' && isSpace(c.in[i]) {
		i++
	}
	c.at = i
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\r' || b == '\t' }

// peek is the next byte, and 0, which JSON allows nowhere, at the end.
func (c *canon) peek() byte {
	if c.at < len(c.in) {
		return c.in[c.at]
	}
	return 0
}

// malformed refuses what is not JSON, refuse what is.
func (c *canon) malformed(reason string, at int) bool {
	if isWide(c.in) {
		reason, at = wideText, -1
	}
	c.fault = fault{reason: reason, at: at, notJSON: true}
	return false
}

func (c *canon) refuse(reason string, at int) bool {
	c.fault = fault{reason: reason, at: at}
	return false
}

// exceeds refuses what is more than may be.
func (c *canon) exceeds(reason string, at int) bool {
	c.fault = fault{reason: reason, at: at, many: true}
	return false
}

// full ends the reading because there is no memory for more.
func (c *canon) full(err error) bool {
	c.fault = fault{memory: err}
	return false
}
