package config

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"time"

	"realtorbot-relay/sign"
)

// Config is one configuration file, complete: what the file leaves out has its default. It is built by Load or Parse
// and read-only from then on, so any number of goroutines may share it.
type Config struct {
	// Path is the name under which the file was read, for messages. Sum is what it held, zero when it was no file.
	Path string
	Sum  [sha256.Size]byte

	Server    Server     // [server]
	Admin     Admin      // [admin]
	Queue     Queue      // [queue]
	Log       Log        // [log]
	Heartbeat Heartbeat  // [heartbeat]
	Sources   []Source   // [[source]], in the order of the file; never empty: without any it holds the default one
	Events    Events     // [events]
	Delivery  Delivery   // [delivery]: the defaults of every endpoint
	Endpoints []Endpoint // [[endpoint]], in the order of the file; may be empty

	// Warnings are what an operator should know and may have meant, one line each, in the form of a Fault. They hold
	// no secret.
	Warnings []string
}

// Server is the intake.
type Server struct {
	// Listen is host:port or unix:/path. A socket that systemd passes replaces it: whoever listens then checks that
	// one's address with IsLoopback again, since Load could judge only this text.
	Listen string
	// TLSCert and TLSKey name PEM files. Both are set (then the intake speaks HTTPS) or neither. They are read again when
	// they change.
	TLSCert, TLSKey string
	// ClientCA names a PEM file of authorities. Set, a client needs a certificate that one of them signed, whatever it asks
	// for. It is empty without TLSCert.
	ClientCA string
	// TrustedProxies are the networks of the proxies in front of either listener that are believed when they say who a client
	// is, in X-Forwarded-For or Forwarded. None of them is everybody.
	TrustedProxies []netip.Prefix
	// ProxyProtocol: they begin each connection to the intake with the PROXY protocol, version 1 or 2.
	ProxyProtocol bool
	// MaxBody is the largest request body in bytes, one event or one batch: 1 KiB to 16 MiB.
	MaxBody int64
	// RateBytes is how many bytes of bodies a second all endpoints together are sent; 0 sets no limit, else at least 1 KiB.
	RateBytes int64
	// IdleTimeout is how long a connection may wait for its next request: 1 s to 1 h.
	IdleTimeout time.Duration
	// ShutdownTimeout is how long a stop waits for what is in flight: 100 ms to 10 minutes.
	ShutdownTimeout time.Duration
}

// Admin is the listener for health, stats, metrics, operating and the page.
type Admin struct {
	// Listen is host:port or unix:/path.
	Listen string
	// Token is asked for as "Authorization: Bearer". It may be empty only on loopback or a unix socket.
	Token sign.Secret
	// TLSCert, TLSKey and ClientCA are as those of Server. The token is needed beside a client's certificate.
	TLSCert, TLSKey string
	ClientCA        string
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
	// Dir is the directory of the log, relative to the working directory.
	Dir string
	// DedupWindow is how long an event id is remembered; at least a minute.
	DedupWindow time.Duration
	// Retention is how long a settled event and its attempts are kept for looking up and replaying. 0 keeps them no
	// longer than a lane needs them.
	Retention time.Duration
	// FailedRetention is how long a failed delivery is kept; at least a minute, since a failed delivery that nobody
	// could see would be a silent loss.
	FailedRetention time.Duration
	// UnservedRetention is for how long what a disabled endpoint, or one that is not configured any more, holds is kept
	// before it becomes failed; 0 for ever.
	UnservedRetention time.Duration
	// UnservedBytes is how much of it is kept, in bytes, beyond Retention; 0 for no bound.
	UnservedBytes int64
	// MinFree is the free disk space in bytes below which ingest answers 503 while deliveries go on. The queue needs
	// 112 MiB itself, also with 0.
	MinFree int64
	// ExcerptBytes is how much of the disk whole excerpts of answers may take, a quarter of it those of one endpoint; at least
	// 1 MiB. Beyond it an excerpt is 256 bytes.
	ExcerptBytes int64
	// Create lets an empty or missing Dir become a new queue. Without it that is an error: a file system may not be
	// mounted there.
	Create bool
}

// Log is what the relay says about itself.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto (console on a terminal, else json), json or console
}

// Heartbeat is a URL that is called as long as all is well, for a service that tells when the calls stop.
type Heartbeat struct {
	// URL is http or https; empty, nothing is called. It is a secret: whoever has it can call it.
	URL sign.Secret
	// Every is the time between two calls: 1 s to 1 h.
	Every time.Duration
	// AllowPrivate lets a host name in the URL resolve to a private or loopback address.
	AllowPrivate bool
}

// Source is who may post events, where, and how that is checked. With a Token and a Secret both must match; with
// neither, which is possible on loopback, on unix sockets and behind Server.ClientCA only, anybody who can connect may
// post.
type Source struct {
	Name string // unique; 1-64 of a-z 0-9 _ -, the first a letter or digit
	Path string // unique; begins with "/"
	// Token is expected as "Authorization: Bearer". PreviousToken does as well while tokens are rotated and is empty when
	// Token is.
	Token, PreviousToken sign.Secret
	// Secret is the key of the signature that is expected over the body. PreviousSecret does as well while secrets are
	// rotated and is empty when Secret is.
	Secret, PreviousSecret sign.Secret
	// Scheme says which signature: SchemeRealtorBot or SchemeStandard. It is empty without a Secret.
	Scheme string
	// Allow are the networks that clients may post from; empty: all. Clients of a unix socket have no address and are not
	// asked for one.
	Allow []netip.Prefix
	// Rate is the number of requests a second, all clients together; 0 sets no limit.
	Rate float64
	// MaxQueued is how many bytes of its events' bodies the queue may keep, delivered or not, from 1 MiB and Server.MaxBody on; 0
	// sets no limit.
	MaxQueued int64
}

