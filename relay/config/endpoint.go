package config

import (
	"slices"
	"sort"
	"strings"
	"time"

	"realtorbot-relay/sign"
)

// readDelivery reads the keys of [delivery], which an [[endpoint]] may have too.
func readDelivery(t *table, d *Delivery) {
	t.duration("timeout", &d.Timeout, 100*time.Millisecond, 10*time.Minute)
	t.durations("retry", &d.Retry, 20, time.Nanosecond, 24*time.Hour)
	t.integer("concurrency", &d.Concurrency, 1, 1024)
	t.rate("rate", &d.Rate, "attempts")
	t.rateBytes("rate_bytes", &d.RateBytes)
	t.text("on_failed", &d.OnFailed)
	t.success("success", &d.Success)
	t.duration("max_age", &d.MaxAge, time.Minute, longest)
	t.duration("lag", &d.Lag, time.Second, longest)
	t.duration("disable_after", &d.DisableAfter, 0, longest)
	t.duration("jitter", &d.Jitter, 0, time.Hour)
	t.choice("numbers", &d.Numbers, NumbersExact, NumbersJavaScript)
	t.proxy("proxy", &d.Proxy)
	t.choice("proxy_lookup", &d.ProxyLookup, LookupHere, LookupAddress, LookupProxy)
	t.authorities("ca_file", &d.CAFile)
}

// readEndpoints reads every [[endpoint]]. delivery is what they may override, read from defaults; custom are the types beyond
// the catalogue.
func readEndpoints(root, defaults *table, delivery Delivery, custom []string) []Endpoint {
	tables := root.subs("endpoint")
	if !root.has("endpoint") {
		root.odd = append(root.odd, Fault{File: root.file, Key: "endpoint",
			Text: "there is none: events are accepted and delivered to nobody"})
	}
	known := slices.Concat(catalogue, custom, alerts)
	names := seen{}
	endpoints := make([]Endpoint, 0, len(tables))
	for _, t := range tables {
		e := defaultEndpoint(delivery)
		t.ownName(&e.Name, names)
		t.yesNo("enabled", &e.Enabled)
		t.yesNo("allow_private", &e.AllowPrivate)
		where := readURL(t, &e)
		readSubscriptions(t, &e.Events, known)
		readSigning(t, &e, where)
		readHeaders(t.sub("headers"), &e.Headers)
		t.choice("format", &e.Format, FormatEvent, FormatSlack)
		// A chat checks no signature: whoever has its URL may post there.
		if e.Secret.IsZero() && e.Format != FormatSlack && !slices.Contains(e.Signatures, SchemeStandard) {
			t.warn("secret", "is empty: deliveries are not signed, so the receiver can't tell them from anybody's")
		}
		readDelivery(t, &e.Delivery)
		readTLS(t, &e, where)
		if where.isLoopback() && !e.Delivery.Proxy.IsZero() {
			t.fault("url", `leads to this machine, which the proxy would take for itself: write proxy = "" for this endpoint`)
		}
		t.rest()
		endpoints = append(endpoints, e)
	}
	checkOnFailed(defaults, tables, endpoints)
	for i, t := range tables {
		checkSubscribed(t, &endpoints[i], endpoints)
	}
	return endpoints
}

func readURL(t *table, e *Endpoint) target {
	if !t.url("url", &e.URL) {
		if written, isText := t.values["url"].(string); !t.has("url") || isText && written == "" {
			t.fault("url", `is missing: write url = "https://…"`)
		}
		return target{}
	}
	where, reason := checkURL(e.URL.Reveal())
	if reason != "" {
		t.fault("url", "%s", reason)
		return where
	}
	// With allow_private a name is said to be one of the own network.
	isOwnName := e.AllowPrivate && !where.addr.IsValid()
	if !where.https && !where.isLocal() && !isOwnName {
		t.warn("url", "sends events in clear over the network: use https:// if the receiver can")
	}
	return where
}

func readSubscriptions(t *table, into *[]string, known []string) {
	t.texts("events", into, func(pattern string) string { return checkSubscription(pattern, known) })
}

