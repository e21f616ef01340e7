package match

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func is(path string, values ...Value) Condition { return Condition{Path: path, Values: values} }

func exists(path string, is bool) Condition { return Condition{Path: path, Exists: is} }

// Bodies are as the intake keeps them: a number that JavaScript would change has its own text, all others JavaScript's.
func TestWhatIsEqual(t *testing.T) {
	for _, c := range []struct {
		member string
		value  Value
		want   bool
	}{
		{`"acct_42"`, Text("acct_42"), true},
		{`"acct_42"`, Text("acct_4"), false},
		{`"Acct_42"`, Text("acct_42"), false},
		{`"1"`, Whole(1), false},
		{`1`, Text("1"), false},
		{`1`, Whole(1), true},
		{`1`, Number(1), true},
		{`-1`, Whole(1), false},
		{`0`, Number(0), true},
		{`0`, Whole(0), true},
		{`1.5`, Number(1.5), true},
		{`1e-7`, Number(1e-7), true},
		{`1e+21`, Number(1e21), true},
		{`100000000000000000000`, Number(1e20), true},
		{`9007199254740993`, Whole(9007199254740993), true},
		{`9007199254740993.0`, Whole(9007199254740993), true},
		{`9.007199254740993e15`, Whole(9007199254740993), true},
		{`900719925474099300E-2`, Whole(9007199254740993), true},
		{`-9007199254740993e0`, Whole(-9007199254740993), true},
		{`9007199254740993.5`, Whole(9007199254740993), false},
		{`9007199254740993e1`, Whole(9007199254740993), false},
		{`1e400`, Whole(1), false},
		{`1e-400`, Whole(0), false},
		{`1234567890123456789.` + strings.Repeat("0", 90) + `e30`, Whole(1234567890123456789), false},
		{`1234567890123456789.` + strings.Repeat("0", 90), Whole(1234567890123456789), true},
		{`true`, Bool(true), true},
		{`"true"`, Bool(true), false},
		{`null`, Text(""), false},
		{`null`, Text("null"), false},
		{`["acct_42"]`, Text("acct_42"), false},
		{`{"x":"acct_42"}`, Text("acct_42"), false},
		{`"é\"\\\n\u0001"`, Text("é\"\\\n\x01"), true},
		{`"` + strings.Repeat("x", 300) + `"`, Text(strings.Repeat("x", 300)), true},
		{`"` + strings.Repeat("x", 301) + `"`, Text(strings.Repeat("x", 300)), false},
	} {
		body := []byte(`{"id":"evt_1","data":{"n":` + c.member + `}}`)
		path := NewJudge(Rule{is("data.n", c.value)}).Refuses(body, &Found{})
		if (path == "") != c.want {
			t.Errorf("%.60s is %s: %v, want %v", c.member, c.value, path == "", c.want)
		}
		x := NewIndex([]Rule{{is("data.n", c.value)}})
		var f Found
		x.Members().Read(body, &f)
		if found := x.Find(&f, nil); (len(found) == 1) != c.want {
			t.Errorf("the index finds %.60s by %s: %v, want %v", c.member, c.value, found, c.want)
		}
	}
}

