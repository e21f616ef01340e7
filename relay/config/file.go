package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"realtorbot-relay/sign"
)

// File is a file that the configuration names, with what it held when the configuration was read: one that has changed
// since makes another configuration, so that a reload applies it. It shows itself as its name, since its content may be a
// private key. The zero File is none.
type File struct {
	name    string
	content sign.Secret
}

// IsZero reports whether no file was named.
func (f File) IsZero() bool { return f.name == "" }

// String is the file's name, or the reference to its content, as the configuration has it.
func (f File) String() string { return f.name }

// Content is a copy of what the file held.
func (f File) Content() []byte { return []byte(f.content.Reveal()) }

// maxPEM is the longest PEM file in bytes: a system's whole bundle of authorities is a quarter of it.
const maxPEM = 1 << 20

// expiryWarning is how long before its end a certificate draws a warning.
const expiryWarning = 14 * 24 * time.Hour

// pemFile is a PEM file that a key names, or the secret that it refers to.
var pemFile = kind{schema: schema{"type": "string"}, read: func(t *table, key string, value, into any) {
	*into.(*File) = t.pem(key, value)
}}

// authorities is a PEM file with certificates of authorities.
var authorities = kind{schema: pemFile.schema, read: func(t *table, key string, value, into any) {
	file := t.pem(key, value)
	if reason := checkAuthorities(file); reason != "" {
		t.fault(key, "%q%s", clip(file.name), reason)
		return
	}
	*into.(*File) = file
}}

// pem is zero where no file is named, or none that can be had.
func (t *table) pem(key string, value any) File {
	name, reason := textOf(value)
	if reason != "" {
		t.fault(key, "%s", reason)
	}
	if name == "" {
		return File{}
	}
	t.volatile = true
	var content string
	var err error
	if isReference(name) {
		content, err = t.secrets(name)
	} else {
		content, err = readRegular(name, maxPEM, "a certificate")
	}
	switch {
	case err != nil:
		t.lacks(key, err)
	case content == "":
		t.fault(key, "file %q %s", clip(name), errEmpty)
	default:
		return File{name: name, content: sign.NewSecret(content)}
	}
	return File{}
}

func checkAuthorities(file File) string {
	found := 0
	for rest := file.Content(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Sprintf(": certificate %d can't be read: its content is damaged", found+1)
		}
		found++
	}
	if found == 0 && !file.IsZero() {
		return " holds no certificate: it must have one between BEGIN CERTIFICATE and END CERTIFICATE"
	}
	return ""
}

// checkServerName takes a name or an address; empty, the host of the URL is the name.
func checkServerName(text string) string {
	if _, err := netip.ParseAddr(text); err == nil || text == "" {
		return ""
	}
	return checkName(text)
}

// checkTLS judges the keys of an endpoint that are about TLS alone.
func checkTLS(t *table, e *Endpoint, where target) {
	if t.both("client_cert", t.named("client_cert"), "client_key", t.named("client_key")) && !e.ClientCert.IsZero() && !e.ClientKey.IsZero() {
		checkPair(t, e)
	}
	if where.https || where.host == "" {
		return
	}
	for _, key := range []string{"ca_file", "client_cert", "client_key", "server_name"} {
		if text, _ := t.values[key].(string); text != "" {
			t.fault(key, "does nothing for an http:// URL: leave it out, or change url to https://")
		}
	}
}

// checkPair judges a client certificate. One that has expired is no fault, as it must not keep the others from being
// delivered to.
func checkPair(t *table, e *Endpoint) {
	pair, err := Pair(e.ClientCert.Content(), e.ClientKey.Content())
	if err != nil {
		t.fault("client_cert", "%q with key %q: %s", clip(e.ClientCert.name), clip(e.ClientKey.name), err)
		return
	}
	t.judgeExpiry("client_cert", pair.Leaf)
	t.judgeFile("client_key", strings.TrimPrefix(e.ClientKey.name, "file:"))
}

// judgeExpiry warns of a certificate that ends soon or has ended.
func (t *table) judgeExpiry(key string, certificate *x509.Certificate) {
	if left := time.Until(certificate.NotAfter); left < expiryWarning {
		t.warn(key, "%s on %s: have it renewed", ifElse(left < 0, "expired", "expires"), certificate.NotAfter.UTC().Format(time.RFC3339))
	}
}

// both reports whether two keys are there that need each other, and tells of one without the other.
func (t *table) both(one string, hasOne bool, other string, hasOther bool) bool {
	switch {
	case hasOne && !hasOther:
		t.fault(one, "needs %s beside it: set both or neither", other)
	case hasOther && !hasOne:
		t.fault(other, "needs %s beside it: set both or neither", one)
	}
	return hasOne && hasOther
}

func ifElse[T any](is bool, then, otherwise T) T {
	if is {
		return then
	}
	return otherwise
}

// readRegular reads a regular file of at most limit bytes, which is the most that what it is for can have: a pipe or a terminal would make the start
// wait for ever.
func readRegular(path string, limit int64, what string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("file %q: %w", path, reasonOf(err))
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("file %q is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("file %q: %w", path, reasonOf(err))
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return "", fmt.Errorf("file %q: %w", path, reasonOf(err))
	}
	if int64(len(content)) > limit {
		return "", fmt.Errorf("file %q is longer than %s can be (%s)", path, what, formatSize(limit))
	}
	if reason := Misencoded(string(content)); reason != "" {
		return "", fmt.Errorf("file %q %s", path, reason)
	}
	return string(content), nil
}

// ReadPEM reads a file that holds certificates or a key.
func ReadPEM(path string) ([]byte, error) {
	text, err := readRegular(path, maxPEM, "a certificate")
	return []byte(text), err
}

// Pair is a certificate with its key, both in PEM. Its error says in the operator's words what is wrong with the two.
func Pair(cert, key []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, errors.New(pairReason(err.Error()))
	}
	return pair, nil
}

// pairReason has the sentences of crypto/tls, which has no types for them, in ours.
func pairReason(text string) string {
	for _, known := range []struct{ part, reason string }{
		{"does not match public key", "the key belongs to another certificate"},
		{"type does not match", "the key belongs to another certificate"},
		{"but did find a private key", "there is a key where the certificate should be: have they changed places?"},
		{"found a certificate rather than a key", "there is a certificate where the key should be: have they changed places?"},
		{"PEM data in certificate input", "there is no certificate: it must have one between BEGIN CERTIFICATE and END CERTIFICATE"},
		{"failed to find", "there is no key: it must have one between BEGIN PRIVATE KEY and END PRIVATE KEY"},
		{"failed to parse private key", "the key can't be read: is it encrypted? A service can't be asked for its passphrase"},
		{"x509: ", "the certificate can't be read: its content is damaged"},
	} {
		if strings.Contains(text, known.part) {
			return known.reason
		}
	}
	return strings.TrimPrefix(text, "tls: ")
}
