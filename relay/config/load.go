package config

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// MaxFile is the largest configuration file in bytes: some thousand endpoints. Anything larger is the wrong file.
const MaxFile = 1 << 20

// Load reads and checks the configuration file at path, with the secrets, and the TLS pair, that it names. The error is
// Faults with everything that is wrong in the file, or says in one line why it can't be read.
func Load(path string) (*Config, error) {
	c, _, err := load(path, false)
	return c, err
}

// LoadOutside is Load for those who look at a relay from outside and may not have what it has: its credentials, its
// environment, the right to read its files. What can't be had is empty in the configuration and told in absent.
func LoadOutside(path string) (c *Config, absent Faults, err error) { return load(path, true) }

func load(path string, outside bool) (*Config, Faults, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration %q: %w", path, reasonOf(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration %q: %w", path, reasonOf(err))
	}
	text, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration %q: %w", path, reasonOf(err))
	}
	r := &reader{file: path, secrets: ResolveSecret, outside: outside}
	c, err := r.parse(text)
	if err != nil {
		return nil, nil, err
	}
	c.Sum = sha256.Sum256(text)
	if r.literals > 0 && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		c.Warnings = append(c.Warnings, Fault{File: path, Text: "every user of this machine can read the secrets in it: " +
			"chmod 0640, or write them as env:, file: or cred:"}.String())
	}
	return c, r.absent, nil
}

// LogOf is how a file would have the relay write its log, for whoever says what is wrong with the rest of it: the defaults
// where that can't be told either.
func LogOf(path string) Log {
	log := defaults().Log
	file, err := os.Open(path)
	if err != nil {
		return log
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxFile))
	if err != nil {
		return log
	}
	values, lines, fault := decode(path, string(text))
	if fault != nil {
		return log
	}
	root := &table{reader: &reader{file: path, lines: lines}, values: values}
	readLog(root.sub("log"), &log)
	return log
}

// Parse is Load without the file: name stands for its path in messages, secrets finds what references lead to (nil: as
// Load does). The error is always Faults. It doesn't keep text.
func Parse(name string, text []byte, secrets Resolver) (*Config, error) {
	if secrets == nil {
		secrets = ResolveSecret
	}
	return (&reader{file: name, secrets: secrets}).parse(text)
}

func (r *reader) parse(text []byte) (*Config, error) {
	if len(text) > MaxFile {
		return nil, Faults{{File: r.file, Text: "is larger than a configuration can be (" + formatSize(MaxFile) + ")"}}
	}
	values, lines, fault := decode(r.file, string(text))
	if fault != nil {
		return nil, Faults{*fault}
	}
	r.lines = lines
	c := read(&table{reader: r, values: values})
	if len(r.faults) > 0 {
		r.faults.sort()
		return nil, r.faults
	}
	c.Path = r.file
	r.odd.sort()
	for _, warning := range r.odd {
		c.Warnings = append(c.Warnings, warning.String())
	}
	return c, nil
}

// echo finds those of the toml library's messages that hold a piece of a value. It may be a secret whose quotes were
// forgotten.
var echo = regexp.MustCompile(`^expected value but|"[^"]{3,}"|: '`)

// decode turns the text into maps, in which, unlike in the library's structs, keys keep their case, and finds the lines of what is in
// them. The library stops at the first thing that isn't TOML.
func decode(name, text string) (values map[string]any, lines lineMap, fault *Fault) {
	// A byte order mark before UTF-8 does no harm here, where it can't become part of a value.
	text = strings.TrimPrefix(text, "\uFEFF")
	if reason := Misencoded(text); reason != "" {
		return nil, nil, &Fault{File: name, Text: reason}
	}
	meta, err := toml.Decode(text, &values)
	if err == nil {
		return values, locate(text, meta.Keys()), nil
	}
	fault = &Fault{File: name, Text: "is not valid TOML"}
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		fault.Line = syntax.Position.Line
		fault.Text += ": " + notTOML(syntax.Message, text[min(syntax.Position.Start, len(text)):])
	}
	return nil, nil, fault
}

