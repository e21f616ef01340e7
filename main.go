// Command realtorbot-relay keeps events of Realtor Bot on disk and delivers each to every endpoint that subscribed to it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"realtorbot-relay/relay"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/command"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/doctor"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/relay/lines"
	"realtorbot-relay/relay/manual"
	"realtorbot-relay/relay/memory"
	"realtorbot-relay/relay/reach"
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
	{"", "serve", "-config FILE", "receive, keep and deliver events (also without a command, given -config)", serve},
	{"", "check", "-config FILE", "validate a configuration and say what it would do, also to a relay that runs", check},
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

// configFlag parses the flag that serve, check and doctor have. more adds those that one of them has beside it, and says what
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

// serve runs the relay until a signal ends it.
func serve(_ context.Context, args []string) int {
	// From here on a SIGHUP ends nothing; those that pile up are one reload. A reader of standard error or output that has
	// ended is no reason to end either.
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	path, code, ok := configFlag("serve", args)
	if !ok {
		return code
	}
	cfg, err := config.Load(path)
	if err != nil {
		refuse(path, err)
		return exit.Usage
	}
	defer memory.Bound()()
	log := lines.Open(os.Stderr, cfg.Log)
	defer log.Close(lastLines)
	for _, warning := range cfg.Warnings {
		log.Logger.Warn().Msg(warning)
	}
	// Room for two, the second of which ends at once: neither is ever lost.
	stops := make(chan os.Signal, 2)
	signal.Notify(stops, syscall.SIGTERM, syscall.SIGINT)

	r, intake, adm, code := begin(cfg, log, stops)
	if r == nil {
		return code
	}
	line, message := log.Logger.Info(), "serving"
	if why := r.Waiting(); why != nil {
		line, message = log.Logger.Error().Err(why), "events are refused until the queue can be opened"
	}
	serveControl(r, log.Logger)
	line.Str("version", version).Stringer("intake", intake).Stringer("admin", adm).Int("endpoints", len(cfg.Endpoints)).Msg(message)
	return attend(r, cfg, log.Logger, stops, reloads)
}

// refuse says what is wrong with the configuration, in the form that the log has: a line for each fault.
func refuse(path string, err error) {
	log := lines.Open(os.Stderr, config.LogOf(path))
	defer log.Close(lastLines)
	var faults config.Faults
	if !errors.As(err, &faults) {
		log.Logger.Error().Msg(err.Error())
		return
	}
	for _, fault := range faults {
		log.Logger.Error().Str("file", fault.File).Int("line", fault.Line).Str("key", fault.Key).Msg(fault.String())
	}
}

// serveControl opens the control socket where systemd has made a runtime directory. Without it the relay serves as well.
func serveControl(r *relay.Relay, log zerolog.Logger) {
	path := reach.OwnControl()
	if path == "" {
		return
	}
	ln, err := answer.ListenControl(path)
	if err != nil {
		log.Error().Err(err).Msg("systemctl reload and root's commands without a token will not work: the control socket can't be opened")
		return
	}
	r.ServeControl(ln)
}

// lastLines is how long the end waits for whoever reads the log.
const lastLines = time.Second

// begin starts the relay and says where it serves. Without one, the log was told why and code is how to exit. A stop does
// not wait for the store to be read: what was under way in it is what a crash may leave, which the next start knows.
func begin(cfg *config.Config, log *lines.Log, stops <-chan os.Signal) (r *relay.Relay, intake, adm net.Addr, code int) {
	atIntake, atAdmin, err := listeners(cfg)
	if err != nil {
		log.Logger.Error().Msg(err.Error())
		return nil, nil, nil, exit.Failed
	}
	intake, adm = atIntake[0].Addr(), atAdmin[0].Addr()
	type result struct {
		relay *relay.Relay
		err   error
	}
	began := make(chan result, 1)
	go func() {
		r, err := relay.Start(cfg, version, log.Logger, log, slices.Clone(atIntake), slices.Clone(atAdmin))
		began <- result{r, err}
	}()
	select {
	case it := <-began:
		if it.err == nil {
			return it.relay, intake, adm, exit.Well
		}
		log.Logger.Error().Msg(it.err.Error())
		if errors.Is(it.err, relay.ErrOpen) {
			return nil, nil, nil, exit.Usage
		}
		return nil, nil, nil, exit.Failed
	case s := <-stops:
		for _, ln := range append(atIntake, atAdmin...) {
			_ = ln.Close() // which removes a socket's file
		}
		log.Logger.Warn().Stringer("signal", s).Msg("stopped before the queue was open")
		return nil, nil, nil, exit.Well
	}
}

