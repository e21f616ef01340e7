package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"realtorbot-relay/sign"
)

// Describe says, for people, what a relay with this configuration does. Secrets are stars, and what may be one in a URL. It
// ends in a newline.
func (c *Config) Describe() string {
	var b strings.Builder
	c.describeListeners(&b)
	c.describeKeeping(&b)
	if !c.Heartbeat.URL.IsZero() {
		fmt.Fprintf(&b, "heartbeat every %s while events are accepted, url %s\n", formatDuration(c.Heartbeat.Every), c.Heartbeat.URL)
	}
	var others []string
	for i := range sections { // what [delivery] says is part of every endpoint
		if s := &sections[i]; !s.list && s.name != "delivery" {
			others = append(others, s.others(s.in(c), s.in(defaults()), ifSet(s.name != "", s.name+"."))...)
		}
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, "also      %s\n", strings.Join(others, ", "))
	}
	if n := len(c.Included.Versions()); len(c.Include) > 0 {
		fmt.Fprintf(&b, "includes  %s: %d files\n", strings.Join(c.Include, ", "), n)
		for _, broken := range c.Included.BrokenFiles() {
			fmt.Fprintf(&b, "  broken   %s\n", strings.Join(broken.Lines(), "\n           "))
		}
	}
	for i := range c.Endpoints {
		c.Endpoints[i].describe(&b, c.Included.fileOf("endpoint", c.Endpoints[i].Name))
	}
	if len(c.Endpoints) == 0 {
		b.WriteString("no endpoint: events are kept for the retention and delivered to nobody\n")
	}
	return b.String()
}

// told are the keys that have a place in the sentences here; any other is described by its name, where it is not its default.
var told = map[string]string{
	"":       "include",
	"server": "listen tls_cert tls_key client_ca trusted_proxies proxy_protocol max_body rate_bytes shutdown_timeout",
	"admin":  "listen token tls_cert tls_key client_ca",
	"queue":  "dir dedup_window retention failed_retention unserved_retention unserved_bytes min_free",
	"log":    "level format", "heartbeat": "url every", "events": "custom",
	"source": "name path token secret scheme previous_token previous_secret allow rate max_queued",
	"endpoint": "name url events match secret previous_secret signatures format headers enabled allow_private client_cert client_key server_name " +
		"timeout retry concurrency rate rate_bytes on_failed success max_age lag disable_after jitter numbers proxy proxy_lookup ca_file",
}

// others are the settings of a section's struct that no sentence tells. normal has the defaults.
func (s *section) others(set, normal any, before string) (settings []string) {
	for _, k := range s.changed(reflect.ValueOf(normal).Elem(), reflect.ValueOf(set).Elem()) {
		if !slices.Contains(strings.Fields(told[s.name]), k.name) {
			settings = append(settings, fmt.Sprintf("%s%s %v", before, k.name, shown(reflect.ValueOf(k.in(set)).Elem().Interface())))
		}
	}
	return settings
}

func (c *Config) describeListeners(b *strings.Builder) {
	fmt.Fprintf(b, "intake    %s, at most %s a request%s\n", c.Server.TLS().reach(c.Server.Listen), formatSize(c.Server.MaxBody), c.Server.TLS().clients())
	if len(c.Server.TrustedProxies) > 0 {
		fmt.Fprintf(b, "proxies   %s say who a client is%s\n", networkList(c.Server.TrustedProxies),
			ifSet(c.Server.ProxyProtocol, "; to the intake by the PROXY protocol"))
	}
	for i := range c.Sources {
		s := &c.Sources[i]
		fmt.Fprintf(b, "  source %s: POST %s, %s%s\n", s.Name, s.Path, s.credential(), s.limits())
	}
	fmt.Fprintf(b, "admin     %s, %s%s\n", c.Admin.TLS().reach(c.Admin.Listen), credential("token", c.Admin.Token), c.Admin.TLS().clients())
}