// notTOML says what is wrong with a text that isn't TOML. message is the library's, at is the text from where it stopped.
// Nothing of a value is repeated but a single character.
func notTOML(message, at string) string {
	r, n := utf8.DecodeRuneInString(at)
	switch {
	case IsCurlyQuote(r) || r == '`' && strings.HasPrefix(message, "expected value"):
		return fmt.Sprintf(`%c is no quote that TOML knows: write "straight ones", as on a keyboard`, r)
	case n > 0 && r != '\n' && r != '\r' && r != '\t' && unseen(at[:n]) != "":
		return fmt.Sprintf("there is %U, which nobody sees: delete it", r)
	case strings.HasPrefix(message, "invalid escape"), strings.Contains(message, "hexadecimal digits after"):
		return `a backslash in "…" begins an escape: write \\ for one, or the text in '…', where it stands for itself`
	case strings.HasPrefix(message, "strings cannot contain newlines"), strings.HasPrefix(message, `unexpected EOF; expected '"'`), strings.HasPrefix(message, `unexpected EOF; expected "'"`):
		return "a quote that begins a text on this line has no end"
	case strings.HasPrefix(message, "invalid UTF-8"):
		return "this line is not in UTF-8: save the file as UTF-8"
	case strings.HasPrefix(message, "expected a top-level item to end"):
		return "there is more on this line than one key and its value; a text needs quotes around all of it"
	case echo.MatchString(message):
		return "the value is no number, no date, no true or false; a text needs quotes"
	}
	return strings.Map(printable, message)
}

// printable keeps a message that quotes the file on one line, and from steering the terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// read goes through the file from top to bottom. Each section starts from its defaults.
func read(root *table) *Config {
	c := defaults()
	readServer(root.sub("server"), &c.Server)
	readAdmin(root.sub("admin"), &c.Admin)
	checkListeners(root, c.Server, c.Admin)
	readQueue(root.sub("queue"), &c.Queue)
	readLog(root.sub("log"), &c.Log)
	readHeartbeat(root.sub("heartbeat"), &c.Heartbeat)
	c.Sources = readSources(root, c.Server)
	readEvents(root.sub("events"), &c.Events)
	delivery := root.sub("delivery")
	readDelivery(delivery, &c.Delivery)
	delivery.rest()
	c.Endpoints = readEndpoints(root, delivery, c.Delivery, c.Events.Custom)
	root.rest()
	return c
}

func readServer(t *table, s *Server) {
	t.listen("listen", &s.Listen)
	t.tls(&s.TLSCert, &s.TLSKey, &s.ClientCA)
	readProxies(t, s)
	t.size("max_body", &s.MaxBody, 1<<10, 16<<20)
	t.rateBytes("rate_bytes", &s.RateBytes)
	t.duration("idle_timeout", &s.IdleTimeout, time.Second, time.Hour)
	t.duration("shutdown_timeout", &s.ShutdownTimeout, 100*time.Millisecond, 10*time.Minute)
	t.rest()
	t.checkTLS(s.TLS())
}

func readProxies(t *table, s *Server) {
	t.networks("trusted_proxies", &s.TrustedProxies)
	for _, network := range s.TrustedProxies {
		if network.Bits() == 0 {
			t.fault("trusted_proxies", "holds %s, which is everybody: anybody could say who he is; name the proxies' own addresses", network)
		}
	}
	t.yesNo("proxy_protocol", &s.ProxyProtocol)
	switch {
	case !s.ProxyProtocol:
	case !t.has("trusted_proxies"):
		t.fault("proxy_protocol", "needs trusted_proxies beside it: it is taken from those alone")
	case strings.HasPrefix(s.Listen, unixPrefix):
		t.fault("proxy_protocol", "does nothing on a unix socket, whose clients have no address: leave it out, or listen on 127.0.0.1 or [::1]")
	}
}

// tls reads the keys of a listener's files; checkTLS judges them.
func (t *table) tls(cert, key, authorities *string) {
	t.path("tls_cert", cert)
	t.path("tls_key", key)
	t.path("client_ca", authorities)
}

// path reads the name of a file that is looked at again later, so that its content is not enough: as it is, as file:/path,
// or as the credential that systemd has put into a file. One that can't be had here stays a reference, and is told.
func (t *table) path(key string, into *string) {
	if !t.text(key, into) {
		return
	}
	kind, name, _ := strings.Cut(*into, ":")
	switch {
	case !isReference(*into):
	case kind == "env":
		t.fault(key, "names a file, which a variable is not: write its path, or \"cred:name\" for a credential of the service")
	case kind == "file" && filepath.IsAbs(name):
		*into = name
	case kind == "file":
		t.fault(key, "file %q must be an absolute path: write \"file:/path\"", clip(name))
	default:
		path, err := credentialPath(name)
		if err == nil {
			if _, err = os.Stat(path); err != nil {
				err = notGiven(name)
			}
		}
		if err != nil {
			t.lacks(key, err)
			return
		}
		*into = path
	}
}

