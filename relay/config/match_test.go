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
