package config

// checkOnFailed judges which endpoints are given what ends as failed at others. What [delivery] says is not for the endpoint
// that it names. others are endpoints of another file that may be named, and whether they are enabled.
func checkOnFailed(defaults *table, tables []*table, endpoints []Endpoint, others map[string]bool) {
	names, places := make([]string, len(endpoints)), make(map[string]int, len(endpoints))
	next := map[string]string{}
	for i := range endpoints {
		e := &endpoints[i]
		if names[i] = e.Name; !tables[i].has("on_failed") && e.Delivery.OnFailed == e.Name {
			e.Delivery.OnFailed = ""
		}
		if _, twice := places[e.Name]; !twice {
			places[e.Name] = i
		}
		next[e.Name] = e.Delivery.OnFailed
	}
	told := false
	accounts := make([]int, len(endpoints)) // that hand on to each
	for i := range endpoints {
		e, t := &endpoints[i], tables[i]
		to, own := e.Delivery.OnFailed, t.has("on_failed")
		at, isHere := places[to]
		enabled, known := others[to]
		if isHere {
			enabled, known = endpoints[at].Enabled, true
		}
		if isHere && len(e.Match) > 0 {
			accounts[at]++
		}
		switch {
		case to == "":
		case to == e.Name:
			t.fault("on_failed", "names the endpoint itself: what it refused would come back to it")
		case !known && own:
			t.fault("on_failed", "names no endpoint: %q%s", clip(to), suggest(to, names))
		case !known && !told && defaults != nil:
			told = true
			defaults.fault("on_failed", "names no endpoint: %q%s", clip(to), suggest(to, names))
		case known && own && comesBack(e.Name, next):
			t.fault("on_failed", "leads back to %q by way of %q: leave it out at one of them", e.Name, clip(to))
		case known && !enabled:
			t.warn("on_failed", "names %q, which is disabled: what it is given is held for queue.unserved_retention", to)
		}
	}
	for i, n := range accounts {
		if n > 0 && len(endpoints[i].Match) == 0 {
			tables[i].warn("match", "is empty, and on_failed of %d %s with a match names it: it is sent what fails of %s: give it a match, unless it is the operator's own",
				n, ifElse(n == 1, "endpoint", "endpoints"), ifElse(n == 1, "that account", "all those accounts"))
		}
	}
}

// comesBack reports whether a chain that begins with an endpoint leads to it again.
func comesBack(name string, next map[string]string) bool {
	at := name
	for range next {
		if at = next[at]; at == name || at == "" {
			break
		}
	}
	return at == name && at != ""
}
