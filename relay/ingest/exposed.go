package ingest

import (
	"errors"
	"fmt"
	"net"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
)

// ErrOpen: others could post without a credential.
var ErrOpen = errors.New("set its token or its secret")

// CheckSources refuses a listener of the intake that others can reach while a source asks for no credential. The
// configuration checks its own server.listen; a passed socket or a reload may differ from that. A certificate that every
// client needs is a credential.
func CheckSources(at net.Addr, s config.Server, sources []config.Source) error {
	address := answer.AddressText(at)
	for i := range sources {
		if at.Network() == "unix" && len(sources[i].Allow) > 0 {
			return fmt.Errorf("the intake listens on %s, whose clients have no address, and source %q has allow: leave it out", address, sources[i].Name)
		}
	}
	if config.IsLoopback(address) || s.ClientCA != "" {
		return nil
	}
	for i := range sources {
		if sources[i].Token.IsZero() && sources[i].Secret.IsZero() {
			return fmt.Errorf("the intake listens on %s, which others can reach, and source %q has neither token nor secret: %w",
				address, sources[i].Name, ErrOpen)
		}
	}
	return nil
}