func (t *table) checkTLS(f TLSFiles) {
	switch {
	case f.Cert == "" && f.Key == "":
		if f.ClientCA != "" {
			t.fault("client_ca", "asks for certificates of clients, which needs tls_cert and tls_key")
		}
	case f.Key == "":
		t.fault("tls_cert", "needs tls_key beside it: set both or neither")
	case f.Cert == "":
		t.fault("tls_key", "needs tls_cert beside it: set both or neither")
	default:
		t.checkPair(f)
	}
}

func (t *table) checkPair(f TLSFiles) {
	if isReference(f.Cert) || isReference(f.Key) || isReference(f.ClientCA) {
		return // it was told that they can't be had
	}
	cert, certErr := ReadPEM(f.Cert)
	if certErr != nil {
		t.fault("tls_cert", "%s", certErr)
	}
	key, keyErr := ReadPEM(f.Key)
	if keyErr != nil {
		t.lacks("tls_key", keyErr)
	}
	if certErr != nil || keyErr != nil {
		return
	}
	pair, err := Pair(cert, key)
	if err != nil {
		t.fault("tls_cert", "file %q with key file %q: %s", f.Cert, f.Key, err)
	} else if left := time.Until(pair.Leaf.NotAfter); left < expiryWarning {
		t.warn("tls_cert", "%s on %s: have it renewed", ifElse(left < 0, "expired", "expires"), pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	t.judgeFile("tls_key", f.Key)
	if f.ClientCA == "" {
		return
	}
	if authorities, err := ReadPEM(f.ClientCA); err != nil {
		t.fault("client_ca", "%s", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(authorities) {
		t.fault("client_ca", "file %q holds no certificate in PEM form", f.ClientCA)
	}
}

func readAdmin(t *table, a *Admin) {
	t.listen("listen", &a.Listen)
	hasToken := t.token("token", &a.Token)
	t.judgeSecret("token", a.Token, false)
	t.tls(&a.TLSCert, &a.TLSKey, &a.ClientCA)
	t.rest()
	t.checkTLS(a.TLS())
	if hasToken && !IsLoopback(a.Listen) && a.TLSCert == "" {
		t.warn("token", "is sent in clear text by those on other machines, with all that they read: set tls_cert and tls_key, or listen on "+
			"loopback behind a proxy that speaks TLS")
	}
	if !hasToken && !IsLoopback(a.Listen) {
		t.fault("token", "is missing, and other machines can connect to admin.listen: "+
			"set token, or listen on 127.0.0.1, [::1] or unix:/path")
	}
}

// checkListeners refuses one address for both, and points at the one that the file has.
func checkListeners(root *table, server Server, admin Admin) {
	if server.Listen != admin.Listen || hasFreePort(admin.Listen) {
		return
	}
	at := root.at.key("admin").key("listen")
	if root.lines[at] > 0 {
		root.faultAt(at, "admin.listen", "%q is server.listen too: give each its own", admin.Listen)
	} else {
		root.faultAt(root.at.key("server").key("listen"), "server.listen", "%q is admin.listen too: give each its own", admin.Listen)
	}
}

func readQueue(t *table, q *Queue) {
	if t.text("dir", &q.Dir) && q.Dir == "" {
		t.fault("dir", `must be a directory, like "data"`)
	}
	t.duration("dedup_window", &q.DedupWindow, time.Minute, longest)
	t.duration("retention", &q.Retention, 0, longest)
	t.duration("failed_retention", &q.FailedRetention, time.Minute, longest)
	t.duration("unserved_retention", &q.UnservedRetention, 0, longest)
	t.size("unserved_bytes", &q.UnservedBytes, 0, 1<<50)
	t.size("min_free", &q.MinFree, 0, 1<<50)
	t.size("excerpt_bytes", &q.ExcerptBytes, 1<<20, 1<<50)
	t.yesNo("create", &q.Create)
	t.rest()
}

func readLog(t *table, l *Log) {
	t.choice("level", &l.Level, "debug", "info", "warn", "error")
	t.choice("format", &l.Format, "auto", "json", "console")
	t.rest()
}

func readHeartbeat(t *table, h *Heartbeat) {
	t.secret("url", &h.URL)
	t.duration("every", &h.Every, time.Second, time.Hour)
	t.yesNo("allow_private", &h.AllowPrivate)
	t.rest()
	if h.URL.IsZero() {
		return
	}
	if _, reason := checkURL(h.URL.Reveal()); reason != "" {
		reason, _, _ = strings.Cut(reason, ": send them as headers") // there are none here
		t.fault("url", "%s", reason)
	}
}

func readEvents(t *table, e *Events) {
	t.texts("custom", &e.Custom, checkCustom)
	t.rest()
}
