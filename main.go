// Command realtorbot-relay keeps events of Realtor Bot on disk and delivers each to every endpoint that subscribed to it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"realtorbot-relay/relay/command"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/doctor"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/relay/manual"
	"realtorbot-relay/relay/serve"
	"realtorbot-relay/relay/try"
)

// version is set by the linker: -X main.version=1.2.3.
var version = "0.1.0-dev"

// commands are those that are not of package command, in the order of the list. Two lines are of one command.
var commands = []struct {
	group                  string // the title before it, "" for that of the one before
	name, arguments, brief string
	run                    func(ctx context.Context, args []string) int
}{
	{"", "serve", "-config FILE", "receive, keep and deliver events (also without a command, given -config)", runRelay},
	{"", "check", "-config FILE", "validate a configuration and say what it would do, also to a relay that runs", check},
	{"", "route", "< event", "say where an event would go, and why not elsewhere", route},
	{"", "schema", "", "print the JSON Schema of the configuration, for editors", schema},
	{"", "doctor", "-config FILE", "look at disk, clock, names, limits and the relay that runs; say what to do", examine},
	{"", "doctor", "-backup FILE", "read a backup to its end; say what it holds, or what is wrong with it", examine},
	{"Developing a receiver", "listen", "[-addr :3000] [-secret S]", "a local receiver that verifies and shows what arrives", listen},
	{"", "listen", "-from URL [-forward URL]", "the events of a running relay, for a receiver on this machine", listen},
	{"", "send", "-type T [-data JSON] [-url …]", "post one event to a relay", send},
	{"", "verify", "-secret S -header H < body", "say whether a signature matches and, if not, why", verify},
	{"", "version", "", "print the version", printVersion},
}

// instructions are the usage and the pages of the manual.
func instructions() string {
	text := "Usage: realtorbot-relay COMMAND [FLAG…]\n\n"
	for _, c := range commands {
		if c.group != "" {
			text += command.List(true) + "\nA relay that runs:\n" + command.List(false) + "\n" + c.group + ":\n"
		}
		text += command.Line(c.name, c.arguments, c.brief)
	}
	text += "\nWithout -config it is " + command.DefaultConfig + ".\n" +
		"COMMAND -h tells more. Exit codes: 0 well, 1 failed, 2 bad usage or configuration.\n"
	line := "help PAGE is a page of the manual:"
	for _, page := range manual.Names() {
		if len(line)+len(page) > 76 {
			text, line = text+line+"\n", "   "
		}
		line += " " + page
	}
	return text + line + "\n"
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	name, rest := "serve", args
	switch {
	case len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help":
		name = "help"
	case args[0] == "-version" || args[0] == "--version":
		name = "version"
	case args[0] == "" || args[0][0] != '-':
		name, rest = args[0], args[1:]
	}
	ctx, stop := context.Background(), func() {}
	if name != "serve" {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	}
	defer stop()
	if command.Is(name) {
		return command.Run(ctx, name, version, rest, os.Stdout, os.Stderr)
	}
	if name == "help" {
		return help(rest)
	}
	for _, c := range commands {
		if c.name == name {
			return c.run(ctx, rest)
		}
	}
	fmt.Fprintf(os.Stderr, "realtorbot-relay: there is no command %q\n\n%s", name, instructions())
	return exit.Usage
}

func listen(ctx context.Context, args []string) int {
	return try.Listen(ctx, args, os.Stdout, os.Stderr)
}

