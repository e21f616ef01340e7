package command

import (
	"flag"
	"strconv"
)

// flags adds those that a command has beside -config.
func (c *call) flags(name string, flags *flag.FlagSet) {
	span := func(what string) {
		flags.StringVar(&c.since, "since", "", what+" from this `TIME` on: RFC 3339, or how long ago, as in 2h")
		flags.StringVar(&c.until, "until", "", what+" before this `TIME`")
		flags.StringVar(&c.types, "type", "", "of these `TYPES`, as in lead.*,test")
	}
	page := func() {
		flags.IntVar(&c.limit, "limit", 100, "at most `N`, 1 to 1000")
		c.text(flags, "after", "go on behind the page that ended with this `CURSOR`")
	}
	bins := func() {
		flags.StringVar(&c.class, "class", "", "that failed with this `CLASS`, as in timeout")
		flags.StringVar(&c.bin, "bin", "", "that failed for this `REASON`: refused, unreached, expired or unreadable")
	}
	if name != "backup" && name != "restore" {
		flags.BoolVar(&c.asJSON, "json", false, "print the relay's answer as it came")
	}
	switch name {
	case "replay":
		flags.BoolVar(&c.failed, "failed", false, "what failed, instead of what was accepted in a time")
		span("with -failed what became failed, else what was accepted,")
		bins()
		flags.Float64Var(&c.rate, "rate", 0, "at most `N` attempts a second; 0 for no limit")
		flags.BoolVar(&c.dryRun, "dry-run", false, "only say how many")
		flags.BoolVar(&c.list, "list", false, "only list the replays of the endpoint that run, and the latest that ended")
		flags.StringVar(&c.cancel, "cancel", "", "cancel this `REPLAY`: it takes up nothing more")
	case "discard":
		flags.BoolVar(&c.failed, "failed", false, "failed deliveries, of a configured endpoint too")
		span("with -failed, failed")
		bins()
	case "failed":
		span("that became failed")
		bins()
		page()
	case "events":
		span("accepted")
		c.text(flags, "status", "that are in this `STATE` at an endpoint: pending, retrying, delivered or failed")
		c.text(flags, "endpoint", "that are for this `ENDPOINT`")
		page()
	case "reload":
		flags.BoolVar(&c.dryRun, "dry-run", false, "only say what would change")
	case "test":
		flags.BoolVar(&c.conformance, "conformance", false, "check the receiver as well: signatures, repeats, speed")
	}
}

// text adds a flag that is a filter of the API under its own name.
func (c *call) text(flags *flag.FlagSet, name, usage string) { flags.String(name, "", usage) }

// filters takes those that were given into the query.
func (c *call) filters(flags *flag.FlagSet) {
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "since", "until", "type", "class", "bin", "status", "endpoint", "after":
			c.query.Set(f.Name, f.Value.String())
		case "limit":
			c.query.Set(f.Name, strconv.Itoa(c.limit))
		}
	})
}
