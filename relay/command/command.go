package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/relay/reach"
)

// DefaultConfig is where the installed service has its configuration.
const DefaultConfig = "/etc/realtorbot-relay/config.toml"

// call is one invocation.
type call struct {
	ctx     context.Context
	relay   *reach.Relay
	args    []string // those that are no flags
	out     io.Writer
	aside   io.Writer // for what is said beside what is written
	version string
	file    string         // of the configuration
	config  *config.Config // nil until a command needs it that asks no relay
	asJSON  bool

	query             url.Values // the filters that were given, by their names in the API
	failed, dryRun    bool
	strict            bool
	list              bool
	cancel            string
	conformance       bool
	rate              float64
	limit             int
	since, until      string
	types, class, bin string
}

// errNotWell: all was asked and answered, and the answer is no.
var errNotWell = errors.New("")

// Run runs a command and returns how to exit: 1 when the relay could not be asked or said no, 2 for bad usage or a bad
// configuration. version is that of this program.
func Run(ctx context.Context, name, version string, args []string, stdout, stderr io.Writer) int {
	v := named(name)
	c := &call{ctx: ctx, version: version, out: stdout, aside: stderr, query: url.Values{}}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its own complaints are several lines long
	flags.StringVar(&c.file, "config", DefaultConfig, "the configuration `FILE` that the relay runs with")
	if v.flags != nil {
		v.flags(c, flags)
	}
	complain := func(format string, args ...any) int {
		fmt.Fprintf(stderr, "realtorbot-relay %s: %s (realtorbot-relay %s -h shows how)\n", name, fmt.Sprintf(format, args...), name)
		return exit.Usage
	}
	for rest := args; ; { // flags may stand behind arguments
		err := flags.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(stdout, "Usage: %s\n\n%s\n\n", strings.TrimSpace("realtorbot-relay "+name+" [FLAG…] "+v.arguments), v.about)
			flags.SetOutput(stdout)
			flags.PrintDefaults()
			return exit.Well
		}
		if err != nil {
			return complain("%v", err)
		}
		left := flags.Args()
		if n := len(rest) - len(left); n > 0 && rest[n-1] == "--" { // what follows are arguments, whatever they begin with
			c.args = append(c.args, left...)
			break
		}
		if len(left) == 0 {
			break
		}
		c.args, rest = append(c.args, left[0]), left[1:]
	}
	if len(c.args) < v.least {
		return complain("%s is missing", strings.Fields(v.arguments)[len(c.args)])
	}
	if len(c.args) > v.most {
		return complain("%d arguments too many", len(c.args)-v.most)
	}
	c.filters(flags)
	if v.wrong != nil {
		if wrong := v.wrong(c); wrong != "" {
			return complain("%s", wrong)
		}
	}
	var err error
	if v.alone {
		c.config, err = config.LoadMain(c.file)
	} else {
		c.relay, err = c.find(flagGiven(flags, "config"))
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exit.Usage
	}
	switch err := v.run(c); {
	case errors.Is(err, errNotWell):
		return exit.Failed
	case err != nil:
		fmt.Fprintf(stderr, "realtorbot-relay %s: %s\n", name, c.explain(err))
		return exit.Failed
	}
	return exit.Well
}

// find is the relay to ask. Inside of the service, where systemd reloads it, its own control socket is asked whatever the
// file holds: that may be what is wrong. So is the admin listener, when the file is well as far as it says where that is.
func (c *call) find(given bool) (*reach.Relay, error) {
	if reach.OwnControl() != "" || !given && os.Geteuid() == 0 {
		if control := reach.Control(); control != nil {
			return control, nil
		}
	}
	cfg, err := config.LoadMain(c.file)
	if err != nil {
		admin, ok := config.AdminOf(c.file)
		if !ok {
			return nil, err
		}
		fmt.Fprintf(c.aside, "warning: the file is bad, and the relay is asked where it says:\n%s\n", err)
		cfg = &config.Config{Path: c.file, Admin: admin}
	}
	return reach.Find(c.ctx, cfg), nil
}

func flagGiven(flags *flag.FlagSet, name string) (given bool) {
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// own is an error that is said already as the operator is to read it.
type own string

func (e own) Error() string { return string(e) }

func said(format string, args ...any) error { return own(fmt.Sprintf(format, args...)) }

// explain says for the operator why the relay's answer is none, or no.
func (c *call) explain(err error) string {
	var no *reach.Refused
	var text own
	switch {
	case errors.As(err, &text):
		return string(text)
	case errors.Is(err, reach.ErrAbsent):
		return fmt.Sprintf("no relay answers at %s: systemctl status realtorbot-relay says whether it runs, and where it listens if the file was changed since", c.relay.At)
	case errors.As(err, &no) && no.Status == 401:
		return fmt.Sprintf("the relay at %s asks for another admin.token than this file has here: run this as root on its machine; if the file names the token as env:NAME, set NAME; or the file was changed since its start", c.relay.At)
	case errors.As(err, &no) && len(no.Faults) > 0:
		return no.Message + ":\n" + no.Faults.Error()
	case errors.As(err, &no):
		return no.Message
	}
	return fmt.Sprintf("the relay at %s can't be asked: %s", c.relay.At, err)
}

// ask makes a request. With -json the answer is printed as it came, and printed says so.
func (c *call) ask(method, path string, body, answer any) (printed bool, err error) {
	if !c.asJSON {
		return false, c.relay.Ask(c.ctx, method, path, body, answer)
	}
	var raw []byte
	if err := c.relay.Ask(c.ctx, method, path, body, &raw); err != nil {
		return false, err
	}
	_, err = c.out.Write(raw)
	return true, err
}

// say prints for people. What the relay told is printed as plain text.
func (c *call) say(format string, args ...any) {
	_, _ = io.WriteString(c.out, reach.Plain(fmt.Sprintf(format, args...)))
}

// path is that of an endpoint, or of a thing of it.
func (c *call) path(thing string) string { return "/endpoints/" + url.PathEscape(c.args[0]) + thing }

// withQuery adds the filters that were given.
func (c *call) withQuery(path string) string {
	if len(c.query) == 0 {
		return path
	}
	return path + "?" + c.query.Encode()
}
