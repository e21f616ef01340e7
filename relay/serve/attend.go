package serve

import (
	"context"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"

	"realtorbot-relay/relay"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
)

// attend tells systemd how the relay is, obeys signals, and stops the relay in stages. A stop waits for no reload.
func attend(r *relay.Relay, cfg *config.Config, log zerolog.Logger, stops, reloads <-chan os.Signal) int {
	watching, unwatch := context.WithCancel(context.Background())
	defer unwatch()
	go r.Watch(watching)
	notify(daemon.SdNotifyReady)
	beat := time.NewTicker(beatEvery())
	defer beat.Stop()
	code, stalls := exit.Well, false
	var reloaded chan struct{} // closed when the reload under way is over; nil when none is
serving:
	for {
		next := reloads
		if reloaded != nil {
			next = nil // one at a time
		}
		select {
		case <-beat.C:
			if stalled := r.Stalled(); stalled > stallLimit {
				log.Error().Dur("duration_ms", stalled).Msg("a write to disk does not end or a lane makes no progress; the watchdog is not fed any more")
				if !stalls {
					logStacks(log, "what a goroutine was doing at the stall")
				}
				stalls = true
				continue
			}
			stalls = false
			notify(daemon.SdNotifyWatchdog)
			r.ReturnMemory()
		case err := <-r.Broken():
			log.Error().Msg(err.Error())
			code = exit.Failed
			break serving
		case s := <-stops:
			log.Info().Stringer("signal", s).Str("timeout", cfg.Server.ShutdownTimeout.String()).Msg("stopping; a second signal ends at once")
			break serving
		case <-next:
			reloaded = make(chan struct{})
			go reload(r, reloaded)
		case <-reloaded:
			reloaded = nil
			notify(daemon.SdNotifyReady)
		}
	}
	notify(daemon.SdNotifyStopping)
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Server.ShutdownTimeout)
	defer cancel()
	late := time.NewTimer(cfg.Server.ShutdownTimeout + closeTime)
	defer late.Stop()
	go func() { stopped <- r.Stop(ctx) }()
	select {
	case err := <-stopped:
		if err != nil {
			log.Error().Msg(err.Error())
			return exit.Failed
		}
		log.Info().Msg("stopped")
		return code
	case s := <-stops:
		log.Warn().Stringer("signal", s).Msg("second signal: ending at once; what was under way is attempted again after the next start")
	case <-late.C:
		log.Error().Msg("the stop does not end: ending at once; what was under way is attempted again after the next start")
		logStacks(log, "what a goroutine was doing at the stop")
	}
	return exit.Failed
}

// closeTime is what a stop has beyond server.shutdown_timeout to save the queue. The unit's TimeoutStopSec is above both.
const closeTime = 30 * time.Second

// stallLimit is how long a write to disk or a lane's next step may take before the watchdog is left to bite.
const stallLimit = 20 * time.Second

// logStacks writes what every goroutine is doing, one line each, so that whoever looks at a stall later can tell its cause.
func logStacks(log zerolog.Logger, message string) {
	buf := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		log.Error().Str("stack", stack).Msg(message)
	}
}

// reload applies the file again. A bad one leaves everything as it was; the log says why.
func reload(r *relay.Relay, over chan<- struct{}) {
	defer close(over)
	notify("RELOADING=1")
	_, _ = r.ReloadFile(true, false) // it has told the log
}
