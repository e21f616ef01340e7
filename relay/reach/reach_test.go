package reach

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// A relay that speaks TLS is known by the certificate of its file; whoever shows another is told no token.
func TestAnAdminListenerWithTLSIsAsked(t *testing.T) {
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.Header.Get("Authorization") == "Bearer example-admin-token" {
			_, _ = w.Write([]byte(`{"version":"1.2.3"}`))
		}
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "cert.pem")
	write := func(der []byte) {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(server.Certificate().Raw)
	a := Find(context.Background(), &config.Config{Admin: config.Admin{Listen: strings.TrimPrefix(server.URL, "https://"), Token: sign.NewSecret("example-admin-token"), TLSCert: path}})
	var said struct{ Version string }
	if err := a.Ask(context.Background(), "GET", "/stats", nil, &said); err != nil || said.Version != "1.2.3" {
		t.Errorf("said %+v, %v", said, err)
	}
	write([]byte("another"))
	if err := a.Ask(context.Background(), "GET", "/stats", nil, &said); err == nil || asked != 1 {
		t.Errorf("of another certificate: %v, asked %d times", err, asked)
	}
}

// Whoever runs a command may be root, and the relay that answers may have been taken over.
func TestWhatARelaySaysSteersNoTerminal(t *testing.T) {
	if got := Plain("a\x1b[2Jb\u202ec\r\nd\u009be é"); got != "a\ufffd[2Jb\ufffdc\ufffd\nd\ufffde é" {
		t.Errorf("%q", got)
	}
}
