package config

import (
	"maps"
	"slices"
	"strings"

	"realtorbot-relay/sign"
)

// readEndpoints reads every [[endpoint]] of the main file. What they may override is c.Delivery, read from defaults.
func readEndpoints(root, defaults *table, c *Config) []Endpoint {
	tables := root.subs("endpoint")
	if !root.has("endpoint") && len(c.Include) == 0 {
		root.odd = append(root.odd, Fault{File: root.file, Key: "endpoint",
			Text: "there is none: events are accepted and delivered to nobody"})
	}
	endpoints := readEach(tables, c.Delivery)
	checkOnFailed(defaults, tables, endpoints, nil)
	if to := c.Delivery.OnFailed; len(c.Include) > 0 && to != "" && len(tables) == 0 {
		defaults.fault("on_failed", "names no endpoint of this file: %q", clip(to))
	}
	checkSubscribed(tables, endpoints, len(c.Include) > 0)
	return endpoints
}

// readEach reads and judges each [[endpoint]] by itself.
func readEach(tables []*table, delivery Delivery) []Endpoint {
	section := sectionOf("endpoint")
	endpoints := make([]Endpoint, 0, len(tables))
	for _, t := range tables {
		e := defaultEndpoint(delivery)
		section.read(t, &e)
		where := checkWhere(t, &e)
		checkSigning(t, &e, where)
		checkTLS(t, &e, where)
		if where.isLoopback() && !e.Delivery.Proxy.IsZero() {
			t.fault("url", `leads to this machine, which the proxy would take for itself: write proxy = "" for this endpoint`)
		}
		endpoints = append(endpoints, e)
	}
	return endpoints
}

func checkWhere(t *table, e *Endpoint) target {
	if e.URL.IsZero() {
		return target{} // and has been told why
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

// checkSubscribed asks each for events, which only an endpoint for what failed elsewhere can do without. others says that files which are
// not read yet may name it.
func checkSubscribed(tables []*table, endpoints []Endpoint, others bool) {
	named := map[string]bool{}
	for i := range endpoints {
		named[endpoints[i].Delivery.OnFailed] = true
	}
	for i, t := range tables {
		e := &endpoints[i]
		elements, isList := list(t.values["events"])
		switch empty := isList && len(elements) == 0; {
		case t.has("events") && !empty:
		case e.Name != "" && (named[e.Name] || empty && others):
			e.Events = []string{}
		case isList:
			t.fault("events", `must name what to deliver, since no on_failed names this endpoint: write events = ["lead.*"], or ["*"] for everything, or take the endpoint out`)
		default:
			t.fault("events", `must name what to deliver: write events = ["lead.*"], or ["*"] for everything`)
		}
	}
}

// signatures are the schemes that attempts are signed with.
var signatures = func() kind {
	some := texts(func(_ *table, scheme string) string {
		if !slices.Contains(sign.Schemes, scheme) {
			return "is no signature" + suggest(scheme, sign.Schemes)
		}
		return ""
	}, schema{"enum": sign.Schemes})
	return kind{schema: some.schema.with("minItems", 1), read: func(t *table, key string, value, into any) {
		some.read(t, key, value, into)
		if elements, isList := list(value); isList && len(elements) == 0 {
			t.fault(key, `must name one or both of "realtorbot" and "standard"; to send unsigned, leave secret empty`)
		}
	}}
}()

func checkSigning(t *table, e *Endpoint, where target) {
	signs, rotates := t.named("secret"), t.named("previous_secret")
	t.judgeSecret("secret", e.Secret, where.isLoopback())
	t.judgeSecret("previous_secret", e.PreviousSecret, where.isLoopback())
	if rotates && !signs {
		t.fault("previous_secret", "signs only beside secret: set secret, or leave it out")
	}
	usesStandard := slices.Contains(e.Signatures, sign.SchemeStandard)
	switch {
	case !signs && usesStandard:
		t.fault("secret", `is missing, and signatures has "standard": set secret, or leave "standard" out`)
	case !signs && e.Format != FormatSlack: // a chat checks no signature: whoever has its URL may post there
		t.warn("secret", "is empty: deliveries are not signed, so the receiver can't tell them from anybody's")
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

// headers are names and values that go out with each attempt. A value may be a credential, so all are secrets.
var headers = kind{
	schema: schema{"type": "object", "additionalProperties": schema{"type": "string", "minLength": 1},
		"propertyNames": schema{"pattern": "^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$"}},
	secret: true,
	read: func(t *table, key string, value, into any) {
		values, ok := value.(map[string]any)
		if !ok {
			t.fault(key, `must be a table: write %s = { Name = "value" }`, key)
			return
		}
		sub := &table{reader: t.reader, at: t.at.key(key), name: t.label(key), values: values}
		var read map[string]sign.Secret
		spellings := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			value := sub.secret(name, values[name])
			if lower := strings.ToLower(name); sub.checkHeader(name, lower, value, spellings) {
				if read == nil {
					read = map[string]sign.Secret{}
				}
				read[name] = value
			}
		}
		*into.(*map[string]sign.Secret) = read
	},
}

// checkHeader reports what is wrong with a header. spellings are the names before it, by their lower case.
func (t *table) checkHeader(name, lower string, value sign.Secret, spellings map[string]string) (ok bool) {
	first, twice := spellings[lower]
	spellings[lower] = name
	switch {
	case !isToken(name):
		t.faultAt(t.at.key(name), spell(name), "is no valid header name")
	case isOwnHeader(lower):
		t.fault(name, "is set by the relay itself: leave it out")
	case twice:
		t.fault(name, "is the same header as %s", first)
	case t.values[name] == "":
		t.fault(name, "is empty: give it a value or leave it out")
	case !isHeaderValue(value.Reveal()):
		t.fault(name, "must be printable ASCII without spaces at its ends%s", holding(value.Reveal()))
	default:
		return true
	}
	return false
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
