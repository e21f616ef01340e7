package relay

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// Health says that a token is too short for a listener that others reach, and a reload that gives a longer one ends that.
func TestHealthTellsOfShortTokensThatOthersReach(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "http://127.0.0.1:1/")
	cfg.Admin.Token, cfg.Sources[0].Token = sign.NewSecret("x"), sign.NewSecret("y")
	for name, at := range map[string]string{"loopback": "127.0.0.1:0", "everywhere": "0.0.0.0:0"} {
		t.Run(name, func(t *testing.T) {
			one := *cfg
			one.Queue.Dir = t.TempDir()
			intake, adm := mustListen(t, at), mustListen(t, at)
			r, err := Start(&one, "1.2.3", zerolog.Nop(), nil, []net.Listener{intake}, []net.Listener{adm})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			_, port, _ := net.SplitHostPort(adm.Addr().String())
			health := func() string {
				q, err := http.NewRequest("GET", "http://127.0.0.1:"+port+"/health", nil)
				if err != nil {
					t.Fatal(err)
				}
				q.Header.Set("Authorization", "Bearer x")
				q.Close = true
				answer, err := http.DefaultClient.Do(q)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				text, _ := io.ReadAll(answer.Body)
				return string(text)
			}
			said := health()
			if warned := strings.Contains(said, "admin.token is shorter than 16 bytes"); warned != (name == "everywhere") {
				t.Errorf("health says %s", said)
			}
			if warned := strings.Contains(said, `the token of source \"platform\" is shorter`); warned != (name == "everywhere") {
				t.Errorf("health says %s", said)
			}
			longer := one
			longer.Sources = append([]config.Source{}, one.Sources...)
			longer.Sources[0].Token = sign.NewSecret("a-token-of-the-platform")
			if err := r.Reload(&longer); err != nil {
				t.Fatal(err)
			}
			if said = health(); strings.Contains(said, "platform") {
				t.Errorf("after a longer one health says %s", said)
			}
		})
	}
}
