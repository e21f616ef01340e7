package match

// Index finds out of many rules those that hold for an event. What that costs follows from how many members of the event are asked for
// and how many rules hold, not from how many rules there are, as long as each asks for a value that few others ask for. It never changes.
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
	asking := map[asked]int{}
	for _, rule := range rules {
		for i := range rule {
			for _, v := range rule[i].Values {
				asking[asked{rule[i].Path, v}]++
			}
		}
	}
	n := len(m.paths) + 1
	x := &Index{members: m, rules: make([]compiled, len(rules)), values: make([]map[Value]int32, n), only: make([]bool, len(rules)), present: make([][]int32, n), absent: make([][]int32, n)}
	for i, rule := range rules {
		if len(rule) == 0 {
			continue
		}
		x.rules[i], x.only[i] = compile(rule, m), len(rule) == 1
		best := 0
		for at := range rule {
			if rule[at].company(asking) < rule[best].company(asking) {
				best = at
			}
		}
		x.add(int32(i), best)
	}
	return x
}

// asked is a value of a member that rules ask for.
type asked struct {
	path  string
	value Value
}

// add has a rule found by one of its conditions.
func (x *Index) add(rule int32, condition int) {
	c := x.rules[rule][condition]
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

// company is how many rules are looked at for the events that meet the condition, of those that asking counts by what they ask for: the
// fewer, the better it is to find its rule by.
func (c *Condition) company(asking map[asked]int) (n int) {
	for _, v := range c.Values {
		n += asking[asked{c.Path, v}]
	}
	switch {
	case len(c.Values) > 0:
		return n
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
