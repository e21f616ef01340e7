package relay

import (
	"errors"
	"fmt"

	"realtorbot-relay/relay/admin"
	"realtorbot-relay/relay/config"
)

// ReloadFile reads the configuration file again and, with apply, has the running relay take it; without, it only says
// what that would do. A bad file changes nothing: the error is config.Faults or a reason in one line. What was asked to be
// applied is told in the log too, whoever asked. Any number of goroutines may call it: they take turns.
func (r *Relay) ReloadFile(apply bool) (admin.Reload, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	cfg, err := config.Load(r.config.Path) // which may wait for a file: a stop need not
	r.turn.take()
	defer r.turn.give()
	if r.stopping.Load() {
		return admin.Reload{}, admin.ErrStopping
	}
	if err == nil {
		err = r.suits(cfg)
	}
	if !apply && err != nil {
		return admin.Reload{}, err
	}
	if err != nil {
		r.logBadFile(err)
		r.loaded.note(err)
		return admin.Reload{}, err
	}
	done := admin.Reload{File: r.file, Changes: r.changes(cfg), Warnings: cfg.Warnings, Applied: apply}
	if !apply {
		done.Description = cfg.Describe()
		return done, nil
	}
	for _, warning := range cfg.Warnings {
		r.log.Warn().Msg("reload: " + warning)
	}
	err = r.apply(cfg, done.Changes)
	r.loaded.note(err)
	if err != nil {
		r.log.Error().Err(err).Msg("reload: nothing was changed")
		return admin.Reload{}, err
	}
	return done, nil
}

func (r *Relay) logBadFile(err error) {
	var faults config.Faults
	if !errors.As(err, &faults) {
		r.log.Error().Err(err).Msg("reload: the configuration can't be used and nothing was changed")
		return
	}
	for _, fault := range faults {
		r.log.Error().Msg("reload: " + fault.String())
	}
	r.log.Error().Int("faults", len(faults)).Msg("reload: the configuration is bad and nothing was changed")
}

// Reload applies a configuration to the running relay: sources and endpoints at once, without dropping a connection or an
// attempt. What only a start can change is named in the log and stays as it was. After an error nothing was changed.
func (r *Relay) Reload(cfg *config.Config) error {
	r.turn.take()
	defer r.turn.give()
	if r.stopping.Load() {
		return admin.ErrStopping
	}
	if err := r.suits(cfg); err != nil {
		return err
	}
	return r.apply(cfg, r.changes(cfg))
}

// suits judges the sources by the listeners that there are: the file judged them by its own server.listen, and nobody
// gets in without a credential because a file names another address.
func (r *Relay) suits(cfg *config.Config) error {
	for _, address := range r.addresses {
		if err := CheckSources(address, r.config.Server, cfg.Sources); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) apply(cfg *config.Config, changes []config.Change) error {
	if r.isOpen() { // else it is what will be opened with
		if err := r.intake.SetSources(cfg.Sources); err != nil {
			return err
		}
		if err := r.post.Apply(cfg.Endpoints); err != nil {
			return errors.Join(err, r.intake.SetSources(r.current.Sources))
		}
		r.heart.Set(cfg.Heartbeat)
	}
	r.current = cfg
	r.follow(cfg)
	r.expose(cfg)
	r.certificate.look()
	r.adminCertificate.look()
	for _, change := range changes {
		if change.NeedsStart {
			r.log.Warn().Str("setting", change.Section).Strs("keys", change.Keys).Msg("reload: this setting changes with the next start only")
		}
	}
	r.log.Info().Int("endpoints", len(cfg.Endpoints)).Int("sources", len(cfg.Sources)).Msg("configuration reloaded")
	return nil
}

// running is the configuration as it is followed: what was applied last, but for what only a start can change.
func (r *Relay) running() config.Config {
	running := *r.current
	running.Server, running.Admin, running.Queue, running.Log = r.config.Server, r.config.Admin, r.config.Queue, r.config.Log
	return running
}

// describe tells for people what the relay does.
func (r *Relay) describe() string {
	r.turn.take()
	defer r.turn.give()
	running := r.running()
	return running.Describe()
}

// changes is how cfg differs from what the relay does now, with what that means for what is queued.
func (r *Relay) changes(cfg *config.Config) []config.Change {
	running := r.running()
	changes := config.Diff(&running, cfg)
	if len(changes) == 0 || !r.isOpen() {
		return changes
	}
	held := map[string]held{}
	for _, s := range r.post.Statuses() {
		held[s.Name] = heldBy(s.Pending, s.Retrying, s.Failed)
	}
	for i := range changes {
		if changes[i].Section != "endpoint" {
			continue
		}
		name, enabled := changes[i].Name, true
		for j := range cfg.Endpoints {
			if cfg.Endpoints[j].Name == name {
				enabled = cfg.Endpoints[j].Enabled
			}
		}
		changes[i].Means = held[name].after(changes[i], enabled)
	}
	return changes
}

// held is what a lane holds that is not settled, and its failed deliveries.
type held struct{ pending, retrying, failed int64 }

func heldBy(pending, retrying, failed int64) held { return held{pending, retrying, failed} }

func (h held) String() string {
	text := ""
	for _, part := range []struct {
		n    int64
		word string
	}{{h.pending, "pending"}, {h.retrying, "retrying"}, {h.failed, "failed"}} {
		if part.n == 0 {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d %s", part.n, part.word)
	}
	if text == "" {
		return "nothing"
	}
	return text
}

// after says what a change of an endpoint means for what its lane holds. enabled is what the endpoint will be.
func (h held) after(c config.Change, enabled bool) string {
	has := func(keys ...string) bool {
		for _, key := range c.Keys {
			for _, wanted := range keys {
				if key == wanted {
					return true
				}
			}
		}
		return false
	}
	switch {
	case c.Change == config.Removed && h == held{}:
		return "it holds nothing"
	case c.Change == config.Removed:
		return h.String() + " stay as orphaned"
	case c.Change == config.Added && h == held{}:
		return "begins with what is accepted from then on"
	case c.Change == config.Added:
		return "takes up what was left under this name: " + h.String()
	case has("enabled") && !enabled:
		return h.String() + " held, and new events are not for it"
	case h == held{}:
		return ""
	case has("enabled"):
		return h.String() + " go on"
	case has("url"):
		return h.String() + " go to the new url"
	case has("events"):
		return h.String() + " stay its own, whatever their types"
	}
	return h.String() + " go on with it"
}
