package serve

import (
	"errors"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"realtorbot-relay/relay"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/relay/lastgood"
	"realtorbot-relay/relay/lines"
	"realtorbot-relay/relay/memory"
)

// Signals are those that end nothing from when they are caught.
type Signals struct {
	reloads chan os.Signal // SIGHUP: those that pile up are one reload
}

// Catch is called before all else, flags too: whoever rotates a log or changes a file does not ask how far a start has come. Neither a
// SIGHUP ends the process from here on, nor that a reader of standard error or output has ended.
func Catch() Signals {
	s := Signals{reloads: make(chan os.Signal, 1)}
	signal.Notify(s.reloads, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	return s
}

// Run runs the relay of a configuration file until a signal ends it, and returns how to exit. version is the program's.
func Run(path, version string, caught Signals) int {
	var unread error
	cfg, err := config.LoadServed(path, func(queue config.Queue) (versions []config.Version) {
		versions, unread = lastgood.Read(queue.Dir)
		return versions
	})
	if err != nil {
		refuse(path, err)
		return exit.Usage
	}
	defer memory.Bound()()
	log := lines.Open(os.Stderr, cfg.Log)
	defer log.Close(lastLines)
	for _, warning := range cfg.Warnings {
		log.Logger.Warn().Msg(warning)
	}
	if unread != nil {
		log.Logger.Error().Err(unread).Msg("the last good versions of the included files can't all be read: of a broken one an older version may be served, or nothing")
	}
	for _, line := range cfg.Included.BrokenLines() {
		log.Logger.Error().Msg(line)
	}
	// Room for two, the second of which ends at once: neither is ever lost.
	stops := make(chan os.Signal, 2)
	signal.Notify(stops, syscall.SIGTERM, syscall.SIGINT)

	r, intake, adm, code := begin(cfg, version, log, stops)
	if r == nil {
		return code
	}
	line, message := log.Logger.Info(), "serving"
	if why := r.Waiting(); why != nil {
		line, message = log.Logger.Error().Err(why), "events are refused until the queue can be opened"
	}
	serveControl(r, log.Logger)
	line.Str("version", version).Stringer("intake", intake).Stringer("admin", adm).Int("endpoints", len(cfg.Endpoints)).Msg(message)
	return attend(r, cfg, log.Logger, stops, caught.reloads)
}

// refuse says what is wrong with the configuration, in the form that the log has: a line for each fault.
func refuse(path string, err error) {
	log := lines.Open(os.Stderr, config.LogOf(path))
	defer log.Close(lastLines)
	var faults config.Faults
	if !errors.As(err, &faults) {
		log.Logger.Error().Msg(err.Error())
		return
	}
	for _, fault := range faults {
		log.Logger.Error().Str("file", fault.File).Int("line", fault.Line).Str("key", fault.Key).Msg(fault.String())
	}
}

// lastLines is how long the end waits for whoever reads the log.
const lastLines = time.Second

// begin starts the relay and says where it serves. Without one, the log was told why and code is how to exit. A stop does
// not wait for the store to be read: what was under way in it is what a crash may leave, which the next start knows.
func begin(cfg *config.Config, version string, log *lines.Log, stops <-chan os.Signal) (r *relay.Relay, intake, adm net.Addr, code int) {
	atIntake, atAdmin, err := listeners(cfg)
	if err != nil {
		log.Logger.Error().Msg(err.Error())
		return nil, nil, nil, exit.Failed
	}
	intake, adm = atIntake[0].Addr(), atAdmin[0].Addr()
	type result struct {
		relay *relay.Relay
		err   error
	}
	began := make(chan result, 1)
	go func() {
		r, err := relay.Start(cfg, version, log.Logger, log, slices.Clone(atIntake), slices.Clone(atAdmin))
		began <- result{r, err}
	}()
	select {
	case it := <-began:
		if it.err == nil {
			return it.relay, intake, adm, exit.Well
		}
		log.Logger.Error().Msg(it.err.Error())
		if errors.Is(it.err, relay.ErrOpen) {
			return nil, nil, nil, exit.Usage
		}
		return nil, nil, nil, exit.Failed
	case s := <-stops:
		for _, ln := range append(atIntake, atAdmin...) {
			_ = ln.Close() // which removes a socket's file
		}
		log.Logger.Warn().Stringer("signal", s).Msg("stopped before the queue was open")
		return nil, nil, nil, exit.Well
	}
}
