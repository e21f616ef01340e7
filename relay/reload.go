package relay

import (
	"errors"

	"realtorbot-relay/relay/config"
)

// Reload applies a configuration to the running relay: sources and endpoints at once, without dropping a connection or an
// attempt. What only a start can change is named in the log and stays as it was. After an error nothing was changed. It
// is called by one goroutine at a time.
//
// The file judged its sources by its own server.listen. Here they are judged by the listeners that there are: nobody gets
// in without a credential because the file names another address.
func (r *Relay) Reload(cfg *config.Config) error {
	for _, address := range r.addresses {
		if err := CheckSources(address, cfg.Sources); err != nil {
			return err
		}
	}
	before := r.sources
	if err := r.intake.SetSources(cfg.Sources); err != nil {
		return err
	}
	if err := r.post.Apply(cfg.Endpoints); err != nil {
		return errors.Join(err, r.intake.SetSources(before))
	}
	r.sources = cfg.Sources
	for _, name := range needsStart(r.config, cfg) {
		r.log.Warn().Str("setting", name).Msg("reload: this setting changes with the next start only")
	}
	r.log.Info().Int("endpoints", len(cfg.Endpoints)).Int("sources", len(cfg.Sources)).Msg("configuration reloaded")
	return nil
}

// needsStart names the sections that differ and that a running relay can't change.
func needsStart(old, now *config.Config) (names []string) {
	if old.Server != now.Server {
		names = append(names, "server")
	}
	if old.Admin.Listen != now.Admin.Listen || !old.Admin.Token.Equal(now.Admin.Token) {
		names = append(names, "admin")
	}
	if old.Queue != now.Queue {
		names = append(names, "queue")
	}
	if old.Log != now.Log {
		names = append(names, "log")
	}
	return names
}
