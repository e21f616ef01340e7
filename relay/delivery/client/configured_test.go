package client

import (
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
)

// configured is an endpoint as a file has it, since only a file can name files. Its schedule is that of the tests.
func configured(t *testing.T, url string, lines ...string) *config.Endpoint {
	t.Helper()
	text := "[[endpoint]]\nname = \"crm\"\nurl = \"" + url + "\"\nevents = [\"*\"]\nsecret = \"example-secret\"\n" + strings.Join(lines, "\n")
	c, err := config.Parse("config.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	ep := &c.Endpoints[0]
	ep.Delivery.Timeout, ep.Delivery.Concurrency = testTimeout, 4
	return ep
}
