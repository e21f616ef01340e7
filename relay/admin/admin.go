package admin

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/sign"
)

// Admin answers on the admin listener. All methods are safe for concurrent use.
type Admin struct {
	Queue      *queue.Queue
	Dispatcher *delivery.Dispatcher
	Intake     *ingest.Intake
	Token      sign.Secret // empty: whoever can connect may ask
	Version    string
	Started    time.Time
	Log        zerolog.Logger

	// Certificate says until when the intake's TLS certificate is good, and why its files as they are can't be used, if they
	// can't. Nil without TLS.
	Certificate func() (ends time.Time, trouble string)

	// OwnCertificate is the same of the admin listener's.
	OwnCertificate func() (ends time.Time, trouble string)

	// Lines are those of the log; nil: they are not asked about.
	Lines Lines

	// Dir is where the queue is, an absolute path. UntilLow is when its disk will be low, if that is known.
	Dir      string
	UntilLow func() (in time.Duration, known bool)

	// Refused counts the connections that were refused, by listener: intake and admin.
	Refused map[string]*answer.Refusals
	// Exposed says which tokens and secrets are so short that others may guess them. Nil: none.
	Exposed func() []string

	// Raised counts the alerts that the relay raised since the start, by type.
	Raised func() map[string]int64

	// Reload reads the configuration file again and, with apply, has the relay take it. The error is config.Faults or
	// a reason in one line; nothing was changed then.
	Reload func(apply, strict bool) (Reload, error)

	// File is the configuration file's absolute path. Source is how it stands beside what is followed; nil: there is no file.
	File   string
	Source func() Source

	// Describe tells for people what the relay's configuration does, without secrets.
	Describe func() string

	streams     streams
	waiters     waiters // of requests that wait for an event
	history     history
	sessions    sessions
	wrongTokens wrongTokens
}

// Lines tells what became of the log's lines. Its methods are safe for concurrent use.
type Lines interface {
	Dropped() int64  // since the start
	Trouble() string // why lines are not written now, in one line; "" when they are
}

// Open begins to keep the history, in a goroutine that Close ends. It reads no disk.
func (a *Admin) Open() { a.history.start(a.Dispatcher.Statuses) }

// Close ends the history and the answers that go on, and waits for them until ctx is done. It is called once.
func (a *Admin) Close(ctx context.Context) {
	a.streams.close(ctx)
	a.history.stop(ctx)
}

func (a *Admin) done(ctx *fasthttp.RequestCtx, name, what string, err error) {
	if errors.Is(err, delivery.ErrDisabled) {
		answer.Error(ctx, 409, "disabled", "the endpoint is disabled in the configuration: set enabled = true there and reload")
		return
	}
	if err != nil {
		a.unsaved(ctx, err, name)
		return
	}
	message := "endpoint " + what + " by the operator"
	if what == "not_paused" {
		message = "what waits for this endpoint is attempted now, as the operator asked; it was not paused"
	}
	a.Log.Info().Str("endpoint", name).Msg(message)
	answer.Value(ctx, 200, map[string]string{"endpoint": name, "status": what})
}

// unsaved answers a change of an endpoint that may not be on disk.
func (a *Admin) unsaved(ctx *fasthttp.RequestCtx, err error, name string) {
	a.Log.Error().Err(err).Str("endpoint", name).Msg("a change of the operator could not be saved")
	answer.Error(ctx, 503, "unavailable", whyNot("the change could not be saved", err))
}
