package admin

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/manual"
)

// named are the names in a part of the manual's page "names", sorted, each once.
func named(t *testing.T, begin, end string) (names []string) {
	t.Helper()
	page, _ := manual.Page("names")
	_, rest, found := strings.Cut(page, begin)
	text, _, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("the page has nothing between %q and %q", begin, end)
	}
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		names = append(names, name[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// The page names the states of an endpoint and the reasons of what failed, all of them and no other; a route that is on it is one.
func TestThePageOfNamesHasTheClosedSets(t *testing.T) {
	wantStates := append(slices.Clone(states), delivery.StateOrphaned)
	reasons := append(failedClasses(), bins...)
	for _, c := range []struct {
		begin, end string
		want       []string
	}{
		{"| an endpoint's `state` |", ";", wantStates},
		{"| class | bin |", "\n## ", reasons},
		{"| a receiver's `check` |", "|\n", []string{delivery.CheckAccepts, delivery.CheckFast, delivery.CheckRepeat, delivery.CheckWrong, delivery.CheckUnsigned}},
	} {
		slices.Sort(c.want)
		c.want = slices.Compact(c.want)
		if got := named(t, c.begin, c.end); !slices.Equal(got, c.want) {
			t.Errorf("%s has %q, want %q", c.begin, got, c.want)
		}
	}
	page, _ := manual.Page("names")
	if n := len(regexp.MustCompile("(?m)^\\| `(GET|POST|PUT|DELETE) /").FindAllString(page, -1)); n != len(routes)+2 { // the page's files
		t.Errorf("the page has %d routes, there are %d", n, len(routes)+2)
	}
}
