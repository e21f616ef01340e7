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

// pem reads the PEM file that a key names, or the secret that it refers to. It reports whether the configuration names
// one, be it one that can't be had.
func (t *table) pem(key string, into *File) bool {
	var name string
	if !t.text(key, &name) {
		return t.has(key)
	}
	*into = File{}
	if name == "" {
		return false
	}
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
		*into = File{name: name, content: sign.NewSecret(content)}
	}
	return true
}

// authorities reads the certificates of authorities.
func (t *table) authorities(key string, into *File) {
	var file File
	if !t.pem(key, &file) {
		if isText(t.values[key]) {
			*into = File{}
		}
		return
	}
	if file.IsZero() {
		return // and has been told why
	}
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
			t.fault(key, "%q: certificate %d can't be read: its content is damaged", clip(file.name), found+1)
			return
		}
		found++
	}
	if found == 0 {
		t.fault(key, "%q holds no certificate: it must have one between BEGIN CERTIFICATE and END CERTIFICATE", clip(file.name))
		return
	}
	*into = file
}

// readTLS reads the keys of an endpoint that are about TLS alone.
func readTLS(t *table, e *Endpoint, where target) {
	hasCert := t.pem("client_cert", &e.ClientCert)
	hasKey := t.pem("client_key", &e.ClientKey)
	switch {
	case hasCert && !hasKey:
		t.fault("client_cert", "needs client_key beside it: set both or neither")
	case hasKey && !hasCert:
		t.fault("client_key", "needs client_cert beside it: set both or neither")
	case !e.ClientCert.IsZero() && !e.ClientKey.IsZero():
		checkPair(t, e)
	}
	if t.text("server_name", &e.ServerName) && e.ServerName != "" {
		if _, err := netip.ParseAddr(e.ServerName); err != nil {
			if reason := checkName(e.ServerName); reason != "" {
				t.fault("server_name", "%s", reason)
			}
		}
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
	if left := time.Until(pair.Leaf.NotAfter); left < expiryWarning {
		t.warn("client_cert", "%s on %s: have it renewed", ifElse(left < 0, "expired", "expires"),
			pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	t.judgeFile("client_key", strings.TrimPrefix(e.ClientKey.name, "file:"))
}

func ifElse(is bool, then, otherwise string) string {
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
