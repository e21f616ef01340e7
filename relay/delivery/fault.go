package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

// fault is an error of an attempt, put into the words of the closed set.
type fault struct {
	class       Class
	text        string
	unreachable bool
}

// faultTextLimit bounds the text of a fault, in bytes: certificates put into it what the far side likes.
const faultTextLimit = 300

// dialFault explains why no connection to address (host:port) came about within timeout.
func dialFault(err error, address string, timeout time.Duration) fault {
	var blocked *blockedError
	if errors.As(err, &blocked) {
		return fault{class: ClassBlockedAddress, text: blocked.Error()}
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		// NXDOMAIN is an answer: the resolver was reached. The rest may be our own line.
		away := !dns.IsNotFound && (dns.IsTimeout || dns.IsTemporary)
		text := oneLine("look up " + strconv.Quote(dns.Name) + ": " + Unresolved(dns))
		if lookup := (*lookupError)(nil); errors.As(err, &lookup) {
			text += `; proxy_lookup = "proxy" leaves looking up, and judging where it leads, to the proxy`
		}
		return fault{class: ClassDNS, text: text, unreachable: away}
	}
	if isTimeout(err) {
		return fault{class: ClassConnectTimeout, text: "connect to " + address + ": no answer within " + timeout.String()}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fault{ClassConnectRefused, "connect to " + address + ": " + errno.Error(), isOurs(errno)}
	}
	return fault{class: ClassConnectRefused, text: oneLine("connect to " + address + ": " + err.Error())}
}

// Unresolved says why a name has no address, in words of those who run the name server.
func Unresolved(err error) string {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err.Error()
	}
	switch {
	case dns.IsNotFound:
		return "there is no such host"
	case dns.IsTimeout:
		return "the name server does not answer" + at(dns.Server)
	case strings.HasSuffix(dns.Err, syscall.ECONNREFUSED.Error()):
		return "no name server answers" + at(dns.Server) + ": connection refused"
	case dns.Err == "server misbehaving":
		return "the name server could not find out" + at(dns.Server) + " (SERVFAIL or REFUSED)"
	}
	return dns.Err
}

func at(server string) string {
	if server == "" {
		return ""
	}
	return " (" + server + ")"
}

// tunnelFault explains why a proxy did not connect to the endpoint.
func tunnelFault(err error, d *detour, timeout time.Duration) fault {
	about := "proxy " + d.address + " asked for " + d.target + ": "
	var refused *proxyError
	switch {
	case isTimeout(err):
		return fault{class: ClassConnectTimeout, text: about + "no connection within " + timeout.String()}
	case errors.As(err, &refused):
		return fault{class: ClassConnectRefused, text: oneLine(about + refused.reason)}
	case isBroken(err):
		return fault{class: ClassConnectRefused, text: about + "it closed the connection"}
	}
	return fault{class: ClassConnectRefused, text: oneLine(about + err.Error())}
}

// tlsFault explains why the handshake with address failed.
func tlsFault(err error, address string, timeout time.Duration, t *trust) fault {
	if isTimeout(err) {
		return fault{class: ClassTimeout, text: "timed out after " + timeout.String() + " in the TLS handshake with " + address}
	}
	return fault{class: ClassTLS, text: oneLine("TLS with " + address + ": " + t.explain(err))}
}

// exchangeFault explains why there was no answer on a connection that had come about; doing says what was going on.
// What came from the far side is left out of the text, as it may echo what we sent.
func exchangeFault(err error, doing, address string, timeout time.Duration, t *trust) fault {
	if alert := tlsError(err); alert != nil && t != nil && !isTimeout(err) {
		return tlsFault(alert, address, timeout, t)
	}
	switch {
	case isTimeout(err):
		return fault{class: ClassTimeout, text: "timed out after " + timeout.String() + " while " + doing}
	case isBroken(err):
		return fault{class: ClassReset, text: address + " closed the connection while " + doing}
	case errors.Is(err, errHeadTooLong):
		return fault{class: ClassBadResponse, text: "the answer's headers pass " + strconv.Itoa(headerLimit>>10) + " KiB"}
	case errors.Is(err, errTooLong):
		return fault{class: ClassBadResponse, text: "no status within the first " + strconv.Itoa(answerLimit>>10) + " KiB of the answer"}
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return fault{ClassReset, address + ": " + errno.Error() + " while " + doing, isOurs(errno)}
	}
	return fault{class: ClassBadResponse, text: "the answer is not valid HTTP/1.1; its excerpt shows what came"}
}

// statusFault describes an answer that is not one of the success codes.
func statusFault(status int) fault {
	text := "answered " + strconv.Itoa(status)
	if name := fasthttp.StatusMessage(status); name != fasthttp.StatusMessage(0) {
		text += " " + name
	}
	return fault{class: ClassStatus, text: text}
}

// isTimeout also covers the kernel's own ETIMEDOUT and the end of a context.
func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// isBroken tells that the far side ended the connection. On a kept-alive connection, with no byte of an answer, it means
// that the connection had gone stale. A timeout never counts.
func isBroken(err error) bool {
	for _, sign := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, sign) {
			return !isTimeout(err)
		}
	}
	return false
}

// tlsError finds what a handshake leaves for the first read, as TLS 1.3 does with a refused client certificate; nil when
// err is of another kind. It is cut out of what may be around it.
func tlsError(err error) error {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return record
	}
	var alert *net.OpError
	if errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error") {
		return alert
	}
	return nil
}

// isOurs tells the errors that this machine causes: no route, no network, nothing left to open a connection with.
func isOurs(errno syscall.Errno) bool {
	switch errno {
	case syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return true
	}
	return false
}

// oneLine makes text from elsewhere fit for a log line: no control characters, no broken UTF-8, not too long.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= faultTextLimit {
		return text
	}
	end := faultTextLimit
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
