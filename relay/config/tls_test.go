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

// The files of a certificate that root alone may read come as credentials. They are paths, since they are looked at again.
func TestATLSPairMayBeACredential(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	mustWriteTLSPair(t, certificate, key)
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for _, section := range []string{"server", "admin"} {
		text := fmt.Sprintf("[%s]\ntls_cert = \"cred:cert\"\ntls_key = %q\nclient_ca = \"file:%s\"\n", section, "cred:key", certificate)
		c := mustParse(t, text)
		files := c.Server.TLS()
		if section == "admin" {
			files = c.Admin.TLS()
		}
		if files.Cert != certificate || files.Key != key || files.ClientCA != certificate {
			t.Errorf("%s: got %+v", section, files)
		}
	}
	for value, want := range map[string]string{
		"env:CERT": "names a file, which a variable is not", "file:cert.pem": "must be an absolute path",
		"cred:none": `credential "none" was not given to this process`, "cred:../cert": "must be a name without slashes",
	} {
		text := fmt.Sprintf("[server]\ntls_cert = %q\ntls_key = \"cred:key\"\n", value)
		if _, err := Parse("config.toml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
	// Outside of the service it is no fault of the file.
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, []byte("[server]\ntls_cert = \"cred:cert\"\ntls_key = \"cred:key\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, absent, err := LoadOutside(path); err != nil || len(absent) != 2 {
		t.Errorf("outside: %v, %v", absent, err)
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

// Who asks for a token beyond loopback in clear text shows it to those on the way, and is warned.
func TestTokensInClearTextAreWarnedAbout(t *testing.T) {
	certificate, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	mustWriteTLSPair(t, certificate, key)
	files := fmt.Sprintf("tls_cert = %q\ntls_key = %q\n", certificate, key)
	text := func(listen, intakeFiles, adminFiles string) string {
		return fmt.Sprintf("[server]\nlisten = \"%s:8080\"\n%s[admin]\nlisten = \"%s:8081\"\ntoken = \"an-admin-token-of-32-characters\"\n%s", listen, intakeFiles, listen, adminFiles) +
			"[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = \"a-source-token-of-32-characters\"\n" +
			"[[source]]\nname = \"edge\"\npath = \"/edge\"\nsecret = \"a-source-secret-of-32-characters\"\n"
	}
	for _, tt := range []struct {
		text          string
		admin, source bool
	}{
		{text("127.0.0.1", "", ""), false, false},
		{text("0.0.0.0", "", ""), true, true},
		{text("0.0.0.0", files, ""), true, false},
		{text("0.0.0.0", "", files), false, true},
	} {
		warned := strings.Join(mustParse(t, tt.text).Warnings, "\n")
		if strings.Contains(warned, "admin.token: is sent in clear text") != tt.admin || strings.Contains(warned, "source.platform.token: is sent in clear text") != tt.source ||
			strings.Contains(warned, "source.edge") {
			t.Errorf("%s\nwarns:\n%s", tt.text, warned)
		}
	}
	for _, tt := range []struct {
		text, listen string
		lines        int
	}{
		{text("127.0.0.1", "", ""), "0.0.0.0:8080", 1},
		{text("127.0.0.1", "", ""), "127.0.0.1:80", 0},
		{text("127.0.0.1", "", ""), "unix:/run/relay", 0},
		{text("127.0.0.1", files, ""), "0.0.0.0:8080", 0},
		{text("0.0.0.0", "", ""), "[::]:8080", 0}, // of which Load warned
	} {
		if lines := mustParse(t, tt.text).SentInClear(tt.listen); len(lines) != tt.lines || tt.lines == 1 && !strings.Contains(lines[0], `source "platform"`) {
			t.Errorf("listening on %s: %q", tt.listen, lines)
		}
	}
	c := mustParse(t, text("0.0.0.0", "", files))
	if c.Admin.TLSCert != certificate || !strings.Contains(c.Describe(), "admin     https 0.0.0.0:8081, token ***") {
		t.Errorf("described as\n%s", c.Describe())
	}
	for bad, want := range map[string]string{
		"tls_cert = \"cert.pem\"\n":    "admin.tls_cert: needs tls_key beside it",
		"client_ca = \"cert.pem\"\n":   "admin.client_ca: asks for certificates of clients",
		files + "client_ca = \"no\"\n": `admin.client_ca: file "no"`,
	} {
		if _, err := Parse("config.toml", []byte(text("127.0.0.1", "", bad)), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", bad, err, want)
		}
	}
}
