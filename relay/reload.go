package relay

import (
	"context"
	"errors"

	"realtorbot-relay/relay/admin"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/ingest"
)

// ReloadFile reads the configuration file again and, with apply, has the running relay take it; without, it only says
// what that would do. strict refuses it for what is wrong in an included file, too. A bad file changes nothing: the error is config.Faults or a reason in one line. With apply the log says
// what came of it, whoever asked. ReloadFile waits for the disk, and for other calls of it.
func (r *Relay) ReloadFile(apply, strict bool) (admin.Reload, error) {
	r.loading.Lock()
	defer r.loading.Unlock()
	cfg, err := config.Reload(r.startConfig.Path, r.current.Load(), strict) // this may wait for a file, and a stop need not
	r.applying.lock()
	defer r.applying.unlock()
	if r.stopping.Load() {
		return admin.Reload{}, admin.ErrStopping
	}
	if err == nil {
		err = r.checkSources(cfg)
	}
	if !apply && err != nil {
		return admin.Reload{}, err
	}
	if err != nil {
		r.logBadFile(err)
		r.file.Loaded(err)
		return admin.Reload{}, err
	}
	done := admin.Reload{File: r.path, Changes: r.changes(cfg), Warnings: cfg.Warnings, Applied: apply, Broken: r.instead(cfg)}
	if !apply {
		done.Description = cfg.Describe()
		return done, nil
	}
	for _, warning := range cfg.Warnings {
		r.log.Warn().Msg("reload: " + warning)
	}
	for _, line := range cfg.Included.BrokenLines() {
		r.log.Error().Msg("reload: " + line)
	}
	err = r.apply(cfg, done.Changes)
	r.file.Loaded(err)
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
// attempt. Settings that need a restart stay as they were, and the log names them. After an error nothing was changed. Reload
// waits for the disk where an endpoint is new, and for other reloads.
func (r *Relay) Reload(cfg *config.Config) error {
	r.applying.lock()
	defer r.applying.unlock()
	if r.stopping.Load() {
		return admin.ErrStopping
	}
	if err := r.checkSources(cfg); err != nil {
		return err
	}
	running := r.running()
	return r.apply(cfg, config.Diff(&running, cfg))
}

// checkSources judges the sources by the listeners that there are. The file judged them by its own server.listen, but no file lets
// anybody in without a credential by naming another address.
func (r *Relay) checkSources(cfg *config.Config) error {
	for _, address := range r.addresses {
		if err := ingest.CheckSources(address, r.startConfig.Server, cfg.Sources); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) apply(cfg *config.Config, changes []config.Change) error {
	if r.isOpen() { // else the queue will be opened with it
		if err := r.intake.SetSources(cfg.Sources); err != nil {
			return err
		}
		if err := r.dispatcher.Apply(cfg.Endpoints); err != nil {
			return errors.Join(err, r.intake.SetSources(r.current.Load().Sources))
		}
		r.heartbeat.Set(cfg.Heartbeat)
	}
	r.current.Store(cfg)
	r.file.Follow(cfg)
	if r.isOpen() {
		r.keep(cfg)
	}
	r.findExposed(cfg)
	r.certificate.Reload()
	r.adminCertificate.Reload()
	for _, change := range changes {
		if change.NeedsRestart {
			r.log.Warn().Str("setting", change.Section).Strs("keys", change.Keys).Msg("reload: this setting needs a restart")
		}
	}
	r.log.Info().Int("endpoints", len(cfg.Endpoints)).Int("sources", len(cfg.Sources)).Msg("configuration reloaded")
	return nil
}

// running is the configuration that the relay follows: what was applied last, except for the settings that need a restart.
func (r *Relay) running() config.Config {
	running := *r.current.Load()
	running.Server, running.Admin, running.Queue, running.Log = r.startConfig.Server, r.startConfig.Admin, r.startConfig.Queue, r.startConfig.Log
	return running
}

// describe says for people what the relay does. It takes no lock: a reload may wait for the disk.
func (r *Relay) describe() string {
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
	r.dispatcher.ExplainChanges(changes, cfg.Endpoints)
	return changes
}

// instead says of each included file that is bad what goes on in its place, and what of that is queued.
func (r *Relay) instead(cfg *config.Config) (files []admin.BrokenFile) {
	var kept []config.Change
	for _, b := range cfg.Included.BrokenFiles() {
		for _, name := range b.Endpoints {
			kept = append(kept, config.Change{Section: "endpoint", Name: name})
		}
	}
	if len(kept) > 0 && r.isOpen() {
		r.dispatcher.ExplainChanges(kept, cfg.Endpoints)
	}
	for _, b := range cfg.Included.BrokenFiles() {
		n := len(b.Endpoints)
		files = append(files, admin.NewBrokenFile(b, kept[:n]))
		kept = kept[n:]
	}
	return files
}

// keep writes the last good versions of the included files beside the queue.
func (r *Relay) keep(cfg *config.Config) {
	err := r.versions.Save(cfg.Included.Versions())
	if err != nil {
		r.log.Error().Err(err).Msg("the last good versions of the included files can't be kept: a start with a broken one would serve an older version of it, or none")
	}
	r.file.Kept(err)
}

// applyLock is a mutex that can be waited for until a context is done. It holds one value while it is locked.
type applyLock chan struct{}

func (l applyLock) lock()   { l <- struct{}{} }
func (l applyLock) unlock() { <-l }

// lockWithin reports whether it got the lock before ctx was done.
func (l applyLock) lockWithin(ctx context.Context) bool {
	select {
	case l <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
