package ingest

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

func TestPassedSocketThatOthersReachNeedsACredential(t *testing.T) {
	open := []config.Source{{Name: "platform", Path: "/events"}}
	closed := []config.Source{{Name: "platform", Path: "/events", Token: sign.NewSecret("example-token")}}
	listen := func(address string) net.Listener {
		t.Helper()
		ln, err := answer.Listen("server.listen", address)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	loopback, everywhere := listen("127.0.0.1:0"), listen(":0")
	unix := listen("unix:" + filepath.Join(t.TempDir(), "intake.sock"))
	for _, ln := range []net.Listener{loopback, everywhere, unix} {
		defer ln.Close()
		if err := CheckSources(ln.Addr(), config.Server{}, closed); err != nil {
			t.Errorf("%s with a token: %v", ln.Addr(), err)
		}
		err := CheckSources(ln.Addr(), config.Server{}, open)
		if isRefused := ln == everywhere; (err != nil) != isRefused || err != nil && !strings.Contains(err.Error(), `"platform"`) {
			t.Errorf("%s without credential: %v", ln.Addr(), err)
		}
		if err := CheckSources(ln.Addr(), config.Server{ClientCA: "ca.pem"}, open); err != nil {
			t.Errorf("%s for clients with a certificate: %v", ln.Addr(), err)
		}
	}
}
