package config

import (
	"fmt"
	"strings"
	"testing"

	"realtorbot-relay/relay/match"
)

// A story asks ten thousand endpoints about one event: its body is read once for all of them, and not kept.
func TestACandidateIsReadOnceForAllEndpoints(t *testing.T) {
	body := []byte(`{"id":"evt_1","type":"lead.created","data":{"accountId":"acct_7","n":1}}`)
	var endpoints []*Endpoint
	for i := range 10 {
		e := &Endpoint{Name: fmt.Sprint("crm-", i), Enabled: true, Events: []string{"*"},
			Match: match.Rule{{Path: "data.accountId", Values: []match.Value{match.Text(fmt.Sprint("acct_", i))}}}}
		if i == 9 {
			e.Match = match.Rule{{Path: "data.n", Exists: false}}
		}
		endpoints = append(endpoints, e)
	}
	c := NewCandidate(endpoints, "lead.created", body)
	for i := range body {
		body[i] = '}'
	}
	for i, e := range endpoints {
		want := fmt.Sprintf("data.accountId is acct_7, not acct_%d", i)
		switch i {
		case 7:
			want = ""
		case 9:
			want = "data.n is 1, not missing"
		}
		if _, note := e.NotFor(c); note != want {
			t.Errorf("%s: %q, want %q", e.Name, note, want)
		}
	}
}

// BenchmarkCandidate compares small with large events, and few endpoints with many: what it costs is the one and the other, and not
// the one for each of the other.
func BenchmarkCandidate(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		for _, size := range []int{100, 1 << 20} {
			body := fmt.Appendf(nil, `{"data":{"padding":%q,"accountId":"acct"}}`, strings.Repeat("x", size))
			endpoints := make([]*Endpoint, n)
			for i := range endpoints {
				endpoints[i] = &Endpoint{Enabled: true, Events: []string{"*"},
					Match: match.Rule{{Path: "data.accountId", Values: []match.Value{match.Text(fmt.Sprint("acct_", i))}}}}
			}
			b.Run(fmt.Sprintf("%d endpoints, %d bytes", n, size), func(b *testing.B) {
				for b.Loop() {
					c := NewCandidate(endpoints, "lead.created", body)
					for _, e := range endpoints {
						if reason, _ := e.NotFor(c); reason != NotMatched {
							b.Fatal(reason)
						}
					}
				}
			})
		}
	}
}

func TestAConditionAsItIsWrittenInAQuery(t *testing.T) {
	for text, want := range map[string]string{
		"data.accountId=acct_42":  `data.accountId is acct_42`,
		"data.n=7":                `data.n is 7 or "7"`,
		"data.n=-0.50":            `data.n is -0.5 or "-0.50"`,
		`data.n="7"`:              `data.n is "7"`,
		"data.n=true":             `data.n is true or "true"`,
		"data.n=null":             `data.n is "null"`,
		"data.n=[1]":              `data.n is "[1]"`,
		"data.n=":                 `data.n is ""`,
		"data.n=a=b":              `data.n is "a=b"`,
		"data.n=9007199254740993": `data.n is 9007199254740993 or "9007199254740993"`,
		"data.n=1 2":              `data.n is "1 2"`,
	} {
		c, wrong := ParseCondition(text)
		if got := (match.Rule{c}).String(); got != want || wrong != "" {
			t.Errorf("%s is read as %q, %q; want %q", text, got, wrong, want)
		}
	}
	for _, text := range []string{"", "data.n", "=1", "data..n=1", ".=1", "data.n=" + strings.Repeat("x", 256), strings.Repeat("x", 256) + "=1"} {
		if c, wrong := ParseCondition(text); wrong == "" {
			t.Errorf("%.20s is read as %s", text, match.Rule{c})
		}
	}
}
