package match

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// Members are those of an event that are to be read of it, as a tree of names. They never change. A nil *Members has none.
type Members struct {
	root   Member
	paths  []string // by number
	lookUp []int32  // the numbers of those that events are looked up by
}

// Member is a place in an event: one that is asked for, one that is on the way to such a one, or the event itself. A nil *Member is any
// other.
type Member struct {
	inside map[string]*Member // by name, as it stands in canonical JSON between the quotes
	number int                // of the path that ends here, from 1 on; 0: only others go through here
	keep   int                // how many bytes of its value are kept: more than any that is asked for
}

// MembersOf are those that rules ask for; nil when there are none.
func MembersOf(rules ...Rule) *Members {
	m := &Members{}
	for _, rule := range rules {
		for i := range rule {
			m.add(&rule[i])
		}
	}
	if len(m.paths) == 0 {
		return nil
	}
	return m
}

func (m *Members) add(c *Condition) {
	at := &m.root
	for name := range strings.SplitSeq(c.Path, ".") {
		quoted := string(AppendText(nil, name))
		name = quoted[1 : len(quoted)-1]
		if at.inside == nil {
			at.inside = map[string]*Member{}
		}
		if at.inside[name] == nil {
			at.inside[name] = &Member{}
		}
		at = at.inside[name]
	}
	if at.number == 0 {
		m.paths = append(m.paths, c.Path)
		at.number, at.keep = len(m.paths), shownLimit+1
	}
	if n := int32(at.number); len(c.Values) > 0 && c.Path != "id" && len(m.lookUp) < mostLookedUp && !slices.Contains(m.lookUp, n) {
		m.lookUp = append(m.lookUp, n)
	}
	for _, v := range c.Values {
		at.keep = max(at.keep, len(v)+1)
	}
}

// mostLookedUp is by how many members events are looked up: those that are asked for by their values first.
const mostLookedUp = 8

// LookUps is by how many members events are looked up.
func (m *Members) LookUps() int {
	if m == nil {
		return 0
	}
	return len(m.lookUp)
}

// LookUp is one of these members, and its value as it is compared, nil when it is not there. Of a value that is longer than all that is
// asked for it is the beginning. It holds until the next call for the same event.
func (m *Members) LookUp(f *Found, i int) (path string, value []byte) {
	n := m.lookUp[i]
	return m.paths[n-1], same(f.value(n), &f.whole)
}

// number is that of a path, 0 for one that is not asked for.
func (m *Members) number(path string) int {
	at := &m.root
	for name := range strings.SplitSeq(path, ".") {
		quoted := AppendText(nil, name)
		if at = at.Inside(quoted[1 : len(quoted)-1]); at == nil {
			return 0
		}
	}
	return at.number
}

// Event is the place of the event itself, nil when nothing is asked for.
func (m *Members) Event() *Member {
	if m == nil {
		return nil
	}
	return &m.root
}

// Inside is the place of a member of the object at m. name is in canonical form, without its quotes.
func (m *Member) Inside(name []byte) *Member {
	if m == nil {
		return nil
	}
	return m.inside[string(name)]
}

// Found is what was read of one event. It is scratch, to be reused; what it holds is bounded by what is asked for.
type Found struct {
	members []found
	text    []byte // their values
	whole   [maxWhole]byte
	sorted  bool
}

// found is one member that is there. Of an object or a list, and of what is longer than all that is asked for, only the beginning is
// kept, which no value is equal to.
type found struct{ number, from, to int32 }

// Reset forgets what was read.
func (f *Found) Reset() { f.members, f.text, f.sorted = f.members[:0], f.text[:0], false }

// Bytes is how many bytes of memory it has.
func (f *Found) Bytes() int { return cap(f.text) + 12*cap(f.members) }

// Note notes the value of a member, in canonical form, if it is one that is asked for. It copies what it keeps. Each is noted once.
func (f *Found) Note(m *Member, value []byte) {
	if m == nil || m.number == 0 {
		return
	}
	from := int32(len(f.text))
	if value[0] == '{' || value[0] == '[' {
		value = value[:1]
	}
	var buf [maxWhole]byte
	if len(value) > m.keep {
		value = same(value, &buf)
	}
	if len(value) > m.keep {
		f.text = append(append(f.text, value[:m.keep]...), "…"...) // which no value is equal to, not even a number
	} else {
		f.text = append(f.text, value...)
	}
	f.members = append(f.members, found{int32(m.number), from, int32(len(f.text))})
	f.sorted = false
}

// value is that of the member with a number, nil when it is not there.
func (f *Found) value(number int32) []byte {
	if !f.sorted {
		f.sort()
	}
	at, ok := slices.BinarySearchFunc(f.members, number, func(m found, n int32) int { return cmp.Compare(m.number, n) })
	if !ok {
		return nil
	}
	return f.text[f.members[at].from:f.members[at].to]
}

func (f *Found) sort() {
	slices.SortFunc(f.members, func(a, b found) int { return cmp.Compare(a.number, b.number) })
	f.sorted = true
}

// Read notes what is asked for of an event, in place of what f held. body is in canonical form; of one that is not, it notes what it
// comes to. It reads no further than to the last member that it looks for.
func (m *Members) Read(body []byte, f *Found) {
	f.Reset()
	if m == nil {
		return
	}
	r := reading{in: body, found: f, left: len(m.paths)}
	r.object(&m.root)
}

// reading is one pass over an event.
type reading struct {
	in    []byte
	at    int
	found *Found
	left  int // paths that were not found yet
}

// object reads the object at r.at as far as somebody asks for its members; it reports whether to go on.
func (r *reading) object(m *Member) bool {
	if r.peek() != '{' {
		return false
	}
	r.at++
	left := len(m.inside)
	for r.peek() == '"' {
		from := r.at + 1
		if !r.text() || r.peek() != ':' {
			return false
		}
		member := m.Inside(r.in[from : r.at-1])
		r.at++
		value := r.at
		switch {
		case member != nil && len(member.inside) > 0 && r.peek() == '{':
			if !r.object(member) {
				return false
			}
		case !r.skip():
			return false
		}
		if member != nil {
			if member.number > 0 && r.at > value {
				r.found.Note(member, r.in[value:r.at])
				r.left--
			}
			left--
		}
		if r.left == 0 {
			return false
		}
		if left == 0 {
			return r.close()
		}
		if r.peek() != ',' {
			break
		}
		r.at++
	}
	if r.peek() != '}' {
		return false
	}
	r.at++
	return true
}

// close passes the rest of an object.
func (r *reading) close() bool {
	depth := 1
	for r.at < len(r.in) {
		switch r.in[r.at] {
		case '"':
			if !r.text() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		r.at++
		if depth == 0 {
			return true
		}
	}
	return false
}

// skip passes a value.
func (r *reading) skip() bool {
	switch r.peek() {
	case '"':
		return r.text()
	case '{', '[':
		r.at++
		return r.close()
	}
	for r.at < len(r.in) {
		if c := r.in[r.at]; c == ',' || c == '}' || c == ']' {
			return true
		}
		r.at++
	}
	return false
}

// text passes a string.
func (r *reading) text() bool {
	for from := r.at + 1; ; {
		next := bytes.IndexByte(r.in[from:], '"')
		if next < 0 {
			return false
		}
		end, escapes := from+next, 0
		for end-escapes > from && r.in[end-escapes-1] == '\\' {
			escapes++
		}
		if r.at = end + 1; escapes%2 == 0 {
			return true
		}
		from = r.at
	}
}

func (r *reading) peek() byte {
	if r.at < len(r.in) {
		return r.in[r.at]
	}
	return 0
}
