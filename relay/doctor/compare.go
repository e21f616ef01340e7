package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"realtorbot-relay/relay/config"
)

// plan is what a relay answers to POST /reload?dry_run=1.
type plan struct {
	File    string
	Changes []config.Change
}

// Compare asks the relay that runs with cfg's file what a reload of it would change, and writes that for people. Where
// none answers it says so: that is nothing wrong.
func Compare(ctx context.Context, cfg *config.Config, w io.Writer) {
	a := newAdmin(cfg.Admin)
	var p plan
	err := a.ask(ctx, "POST", "/reload?dry_run=1", &p)
	var no *refused
	switch {
	case errors.Is(err, errAbsent):
		fmt.Fprintf(w, "running   no relay answers at %s: nothing to compare with\n", a.listen)
	case errors.As(err, &no) && no.status == 401:
		fmt.Fprintf(w, "running   the relay at %s does not take this file's admin.token, which changes with a restart only: nothing compared\n", a.listen)
	case errors.As(err, &no) && len(no.faults) > 0:
		fmt.Fprintf(w, "running   the relay at %s would refuse its file:\n  %s\n", a.listen, strings.Join(no.faults, "\n  "))
	case err != nil:
		fmt.Fprintf(w, "running   the relay at %s could not be asked: %s\n", a.listen, err)
	case !isSameFile(p.File, cfg.Path):
		fmt.Fprintf(w, "running   the relay at %s uses another file, %s: nothing compared\n", a.listen, p.File)
	case len(p.Changes) == 0:
		fmt.Fprintf(w, "running   the relay at %s: a reload changes nothing\n", a.listen)
	default:
		fmt.Fprintf(w, "running   the relay at %s: a reload changes\n", a.listen)
		for _, change := range p.Changes {
			fmt.Fprintf(w, "  %s\n", change)
		}
	}
}

func isSameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}