// attend tells systemd how the relay is, obeys signals, and stops the relay in stages. A stop waits for no reload.
func attend(r *relay.Relay, cfg *config.Config, log zerolog.Logger, stops, reloads <-chan os.Signal) int {
	watching, unwatch := context.WithCancel(context.Background())
	defer unwatch()
	go r.Watch(watching)
	notify(daemon.SdNotifyReady)
	beat := time.NewTicker(beatEvery())
	defer beat.Stop()
	code, stalls := exit.Well, false
	var reloaded chan struct{} // closed when the reload under way is over; nil when none is
serving:
	for {
		next := reloads
		if reloaded != nil {
			next = nil // one at a time
		}
		select {
		case <-beat.C:
			if stalled := r.Stalled(); stalled > stallLimit {
				log.Error().Dur("duration_ms", stalled).Msg("a write to disk does not end or a lane makes no progress; the watchdog is not fed any more")
				if !stalls {
					logStacks(log, "what a goroutine was doing at the stall")
				}
				stalls = true
				continue
			}
			stalls = false
			notify(daemon.SdNotifyWatchdog)
			r.ReturnMemory()
		case err := <-r.Broken():
			log.Error().Msg(err.Error())
			code = exit.Failed
			break serving
		case s := <-stops:
			log.Info().Stringer("signal", s).Str("timeout", cfg.Server.ShutdownTimeout.String()).Msg("stopping; a second signal ends at once")
			break serving
		case <-next:
			reloaded = make(chan struct{})
			go reload(r, reloaded)
		case <-reloaded:
			reloaded = nil
			notify(daemon.SdNotifyReady)
		}
	}
	notify(daemon.SdNotifyStopping)
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Server.ShutdownTimeout)
	defer cancel()
	late := time.NewTimer(cfg.Server.ShutdownTimeout + closeTime)
	defer late.Stop()
	go func() { stopped <- r.Stop(ctx) }()
	select {
	case err := <-stopped:
		if err != nil {
			log.Error().Msg(err.Error())
			return exit.Failed
		}
		log.Info().Msg("stopped")
		return code
	case s := <-stops:
		log.Warn().Stringer("signal", s).Msg("second signal: ending at once; what was under way is attempted again after the next start")
	case <-late.C:
		log.Error().Msg("the stop does not end: ending at once; what was under way is attempted again after the next start")
		logStacks(log, "what a goroutine was doing at the stop")
	}
	return exit.Failed
}

// closeTime is what a stop has beyond server.shutdown_timeout to save the queue. The unit's TimeoutStopSec is above both.
const closeTime = 30 * time.Second

// stallLimit is how long a write to disk or a lane's next step may take before the watchdog is left to bite.
const stallLimit = 20 * time.Second

// beatEvery is how often the relay feels its own pulse, and feeds the watchdog when there is one.
func beatEvery() time.Duration {
	if every, err := daemon.SdWatchdogEnabled(false); err == nil && every > 0 {
		return every / 3
	}
	return 10 * time.Second
}

// logStacks writes what every goroutine is doing, one line each, so that whoever looks at a stall later can tell its cause.
func logStacks(log zerolog.Logger, message string) {
	buf := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		log.Error().Str("stack", stack).Msg(message)
	}
}

// notify tells systemd, if that has started us. A systemd that does not read is not waited for: go-systemd's SdNotify has no
// limit.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(notifyTime))
	_, _ = conn.Write([]byte(state))
}

const notifyTime = time.Second

// reload applies the file again. A bad one leaves everything as it was; the log says why.
func reload(r *relay.Relay, over chan<- struct{}) {
	defer close(over)
	notify("RELOADING=1")
	_, _ = r.ReloadFile(true) // it has told the log
}

// listeners opens what the configuration names; for the intake, sockets that systemd passes take its place.
func listeners(cfg *config.Config) (intake, adm []net.Listener, err error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, nil, fmt.Errorf("take the sockets that systemd passes: %w", err)
	}
	for _, ln := range passed {
		if ln == nil {
			continue // a datagram socket
		}
		intake = append(intake, ln)
	}
	if len(intake) == 0 {
		ln, err := answer.Listen("server.listen", cfg.Server.Listen)
		if err != nil {
			return nil, nil, err
		}
		intake = append(intake, ln)
	}
	ln, err := answer.Listen("admin.listen", cfg.Admin.Listen)
	if err != nil {
		return nil, nil, err
	}
	return intake, []net.Listener{ln}, nil
}
