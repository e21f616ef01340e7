package admin

import (
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
)

// Reload is what reading the configuration file again did, or would do.
type Reload struct {
	Applied  bool            `json:"applied"`
	File     string          `json:"file"`
	Changes  []config.Change `json:"changes"`
	Warnings []string        `json:"warnings"`

	// Description tells for people what the file would have the relay do, when it was not applied.
	Description string `json:"description,omitempty"`
}

// Source is the configuration file beside what is followed.
type Source struct {
	Path   string
	Loaded time.Time // when the file was last asked for, at the start or by a reload
	Failed string    // why that was refused; "" when it was applied
	Differ bool      // the file on disk is not what is followed
}

// text says what is not as it should be.
func (s Source) text() string {
	switch {
	case s.Failed != "":
		return fmt.Sprintf("the configuration file %s is not followed: the reload at %s was refused: %s", s.Path, s.Loaded.UTC().Format(time.RFC3339), s.Failed)
	case s.Differ:
		return fmt.Sprintf("the configuration file %s was changed and is not what is followed: reload it (realtorbot-relay check says what that would do)", s.Path)
	}
	return ""
}

// badFile is the error of a file that can't be used, with every fault of it.
type badFile struct {
	Error struct {
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Faults  []fault `json:"faults"`
	} `json:"error"`
}

type fault struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

// ErrStopping: the relay is ending and takes no other configuration.
var ErrStopping = errors.New("the relay is stopping")

// WhyNotReloaded says in one line why a configuration was not applied, to those who ask over HTTP: the first fault of the file, or
// what the relay has against it. What the queue says in its own words is for the log.
func WhyNotReloaded(err error) string {
	var faults config.Faults
	switch {
	case errors.As(err, &faults) && len(faults) > 0:
		return faults[0].String()
	case errors.Is(err, delivery.ErrNoLane):
		return whyNot(delivery.ErrNoLane.Error(), err)
	}
	return err.Error()
}

// reload reads the configuration file again; with dry_run=1 it only says what that would do.
func (a *Admin) reload(ctx *fasthttp.RequestCtx) {
	q := readQuery(ctx)
	dry := q.yesNo("dry_run")
	if q.refuse(ctx) {
		return
	}
	done, err := a.Reload(!dry)
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		var bad badFile
		bad.Error.Code = "invalid_config"
		bad.Error.Message = fmt.Sprintf("the file has %d faults and nothing was changed", len(faults))
		if len(faults) == 1 {
			bad.Error.Message = "the file has a fault and nothing was changed"
		}
		for _, f := range faults {
			bad.Error.Faults = append(bad.Error.Faults, fault{f.File, f.Line, f.Key, f.Text})
		}
		answer.Value(ctx, 422, bad)
	case errors.Is(err, ErrStopping):
		answer.Error(ctx, 503, "unavailable", err.Error())
	case errors.Is(err, delivery.ErrNoLane):
		answer.Error(ctx, 503, "unavailable", "nothing was changed: "+WhyNotReloaded(err))
	case err != nil:
		answer.Error(ctx, 422, "invalid_config", WhyNotReloaded(err)+"; nothing was changed")
	default:
		if done.Changes == nil {
			done.Changes = []config.Change{}
		}
		if done.Warnings == nil {
			done.Warnings = []string{}
		}
		answer.Value(ctx, 200, done)
	}
}
