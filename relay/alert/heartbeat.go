package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// Heartbeat calls a URL as long as the relay is well. Run is its one goroutine; Set may be called from any.
type Heartbeat struct {
	well    func() bool
	version string
	log     zerolog.Logger

	config  atomic.Pointer[config.Heartbeat]
	changed chan struct{} // holds a token when there is another configuration
}

// beatTime is how long one call may take.
const beatTime = 10 * time.Second

// NewHeartbeat prepares a heartbeat. well says whether to call. version goes into User-Agent.
func NewHeartbeat(c config.Heartbeat, well func() bool, version string, log zerolog.Logger) *Heartbeat {
	h := &Heartbeat{well: well, version: version, log: log, changed: make(chan struct{}, 1)}
	h.config.Store(&c)
	return h
}

// Set has it go on with another configuration, from its next call on. It does not wait for the call under way.
func (h *Heartbeat) Set(c config.Heartbeat) {
	old := h.config.Swap(&c)
	if old.URL.Equal(c.URL) && old.Every == c.Every && old.AllowPrivate == c.AllowPrivate {
		return
	}
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Run calls until ctx is done, at once and then every so often; a call takes beatTime at most. It logs when calls begin to fail and
// when they go well again. The URL is in no line: it is a secret.
func (h *Heartbeat) Run(ctx context.Context) {
	failing := false
	for {
		c := h.config.Load()
		timer := time.NewTimer(c.Every)
		if !c.URL.IsZero() && h.well() {
			err := h.beat(ctx, c)
			if err != nil && !failing && ctx.Err() == nil {
				h.log.Warn().Str("reason", err.Error()).Msg("the heartbeat's URL could not be called; it is tried again each time")
			} else if err == nil && failing {
				h.log.Info().Msg("the heartbeat's URL can be called again")
			}
			failing = err != nil
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-h.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// beat makes one call: GET, no proxy, no redirect, and addresses by the guard's rules.
func (h *Heartbeat) beat(ctx context.Context, c *config.Heartbeat) error {
	ctx, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL.Reveal(), nil)
	if err != nil {
		return errors.New("heartbeat.url is no URL") // the error would show it
	}
	request.Header.Set("User-Agent", "RealtorBot-Relay/"+h.version)
	dialer := &net.Dialer{ControlContext: client.DialControl("heartbeat", request.URL.Hostname(), c.AllowPrivate)}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, TLSHandshakeTimeout: beatTime}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(request)
	if err != nil {
		var whole *url.Error
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, 4<<10)
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("answered %d", answer.StatusCode)
	}
	return nil
}
