package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTLSPairIsLoaded(t *testing.T) {
	certificate, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	mustWriteTLSPair(t, certificate, key)
	text := fmt.Sprintf("[server]\ntls_cert = %q\ntls_key = %q\n", certificate, key)
	c := mustParse(t, text)
	if c.Server.TLSCert != certificate || c.Server.TLSKey != key {
		t.Errorf("got %+v", c.Server)
	}
	if warned := strings.Join(c.Warnings, "\n"); !strings.Contains(warned, "config.toml:2: server.tls_cert: expires on ") || strings.Contains(warned, "tls_key") {
		t.Errorf("of a certificate that ends within the hour it warns %q", warned)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if warned := strings.Join(mustParse(t, text).Warnings, "\n"); !strings.Contains(warned, "server.tls_key: can be read by every user") {
		t.Errorf("of a key that all can read it warns %q", warned)
	}
	if err := os.Truncate(key, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("config.toml", []byte(text), nil); err == nil {
		t.Error("a certificate without its key was accepted")
	}
}

func TestAuthoritiesOfClientsAreLoadedAndAreACredential(t *testing.T) {
	certificate, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	mustWriteTLSPair(t, certificate, key)
	text := fmt.Sprintf("[server]\nlisten = \"0.0.0.0:8080\"\ntls_cert = %q\ntls_key = %q\nclient_ca = ", certificate, key)
	source := "\n[[source]]\nname = \"platform\"\npath = \"/events\"\n"
	c := mustParse(t, text+strconv.Quote(certificate)+source)
	if c.Server.ClientCA != certificate {
		t.Errorf("got %+v", c.Server)
	}
	for path, want := range map[string]string{
		key:                      "server.client_ca: file " + strconv.Quote(key) + " holds no certificate in PEM form",
		certificate + ".missing": "server.client_ca: file " + strconv.Quote(certificate+".missing") + ": no such file or directory",
		"":                       "source.platform: has neither token nor secret",
	} {
		if _, err := Parse("config.toml", []byte(text+strconv.Quote(path)+source), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("client_ca = %q: %v, want %s", path, err, want)
		}
	}
}

// mustWriteTLSPair writes a fresh self-signed certificate and its key.
func mustWriteTLSPair(t *testing.T, certificatePath, keyPath string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, certificatePath, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})), 0o644)
	mustWrite(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})), 0o600)
}
