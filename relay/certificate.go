package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/config"
)

// certificate is what a listener speaks TLS with: the files of [server] or [admin], read again when they change. A changed file
// that can't be used leaves what was before. A nil one is that of a listener without TLS.
type certificate struct {
	files config.TLSFiles
	log   zerolog.Logger // for those who look after the files
	door  zerolog.Logger // for what strangers do

	current atomic.Pointer[pair]
	looked  atomic.Int64 // when the files were last looked at, in nanoseconds since 1970

	mu      sync.Mutex
	seen    [3]stamp
	trouble string // why the files as they are can't be used; "" when they are
}

// pair is one state of the files. It is never changed.
type pair struct {
	config *tls.Config
	ends   time.Time // no certificate of the chain is good beyond it
}

// suites are those of TLS 1.2, all with authenticated encryption: none is left that encrypts blocks in a chain (CBC), whose
// padding has told what was in them time and again. TLS 1.3 has no others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// stamp tells whether a file was changed.
type stamp struct {
	at    time.Time
	bytes int64
	file  fs.FileInfo
}

func (s stamp) is(other stamp) bool {
	return s.at.Equal(other.at) && s.bytes == other.bytes && (s.file == nil) == (other.file == nil) && os.SameFile(s.file, other.file)
}

// lookEvery is how often at most the files are looked at: at a handshake, so that nothing is done while nobody comes.
const lookEvery = 2 * time.Second

// newCertificate reads the files of the configuration; without any it returns nil.
func newCertificate(f config.TLSFiles, log zerolog.Logger) (*certificate, error) {
	if f.Cert == "" {
		return nil, nil
	}
	c := &certificate{files: f, log: log, door: log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Second})}
	c.looked.Store(time.Now().UnixNano())
	c.seen = c.stamps()
	p, err := readPair(f)
	if err != nil {
		return nil, err
	}
	c.current.Store(p)
	return c, nil
}

func readPair(f config.TLSFiles) (*pair, error) {
	own, err := loadPair(f)
	if err != nil {
		return nil, fmt.Errorf("%s.tls_cert %q with %s.tls_key %q: %w", f.Section, f.Cert, f.Section, f.Key, err)
	}
	p := &pair{config: &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12, CipherSuites: suites, NextProtos: []string{"http/1.1"}}}
	for _, der := range own.Certificate {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s.tls_cert %q: %w", f.Section, f.Cert, err)
		}
		if p.ends.IsZero() || one.NotAfter.Before(p.ends) {
			p.ends = one.NotAfter
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
	p.config.SessionTicketsDisabled = true // who resumes a session would be let in by the authorities of before
	return p, nil
}

func loadPair(f config.TLSFiles) (pair tls.Certificate, err error) {
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

func (c *certificate) stamps() (now [3]stamp) {
	for i, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if info, err := os.Stat(path); err == nil {
			now[i] = stamp{info.ModTime(), info.Size(), info}
		}
	}
	return now
}

// look reads the files again if they were changed.
func (c *certificate) look() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked.Store(time.Now().UnixNano())
	now := c.stamps()
	if now[0].is(c.seen[0]) && now[1].is(c.seen[1]) && now[2].is(c.seen[2]) {
		return
	}
	c.seen = now
	p, err := readPair(c.files)
	if err != nil {
		c.trouble = err.Error()
		c.log.Error().Err(err).Str("setting", c.files.Section).Msg("the changed TLS files can't be used; the certificate of before stays")
		return
	}
	c.trouble = ""
	c.current.Store(p)
	c.log.Info().Str("setting", c.files.Section).Time("ends", p.ends).Msg("the TLS files were changed and read again")
}

// forHandshake is the configuration of one handshake.
func (c *certificate) forHandshake(*tls.ClientHelloInfo) (*tls.Config, error) {
	last, now := c.looked.Load(), time.Now().UnixNano()
	if (now-last > int64(lookEvery) || now < last) && c.looked.CompareAndSwap(last, now) {
		c.look()
	}
	return c.current.Load().config, nil
}

// state is until when the certificate is good, and why the files as they are can't be used, if they can't. It is the zero time
// without TLS.
func (c *certificate) state() (ends time.Time, trouble string) {
	if c == nil {
		return ends, ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Load().ends, c.trouble
}

// secure makes listeners speak TLS, if there is a certificate.
func (c *certificate) secure(listeners []net.Listener) {
	if c == nil {
		return
	}
	for i := range listeners {
		listeners[i] = secured{listeners[i], c}
	}
}

type secured struct {
	net.Listener
	with *certificate
}

// Accept returns the next connection. Its handshake is made by whoever reads from it first.
func (s secured) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &securedConn{
		Conn: tls.Server(conn, &tls.Config{GetConfigForClient: s.with.forHandshake, MinVersion: tls.VersionTLS12, CipherSuites: suites}), with: s.with,
	}, nil
}

// securedConn is a connection that tells why its handshake failed.
type securedConn struct {
	*tls.Conn
	with *certificate
	once sync.Once
}

// Read reads what the client sends.
func (c *securedConn) Read(p []byte) (int, error) {
	c.once.Do(func() {
		if err := c.Handshake(); err != nil {
			c.failed(err)
		}
	})
	return c.Conn.Read(p)
}

const plainHTTP = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 82\r\n\r\n" +
	`{"error":{"code":"bad_request","message":"this listener speaks HTTPS, not HTTP"}}` + "\n"

// failed tells the log of a handshake that failed, and a client that speaks no TLS in its own words. Those that only came
// and went are not worth a line.
func (c *securedConn) failed(err error) {
	var timeout net.Error
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout():
		return
	case errors.As(err, &record) && record.Conn != nil && isLetters(record.RecordHeader):
		_ = record.Conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(record.Conn, plainHTTP)
	}
	from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	c.with.door.Warn().Err(err).Str("from", from).Msg("TLS handshake failed")
}

// isLetters reports whether five bytes that are no TLS record begin an HTTP request.
func isLetters(head [5]byte) bool {
	for _, b := range head {
		if (b < 'A' || b > 'Z') && b != ' ' && b != '/' {
			return false
		}
	}
	return true
}
