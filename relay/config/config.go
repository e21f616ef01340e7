package config

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"

	"realtorbot-relay/relay/match"
	"realtorbot-relay/sign"
)

// Config is one configuration file, complete: what the file leaves out has its default. It is built by Load or Parse
// and read-only from then on, so any number of goroutines may share it. What each key means to an operator stands in keys.go; here
// is what the code that reads a field may rely on.
type Config struct {
	// Path is the name under which the file was read, for messages. Sum is what it held, zero when it was no file.
	Path string
	Sum  [sha256.Size]byte

	Include   []string   // patterns of files beside this one
	Server    Server     // [server]
	Admin     Admin      // [admin]
	Queue     Queue      // [queue]
	Log       Log        // [log]
	Heartbeat Heartbeat  // [heartbeat]
	Sources   []Source   // [[source]], in the order of the file and then of those it includes; without any in the file it holds the default one
	Events    Events     // [events]
	Delivery  Delivery   // [delivery]: the defaults of every endpoint
	Endpoints []Endpoint // [[endpoint]], likewise; may be empty
	Included  *Included  // what became of the files that are included; nil without any

	// Warnings are what an operator should know and may have meant, one line each, in the form of a Fault. They hold
	// no secret.
	Warnings []string
}

// Server is the intake.
type Server struct {
	// Listen is host:port or unix:/path. A socket that systemd passes replaces it: whoever listens then checks that
	// one's address with IsLoopback again, since Load could judge only this text.
	Listen string
	// TLSCert and TLSKey name PEM files. Both are set (then the intake speaks HTTPS) or neither. ClientCA, which is empty without
	// them, names one too: set, a client needs a certificate that one of its authorities signed, whatever it asks for.
	TLSCert, TLSKey, ClientCA string
	TrustedProxies            []netip.Prefix // in front of either listener; none of them is everybody
	ProxyProtocol             bool           // of TrustedProxies, at the intake alone
	MaxBody                   int64          // bytes of a request's body, from 1 KiB on
	RateBytes                 int64          // bytes of bodies a second to all endpoints together; 0 sets no limit
	IdleTimeout               time.Duration  // from 1 s on
	ShutdownTimeout           time.Duration  // from 100 ms on
}

// Admin is the listener for health, stats, metrics, operating and the page.
type Admin struct {
	Listen                    string      // as that of Server
	Token                     sign.Secret // may be empty only on loopback or a unix socket; asked for beside a client's certificate
	TLSCert, TLSKey, ClientCA string      // as those of Server
}

// TLSFiles are the PEM files of a listener that speaks TLS; without any, Cert and Key are empty.
type TLSFiles struct {
	Section             string // of the file, for messages
	Cert, Key, ClientCA string
}

// TLS are the intake's files.
func (s *Server) TLS() TLSFiles { return TLSFiles{"server", s.TLSCert, s.TLSKey, s.ClientCA} }

// TLS are the admin listener's files.
func (a *Admin) TLS() TLSFiles { return TLSFiles{"admin", a.TLSCert, a.TLSKey, a.ClientCA} }

// Queue is the log on disk.
type Queue struct {
	Dir               string        // relative to the working directory
	DedupWindow       time.Duration // at least a minute
	Retention         time.Duration // of a settled event and its attempts; 0 keeps them no longer than a lane needs them
	FailedRetention   time.Duration // at least a minute: a failed delivery that nobody could see would be a silent loss
	UnservedRetention time.Duration // of what a disabled endpoint or an orphan holds; 0 for ever
	UnservedBytes     int64         // of what those hold beyond Retention; 0 for no bound
	MinFree           int64         // bytes; the queue needs 112 MiB itself, also with 0
	ExcerptBytes      int64         // of all whole excerpts of answers, a quarter of it for one endpoint; at least 1 MiB
	Create            bool          // an empty or missing Dir may become a new queue
}

// Log is what the relay says about itself.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto (console on a terminal, else json), json or console
}

// Heartbeat is a URL that is called as long as all is well, for a service that tells when the calls stop.
type Heartbeat struct {
	URL          sign.Secret // http or https; empty, nothing is called. Whoever has it can call it
	Every        time.Duration
	AllowPrivate bool // a host name in the URL may resolve to a private or loopback address
}

// Source is who may post events, where, and how that is checked. With a Token and a Secret both must match; with
// neither, which is possible on loopback, on unix sockets and behind Server.ClientCA only, anybody who can connect may
// post.
type Source struct {
	Name                   string         // unique; 1-64 of a-z 0-9 _ -, the first a letter or digit
	Path                   string         // unique; begins with "/"
	Token, PreviousToken   sign.Secret    // the previous one is empty when Token is
	Secret, PreviousSecret sign.Secret    // the previous one is empty when Secret is
	Scheme                 string         // one of sign.Schemes; empty without a Secret
	Allow                  []netip.Prefix // empty: all. Clients of a unix socket have no address and are not asked for one
	Rate                   float64        // requests a second, all clients together; 0 sets no limit
	MaxQueued              int64          // bytes of bodies that the queue may keep, from 1 MiB and Server.MaxBody on; 0 sets no limit
}

