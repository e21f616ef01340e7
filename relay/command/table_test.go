package command

import (
	"strings"
	"testing"

	"realtorbot-relay/relay/exit"
)

// What the table says of a command is enough to list it, to help and to run it.
func TestEveryCommandIsWhole(t *testing.T) {
	lists, seen := List(true)+List(false), map[string]bool{}
	for i := range verbs {
		v := &verbs[i]
		if seen[v.name] || !Is(v.name) || named(v.name) != v {
			t.Errorf("%q is there twice, or is not found", v.name)
		}
		seen[v.name] = true
		words := strings.Fields(strings.Trim(v.arguments, "> "))
		if v.run == nil || v.brief == "" || !strings.HasSuffix(v.about, ".") || v.most < v.least || v.least > len(words) {
			t.Errorf("%q is incomplete: %+v", v.name, v)
		}
		if strings.Count(lists, Line(v.name, v.arguments, v.brief)) != 1 {
			t.Errorf("%q is not in one list", v.name)
		}
		var said strings.Builder
		if code := Run(t.Context(), v.name, "", []string{"-h"}, &said, &said); code != exit.Well || !strings.Contains(said.String(), v.about) || !strings.Contains(said.String(), "-config FILE") {
			t.Errorf("%q -h: %d %s", v.name, code, said.String())
		}
		if v.least > 0 {
			if code := Run(t.Context(), v.name, "", nil, &said, &said); code != exit.Usage || !strings.Contains(said.String(), words[0]+" is missing") {
				t.Errorf("%q without arguments: %d %s", v.name, code, said.String())
			}
		}
	}
	if Is("nothing") || len(verbs) < 10 {
		t.Errorf("%d commands", len(verbs))
	}
}
