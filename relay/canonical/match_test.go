package canonical

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/relay/match"
)

// TestMembersAreReadAsTheyAreKept: what is found while a body is parsed is what is found in what is kept of it, whatever the order of
// members and the spelling in the body, and what the relay puts in counts too.
func TestMembersAreReadAsTheyAreKept(t *testing.T) {
	rules := []match.Rule{
		{{Path: "data.accountId", Values: []match.Value{match.Text("acct_42")}}},
		{{Path: "data.n", Values: []match.Value{match.Whole(1)}}},
		{{Path: "data.7.x", Values: []match.Value{match.Bool(true)}}},
		{{Path: "data.o", Exists: true}},
		{{Path: "data.o"}},
		{{Path: "id", Exists: true}},
		{{Path: "timestamp", Exists: true}},
		{{Path: "data.é\"", Values: []match.Value{match.Text("ü/")}}},
		{{Path: "data.list.x", Exists: true}},
	}
	members := []string{`"accountId":"acct_42"`, `"accountId" : "acct\u005f42"`, `"n":1.0`, `"n":10e-1`, `"n":"1"`, `"7":{"x":true,"1":2}`, `"b":{"z":1,"2":0}`,
		`"o":{"9":1,"1":[]}`, `"o":null`, `"é\"":"\u00fc\/"`, `"list":[{"x":1}]`, `"3":[{"b":1,"1":2}]`}
	r := rand.New(rand.NewPCG(1, 1))
	var p Parser
	id := func(dst []byte) []byte { return append(dst, "evt_made"...) }
	seen := map[int32]int{}
	for range 3000 {
		var inside []string
		names := map[string]bool{}
		for _, i := range r.Perm(len(members))[:r.IntN(len(members)+1)] {
			name, _, _ := strings.Cut(members[i], ":")
			if name = strings.TrimSpace(name); !names[name] {
				names[name] = true
				inside = append(inside, members[i])
			}
		}
		parts := []string{`"type":"lead.created"`, `"data":{` + strings.Join(inside, ", ") + `}`, `"4":{"b":1,"1":2}`}
		if r.IntN(2) == 0 {
			parts = append(parts, `"id":"evt_\u0022"`)
		}
		if r.IntN(2) == 0 {
			parts = append(parts, `"timestamp":"2024-01-15T10:30:00Z"`)
		}
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		body := "{" + strings.Join(parts, ",") + "}"
		index, asked := match.NewIndex(rules), [][]int32{}
		found := func(_ Event, f *match.Found) { asked = append(asked, index.Find(f, nil)) }
		events, _, err := p.JSON([]byte("["+body+","+body+"]"), Stamp{Now: time.Now(), NewID: id, Members: index.Members(), Found: found})
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		for i, ev := range events {
			var f match.Found
			index.Members().Read(ev.Body, &f)
			want := index.Find(&f, nil)
			count := map[int32]int{}
			for _, n := range want {
				count[n]++
				seen[n]++
			}
			for _, n := range asked[i] {
				count[n]--
			}
			for n, differ := range count {
				if differ != 0 {
					t.Errorf("%s, kept as %s: rule %d holds for one of them", body, ev.Body, n)
				}
			}
		}
	}
	for n := range rules {
		if seen[int32(n)] == 0 && n != 8 || n == 8 && seen[8] > 0 {
			t.Errorf("rule %d held %d times", n, seen[int32(n)])
		}
	}
}

// BenchmarkParseFor is what reading the members that are asked for adds to parsing.
func BenchmarkParseFor(b *testing.B) {
	body := []byte(`{"id":"evt_1","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"accountId":"acct_42","name":"Jane Example","email":"jane@example.com","phone":"+1 555 0100","score":75,"tags":["buyer","first-time"],"source":{"page":"/listings/7","campaign":"spring"}}}`)
	for name, rules := range map[string][]match.Rule{"nobody": nil, "an account": {{{Path: "data.accountId", Values: []match.Value{match.Text("acct_42")}}}}} {
		b.Run(name, func(b *testing.B) {
			var p Parser
			index := match.NewIndex(rules)
			var room [8]int32
			stamp := Stamp{Now: time.Now(), Members: index.Members()}
			if index != nil {
				stamp.Found = func(_ Event, f *match.Found) { index.Find(f, room[:0]) }
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := p.JSON(body, stamp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