// Events extends the catalogue.
type Events struct {
	// Custom are the event types beyond Types that subscriptions may name. Ingest accepts any well-formed type.
	Custom []string
}

// Delivery is how deliveries are attempted, as the default and, merged, per endpoint.
type Delivery struct {
	Timeout      time.Duration   // of one attempt, from connecting to the status of its answer; 100 ms to 10 minutes
	Retry        []time.Duration // at most 20, each above 0 and at most 24 h. Empty: one attempt
	Concurrency  int             // attempts at a time, from 1 on
	Rate         float64         // attempts a second; 0 sets no limit
	RateBytes    int64           // bytes of bodies a second; 0 sets no limit
	OnFailed     string          // an endpoint that is configured and not this one, and no chain of them comes back; empty for none
	Success      Success
	MaxAge       time.Duration // at least a minute
	Lag          time.Duration // at least a second
	DisableAfter time.Duration // 0: never
	Jitter       time.Duration // the most by which a wait of Retry is made longer
	Numbers      string        // NumbersExact or NumbersJavaScript
	Proxy        Proxy         // the zero Proxy is none
	ProxyLookup  string        // LookupHere, LookupAddress or LookupProxy; without a Proxy it means nothing
	CAFile       File          // the authorities for an https endpoint; the zero File leaves them to the system
}

// How numbers are sent that JavaScript would change.
const (
	NumbersExact      = "exact"      // as they were posted
	NumbersJavaScript = "javascript" // as JavaScript writes what it makes of them
)

// Where the name of an endpoint behind a proxy is looked up.
const (
	LookupHere    = "here"    // here, and handed on as a name if all its addresses are allowed
	LookupAddress = "address" // here, and the address that was looked at is handed on
	LookupProxy   = "proxy"   // by the proxy alone, which judges where it leads
)

// The formats of an endpoint.
const (
	FormatEvent = "event" // the event, byte for byte as it was kept
	FormatSlack = "slack" // {"text":…}, which says the event to people
)

// Endpoint is where events go.
type Endpoint struct {
	Name                   string                 // unique; 1-64 of a-z 0-9 _ -, the first a letter or digit; its lane is found under this name again
	URL                    URL                    // http or https with a host and without user, fragment or zone
	Events                 []string               // exact, "group.*" or "*"; see Subscribes. Empty only for one that another's OnFailed names
	Match                  match.Rule             // whose events it gets; nil: everybody's
	Secret, PreviousSecret sign.Secret            // empty, attempts go out unsigned; the previous one is empty when Secret is
	Signatures             []string               // of sign.Schemes; never empty
	Headers                map[string]sign.Secret // names as written in the file, none that the relay sets itself; nil without any
	Format                 string                 // FormatEvent or FormatSlack
	Enabled                bool                   // false: it keeps its lane and is sent nothing
	AllowPrivate           bool                   // a host name in the URL may resolve to a private or loopback address; one written there needs no permission
	ClientCert, ClientKey  File                   // both are set or neither
	ServerName             string                 // that an https endpoint's certificate must have, if it isn't the host of the URL
	Delivery               Delivery               // the file's [delivery] with what the endpoint's own table overrides
}

// Subscribes reports whether an event of this type goes to the endpoint. "lead.*" takes every type that begins with
// "lead."; "*" takes every type except the relay's own alerts ("relay.…"), which have to be named, so that an endpoint
// for everything isn't told about itself. It allocates nothing: ingest asks it for each event and endpoint.
func (e *Endpoint) Subscribes(eventType string) bool {
	for _, pattern := range e.Events {
		if matches(pattern, eventType) {
			return true
		}
	}
	return false
}

func matches(pattern, eventType string) bool {
	if pattern == "*" {
		return !strings.HasPrefix(eventType, AlertPrefix)
	}
	if group, ok := strings.CutSuffix(pattern, "*"); ok {
		return len(eventType) > len(group) && strings.HasPrefix(eventType, group)
	}
	return pattern == eventType
}

// defaults is the configuration of an empty file.
func defaults() *Config {
	c := new(Config)
	for i := range sections {
		if s := &sections[i]; !s.list {
			s.preset(s.in(c))
		}
	}
	return c
}

// defaultSource is what a file without any [[source]] has.
func defaultSource() Source { return Source{Name: "default", Path: "/events"} }

// defaultEndpoint is what an [[endpoint]] starts from. Its slices and those of d are shared: nobody writes to them.
func defaultEndpoint(d Delivery) Endpoint {
	e := presetEndpoint()
	e.Delivery = d
	return e
}

var presetEndpoint = sync.OnceValue(func() (e Endpoint) {
	sectionOf("endpoint").preset(&e)
	return e
})
