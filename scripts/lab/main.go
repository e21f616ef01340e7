package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// command is one subcommand. run writes its result to out and returns errUsage, flag.ErrHelp or a run's failure.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string, out io.Writer) error
}

var commands = []command{
	{"keep-nothing", "serve the yardstick that stores nothing", runKeepNothing},
	{"bare-log", "serve the yardstick that appends and syncs", runBareLog},
	{"pass-on", "serve the yardstick that forwards from memory", runPassOn},
	{"receive", "serve an endpoint that counts", runReceive},
	{"load", "post events", runLoad},
	{"bench", "measure the relay beside its yardsticks", runBench},
	{"figures", "hold what large queues cost to what is asked", runFigures},
	{"crash", "kill the relay under load and look for lost events", runCrash},
	{"powercut", "cut the power under load and look for lost events", runPowercut},
	{"diskfull", "fill the disk under load", runDiskfull},
	{"disksick", "let the disk fail under load", runDisksick},
	{"storesick", "let system calls of the store fail", runStoresick},
	{"ask", "run a command that asks before its system calls", runAsk},
	{"damage", "spoil files of the queue", runDamage},
	{"network", "put a bad network before the endpoints", runNetwork},
	{"health", "judge how endpoints of every kind are judged, under everything that happens", runHealth},
	{"soak", "load it with all that comes, and see it return to where it began", runSoak},
	{"synctrace", "check the order of syncs and answers", runSynctrace},
	{"backlog", "pile up events behind an endpoint that is down", runBacklog},
	{"attack", "attack a relay by framing, credentials, bodies and memory", runAttack},
	{"siege", "attack a relay with slow clients while honest ones post", runSiege},
	{"assault", "attack a relay in all ways at once while honest ones post", runAssault},
	{"attackers", "attack a relay in all ways at once", runAttackers},
	{"replay", "replay failed deliveries beside new events, and kill the relay", runReplay},
	{"neighbours", "measure an endpoint beside bad ones", runNeighbours},
	{"operating", "use up what it needs, one thing after the other, and send it signals", runOperating},
	{"crowd", "measure endpoints beside a thousand that hang, with little memory", runCrowd},
}

// usageError is a mistake on the command line: exit code 2. An empty text means that it was already printed.
type usageError string

func (e usageError) Error() string { return string(e) }

// unableError says why a run is not possible on this machine: exit code 3.
type unableError string

func (e unableError) Error() string { return string(e) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(exitCode(err, os.Stderr))
}

// dispatch runs the subcommand that args name.
func dispatch(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		printCommands(os.Stderr)
		return usageError("")
	}
	if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		printCommands(out)
		return nil
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.run(ctx, args[1:], out)
		}
	}
	return usageError(fmt.Sprintf("unknown command %q: run lab -h for the list", args[0]))
}

func printCommands(w io.Writer) {
	fmt.Fprintln(w, "usage: lab COMMAND [flags]     (lab COMMAND -h lists the flags)")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-13s %s\n", c.name, c.summary)
	}
}

func exitCode(err error, w io.Writer) int {
	var usage usageError
	var unable unableError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		if usage != "" {
			fmt.Fprintln(w, "lab:", usage)
		}
		return 2
	case errors.As(err, &unable):
		fmt.Fprintln(w, "lab: can't run here:", unable)
		return 3
	default:
		fmt.Fprintln(w, "lab:", err)
		return 1
	}
}

// newFlags makes the flags of a subcommand; about says in a line or two what it does and when it ends.
func newFlags(name, about string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "usage: lab %s [flags]\n%s\n", name, about)
		fs.PrintDefaults()
	}
	return fs
}

// parseFlags parses args, which must be flags only. The flag package prints its own errors.
func parseFlags(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError("")
	}
	if fs.NArg() > 0 {
		return usageError(fmt.Sprintf("%s takes flags only, not %q", fs.Name(), fs.Arg(0)))
	}
	return nil
}