func send(ctx context.Context, args []string) int {
	return try.Send(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

func verify(ctx context.Context, args []string) int {
	return try.Verify(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

func printVersion(context.Context, []string) int {
	fmt.Printf("realtorbot-relay %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exit.Well
}

// help prints what there is, or a page of the manual.
func help(args []string) int {
	if len(args) == 0 || args[0] == "" || args[0][0] == '-' {
		fmt.Print(instructions())
		return exit.Well
	}
	width, bold := screen()
	if len(args) == 1 {
		if text, ok := manual.Text(args[0], width, bold); ok {
			fmt.Print(text)
			return exit.Well
		}
	}
	list, _ := manual.Text("", width, false)
	fmt.Fprintf(os.Stderr, "realtorbot-relay help: there is no page %q\n\n%s", strings.Join(args, " "), list)
	return exit.Usage
}

// screen is how many columns the terminal has, and whether standard output is one, which shows what is bold. A page that goes to a
// pager is as wide as the terminal that messages go to.
func screen() (width int, bold bool) {
	for _, file := range []*os.File{os.Stdout, os.Stderr} {
		if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return min(int(size.Col), 120), file == os.Stdout
		}
	}
	return 80, false
}

// schema prints the JSON Schema of the configuration.
func schema(_ context.Context, args []string) int {
	const help = `Usage: realtorbot-relay schema > config.schema.json

Prints the JSON Schema of the configuration: every key with its type, bounds, default and meaning. An editor that knows TOML
completes and checks with it a file beside it whose first line is:  #:schema ./config.schema.json
`
	switch {
	case len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]):
		fmt.Print(help)
		return exit.Well
	case len(args) > 0:
		fmt.Fprintf(os.Stderr, "realtorbot-relay schema: unexpected argument %q\n\n%s", args[0], help)
		return exit.Usage
	}
	if _, err := os.Stdout.Write(config.Schema()); err != nil {
		fmt.Fprintf(os.Stderr, "realtorbot-relay schema: %v\n", err)
		return exit.Failed
	}
	return exit.Well
}

// configFlag parses the flag that serve, check, route and doctor have. more adds those that one of them has beside it, and says what
// they are.
func configFlag(name string, args []string, more ...func(*flag.FlagSet) (help string)) (path string, code int, ok bool) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&path, "config", command.DefaultConfig, "the configuration, a TOML file")
	help := fmt.Sprintf("Usage: realtorbot-relay %s [FLAG…]\n\n  -config FILE   the configuration, by default %s; config.example.toml shows every key\n", name, command.DefaultConfig)
	for _, add := range more {
		help += add(flags)
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(help)
		return "", exit.Well, false
	case err != nil:
		fmt.Fprintf(os.Stderr, "realtorbot-relay %s: %v\n\n%s", name, err, help)
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "realtorbot-relay %s: unexpected argument %q\n\n%s", name, flags.Arg(0), help)
	case path == "":
		fmt.Fprintf(os.Stderr, "realtorbot-relay %s: -config is empty\n\n%s", name, help)
	default:
		return path, exit.Well, true
	}
	return "", exit.Usage, false
}

// check says what a configuration would do, and what a reload of it would change about the relay that runs with it. It
// neither opens the queue nor listens.
func check(ctx context.Context, args []string) int {
	path, code, ok := configFlag("check", args)
	if !ok {
		return code
	}
	if err := doctor.Check(ctx, path, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exit.Usage
	}
	return exit.Well
}

// route says where the event on standard input would go.
func route(ctx context.Context, args []string) int {
	path, code, ok := configFlag("route", args)
	if !ok {
		return code
	}
	body, err := try.Input(ctx, "route", "the event", os.Stdin, os.Stderr)
	if err != nil {
		fmt.Fprintf(os.Stderr, "realtorbot-relay route: read the event: %v\n", err)
		return exit.Failed
	}
	return doctor.Route(path, body, os.Stdout, os.Stderr)
}

// examine looks at the machine, the configuration and the relay that runs with it, or at a backup.
func examine(ctx context.Context, args []string) int {
	backup := ""
	path, code, ok := configFlag("doctor", args, func(flags *flag.FlagSet) (help string) {
		flags.StringVar(&backup, "backup", "", "")
		return "  -backup FILE   look at this backup, and at nothing else\n"
	})
	if !ok {
		return code
	}
	if backup != "" {
		return doctor.Backup(backup, os.Stdout)
	}
	return doctor.Examine(ctx, path, os.Stdout, os.Stderr)
}

// runRelay runs the relay until a signal ends it.
func runRelay(_ context.Context, args []string) int {
	caught := serve.Catch()
	path, code, ok := configFlag("serve", args)
	if !ok {
		return code
	}
	return serve.Run(path, version, caught)
}
