package client

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestADialFailureKnowsOurOwnTrouble(t *testing.T) {
	connect := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
	}
	for _, c := range []struct {
		err         error
		class       Class
		unreachable bool
	}{
		{connect(syscall.ECONNREFUSED), ClassConnectRefused, false},
		{connect(syscall.ECONNRESET), ClassConnectRefused, false},
		{connect(syscall.ETIMEDOUT), ClassConnectTimeout, false},
		{connect(syscall.ENETUNREACH), ClassConnectRefused, true},
		{connect(syscall.ENETDOWN), ClassConnectRefused, true},
		{connect(syscall.EHOSTUNREACH), ClassConnectRefused, true},
		{connect(syscall.EADDRNOTAVAIL), ClassConnectRefused, true},
		{connect(syscall.EMFILE), ClassConnectRefused, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "x", Err: "no such host", IsNotFound: true}}, ClassDNS, false},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "x", Err: "no such host", IsNotFound: true, IsTemporary: true}}, ClassDNS, false},
		{&net.DNSError{Name: "x", Err: "server misbehaving", IsTemporary: true}, ClassDNS, true},
		{&net.DNSError{Name: "x", Err: "i/o timeout", IsTimeout: true}, ClassDNS, true},
		{&net.OpError{Op: "dial", Err: &blockedError{endpoint: "crm"}}, ClassBlockedAddress, false},
		{fmt.Errorf("something else"), ClassConnectRefused, false},
	} {
		f := connectFailure(c.err, "crm.example.com:443", time.Second)
		if f.class != c.class || f.unreachable != c.unreachable || f.text == "" {
			t.Errorf("%v: got %+v", c.err, f)
		}
	}
}

// A name that leads nowhere is told in words of those who run name servers.
func TestANameWithoutAnAddressIsToldInWords(t *testing.T) {
	refused := "read udp 127.0.0.1:40000->127.0.0.53:53: read: connection refused"
	for _, c := range []struct {
		err  *net.DNSError
		want string
	}{
		{&net.DNSError{Name: "x", Err: "no such host", Server: "127.0.0.53:53", IsNotFound: true}, `look up "x": there is no such host`},
		{&net.DNSError{Name: "x", Err: "i/o timeout", Server: "127.0.0.53:53", IsTimeout: true}, `look up "x": the name server does not answer (127.0.0.53:53)`},
		{&net.DNSError{Name: "x", Err: "server misbehaving", Server: "127.0.0.53:53", IsTemporary: true}, `look up "x": the name server could not find out (127.0.0.53:53) (SERVFAIL or REFUSED)`},
		{&net.DNSError{Name: "x", Err: refused, Server: "127.0.0.53:53"}, `look up "x": no name server answers (127.0.0.53:53): connection refused`},
		{&net.DNSError{Name: "x", Err: "server misbehaving"}, `look up "x": the name server could not find out (SERVFAIL or REFUSED)`},
	} {
		if f := connectFailure(&net.OpError{Op: "dial", Err: c.err}, "x:443", time.Second); f.text != c.want {
			t.Errorf("%v: told %q, want %q", c.err, f.text, c.want)
		}
	}
}

func TestOnlyABrokenConnectionIsStale(t *testing.T) {
	for err, want := range map[error]bool{
		io.EOF:              true,
		io.ErrUnexpectedEOF: true,
		&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}: true,
		&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}:    true,
		&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}:                         false,
		&net.OpError{Op: "read", Err: syscall.ETIMEDOUT}:                              false,
		fmt.Errorf("%w: %w", io.EOF, os.ErrDeadlineExceeded):                          false,
		net.ErrClosed: false,
	} {
		if got := isBroken(err); got != want {
			t.Errorf("%v: got %v", err, got)
		}
	}
}

func TestFailureTextIsOneLine(t *testing.T) {
	got := OneLine("a\nb\x1b[31m\xffc\u2028" + strings.Repeat("é", textLimit))
	if strings.ContainsAny(got, "\n\x1b\u2028") || len(got) > textLimit+len("…") || !strings.HasPrefix(got, "a b [31m?c é") {
		t.Errorf("got %q", got)
	}
}