func TestWhereMembersAre(t *testing.T) {
	body := `{"id":"evt_1","n":null,"list":[{"a":1}],"data":{"s":"\\\"}]{","a.b":1,"a":{"b":[1,{"c":2}],"d":"x"},"é\n":7},"a":"top"}`
	for path, want := range map[string]string{
		"id": `"evt_1"`, "n": "null", "list": "[", "list.a": "", "data": "{", "data.a": "{", "data.a.b": "[", "data.a.b.c": "",
		"data.a.d": `"x"`, "data.é\n": "7", "a": `"top"`, "a.x": "", "data.a.d.x": "", "x": "", "data.s": `"\\\"}]{"`,
	} {
		m := MembersOf(Rule{exists(path, true), exists("data.none", true)})
		var f Found
		m.Read([]byte(body), &f)
		if got := string(f.value(1)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
		if f.value(2) != nil {
			t.Errorf("data.none is %q", f.value(2))
		}
		holds := NewJudge(Rule{exists(path, true)}).Refuses([]byte(body), &f) == ""
		lacks := NewJudge(Rule{exists(path, false)}).Refuses([]byte(body), &f) == ""
		if holds != (want != "") || lacks == holds {
			t.Errorf("%s exists: %v, and does not: %v", path, holds, lacks)
		}
	}
}

func TestReadingWhatIsNoEvent(t *testing.T) {
	m := MembersOf(Rule{exists("data.a.b", true), exists("z", true)})
	whole := `{"data":{"x":"\"","a":{"b":1}},"y":[[{}]],"z":2}`
	var f Found
	for n := range len(whole) {
		m.Read([]byte(whole[:n]), &f)
	}
	for _, text := range []string{"", "[]", `"x"`, "{,}", `{"data"}`, `{"data":}`, `{"data":{"a":{"b":}}}`, `{"z":`} {
		m.Read([]byte(text), &f)
	}
	m.Read([]byte(whole), &f)
	if len(f.members) != 2 {
		t.Errorf("found %v", f.members)
	}
}

func whyOf(rule Rule, body []byte) string {
	var f Found
	m := MembersOf(rule)
	m.Read(body, &f)
	return m.Why(rule, &f)
}

func TestWhySaysWhatDecided(t *testing.T) {
	body := []byte(`{"data":{"accountId":"acct_7","n":1,"o":{},"region2":"missing"}}`)
	for want, rule := range map[string]Rule{
		"data.accountId is acct_7, not acct_42":               {is("data.accountId", Text("acct_42"))},
		"data.accountId is acct_7, not acct_42 or acct_43":    {is("data.accountId", Text("acct_42"), Text("acct_43"))},
		"data.accountId is acct_7, not one of 1 and 3 others": {is("data.accountId", Whole(1), Whole(2), Whole(3), Whole(4))},
		`data.n is 1, not "1"`:                                {is("data.n", Text("1"))},
		"data.o is an object, not true":                       {is("data.o", Bool(true))},
		"data.region is missing, not eu":                      {is("data.region", Text("eu"))},
		`data.region2 is "missing", not eu`:                   {is("data.region2", Text("eu"))},
		"data.region is missing, not there":                   {exists("data.region", true)},
		"data.n is 1, not missing":                            {exists("data.n", false)},
		`data.region2 is "missing", not "there"`:              {is("data.region2", Text("there"))},
		"":                                                    {is("data.accountId", Text("acct_7")), is("data.n", Whole(1))},
		"data.n is 1, not 2":                                  {is("data.accountId", Text("acct_7")), is("data.n", Whole(2))},
	} {
		if got := whyOf(rule, body); got != want {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
	if whyOf(nil, body) != "" || NewJudge(nil).Refuses(body, nil) != "" {
		t.Error("a rule that asks for nothing refuses an event")
	}
}

func TestARuleIsShownAsItIsWritten(t *testing.T) {
	rule := Rule{is("data.accountId", Text("acct_42"), Whole(7)), exists("data.test", false), is("data.vip", Bool(true))}
	text, err := json.Marshal(rule)
	if want := `{"data.accountId":["acct_42",7],"data.test":{"exists":false},"data.vip":true}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	if want := "data.accountId is acct_42 or 7, data.test is missing, data.vip is true"; rule.String() != want {
		t.Errorf("%s", rule)
	}
}

// naive judges an event by encoding/json, rule by rule.
func naive(rules []Rule, body []byte) (holding []int32) {
	var event any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if decoder.Decode(&event) != nil {
		return nil
	}
	for i, rule := range rules {
		holds := len(rule) > 0
		for _, c := range rule {
			at, there := event, true
			for name := range strings.SplitSeq(c.Path, ".") {
				var object map[string]any
				if object, there = at.(map[string]any); there {
					at, there = object[name]
				}
				if !there {
					break
				}
			}
			switch {
			case len(c.Values) == 0:
				holds = holds && there == c.Exists
			default:
				holds = holds && there && slices.ContainsFunc(c.Values, func(v Value) bool {
					var value any
					d := json.NewDecoder(strings.NewReader(string(v)))
					d.UseNumber()
					return d.Decode(&value) == nil && reflect.DeepEqual(value, at)
				})
			}
		}
		if holds {
			holding = append(holding, int32(i))
		}
	}
	return holding
}

// draw makes rules, and an event as canonical JSON, of few names and values, so that many meet.
func draw(r *rand.Rand) (rules []Rule, body []byte) {
	names := []string{"a", "b", "é", "a\"", "id"}
	values := []Value{Text("x"), Text("y\n"), Text("1"), Text(""), Whole(1), Number(1.5), Bool(true), Bool(false), Text(strings.Repeat("z", 80))}
	path := func() string {
		p := names[r.IntN(len(names))]
		for r.IntN(2) == 0 {
			p += "." + names[r.IntN(len(names))]
		}
		return p
	}
	for range r.IntN(12) {
		var rule Rule
		for range r.IntN(4) {
			c := exists(path(), r.IntN(2) == 0)
			for range r.IntN(3) {
				if v := values[r.IntN(len(values))]; !slices.Contains(c.Values, v) {
					c.Values = append(c.Values, v)
				}
			}
			if !slices.ContainsFunc(rule, func(o Condition) bool { return o.Path == c.Path }) {
				rule = append(rule, c)
			}
		}
		rules = append(rules, rule)
	}
	var value func(depth int) string
	object := func(depth int) string {
		var members []string
		for _, i := range r.Perm(len(names))[:r.IntN(len(names)+1)] {
			members = append(members, string(Text(names[i]))+":"+value(depth+1))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	value = func(depth int) string {
		switch n := r.IntN(10); {
		case n < 5 || depth > 4:
			return string(values[r.IntN(len(values))])
		case n < 6:
			return "null"
		case n < 7:
			return "[" + value(depth+1) + "," + value(depth+1) + "]"
		}
		return object(depth)
	}
	return rules, []byte(object(0))
}

func FuzzTheIndexFindsWhatEachRuleSays(f *testing.F) {
	for seed := range uint64(2000) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rules, body := draw(rand.New(rand.NewPCG(seed, 1)))
		want := naive(rules, body)
		var got []int32
		if x := NewIndex(rules); x != nil {
			var found Found
			x.Members().Read(body, &found)
			got = x.Find(&found, nil)
			slices.Sort(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s goes to %v, want %v of %v", body, got, want, rules)
		}
		for i, rule := range rules {
			judge := NewJudge(rule)
			path := judge.Refuses(body, &Found{})
			if len(rule) > 0 && (path == "") != slices.Contains(want, int32(i)) || (path == "") != (whyOf(rule, body) == "") {
				t.Errorf("%s for %v is refused by %q, and should be: %v", body, rule, path, !slices.Contains(want, int32(i)))
			}
		}
	})
}

// accounts are so many rules, each for another account.
func accounts(n int) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = Rule{is("data.accountId", Text(fmt.Sprint("acct_", i)))}
	}
	return rules
}

func TestFindingDoesNotAllocate(t *testing.T) {
	x := NewIndex(accounts(1000))
	body := []byte(`{"id":"evt_1","type":"lead.created","data":{"accountId":"acct_7"}}`)
	var f Found
	room := make([]int32, 0, 8)
	x.Members().Read(body, &f)
	if n := testing.AllocsPerRun(100, func() {
		x.Members().Read(body, &f)
		if len(x.Find(&f, room)) != 1 {
			t.Error("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Rules that have a value in common are found by what tells them apart, whatever stands first and however many values that has.
func TestRulesAreFoundByWhatTellsThemApart(t *testing.T) {
	rules := make([]Rule, 1000)
	for i := range rules {
		id := fmt.Sprint("acct_", i)
		rules[i] = Rule{is("data.environment", Text("production")), is("data.tenant", Text(id), Text(id+"b"))}
	}
	x := NewIndex(rules)
	if n := len(x.several); n != 0 {
		t.Errorf("%d values lead to several rules, want none", n)
	}
	var f Found
	x.Members().Read([]byte(`{"data":{"environment":"production","tenant":"acct_7b"}}`), &f)
	if got := x.Find(&f, nil); !slices.Equal(got, []int32{7}) {
		t.Errorf("found %v, want 7", got)
	}
	x.Members().Read([]byte(`{"data":{"environment":"test","tenant":"acct_7b"}}`), &f)
	if got := x.Find(&f, nil); len(got) != 0 {
		t.Errorf("found %v in another environment", got)
	}
}

// BenchmarkFind compares few rules with many.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		x := NewIndex(accounts(n))
		bodies := make([][]byte, n)
		for i := range bodies {
			bodies[i] = fmt.Appendf(nil, `{"id":"evt_1","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"accountId":"acct_%d","score":75}}`, i)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var f Found
			var room [8]int32
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x.Members().Read(bodies[i*7919%n], &f)
				if len(x.Find(&f, room[:0])) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}

// BenchmarkRefuses is what judging an event before an attempt costs.
func BenchmarkRefuses(b *testing.B) {
	for _, size := range []int{250, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			body := []byte(`{"id":"evt_1","type":"lead.created","data":{"text":"` + strings.Repeat("x", size-90) + `","accountId":"acct_7"}}`)
			j := NewJudge(Rule{is("data.accountId", Text("acct_7"))})
			var f Found
			b.ReportAllocs()
			for b.Loop() {
				if j.Refuses(body, &f) != "" {
					b.Fatal("refused")
				}
			}
		})
	}
}