// The signature schemes, as a source's scheme and as elements of an endpoint's signatures.
const (
	SchemeRealtorBot = "realtorbot" // X-RealtorBot-Signature: lower hex HMAC-SHA256 of the body, keyed with the secret's bytes
	SchemeStandard   = "standard"   // Standard Webhooks 1.0, keyed with the base64 behind "whsec_"
)

// Events extends the catalogue.
type Events struct {
	// Custom are the event types beyond Types that subscriptions may name. Ingest accepts any well-formed type.
	Custom []string
}

// Delivery is how deliveries are attempted, as the default and, merged, per endpoint.
type Delivery struct {
	// Timeout is the limit of one attempt, from connecting to the status of its answer: 100 ms to 10 minutes.
	Timeout time.Duration
	// Retry are the waits after the first attempt and after each retry, at most 20, each above 0 and at most 24 h. When
	// they are used up the delivery is failed. Empty: one attempt.
	Retry []time.Duration
	// Concurrency is the number of attempts at a time: 1 to 1024.
	Concurrency int
	// Rate is the number of attempts a second; 0 sets no limit.
	Rate float64
	// RateBytes is how many bytes of bodies a second are sent; 0 sets no limit, else at least 1 KiB.
	RateBytes int64
	// OnFailed is the endpoint that is given what ends as failed here; empty for none. It is configured, is not this one, and no
	// chain of them comes back.
	OnFailed string
	// Success tells which answers count as delivered.
	Success Success
	// MaxAge is how long a delivery may be held (its endpoint down, paused, limited or out of reach) before it becomes
	// failed; at least a minute.
	MaxAge time.Duration
	// Lag is how long the oldest pending event may have waited before the endpoint is told to lag; at least a second.
	Lag time.Duration
	// DisableAfter is how long an endpoint may be down without one success before it is paused; 0 never does.
	DisableAfter time.Duration
	// Jitter is the most by which a wait of Retry is made longer, at random: 0 to an hour.
	Jitter time.Duration
	// Numbers is NumbersExact, or NumbersJavaScript for a receiver that hashes what JSON.stringify(JSON.parse(body)) gives.
	Numbers string
	// Proxy is what connections go through; the zero Proxy is none.
	Proxy Proxy
	// ProxyLookup is LookupHere, LookupAddress or LookupProxy. Without a Proxy it means nothing.
	ProxyLookup string
	// CAFile has the certificates, in PEM, of the authorities that an https endpoint's certificate is checked against, in
	// place of those that the system trusts. The zero File leaves it to the system.
	CAFile File
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
	Name string // unique; 1-64 of a-z 0-9 _ -, the first a letter or digit; its lane is found under this name again
	// URL is http or https with a host and without user, fragment or zone.
	URL URL
	// Events are the types subscribed to: exact, "group.*" or "*"; see Subscribes. Empty only for one that another's OnFailed
	// names.
	Events []string
	// Secret signs; empty, attempts go out unsigned. PreviousSecret signs as well while secrets are rotated and is
	// empty when Secret is.
	Secret, PreviousSecret sign.Secret
	// Signatures are the schemes to sign with: SchemeRealtorBot, SchemeStandard or both; never empty.
	Signatures []string
	// Headers are sent with each attempt, name as written in the file. None is one that the relay sets itself. Nil
	// without any.
	Headers map[string]sign.Secret
	// Format is FormatEvent, or FormatSlack for incoming webhooks of chats: what the body of each attempt is.
	Format string
	// Enabled is false for an endpoint that keeps its lane and is sent nothing.
	Enabled bool
	// AllowPrivate lets a host name in the URL resolve to a private or loopback address. An address written in the URL
	// needs no permission.
	AllowPrivate bool
	// ClientCert and ClientKey, in PEM, are shown to an https endpoint that asks who is calling. Both are set or neither.
	ClientCert, ClientKey File
	// ServerName is the name that an https endpoint's certificate must have, if it isn't the host of the URL.
	ServerName string
	// Delivery is the file's [delivery] with what the endpoint's own table overrides.
	Delivery Delivery
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

// defaults is the configuration of an empty file. config.example.toml states the same, which a test compares.
func defaults() *Config {
	return &Config{
		Server: Server{
			Listen:          "127.0.0.1:8080",
			MaxBody:         1 << 20,
			IdleTimeout:     2 * time.Minute,
			ShutdownTimeout: 20 * time.Second,
		},
		Admin: Admin{Listen: "127.0.0.1:8081"},
		Queue: Queue{
			Dir:             "data",
			DedupWindow:     72 * time.Hour,
			Retention:       168 * time.Hour,
			FailedRetention: 720 * time.Hour,

			UnservedRetention: 168 * time.Hour,
			UnservedBytes:     1 << 30,

			MinFree:      256 << 20,
			ExcerptBytes: 256 << 20,
			Create:       true,
		},
		Log:       Log{Level: "info", Format: "auto"},
		Heartbeat: Heartbeat{Every: time.Minute},
		Delivery: Delivery{
			Timeout:     10 * time.Second,
			Retry:       []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute},
			Concurrency: 16,
			MaxAge:      72 * time.Hour,
			Lag:         10 * time.Minute,
			Numbers:     NumbersExact,
			ProxyLookup: LookupHere,
		},
	}
}

// defaultSource is what a file without any [[source]] has.
func defaultSource() Source { return Source{Name: "default", Path: "/events"} }

// defaultEndpoint is what an [[endpoint]] starts from. The slices of d are shared: nobody writes to them.
func defaultEndpoint(d Delivery) Endpoint {
	return Endpoint{Signatures: []string{SchemeRealtorBot}, Format: FormatEvent, Enabled: true, Delivery: d}
}
