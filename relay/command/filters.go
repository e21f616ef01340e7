package command

import (
	"flag"
	"strconv"
)

func asJSON(c *call, flags *flag.FlagSet) {
	flags.BoolVar(&c.asJSON, "json", false, "print the relay's answer as it came")
}

// span adds the flags of a time, and of types; what says which time.
func (c *call) span(flags *flag.FlagSet, what string) {
	flags.StringVar(&c.since, "since", "", what+" from this `TIME` on: RFC 3339, or how long ago, as in 2h")
	flags.StringVar(&c.until, "until", "", what+" before this `TIME`")
	flags.StringVar(&c.types, "type", "", "of these `TYPES`, as in lead.*,test")
}

func (c *call) page(flags *flag.FlagSet) {
	flags.IntVar(&c.limit, "limit", 100, "at most `N`, 1 to 1000")
	c.text(flags, "after", "go on behind the page that ended with this `CURSOR`")
}

func (c *call) bins(flags *flag.FlagSet) {
	flags.StringVar(&c.class, "class", "", "that failed with this `CLASS`, as in timeout")
	flags.StringVar(&c.bin, "bin", "", "that failed for this `REASON`: refused, unreached, expired or unreadable")
}

func replayFlags(c *call, flags *flag.FlagSet) {
	asJSON(c, flags)
	flags.BoolVar(&c.failed, "failed", false, "what failed, instead of what was accepted in a time")
	c.span(flags, "with -failed what became failed, else what was accepted,")
	c.bins(flags)
	flags.Float64Var(&c.rate, "rate", 0, "at most `N` attempts a second; 0 for no limit")
	flags.BoolVar(&c.dryRun, "dry-run", false, "only say how many")
	flags.BoolVar(&c.list, "list", false, "only list the replays of the endpoint that run, and the latest that ended")
	flags.StringVar(&c.cancel, "cancel", "", "cancel this `REPLAY`: it takes up nothing more")
}

func wrongReplay(c *call) string {
	ids, alone := len(c.args) > 1, c.list || c.cancel != ""
	switch {
	case alone && (ids || c.failed || c.since != "" || c.list && c.cancel != ""):
		return "-list and -cancel stand alone"
	case !alone && ids == (c.failed || c.since != ""):
		return "say what to deliver again: ids, or -failed, or -since for what was accepted from then on, and only one of these"
	}
	return ""
}

func failedFlags(c *call, flags *flag.FlagSet) {
	asJSON(c, flags)
	c.span(flags, "that became failed")
	c.bins(flags)
	c.page(flags)
}

func discardFlags(c *call, flags *flag.FlagSet) {
	asJSON(c, flags)
	flags.BoolVar(&c.failed, "failed", false, "failed deliveries, of a configured endpoint too")
	c.span(flags, "with -failed, failed")
	c.bins(flags)
}

func wrongDiscard(c *call) string {
	if !c.failed && len(c.query) > 0 {
		return "filters go with -failed: without it, all that is left of the endpoint is deleted"
	}
	return ""
}

func eventsFlags(c *call, flags *flag.FlagSet) {
	asJSON(c, flags)
	c.span(flags, "accepted")
	c.text(flags, "status", "that are in this `STATE` at an endpoint: pending, retrying, delivered, failed or discarded")
	c.text(flags, "endpoint", "that are for this `ENDPOINT`")
	c.text(flags, "source", "of this `SOURCE`")
	c.text(flags, "match", "of which this `MEMBER` is so, as in data.accountId=acct_42")
	c.page(flags)
}

func reloadFlags(c *call, flags *flag.FlagSet) {
	asJSON(c, flags)
	flags.BoolVar(&c.dryRun, "dry-run", false, "only say what would change")
	flags.BoolVar(&c.strict, "strict", false, "change nothing if an included file is broken")
}

func testFlags(c *call, flags *flag.FlagSet) {
	asJSON(c, flags)
	flags.BoolVar(&c.conformance, "conformance", false, "check the receiver as well: signatures, repeats, speed")
}

func wrongBackup(c *call) string {
	if isTerminal(c.out) {
		return "a backup is nothing to be read: write it to a file, with > FILE"
	}
	return ""
}

// text adds a flag that is a filter of the API under its own name.
func (c *call) text(flags *flag.FlagSet, name, usage string) { flags.String(name, "", usage) }

// filters takes those that were given into the query.
func (c *call) filters(flags *flag.FlagSet) {
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "since", "until", "type", "class", "bin", "status", "endpoint", "source", "match", "after":
			c.query.Set(f.Name, f.Value.String())
		case "limit":
			c.query.Set(f.Name, strconv.Itoa(c.limit))
		}
	})
}
