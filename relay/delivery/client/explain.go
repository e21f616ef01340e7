package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// explain says for the operator why a handshake failed. Names in certificates are text that the far side wrote.
func (t *trust) explain(err error) string {
	var chain *tls.CertificateVerificationError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return "its certificate " + wrongHost(name)
	case errors.As(err, &chain) && len(chain.UnverifiedCertificates) > 0:
		return t.explainChain(chain.Err, chain.UnverifiedCertificates, time.Now())
	case errors.As(err, &record):
		return "what answers there speaks no TLS: should url be http://, or have another port?"
	case isBroken(err):
		return "it closed the connection during the handshake: does TLS begin there, and does it know the host " + strconv.Quote(t.full.ServerName) + "?"
	}
	return t.explainAlert(err)
}

// explainChain says why the certificates that the receiver sent are not trusted; the first of them is its own.
func (t *trust) explainChain(err error, sent []*x509.Certificate, now time.Time) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var noRoots x509.SystemRootsError
	switch {
	case errors.As(err, &noRoots) || errors.As(err, &unknown) && !t.ownRoots && trustsNobody():
		return "this system trusts no authority at all: install its ca-certificates, or set ca_file"
	case errors.As(err, &unknown):
		return t.unknownAuthority(unknown, sent)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return t.outsideValidity(invalid.Cert, sent, now)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "its certificate is not for a server (extended key usage): the receiver must have one for that"
	case errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName:
		return "the authority of its certificate may not issue any for that name"
	}
	return "its certificates don't fit together (" + strings.TrimPrefix(err.Error(), "x509: ") + ")"
}

// roots names where the trusted authorities come from.
func (t *trust) roots() string {
	if t.ownRoots {
		return "ca_file"
	}
	return "this system's certificates"
}

// outsideValidity says which certificate is not valid now: the receiver's own, one that it sends with it, or one that is
// trusted here.
func (t *trust) outsideValidity(cert *x509.Certificate, sent []*x509.Certificate, now time.Time) string {
	what, remedy := "its certificate", "the receiver must renew it"
	switch at := slices.IndexFunc(sent, cert.Equal); {
	case at < 0:
		what, remedy = "the certificate of the authority "+strconv.Quote(cert.Subject.String())+" in "+t.roots(), "renew it there"
	case at > 0:
		what, remedy = "the certificate of the authority "+strconv.Quote(cert.Subject.String())+", which it sends,", "the receiver must send a valid one"
	}
	if cert.NotBefore.After(now) {
		return what + " is valid from " + cert.NotBefore.UTC().Format(time.RFC3339) + " on: is the clock of this machine right?"
	}
	return what + " expired on " + cert.NotAfter.UTC().Format(time.RFC3339) + ": " + remedy
}

// trustsNobody reports whether the system has no authorities. Without the package ca-certificates there are none, and
// crypto/x509 returns no error for that.
func trustsNobody() bool {
	pool, err := x509.SystemCertPool()
	return err != nil || pool.Equal(x509.NewCertPool())
}

// unknownAuthority says which authority is not trusted: the issuer of the chain's last certificate.
func (t *trust) unknownAuthority(err x509.UnknownAuthorityError, sent []*x509.Certificate) string {
	last := sent[len(sent)-1]
	issuer := strconv.Quote(last.Issuer.String())
	text := "its certificate is issued by " + issuer
	switch {
	case last.Issuer.String() == last.Subject.String() && len(sent) == 1:
		text = "its certificate is issued by itself, " + issuer
	case len(sent) > 1:
		text = "its certificate comes from the authority " + issuer
	}
	// Only the text of crypto/x509's error says that an authority of that name is trusted, but with another key.
	if strings.Contains(err.Error(), "candidate authority certificate") {
		return text + ", and " + t.roots() + " has another authority of that name, with another key or not allowed to sign: was it made anew?"
	}
	if len(sent) == 1 && last.Issuer.String() != last.Subject.String() {
		return text + t.notTrusted() + "; or, if that is an intermediate authority, let the receiver send its certificate too (fullchain.pem)"
	}
	return text + t.notTrusted()
}

func (t *trust) notTrusted() string {
	if t.ownRoots {
		return ", and not by an authority in ca_file"
	}
	return ", which this system does not trust: set ca_file to the certificate of that authority if you do"
}

// wrongHost says which names a certificate is for, and what would be right.
func wrongHost(err x509.HostnameError) string {
	cert, host := err.Certificate, err.Host
	isAddress := net.ParseIP(host) != nil
	if isAddress {
		for _, name := range cert.DNSNames {
			if name == host {
				return "has " + host + " among its host names, where addresses don't count: the receiver must have one with IP:" + host + " in subjectAltName"
			}
		}
	}
	if len(cert.DNSNames) == 0 && len(cert.IPAddresses) == 0 && strings.EqualFold(cert.Subject.CommonName, host) {
		kind := "DNS:"
		if isAddress {
			kind = "IP:"
		}
		return "has " + host + " only as its common name, which clients ignore today: the receiver must have one with " + kind + host + " in subjectAltName"
	}
	return "is for " + certifiedNames(cert) + " and not for " + host + ": correct url, or set server_name if the certificate has the name that you mean"
}

// certifiedNames lists the first names that a certificate is for.
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

// explainAlert says which TLS alert the receiver sent, and what to do about those that ask for a client certificate. Before
// TLS 1.3 these were two others than "certificate required".
func (t *trust) explainAlert(err error) string {
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" || alert.Err == nil {
		return "the handshake failed (" + strings.TrimPrefix(err.Error(), "tls: ") + ")"
	}
	text := strings.TrimPrefix(alert.Err.Error(), "tls: ")
	hint := ""
	switch {
	case strings.Contains(text, "unrecognized name"):
		hint = ": it knows no host " + strconv.Quote(t.full.ServerName) + "; correct url, or set server_name"
	case t.own.IsZero() && strings.Contains(text, "certificate required"):
		hint = ": set client_cert and client_key"
	case t.own.IsZero() && (strings.Contains(text, "bad certificate") || strings.Contains(text, "handshake failure")):
		hint = ": it may ask for client_cert and client_key"
	case !t.own.IsZero() && strings.Contains(text, "certificate"):
		hint = ": it does not accept client_cert"
	}
	return "it refused: " + text + hint
}
