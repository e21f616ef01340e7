package delivery

import (
	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
)

// tell logs and reports what changed about the endpoint.
func (l *Lane) tell(changes []change, reason string) {
	for _, c := range changes {
		switch c {
		case wentDown:
			l.reportDown(reason, l.now())
			l.log.Warn().Str("reason", reason).Msgf("endpoint is down: %d attempts failed in a row; new events wait while one delivery at a time probes it", downAfter)
		case cameBack:
			l.log.Info().Msg("endpoint is up again")
		case wentOffline:
			l.log.Warn().Str("reason", reason).Msg("this machine seems to be offline: deliveries wait and no attempt is charged")
		case cameOnline:
			l.log.Info().Msg("this machine is online again")
		}
	}
}

// logVerdict writes one line per attempt: what goes well only when asked for.
func (l *Lane) logVerdict(d *queue.Delivery, number int, o *Outcome, v Verdict, charged bool) {
	level := zerolog.WarnLevel
	switch {
	case v.Kind == Delivered:
		level = zerolog.DebugLevel
	case v.Kind == Failed:
		level = zerolog.ErrorLevel
	case !charged:
		level = zerolog.DebugLevel
	}
	e := l.log.WithLevel(level)
	if l.log.GetLevel() > level {
		return
	}
	e.Bytes("event", d.Event.ID).Bytes("type", d.Event.Type).Int("attempt", number)
	if d.Replay != 0 {
		e.Str("replay", queue.ReplayID(d.Replay))
	}
	if o.Status != 0 {
		e.Int("status", o.Status)
	}
	e.Int64("duration_ms", o.Took.Milliseconds())
	switch {
	case v.Kind == Delivered:
		e.Msg("delivered")
	case v.Kind == Failed:
		e.Str("class", string(o.Class)).Str("reason", v.Reason).Msg("delivery failed for good")
	case v.Kind == Gone:
		e.Str("reason", v.Reason).Msg("endpoint is gone and was paused; its deliveries are held until it is resumed")
	case !charged:
		e.Str("reason", v.Reason).Msg("attempt not charged: this machine seems to be offline")
	default:
		e.Str("class", string(o.Class)).Str("reason", v.Reason).Time("next_attempt", l.now().Add(v.Wait)).Msg("attempt failed")
	}
}