// checkSubscribed asks for events, which only an endpoint for what failed elsewhere can do without.
func checkSubscribed(t *table, e *Endpoint, all []Endpoint) {
	elements, isList := list(t.values["events"])
	if t.has("events") && !(isList && len(elements) == 0) {
		return
	}
	if e.Name != "" && slices.ContainsFunc(all, func(other Endpoint) bool { return other.Delivery.OnFailed == e.Name }) {
		e.Events = []string{}
		return
	}
	t.fault("events", `must name what to deliver: write events = ["lead.*"], or ["*"] for everything`)
}

func readSigning(t *table, e *Endpoint, where target) {
	signs := t.secret("secret", &e.Secret)
	rotates := t.secret("previous_secret", &e.PreviousSecret)
	t.texts("signatures", &e.Signatures, func(scheme string) string {
		if scheme != SchemeRealtorBot && scheme != SchemeStandard {
			return "is no signature" + suggest(scheme, []string{SchemeRealtorBot, SchemeStandard})
		}
		return ""
	})
	if elements, isList := list(t.values["signatures"]); isList && len(elements) == 0 {
		t.fault("signatures", `must name one or both of "realtorbot" and "standard"; to send unsigned, leave secret empty`)
	}
	t.judgeSecret("secret", e.Secret, where.isLoopback())
	t.judgeSecret("previous_secret", e.PreviousSecret, where.isLoopback())
	if rotates && !signs {
		t.fault("previous_secret", "signs only beside secret: set secret, or leave it out")
	}
	usesStandard := slices.Contains(e.Signatures, SchemeStandard)
	switch {
	case !signs && usesStandard:
		t.fault("secret", `is missing, and signatures has "standard": set secret, or leave "standard" out`)
	case usesStandard:
		t.standardKey("secret", e.Secret)
		t.standardKey("previous_secret", e.PreviousSecret)
	}
	if signs && rotates && !usesStandard {
		t.warn("previous_secret", `signs nothing: only "standard" has room for two signatures; let the receiver accept both secrets first`)
	}
}

// ownHeaders are set by the relay or belong to the connection, in lower case. A name ending in - stands for all that
// begin with it.
var ownHeaders = []string{
	"content-type", "user-agent", "host", "content-length", "x-realtorbot-", "webhook-",
	"connection", "transfer-encoding", "content-encoding", "te", "trailer", "upgrade", "expect", "keep-alive",
	"proxy-connection",
}

// readHeaders reads names and values that go out with each attempt. A value may be a credential, so all are secrets.
func readHeaders(t *table, into *map[string]sign.Secret) {
	names := make([]string, 0, len(t.values))
	for name := range t.values {
		names = append(names, name)
	}
	sort.Strings(names)
	spellings := map[string]string{}
	for _, name := range names {
		var value sign.Secret
		named := t.secret(name, &value)
		lower := strings.ToLower(name)
		switch first, twice := spellings[lower]; {
		case !isToken(name):
			t.faultAt(t.at.key(name), spell(name), "is no valid header name")
		case isOwnHeader(lower):
			t.fault(name, "is set by the relay itself: leave it out")
		case twice:
			t.fault(name, "is the same header as %s", first)
		case !named && isText(t.values[name]):
			t.fault(name, "is empty: give it a value or leave it out")
		case !isHeaderValue(value.Reveal()):
			t.fault(name, "must be printable ASCII without spaces at its ends%s", holding(value.Reveal()))
		case named:
			if *into == nil {
				*into = map[string]sign.Secret{}
			}
			(*into)[name] = value
		}
		spellings[lower] = name
	}
}

func isOwnHeader(lower string) bool {
	for _, own := range ownHeaders {
		if lower == own || strings.HasSuffix(own, "-") && strings.HasPrefix(lower, own) {
			return true
		}
	}
	return false
}

// isToken reports whether name is a token of RFC 9110, section 5.6.2.
func isToken(name string) bool {
	for _, c := range []byte(strings.ToLower(name)) {
		if !isLowerOrDigit(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

func isHeaderValue(value string) bool {
	for _, c := range []byte(value) {
		if (c < ' ' || c > '~') && c != '\t' {
			return false
		}
	}
	return strings.Trim(value, " \t") == value
}

func isText(value any) bool {
	_, ok := value.(string)
	return ok
}
