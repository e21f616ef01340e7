package serve

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/rs/zerolog"

	"realtorbot-relay/relay"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/reach"
)

// listeners opens what the configuration names; for the intake, sockets that systemd passes take its place.
func listeners(cfg *config.Config) (intake, adm []net.Listener, err error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, nil, fmt.Errorf("take the sockets that systemd passes: %w", err)
	}
	for _, ln := range passed {
		if ln == nil {
			continue // a datagram socket
		}
		intake = append(intake, ln)
	}
	if len(intake) == 0 {
		ln, err := answer.Listen("server.listen", cfg.Server.Listen)
		if err != nil {
			return nil, nil, err
		}
		intake = append(intake, ln)
	}
	ln, err := answer.Listen("admin.listen", cfg.Admin.Listen)
	if err != nil {
		return nil, nil, err
	}
	return intake, []net.Listener{ln}, nil
}

// serveControl opens the control socket where systemd has made a runtime directory. Without it the relay serves as well.
func serveControl(r *relay.Relay, log zerolog.Logger) {
	path := reach.OwnControl()
	if path == "" {
		return
	}
	ln, err := answer.ListenControl(path)
	if err != nil {
		log.Error().Err(err).Msg("systemctl reload and root's commands without a token will not work: the control socket can't be opened")
		return
	}
	r.ServeControl(ln)
}
