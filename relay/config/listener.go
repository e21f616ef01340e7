package config

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
)

func checkServer(t *table, s *Server) {
	for _, network := range s.TrustedProxies {
		if network.Bits() == 0 {
			t.fault("trusted_proxies", "holds %s, which is everybody: anybody could say who he is; name the proxies' own addresses", network)
		}
	}
	switch {
	case !s.ProxyProtocol:
	case !t.has("trusted_proxies"):
		t.fault("proxy_protocol", "needs trusted_proxies beside it: it is taken from those alone")
	case strings.HasPrefix(s.Listen, unixPrefix):
		t.fault("proxy_protocol", "does nothing on a unix socket, whose clients have no address: leave it out, or listen on 127.0.0.1 or [::1]")
	}
	t.checkTLS(s.TLS())
}

func checkAdmin(t *table, a *Admin) {
	t.checkTLS(a.TLS())
	switch {
	case IsLoopback(a.Listen):
	case !t.named("token"):
		t.fault("token", "is missing, and other machines can connect to admin.listen: "+
			"set token, or listen on 127.0.0.1, [::1] or unix:/path")
	case a.TLSCert == "":
		t.warn("token", "is sent in clear text by those on other machines, with all that they read: set tls_cert and tls_key, or listen on "+
			"loopback behind a proxy that speaks TLS")
	}
}

// checkListeners refuses one address for both, and points at the one that the file has.
func checkListeners(root *table, server Server, admin Admin) {
	if server.Listen != admin.Listen || hasFreePort(admin.Listen) {
		return
	}
	at := root.at.key("admin").key("listen")
	if root.lines.all().lines[at] > 0 {
		root.faultAt(at, "admin.listen", "%q is server.listen too: give each its own", admin.Listen)
	} else {
		root.faultAt(root.at.key("server").key("listen"), "server.listen", "%q is admin.listen too: give each its own", admin.Listen)
	}
}

// path is the name of a file that is looked at again later, so that its content is not enough: as it is, as file:/path, or as the
// credential that systemd has put into a file. One that can't be had here stays a reference, and is told.
var path = kind{schema: schema{"type": "string"}, read: func(t *table, key string, value, into any) {
	text, reason := textOf(value)
	if reason != "" {
		t.fault(key, "%s", reason)
		return
	}
	at := into.(*string)
	*at = text
	kind, name, _ := strings.Cut(text, ":")
	switch {
	case !isReference(*at):
	case kind == "env":
		t.fault(key, "names a file, which a variable is not: write its path, or \"cred:name\" for a credential of the service")
	case kind == "file" && filepath.IsAbs(name):
		*at = name
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
		*at = path
	}
}}

func (t *table) checkTLS(f TLSFiles) {
	if f.Cert == "" && f.Key == "" && f.ClientCA != "" {
		t.fault("client_ca", "asks for certificates of clients, which needs tls_cert and tls_key")
	}
	if !t.both("tls_cert", f.Cert != "", "tls_key", f.Key != "") || isReference(f.Cert) || isReference(f.Key) || isReference(f.ClientCA) {
		return // and it was told that what is a reference still can't be had
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
	} else {
		t.judgeExpiry("tls_cert", pair.Leaf)
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

func checkDir(text string) string {
	if text == "" {
		return `must be a directory, like "data"`
	}
	return ""
}

func checkHeartbeat(t *table, h *Heartbeat) {
	if h.URL.IsZero() {
		return
	}
	if _, reason := checkURL(h.URL.Reveal()); reason != "" {
		reason, _, _ = strings.Cut(reason, ": send them as headers") // there are none here
		t.fault("url", "%s", reason)
	}
}
