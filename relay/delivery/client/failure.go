package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

// failure is why an attempt failed, as one of the closed set of classes.
type failure struct {
	class       Class
	text        string
	unreachable bool
}

// textLimit is how many bytes the text of a failure may have: the far side writes what stands in its certificates.
const textLimit = 300

// connectFailure explains why no connection to address (host:port) could be made within timeout.
func connectFailure(err error, address string, timeout time.Duration) failure {
	var blocked *blockedError
	if errors.As(err, &blocked) {
		return failure{class: ClassBlockedAddress, text: blocked.Error()}
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		// NXDOMAIN is an answer: the resolver was reached. Other failures may be those of this machine's own line.
		unreachable := !dns.IsNotFound && (dns.IsTimeout || dns.IsTemporary)
		text := OneLine("look up " + strconv.Quote(dns.Name) + ": " + LookupReason(dns))
		if lookup := (*lookupError)(nil); errors.As(err, &lookup) {
			text += `; proxy_lookup = "proxy" leaves looking up, and judging where it leads, to the proxy`
		}
		return failure{class: ClassDNS, text: text, unreachable: unreachable}
	}
	if isTimeout(err) {
		return failure{class: ClassConnectTimeout, text: "connect to " + address + ": no answer within " + timeout.String()}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return failure{ClassConnectRefused, "connect to " + address + ": " + errno.Error(), isLocalErrno(errno)}
	}
	return failure{class: ClassConnectRefused, text: OneLine("connect to " + address + ": " + err.Error())}
}

// LookupReason says why the name that err is about could not be looked up, in words for those who run the name server.
func LookupReason(err error) string {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err.Error()
	}
	switch {
	case dns.IsNotFound:
		return "there is no such host"
	case dns.IsTimeout:
		return "the name server does not answer" + inParens(dns.Server)
	case strings.HasSuffix(dns.Err, syscall.ECONNREFUSED.Error()):
		return "no name server answers" + inParens(dns.Server) + ": connection refused"
	case dns.Err == "server misbehaving":
		return "the name server could not find out" + inParens(dns.Server) + " (SERVFAIL or REFUSED)"
	}
	return dns.Err
}

func inParens(server string) string {
	if server == "" {
		return ""
	}
	return " (" + server + ")"
}

// tunnelFailure explains why a proxy did not connect to the endpoint.
func tunnelFailure(err error, p *proxy, timeout time.Duration) failure {
	about := "proxy " + p.address + " asked for " + p.target + ": "
	var refused *proxyError
	switch {
	case isTimeout(err):
		return failure{class: ClassConnectTimeout, text: about + "no connection within " + timeout.String()}
	case errors.As(err, &refused):
		return failure{class: ClassConnectRefused, text: OneLine(about + refused.reason)}
	case isBroken(err):
		return failure{class: ClassConnectRefused, text: about + "it closed the connection"}
	}
	return failure{class: ClassConnectRefused, text: OneLine(about + err.Error())}
}

// tlsFailure explains why the handshake with address failed.
func tlsFailure(err error, address string, timeout time.Duration, t *trust) failure {
	if isTimeout(err) {
		return failure{class: ClassTimeout, text: "timed out after " + timeout.String() + " in the TLS handshake with " + address}
	}
	return failure{class: ClassTLS, text: OneLine("TLS with " + address + ": " + t.explain(err))}
}

// exchangeFailure explains why no answer came on a connection that was made; doing says what the attempt was doing. The text
// leaves out what the far side sent, which may echo what the relay sent.
func exchangeFailure(err error, doing, address string, timeout time.Duration, t *trust) failure {
	if alert := tlsError(err); alert != nil && t != nil && !isTimeout(err) {
		return tlsFailure(alert, address, timeout, t)
	}
	switch {
	case isTimeout(err):
		return failure{class: ClassTimeout, text: "timed out after " + timeout.String() + " while " + doing}
	case isBroken(err):
		return failure{class: ClassReset, text: address + " closed the connection while " + doing}
	case errors.Is(err, errHeadTooLong):
		return failure{class: ClassBadResponse, text: fmt.Sprintf("the answer's headers pass %d KiB or %d lines", headerLimit>>10, mostHeaders)}
	case errors.Is(err, errTooLong):
		return failure{class: ClassBadResponse, text: "no status within the first " + strconv.Itoa(answerLimit>>10) + " KiB of the answer"}
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return failure{ClassReset, address + ": " + errno.Error() + " while " + doing, isLocalErrno(errno)}
	}
	return failure{class: ClassBadResponse, text: "the answer is not valid HTTP/1.1; its excerpt shows what came"}
}

// statusFailure describes an answer that is not one of the success codes.
func statusFailure(status int) failure { return failure{class: ClassStatus, text: StatusText(status)} }

// StatusText describes an answer by its status, as in "answered 404 Not Found".
func StatusText(status int) string {
	text := "answered " + strconv.Itoa(status)
	if name := fasthttp.StatusMessage(status); name != fasthttp.StatusMessage(0) {
		text += " " + name
	}
	return text
}

// isTimeout reports whether time was up. It knows the kernel's own ETIMEDOUT and the end of a context as well.
func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// isBroken reports whether the far side ended the connection. On a kept-alive connection, before a byte of an answer, it means
// that the connection had gone stale. A timeout never counts.
func isBroken(err error) bool {
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, broken) {
			return !isTimeout(err)
		}
	}
	return false
}

// tlsError returns the TLS error in err, without what is around it, or nil. TLS 1.3 reports one as late as the first read,
// for instance when the receiver refuses the client certificate.
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

// isLocalErrno reports whether this machine causes the error: no route, no network, nothing left to open a connection with.
func isLocalErrno(errno syscall.Errno) bool {
	switch errno {
	case syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return true
	}
	return false
}

// OneLine makes text from elsewhere fit for a log line: it replaces control characters and broken UTF-8, and cuts what is too
// long.
func OneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= textLimit {
		return text
	}
	end := textLimit
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
