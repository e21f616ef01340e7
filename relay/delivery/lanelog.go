package delivery

import (
	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// logEffects logs what changed about the endpoint's state.
func (l *Lane) logEffects(effects []effect, reason string) {
	for _, c := range effects {
		switch c {
		case wentDown:
			l.log.Warn().Str("reason", reason).Msgf("endpoint is down: %d attempts failed in a row; its deliveries wait while one at a time probes it", downAfter)
		case cameBack:
			l.log.Info().Msg("endpoint is up again")
		case becameLimited:
			l.log.Warn().Str("reason", reason).Msg("endpoint asks to wait: its deliveries wait and no attempt is charged")
		case stayedDown:
			l.log.Error().Str("reason", reason).Msg("endpoint has been down for longer than disable_after and was paused; its deliveries are held until it is resumed")
		case wentOffline:
			l.log.Warn().Str("reason", reason).Msg("this machine seems to be offline: deliveries wait and no attempt is charged")
		case cameOnline:
			l.log.Info().Msg("this machine is online again")
		}
	}
}

// logVerdict logs one line for each attempt; a success only at level debug.
func (l *Lane) logVerdict(d *queue.Delivery, number int, o *client.Outcome, r *decision) {
	v, level := &r.verdict, zerolog.WarnLevel
	switch {
	case v.Kind == Delivered:
		level = zerolog.DebugLevel
	case v.Kind == Failed:
		level = zerolog.ErrorLevel
	case !r.charged && v.Kind != Gone:
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
	case r.offline:
		e.Str("reason", v.Reason).Msg("attempt not charged: this machine seems to be offline")
	case !r.charged:
		e.Str("class", string(o.Class)).Str("reason", v.Reason).Time("next_attempt_at", r.due).Msg("attempt not charged")
	default:
		e.Str("class", string(o.Class)).Str("reason", v.Reason).Time("next_attempt_at", r.due).Msg("attempt failed")
	}
}
