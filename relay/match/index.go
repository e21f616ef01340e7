package match

// Index finds out of many rules those that hold for an event. What that costs follows from how many members of the event are asked for
// and how many rules hold, not from how many rules there are, as long as each asks for a value. It never changes.
type Index struct {
	members *Members
	rules   []compiled // by the caller's number
	// One condition of each rule leads to it. By the number of the path:
	values  []map[Value]int32 // the member is one of these: the rule that asks for it, or ^ the number in several of those that do
	several [][]int32
	present [][]int32 // it is there
	absent  [][]int32 // it is not
	lacking []int32   // the paths that absent has rules for
	only    []bool    // by rule: it has no other condition
}

// NewIndex makes the index of rules, which it keeps, for those that ask for anything; nil when none does.
func NewIndex(rules []Rule) *Index {
	m := MembersOf(rules...)
	if m == nil {
		return nil
	}
	n := len(m.paths) + 1
	x := &Index{members: m, rules: make([]compiled, len(rules)), values: make([]map[Value]int32, n), only: make([]bool, len(rules)), present: make([][]int32, n), absent: make([][]int32, n)}
	for i, rule := range rules {
		if len(rule) == 0 {
			continue
		}
		x.rules[i], x.only[i] = compile(rule, m), len(rule) == 1
		x.add(int32(i))
	}
	return x
}

// add has a rule found by the condition that the fewest events meet.
func (x *Index) add(rule int32) {
	best := 0
	for i, c := range x.rules[rule] {
		if c.selectivity() < x.rules[rule][best].selectivity() {
			best = i
		}
	}
	c := x.rules[rule][best]
	for _, v := range c.Values {
		if x.values[c.number] == nil {
			x.values[c.number] = map[Value]int32{}
		}
		switch before, ok := x.values[c.number][v]; {
		case !ok:
			x.values[c.number][v] = rule
		case before < 0:
			x.several[^before] = append(x.several[^before], rule)
		default:
			x.values[c.number][v] = ^int32(len(x.several))
			x.several = append(x.several, []int32{before, rule})
		}
	}
	switch {
	case len(c.Values) > 0:
	case c.Exists:
		x.present[c.number] = append(x.present[c.number], rule)
	default:
		if len(x.absent[c.number]) == 0 {
			x.lacking = append(x.lacking, c.number)
		}
		x.absent[c.number] = append(x.absent[c.number], rule)
	}
}

// selectivity is the lower, the fewer events are thought to meet the condition.
func (c *Condition) selectivity() int {
	switch {
	case len(c.Values) > 0:
		return len(c.Values)
	case c.Exists:
		return 1 << 30
	}
	return 1<<30 + 1
}

// Members are those that are to be read of an event for Find.
func (x *Index) Members() *Members {
	if x == nil {
		return nil
	}
	return x.members
}

// Find appends the numbers of the rules that hold for an event of which this was found, in no order. It does not allocate where dst has
// room.
func (x *Index) Find(f *Found, dst []int32) []int32 {
	if !f.sorted {
		f.sort()
	}
	var buf [maxWhole]byte
	for _, m := range f.members {
		if values := x.values[m.number]; values != nil {
			switch rule, ok := values[Value(same(f.text[m.from:m.to], &buf))]; {
			case !ok:
			case rule < 0:
				dst = x.holding(x.several[^rule], f, dst)
			case x.only[rule] || x.holds(rule, f):
				dst = append(dst, rule)
			}
		}
		dst = x.holding(x.present[m.number], f, dst)
	}
	for _, number := range x.lacking {
		if f.value(number) == nil {
			dst = x.holding(x.absent[number], f, dst)
		}
	}
	return dst
}

// holding appends those of some rules that hold, whose condition that leads to them does.
func (x *Index) holding(rules []int32, f *Found, dst []int32) []int32 {
	for _, rule := range rules {
		if x.only[rule] || x.holds(rule, f) {
			dst = append(dst, rule)
		}
	}
	return dst
}

func (x *Index) holds(rule int32, f *Found) bool {
	c, _ := x.rules[rule].broken(f)
	return c == nil
}
