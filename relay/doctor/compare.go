package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/reach"
)

// plan is what a relay answers to POST /reload?dry_run=1.
type plan struct {
	File        string
	Description string
	Warnings    []string
	Changes     []config.Change
}

// Check says what a configuration would do, and what a reload of it would change about the relay that runs with it. A
// secret that can't be had here, since only the service has it, is no fault when the relay that runs says that it has it:
// then the plan is the relay's own. The error is what is wrong with the file.
func Check(ctx context.Context, path string, stdout, stderr io.Writer) error {
	cfg, absent, err := config.LoadOutside(path)
	if err != nil {
		if _, whole := config.Load(path); whole != nil {
			return whole // with the secrets that can't be had here
		}
		return err
	}
	relay := reach.Find(ctx, cfg)
	var p plan
	asked := relay.Ask(ctx, "POST", planPath(cfg), nil, &p)
	description, warnings := cfg.Describe(), cfg.Warnings
	if len(absent) > 0 {
		if !hasSecrets(asked, p, cfg.Path, absent) {
			return lacking(asked, absent)
		}
		fmt.Fprintf(stderr, "%s: only the relay that runs has %s: it was asked\n", path, keysOf(absent))
		if description, warnings = reach.Plain(p.Description), nil; description == "" {
			description = "the relay that runs is older and does not tell the plan\n"
		}
		for _, warning := range p.Warnings {
			warnings = append(warnings, reach.Plain(warning))
		}
	}
	for _, warning := range warnings {
		fmt.Fprintln(stderr, "warning:", warning)
	}
	fmt.Fprint(stdout, description)
	compare(relay, asked, p, cfg.Path, stdout)
	return nil
}

// planPath asks for the plan, which what is wrong in an included file refuses: relays that know none know no strict either.
func planPath(cfg *config.Config) string {
	if len(cfg.Include) > 0 {
		return "/reload?dry_run=1&strict=1"
	}
	return "/reload?dry_run=1"
}

// hasSecrets reports whether the relay that was asked for its plan runs with the file and has what is absent here. That it
// refuses the file for other reasons may be because it is of another version.
func hasSecrets(asked error, p plan, path string, absent config.Faults) bool {
	var no *reach.Refused
	if !errors.As(asked, &no) {
		return asked == nil && reach.IsSameFile(p.File, path)
	}
	return len(no.Faults) > 0 && !slices.ContainsFunc(absent, func(a config.Fault) bool {
		return slices.ContainsFunc(no.Faults, func(f config.Fault) bool { return f.Key == a.Key })
	})
}

// lacking is what of absent the relay lacks as well, as far as it says so.
func lacking(asked error, absent config.Faults) config.Faults {
	var no *reach.Refused
	if !errors.As(asked, &no) {
		return absent
	}
	both := slices.DeleteFunc(slices.Clone(absent), func(a config.Fault) bool {
		return !slices.ContainsFunc(no.Faults, func(f config.Fault) bool { return f.Key == a.Key })
	})
	if len(both) == 0 {
		return absent
	}
	return both
}

func keysOf(faults config.Faults) string {
	keys := make([]string, len(faults))
	for i := range faults {
		keys[i] = faults[i].Key
	}
	return strings.Join(keys, ", ")
}

// compare writes for people what the relay answered. Where none did it says so: that is nothing wrong.
func compare(relay *reach.Relay, err error, p plan, path string, w io.Writer) {
	var no *reach.Refused
	switch {
	case errors.Is(err, reach.ErrAbsent):
		fmt.Fprintf(w, "running   no relay answers at %s: nothing to compare with\n", relay.At)
	case errors.As(err, &no) && no.Status == 401:
		fmt.Fprintf(w, "running   the relay at %s does not take this file's admin.token, which changes with a restart only: nothing compared\n", relay.At)
	case errors.As(err, &no) && len(no.Faults) > 0:
		fmt.Fprintf(w, "running   the relay at %s would refuse its file:\n  %s\n", relay.At, strings.ReplaceAll(no.Faults.Error(), "\n", "\n  "))
	case err != nil:
		fmt.Fprintf(w, "running   the relay at %s could not be asked: %s\n", relay.At, err)
	case !reach.IsSameFile(p.File, path):
		fmt.Fprintf(w, "running   the relay at %s uses another file, %s: nothing compared\n", relay.At, reach.Plain(p.File))
	case len(p.Changes) == 0:
		fmt.Fprintf(w, "running   the relay at %s: a reload changes nothing\n", relay.At)
	default:
		fmt.Fprintf(w, "running   the relay at %s: a reload changes\n", relay.At)
		for _, change := range p.Changes {
			fmt.Fprintf(w, "  %s\n", reach.Plain(change.String()))
		}
	}
}
