package match

// Judge decides for one endpoint whether an event is its own. A nil *Judge takes every event. It never changes.
type Judge struct {
	members *Members
	rule    compiled
}

// compiled are a rule's conditions with the numbers of their paths.
type compiled []struct {
	*Condition
	number int32
}

func compile(rule Rule, m *Members) compiled {
	c := make(compiled, len(rule))
	for i := range rule {
		c[i].Condition, c[i].number = &rule[i], int32(m.number(rule[i].Path))
	}
	return c
}

// broken is the first condition that does not hold, with the value that there is; nil when all hold.
func (c compiled) broken(f *Found) (*Condition, []byte) {
	for i := range c {
		if value := f.value(c[i].number); !c[i].holds(value) {
			return c[i].Condition, value
		}
	}
	return nil, nil
}

// NewJudge makes the judge of a rule, which it keeps; nil for one that asks for nothing.
func NewJudge(rule Rule) *Judge {
	if len(rule) == 0 {
		return nil
	}
	m := MembersOf(rule)
	return &Judge{m, compile(rule, m)}
}

// Refuses names the member for which an event is not the endpoint's own, "" when it is. body is the event in canonical form.
func (j *Judge) Refuses(body []byte, scratch *Found) (path string) {
	if j == nil {
		return ""
	}
	j.members.Read(body, scratch)
	if c, _ := j.rule.broken(scratch); c != nil {
		return c.Path
	}
	return ""
}

// Why says why an event, of which f was read by m, is not what a rule asks for whose members m has, with the value that decides:
// data.accountId is acct_7, not acct_42. It is "" for one that is.
func (m *Members) Why(rule Rule, f *Found) string {
	for i := range rule {
		if value := f.value(int32(m.number(rule[i].Path))); !rule[i].holds(value) {
			return rule[i].why(value)
		}
	}
	return ""
}
