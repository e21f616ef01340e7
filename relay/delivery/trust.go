package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"realtorbot-relay/relay/config"
)

// CertificateWarning is how long before its end a certificate is worth a word: of a receiver, or the relay's own for one.
const CertificateWarning = 14 * 24 * time.Hour

// trust is how an https endpoint is verified, and what is known of its certificate. Safe for concurrent use.
type trust struct {
	resuming *tls.Config // keeps sessions, for all but the first handshake to be short
	full     *tls.Config // without, for a certificate that is about to be renewed: a session that goes on doesn't show it
	own      time.Time   // when the client certificate ends; zero without one
	ownRoots bool        // ca_file is set
	expires  atomic.Int64
}

// newTrust is nil for an http endpoint. Its errors show no key.
func newTrust(ep *config.Endpoint, r *request) (*trust, error) {
	if r.scheme != "https" {
		return nil, nil
	}
	t := &trust{full: &tls.Config{
		ServerName: r.host,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
	}}
	if ep.ServerName != "" {
		t.full.ServerName = ep.ServerName
	}
	if !ep.Delivery.CAFile.IsZero() {
		t.ownRoots = true
		t.full.RootCAs = x509.NewCertPool()
		if !t.full.RootCAs.AppendCertsFromPEM(ep.Delivery.CAFile.Content()) {
			return nil, &endpointError{ep.Name, "ca_file holds no certificate"}
		}
	}
	if !ep.ClientCert.IsZero() {
		pair, err := config.Pair(ep.ClientCert.Content(), ep.ClientKey.Content())
		if err != nil {
			return nil, &endpointError{ep.Name, "client_cert and client_key: " + err.Error()}
		}
		t.full.Certificates = []tls.Certificate{pair}
		t.own = pair.Leaf.NotAfter
	}
	t.resuming = t.full.Clone()
	t.resuming.ClientSessionCache = tls.NewLRUClientSessionCache(1) // one server name, one entry
	return t, nil
}

// config is what the next handshake is made with.
func (t *trust) config(now time.Time) *tls.Config {
	if end := t.certificateExpires(); !end.IsZero() && end.Sub(now) < CertificateWarning {
		return t.full
	}
	return t.resuming
}

// note remembers when the receiver's certificate ends. A resumed session tells only what a handshake of old has told.
func (t *trust) note(state *tls.ConnectionState) {
	if !state.DidResume && len(state.PeerCertificates) > 0 {
		t.expires.Store(state.PeerCertificates[0].NotAfter.Unix())
	}
}

// certificateExpires is when the receiver's certificate ends, zero as long as none was seen.
func (t *trust) certificateExpires() time.Time {
	if unix := t.expires.Load(); unix != 0 {
		return time.Unix(unix, 0)
	}
	return time.Time{}
}

// explain says in the operator's words why a handshake failed. Names in certificates are the far side's own words.
func (t *trust) explain(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var noRoots x509.SystemRootsError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return "its certificate is for " + certifiedNames(name.Certificate) + " and not for " + name.Host +
			": correct url, or set server_name if the certificate has the name that you mean"
	case errors.As(err, &unknown):
		return unknownAuthority(unknown.Cert, t.ownRoots)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if invalid.Cert.NotBefore.After(time.Now()) {
			return "its certificate is valid from " + invalid.Cert.NotBefore.UTC().Format(time.RFC3339) + " on: is the clock of this machine right?"
		}
		return "its certificate expired on " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339) + ": the receiver must renew it"
	case errors.As(err, &noRoots):
		return "this system trusts no authority at all: install its ca-certificates, or set ca_file"
	case errors.As(err, &record):
		return "what answers there speaks no TLS: should url be http://, or have another port?"
	}
	return err.Error() + t.clientCertificateHint(err)
}

func unknownAuthority(cert *x509.Certificate, ownRoots bool) string {
	text := "its certificate is issued by " + strconv.Quote(cert.Issuer.String())
	if cert.Issuer.String() == cert.Subject.String() {
		text = "its certificate is issued by itself, " + strconv.Quote(cert.Subject.String())
	}
	if ownRoots {
		return text + ", and not by an authority in ca_file"
	}
	return text + ", which this system does not trust: set ca_file to the certificate of that authority if you do"
}

// certifiedNames are the first names that a certificate is for.
func certifiedNames(cert *x509.Certificate) string {
	const most = 3
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no name at all"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + " and " + strconv.Itoa(len(names)-most) + " more"
	}
	return strings.Join(names, ", ")
}

// clientCertificateHint says what to do about an alert with which receivers ask who is calling: before TLS 1.3 it was not
// "certificate required" but one of the other two.
func (t *trust) clientCertificateHint(err error) string {
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" || alert.Err == nil {
		return ""
	}
	text := alert.Err.Error()
	switch {
	case t.own.IsZero() && strings.Contains(text, "certificate required"):
		return ": set client_cert and client_key"
	case t.own.IsZero() && (strings.Contains(text, "bad certificate") || strings.Contains(text, "handshake failure")):
		return ": it may ask for client_cert and client_key"
	case !t.own.IsZero() && strings.Contains(text, "certificate"):
		return ": it does not accept client_cert"
	}
	return ""
}
