package client

import (
	"time"
)

// Outcome is the result of one attempt. It belongs to the caller and shares no memory with the Client.
type Outcome struct {
	At     time.Time     // when the attempt began; its seconds are what webhook-timestamp said
	Took   time.Duration // from At until the answer was read as far as it is read, or the attempt ended without one
	Timing Timing

	Status int    // of the answer, 0 when there was none
	Class  Class  // what went wrong, ClassNone when nothing did
	Err    string // one line for operators, free of secrets, paths and queries; empty when nothing went wrong

	// RetryAfter is the wait that an answer 429 or 503 asked for, 0 when it named none that can be parsed.
	RetryAfter time.Duration

	// Excerpt is the beginning of the answer's body, at most 16 KiB, or of whatever came when that was not HTTP. Stars stand for
	// the endpoint's secrets, header values and query, in case the receiver echoed them. A compressed body is decompressed, or
	// replaced by a note that it was compressed.
	Excerpt []byte

	// Unreachable is set when the cause may lie with this machine rather than with the endpoint: no route, no network,
	// no resolver, no free port or descriptor. When it is so for every endpoint, the machine is offline.
	Unreachable bool

	// Local is set when nothing beyond this machine was needed for the outcome: the receiver is on this machine, or the error
	// is this machine's own. Such an outcome does not show that there is a network.
	Local bool

	// Resent is set when the POST was made twice, see Client.Attempt. The receiver may have got the event twice.
	Resent bool

	// Aborted is set when the Client was closed during the attempt, or when this process or its machine stood still during it
	// and no answer was found afterwards. Such an outcome says nothing about the endpoint and must not be judged: the event may
	// or may not have arrived.
	Aborted bool
}

// Timing says how an attempt spent its time. DNS, Connect and TLS are 0 when a kept-alive connection was used, DNS also
// when the URL holds an address, and TLS for http.
type Timing struct {
	DNS       time.Duration
	Connect   time.Duration
	TLS       time.Duration
	FirstByte time.Duration // from when the connection was ready until the first byte of the answer
}

// Class says what went wrong with an attempt. The set is closed: metrics use it as label values.
type Class string

// The classes. Every reason for which no connection could be made, other than a timeout (no route, for one), counts as
// ClassConnectRefused; Outcome.Err says which.
const (
	ClassNone           Class = ""                // the answer's status is one of the success codes
	ClassDNS            Class = "dns"             // the host's name could not be resolved
	ClassConnectRefused Class = "connect_refused" // no connection could be made
	ClassConnectTimeout Class = "connect_timeout" // no connection could be made in time
	ClassTLS            Class = "tls"             // handshake or certificate
	ClassTimeout        Class = "timeout"         // no status came in time
	ClassReset          Class = "reset"           // the connection broke before there was a status
	ClassBlockedAddress Class = "blocked_address" // the address guard refused to dial
	ClassBadResponse    Class = "bad_response"    // what came was no HTTP/1 answer, or its headers pass 16 KiB or 200 lines
	ClassStatus         Class = "status"          // the answer's status is not one of the success codes
	ClassInternal       Class = "internal"        // the relay itself failed; its log has more
)

// Classes returns the closed set, without ClassNone.
func Classes() []Class {
	return []Class{ClassDNS, ClassConnectRefused, ClassConnectTimeout, ClassTLS, ClassTimeout, ClassReset,
		ClassBlockedAddress, ClassBadResponse, ClassStatus, ClassInternal}
}

// failed records why the attempt failed.
func (o *Outcome) failed(f failure) {
	o.Class, o.Err, o.Unreachable = f.class, f.text, f.unreachable
}