func (c *Config) describeKeeping(b *strings.Builder) {
	retention := "settled events for " + formatDuration(c.Queue.Retention)
	if c.Queue.Retention == 0 {
		retention = "no settled events"
	}
	fmt.Fprintf(b, "queue     in %s; keeps %s, failed deliveries for %s, event ids for %s; answers 503 below %s free\n",
		strconv.Quote(c.Queue.Dir), retention, formatDuration(c.Queue.FailedRetention), formatDuration(c.Queue.DedupWindow),
		formatSize(c.Queue.MinFree))
	fmt.Fprintf(b, "          what disabled and removed endpoints hold is kept %s\n", c.Queue.unserved())
	if len(c.Events.Custom) > 0 {
		fmt.Fprintf(b, "types     the catalogue and %s\n", strings.Join(c.Events.Custom, ", "))
	}
	fmt.Fprintf(b, "log       %s and above, format %s\n", c.Log.Level, c.Log.Format)
	if c.Server.RateBytes > 0 {
		fmt.Fprintf(b, "uplink    at most %s of bodies a second to all endpoints together\n", formatSize(c.Server.RateBytes))
	}
	fmt.Fprintf(b, "stopping  waits at most %s for what is in flight\n", formatDuration(c.Server.ShutdownTimeout))
}

// unserved says how long, and how much, of what nobody delivers is kept.
func (q *Queue) unserved() string {
	limits := "for ever"
	if q.UnservedRetention > 0 {
		limits = "for " + formatDuration(q.UnservedRetention)
	}
	if q.UnservedBytes > 0 {
		limits += ", at most " + formatSize(q.UnservedBytes) + " of it"
	}
	if q.UnservedRetention > 0 || q.UnservedBytes > 0 {
		limits += ", and then becomes failed"
	}
	return limits
}

func (e *Endpoint) describe(b *strings.Builder, file string) {
	disabled := ""
	if !e.Enabled {
		disabled = " (disabled: keeps its place, is sent nothing)"
	}
	fmt.Fprintf(b, "endpoint %s%s%s\n", e.Name, disabled, ifSet(file != "", " in "+file))
	fmt.Fprintf(b, "  to       %s%s\n", e.URL, ifSet(e.AllowPrivate, ", also if its name resolves to a private address"))
	if !e.Delivery.Proxy.IsZero() {
		fmt.Fprintf(b, "  through  proxy %s%s\n", e.Delivery.Proxy, lookups[e.Delivery.ProxyLookup])
	}
	e.describeTLS(b)
	events := "none but what failed at others"
	if len(e.Events) > 0 {
		events = strings.Join(e.Events, ", ")
	}
	fmt.Fprintf(b, "  events   %s\n", events)
	if len(e.Match) > 0 {
		fmt.Fprintf(b, "  match    %s\n", e.Match)
	}
	signing := "nothing"
	if !e.Secret.IsZero() {
		signing = strings.Join(e.Signatures, ", ") + " with secret " + e.Secret.String() +
			ifSet(!e.PreviousSecret.IsZero(), " and the previous one")
	}
	fmt.Fprintf(b, "  signs    %s\n", signing)
	if e.Format != FormatEvent {
		fmt.Fprintf(b, "  format   %s\n", e.Format)
	}
	if e.Delivery.Numbers != NumbersExact {
		fmt.Fprintf(b, "  numbers  as JavaScript writes them\n")
	}
	if len(e.Headers) > 0 {
		names := make([]string, 0, len(e.Headers))
		for name := range e.Headers {
			names = append(names, name+": "+e.Headers[name].String())
		}
		slices.Sort(names)
		fmt.Fprintf(b, "  headers  %s\n", strings.Join(names, ", "))
	}
	e.Delivery.describe(b)
	normal := defaultEndpoint(defaults().Delivery)
	if others := sectionOf("endpoint").others(e, &normal, ""); len(others) > 0 {
		fmt.Fprintf(b, "  also     %s\n", strings.Join(others, ", "))
	}
}

// lookups say what is not the default.
var lookups = map[string]string{
	LookupAddress: ", asked for the address that its name has here",
	LookupProxy:   ", which looks up its name and judges where that leads",
}

