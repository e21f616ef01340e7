package answer

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/config"
)

// Certificate is what a listener speaks TLS with: the files of [server] or [admin], which it reads again when they change. When
// changed files can't be used it goes on with the previous ones. A nil Certificate is that of a listener without TLS; its
// methods do nothing. Safe for concurrent use.
type Certificate struct {
	files         config.TLSFiles
	log           zerolog.Logger // of the files
	handshakeLog  zerolog.Logger // of failed handshakes, which strangers cause: at most five lines a second
	current       atomic.Pointer[keyPair]
	checkedUnixNS atomic.Int64 // when the files were last checked for changes

	mu      sync.Mutex   // held while the files are read
	seen    [3]fileState // of certificate, key and client_ca
	trouble string       // why the files as they are can't be used; "" when they can
}

// keyPair is one state of the files. It is immutable.
type keyPair struct {
	config  *tls.Config
	expires time.Time // the earliest of the chain's
}

// fileState tells whether a file was changed.
type fileState struct {
	at    time.Time
	bytes int64
	file  fs.FileInfo
}

func (s fileState) is(other fileState) bool {
	return s.at.Equal(other.at) && s.bytes == other.bytes && (s.file == nil) == (other.file == nil) && os.SameFile(s.file, other.file)
}

// checkEvery is how often at most the files are checked for changes. A handshake does it, so that nothing is done while nobody
// connects.
const checkEvery = 2 * time.Second

// NewCertificate reads the files from disk; it returns nil when none are configured.
func NewCertificate(f config.TLSFiles, log zerolog.Logger) (*Certificate, error) {
	if f.Cert == "" {
		return nil, nil
	}
	c := &Certificate{files: f, log: log, handshakeLog: log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})}
	c.checkedUnixNS.Store(time.Now().UnixNano())
	c.seen = c.fileStates()
	p, err := readKeyPair(f)
	if err != nil {
		return nil, err
	}
	c.current.Store(p)
	return c, nil
}

func readKeyPair(f config.TLSFiles) (*keyPair, error) {
	own, err := loadKeyPair(f)
	if err != nil {
		return nil, fmt.Errorf("%s.tls_cert %q with %s.tls_key %q: %w", f.Section, f.Cert, f.Section, f.Key, err)
	}
	p := &keyPair{config: &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12, CipherSuites: cipherSuites, NextProtos: []string{"http/1.1"}}}
	for _, der := range own.Certificate {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s.tls_cert %q: %w", f.Section, f.Cert, err)
		}
		if p.expires.IsZero() || one.NotAfter.Before(p.expires) {
			p.expires = one.NotAfter
		}
	}
	if f.ClientCA == "" {
		return p, nil
	}
	authorities, err := config.ReadPEM(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("%s.client_ca: %w", f.Section, err)
	}
	p.config.ClientCAs = x509.NewCertPool()
	if !p.config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("%s.client_ca %q holds no certificate in PEM form", f.Section, f.ClientCA)
	}
	p.config.ClientAuth = tls.RequireAndVerifyClientCert
	p.config.SessionTicketsDisabled = true // a resumed session would pass on the word of the previous authorities
	return p, nil
}

func loadKeyPair(f config.TLSFiles) (pair tls.Certificate, err error) {
	cert, err := config.ReadPEM(f.Cert)
	if err != nil {
		return pair, err
	}
	key, err := config.ReadPEM(f.Key)
	if err != nil {
		return pair, err
	}
	return config.Pair(cert, key)
}

func (c *Certificate) fileStates() (now [3]fileState) {
	for i, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if info, err := os.Stat(path); err == nil {
			now[i] = fileState{info.ModTime(), info.Size(), info}
		}
	}
	return now
}

// Reload reads the files again if they were changed, and logs the result. It reads disk under the lock that State takes, too.
func (c *Certificate) Reload() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkedUnixNS.Store(time.Now().UnixNano())
	now := c.fileStates()
	if now[0].is(c.seen[0]) && now[1].is(c.seen[1]) && now[2].is(c.seen[2]) {
		return
	}
	c.seen = now
	p, err := readKeyPair(c.files)
	if err != nil {
		c.trouble = err.Error()
		c.log.Error().Err(err).Str("setting", c.files.Section).Msg("the changed TLS files can't be used; the previous certificate stays in use")
		return
	}
	c.trouble = ""
	c.current.Store(p)
	c.log.Info().Str("setting", c.files.Section).Time("expires_at", p.expires).Msg("the TLS files were changed and read again")
}

// forHandshake returns the configuration of one handshake. Once every checkEvery it waits for the disk.
func (c *Certificate) forHandshake(*tls.ClientHelloInfo) (*tls.Config, error) {
	last, now := c.checkedUnixNS.Load(), time.Now().UnixNano()
	if (now-last > int64(checkEvery) || now < last) && c.checkedUnixNS.CompareAndSwap(last, now) {
		c.Reload()
	}
	return c.current.Load().config, nil
}

// State returns when the certificate expires, the zero time without TLS, and why the files as they are can't be used, "" when
// they can. It waits while the files are read.
func (c *Certificate) State() (expires time.Time, trouble string) {
	if c == nil {
		return expires, ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Load().expires, c.trouble
}

// Setting names the setting that the certificate comes from, as in "server.tls_cert".
func (c *Certificate) Setting() string { return c.files.Section + ".tls_cert" }
