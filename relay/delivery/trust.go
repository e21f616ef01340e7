package delivery

import (
	"crypto/tls"
	"crypto/x509"
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
