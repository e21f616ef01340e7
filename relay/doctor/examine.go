package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/relay/reach"
)

// verdict is what one check came to.
type verdict string

const (
	ok   verdict = "ok"
	warn verdict = "warn" // worth a look; nothing is lost
	fail verdict = "fail" // something does not work, or soon won't
)

// finding is one line of the report.
type finding struct {
	verdict verdict
	about   string
	says    string // what was found and what to do
}

// patient is what is examined: a configuration, and the relay that runs with it, if one does.
type patient struct {
	config  *config.Config
	absent  config.Faults // the secrets that could not be had here
	running *running      // nil when no relay could be asked
	now     time.Time
}

// running is what GET /stats of a running relay says, as far as the doctor looks at it.
type running struct {
	Version string
	Uptime  int64 `json:"uptime_seconds"`
	Health  struct {
		Status  string
		Reasons []string
	}
	Queue struct {
		Dir       string
		MinFree   int64 `json:"min_free_bytes"`
		DiskLowIn int64 `json:"disk_low_in_seconds"`
		Damaged   int64
	}
	ClockSkew *float64 `json:"clock_skew_seconds"`
	Process   struct {
		OpenFiles      int64 `json:"open_files"`
		OpenFilesLimit int64 `json:"open_files_limit"`
	}
	Endpoints []struct {
		Name               string
		State              string
		CertificateExpires *time.Time `json:"certificate_expires_at"`
	}
}

// Examine looks at the relay of a configuration file and writes one line for each check: ok, warn or fail, and what to do.
// It returns how to exit: with 1 when a check failed, with 2 when the file is bad. Secrets that only the relay itself can
// have are no fault of the file.
func Examine(ctx context.Context, path string, stdout, stderr io.Writer) int {
	cfg, absent, err := config.LoadOutside(path)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exit.Usage
	}
	p := &patient{config: cfg, absent: absent, now: time.Now()}
	code := exit.Well
	say := func(findings ...finding) {
		for _, f := range findings {
			if f.verdict == fail {
				code = exit.Failed
			}
			fmt.Fprintf(stdout, "%-4s  %-12s  %s\n", f.verdict, f.about, f.says)
		}
	}
	say(p.configuration()...)
	say(p.ask(ctx)...)
	say(p.disk()...)
	say(p.clock()...)
	say(p.files())
	say(p.names(ctx)...)
	say(p.certificates()...)
	return code
}

func (p *patient) configuration() (findings []finding) {
	for _, warning := range p.config.Warnings {
		findings = append(findings, finding{warn, "config", warning})
	}
	for _, secret := range p.absent {
		findings = append(findings, finding{warn, "config", secret.String() + ": not known here; the relay itself may have it"})
	}
	if len(findings) == 0 {
		findings = append(findings, finding{ok, "config", fmt.Sprintf("%s: %d sources, %d endpoints, no warning", p.config.Path, len(p.config.Sources), len(p.config.Endpoints))})
	}
	return findings
}

// ask finds the relay that runs.
func (p *patient) ask(ctx context.Context) []finding {
	a := reach.Find(ctx, p.config)
	var r running
	err := a.Ask(ctx, "GET", "/stats", nil, &r)
	var no *reach.Refused
	switch {
	case errors.Is(err, reach.ErrAbsent):
		return []finding{{warn, "running", fmt.Sprintf("no relay answers at %s: systemctl status realtorbot-relay; what only a running one knows is left out", a.At)}}
	case errors.As(err, &no) && no.Status == 401 && p.config.Admin.Token.IsZero():
		return []finding{{warn, "running", fmt.Sprintf("the relay at %s asks for admin.token, which is not known here", a.At)}}
	case errors.As(err, &no) && no.Status == 401:
		return []finding{{warn, "running", fmt.Sprintf("the relay at %s does not take this file's admin.token: it changes with a restart only", a.At)}}
	case err != nil:
		return []finding{{fail, "running", fmt.Sprintf("the relay at %s can't be asked: %s", a.At, err)}}
	}
	reload, isOurs := planOf(ctx, a, p.config.Path)
	if !isOurs {
		return []finding{reload}
	}
	p.running = &r
	says := fmt.Sprintf("relay %s at %s for %s, health %s", r.Version, a.At, (time.Duration(r.Uptime) * time.Second), r.Health.Status)
	switch r.Health.Status {
	case "ok":
		return []finding{{ok, "running", says}, reload}
	case "degraded":
		return []finding{{warn, "running", says + ": " + strings.Join(r.Health.Reasons, "; ")}, reload}
	}
	return []finding{{fail, "running", says + ": " + strings.Join(r.Health.Reasons, "; ")}, reload}
}

// planOf says what a reload would change, which is nothing on a machine where somebody reloaded after the last edit.
func planOf(ctx context.Context, a *reach.Relay, path string) (f finding, isOurs bool) {
	var p plan
	err := a.Ask(ctx, "POST", "/reload?dry_run=1", nil, &p)
	var no *reach.Refused
	switch {
	case errors.As(err, &no) && len(no.Faults) > 0:
		return finding{fail, "reload", "the relay would refuse its file: " + strings.ReplaceAll(no.Faults.Error(), "\n", "; ")}, true
	case err != nil:
		return finding{warn, "reload", "what a reload would change is not known: " + err.Error()}, true
	case !reach.IsSameFile(p.File, path):
		return finding{warn, "running", fmt.Sprintf("the relay at %s runs with another file, %s: examine that one", a.At, p.File)}, false
	case len(p.Changes) == 0:
		return finding{ok, "reload", "the relay runs with the file as it is"}, true
	}
	changes := make([]string, len(p.Changes))
	for i, change := range p.Changes {
		changes[i] = change.String()
	}
	return finding{warn, "reload", "the file was changed since: " + strings.Join(changes, "; ") + "; reload or restart"}, true
}
