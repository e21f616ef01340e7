package client

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"realtorbot-relay/relay/config"
)

// CertificateWarning is how long before a certificate expires the relay warns, of a receiver's or of its own for an endpoint.
const CertificateWarning = 14 * 24 * time.Hour

// trust says how an https endpoint is verified, and knows when its certificate expires. Safe for concurrent use.
type trust struct {
	resuming *tls.Config  // keeps sessions, so that all handshakes but the first are short
	full     *tls.Config  // keeps none, for when a certificate is about to be renewed: a resumed session doesn't show the new one
	own      time.Time    // when the client certificate expires; zero without one
	ownRoots bool         // ca_file is set
	expires  atomic.Int64 // when the receiver's certificate expires, Unix seconds; 0 as long as none was seen
}

// newTrust returns nil for an http endpoint. Its errors show no key.
func newTrust(ep *config.Endpoint, tpl *template) (*trust, error) {
	if tpl.scheme != "https" {
		return nil, nil
	}
	t := &trust{full: &tls.Config{
		ServerName: tpl.host,
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

// config returns the configuration for the next handshake.
func (t *trust) config(now time.Time) *tls.Config {
	if end := t.certificateExpires(); !end.IsZero() && end.Sub(now) < CertificateWarning {
		return t.full
	}
	return t.resuming
}

// remember learns from a handshake when the receiver's certificate expires. A resumed session shows only the old certificate.
func (t *trust) remember(state *tls.ConnectionState) {
	if !state.DidResume && len(state.PeerCertificates) > 0 {
		t.expires.Store(state.PeerCertificates[0].NotAfter.Unix())
	}
}

// certificateExpires returns when the receiver's certificate expires, zero as long as none was seen.
func (t *trust) certificateExpires() time.Time {
	if unix := t.expires.Load(); unix != 0 {
		return time.Unix(unix, 0)
	}
	return time.Time{}
}