func (e *Endpoint) describeTLS(b *strings.Builder) {
	if !strings.HasPrefix(strings.ToLower(e.URL.Reveal()), "https:") {
		return
	}
	var parts []string
	if !e.Delivery.CAFile.IsZero() {
		parts = append(parts, "trusts the authorities of "+strconv.Quote(e.Delivery.CAFile.String())+" alone")
	}
	if e.ServerName != "" {
		parts = append(parts, "expects the name "+e.ServerName)
	}
	if !e.ClientCert.IsZero() {
		parts = append(parts, "shows the certificate of "+strconv.Quote(e.ClientCert.String()))
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "  TLS      %s\n", strings.Join(parts, ", "))
	}
}

func (d *Delivery) describe(b *strings.Builder) {
	schedule := "no retry"
	if len(d.Retry) > 0 {
		schedule = "retries after " + formatDurations(d.Retry) + ifSet(d.Jitter > 0, " and up to "+formatDuration(d.Jitter)+" more")
	}
	rate := "no rate limit"
	if d.Rate > 0 {
		rate = strconv.FormatFloat(d.Rate, 'g', -1, 64) + " a second"
	}
	if d.RateBytes > 0 {
		rate += ", " + formatSize(d.RateBytes) + " of bodies a second"
	}
	fmt.Fprintf(b, "  attempts %s each, %s; %d at a time, %s; delivered on %s; failed when held for %s\n",
		formatDuration(d.Timeout), schedule, d.Concurrency, rate, d.Success, formatDuration(d.MaxAge))
	fmt.Fprintf(b, "  tells    when events wait longer than %s%s\n", formatDuration(d.Lag),
		ifSet(d.DisableAfter > 0, "; pauses it when it is down for "+formatDuration(d.DisableAfter)))
	if d.OnFailed != "" {
		fmt.Fprintf(b, "  failed   goes to endpoint %s as well\n", d.OnFailed)
	}
}

func (s *Source) credential() string {
	token := credential("token", s.Token) + ifSet(!s.PreviousToken.IsZero(), " or the previous one")
	signature := s.Scheme + " signature, " + credential("secret", s.Secret) + ifSet(!s.PreviousSecret.IsZero(), " or the previous one")
	switch {
	case s.Token.IsZero() && s.Secret.IsZero():
		return "no credential"
	case s.Secret.IsZero():
		return token
	case s.Token.IsZero():
		return signature
	}
	return token + " and " + signature
}

func (s *Source) limits() string {
	var b strings.Builder
	if len(s.Allow) > 0 {
		b.WriteString(", from " + networkList(s.Allow))
	}
	if s.Rate > 0 {
		b.WriteString(", at most " + strconv.FormatFloat(s.Rate, 'g', -1, 64) + " requests a second")
	}
	if s.MaxQueued > 0 {
		b.WriteString(", at most " + formatSize(s.MaxQueued) + " of its events kept")
	}
	var normal Source
	sectionOf("source").preset(&normal)
	for _, setting := range sectionOf("source").others(s, &normal, "") {
		b.WriteString(", " + setting)
	}
	return b.String()
}

func networkList(networks []netip.Prefix) string {
	return strings.Join(each(networks, netip.Prefix.String), " ")
}

func credential(what string, secret sign.Secret) string {
	if secret.IsZero() {
		return "no " + what
	}
	return what + " " + secret.String()
}

func (f TLSFiles) reach(listen string) string {
	return ifElse(f.Cert != "", "https ", "http ") + listen + ifSet(IsLoopback(listen), " (this machine only)")
}

func (f TLSFiles) clients() string {
	return ifSet(f.ClientCA != "", ", from clients with a certificate of "+strconv.Quote(f.ClientCA))
}

func ifSet(set bool, text string) string {
	if set {
		return text
	}
	return ""
}

func formatDurations(durations []time.Duration) string {
	return strings.Join(each(durations, formatDuration), ", ")
}
