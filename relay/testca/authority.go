// Package testca makes the certificates that tests need. Only tests import it.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates. The zero Authority with T has none of its own: what it issues signs itself.
type Authority struct {
	T    testing.TB
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority that is valid from an hour ago for 1,000 hours.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	return (&Authority{T: t}).Below(name, -time.Hour, 1000*time.Hour)
}

// Below makes an authority that a has signed, valid from one moment, before or after now, to another.
func (a *Authority) Below(name string, from, to time.Duration) *Authority {
	a.T.Helper()
	b := &Authority{T: a.T}
	b.Cert, b.key = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to),
	})
	return b
}

// Leaf issues a certificate for names and addresses (127.0.0.1 without any) that is valid from one moment, before or after now,
// to another.
func (a *Authority) Leaf(from, to time.Duration, names ...string) tls.Certificate {
	a.T.Helper()
	template := x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(names) == 0 {
		names = []string{"127.0.0.1"}
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return a.As(template)
}

// As issues a certificate as template has it, but for its number.
func (a *Authority) As(template x509.Certificate) tls.Certificate {
	a.T.Helper()
	cert, key := a.issue(&template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *Authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.T.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.T.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		a.T.Fatal(err)
	}
	parent, signer := template, key
	if a.Cert != nil {
		parent, signer = a.Cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.T.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.T.Fatal(err)
	}
	return cert, key
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return inPEM("CERTIFICATE", a.Cert.Raw) }

// Pool has the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Cert)
	return pool
}

// File writes the authority's certificate to a file that goes with the test.
func (a *Authority) File() (path string) { return write(a.T, a.PEM()) }

// Pair is a certificate and its key in PEM, as X509KeyPair takes them.
func Pair(t testing.TB, leaf tls.Certificate) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return inPEM("CERTIFICATE", leaf.Leaf.Raw), inPEM("PRIVATE KEY", der)
}

// Files writes a certificate and its key to files that go with the test.
func Files(t testing.TB, leaf tls.Certificate) (cert, key string) {
	t.Helper()
	c, k := Pair(t, leaf)
	return write(t, c), write(t, k)
}

func write(t testing.TB, text []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func inPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
