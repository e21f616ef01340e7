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
	Broken   []BrokenFile    `json:"broken,omitempty"` // included files

	// Description tells for people what the file would have the relay do, when it was not applied.
	Description string `json:"description,omitempty"`
}

// BrokenFile is an included file that can't be used as it is, and what goes on in its place.
type BrokenFile struct {
	File   string  `json:"file"`
	Faults []fault `json:"faults"`
	Serves string  `json:"serves"`
}

// NewBrokenFile takes what is queued for the file's endpoints from kept.
func NewBrokenFile(b config.Broken, kept []config.Change) BrokenFile {
	f := BrokenFile{File: b.File, Serves: "nothing: there is no good version of it", Faults: faultsOf(b.Faults)}
	if b.Served {
		f.Serves = "its last good version"
	}
	for i, k := range kept {
		f.Serves += map[bool]string{true: ": ", false: "; "}[i == 0] + "endpoint " + k.Name
		if k.Means != "" {
			f.Serves += ": " + k.Means
		}
	}
	return f
}

func faultsOf(faults config.Faults) (list []fault) {
	for _, f := range faults {
		list = append(list, fault{f.File, f.Line, f.Key, f.Text})
	}
	return list
}

// Source is the configuration file beside what is followed.
type Source struct {
	Path    string
	Loaded  time.Time       // when the file was last asked for, at the start or by a reload
	Failed  string          // why that was refused; "" when it was applied
	Differ  bool            // the file on disk is not what is followed
	Changed string          // an included file that is not what it was when it was read; "" when there is none
	Broken  []config.Broken // included files whose last good version is followed, or none
	Unkept  string          // why the last good versions can't be kept
}

// mostBroken is how many included files are told of one by one.
const mostBroken = 10

// included says which included files are not followed.
func (s Source) included() (list []state) {
	for i, b := range s.Broken {
		if i == mostBroken {
			list = append(list, state{"included", fmt.Sprintf("%d more included files are broken: realtorbot-relay check tells them all", len(s.Broken)-i)})
			break
		}
		text := b.Lines()[0]
		if n := len(b.Faults); n > 1 {
			text += fmt.Sprintf(" (%d faults; realtorbot-relay check tells them all)", n)
		}
		list = append(list, state{"included " + b.File, "an included file is not followed: " + text})
	}
	if s.Changed != "" {
		list = append(list, state{"changed", fmt.Sprintf("the included file %s was changed, added or deleted and is not what is followed: reload (realtorbot-relay check says what that would do)", s.Changed)})
	}
	if s.Unkept != "" {
		list = append(list, state{"unkept", "the last good versions of the included files can't be kept: " + s.Unkept})
	}
	return list
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

// reload reads the configuration file again; with dry_run=1 it only says what that would do. strict=1 refuses it for a broken included
// file, too.
func (a *Admin) reload(ctx *fasthttp.RequestCtx) {
	q := readQuery(ctx)
	dry, strict := q.yesNo("dry_run"), q.yesNo("strict")
	if q.refuse(ctx) {
		return
	}
	done, err := a.Reload(!dry, strict)
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		var bad badFile
		bad.Error.Code = "invalid_config"
		bad.Error.Message = fmt.Sprintf("the file has %d faults and nothing was changed", len(faults))
		if len(faults) == 1 {
			bad.Error.Message = "the file has a fault and nothing was changed"
		}
		bad.Error.Faults = faultsOf(faults)
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
