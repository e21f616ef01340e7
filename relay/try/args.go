package try

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/sign"
)

// inputMax bounds what is read from stdin or a file, in bytes: the largest max_body that a relay can be configured with.
const inputMax = 16 << 20

const secretUsage = "`secret` as in the configuration; env:NAME or file:/path keep it out of the list of processes"

// command is one invocation: its flags and where it writes.
type command struct {
	name           string
	about          string // usage: the lines after the synopsis
	synopsis       string // usage: the arguments
	flags          *flag.FlagSet
	stdout, stderr io.Writer
}

func newCommand(name, synopsis, about string, stdout, stderr io.Writer) *command {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its own complaints are several lines long
	return &command{name, about, synopsis, flags, stdout, stderr}
}

// parse reads args into the flags. When done, the command ends with code: help was asked for, or the usage was bad.
func (c *command) parse(args []string) (code int, done bool) {
	err := c.flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(c.stdout)
		return exit.Well, true
	case err != nil:
		return c.usage("%v", err), true
	case c.flags.NArg() > 0: // not shown: it may be the second half of a secret
		return c.usage("%d arguments too many: quote values that hold spaces", c.flags.NArg()), true
	}
	return exit.Well, false
}

func (c *command) help(w io.Writer) {
	fmt.Fprintf(w, "usage: realtorbot-relay %s %s\n\n%s\n\n", c.name, c.synopsis, c.about)
	c.flags.SetOutput(w)
	c.flags.PrintDefaults()
}

// usage complains about the arguments and returns the exit code for it.
func (c *command) usage(format string, args ...any) int {
	fmt.Fprintf(c.stderr, "%s: %s (realtorbot-relay %s -h shows how)\n", c.name, fmt.Sprintf(format, args...), c.name)
	return exit.Usage
}

// fail complains about what happened and returns the exit code for it.
func (c *command) fail(format string, args ...any) int {
	fmt.Fprintf(c.stderr, "%s: %s\n", c.name, fmt.Sprintf(format, args...))
	return exit.Failed
}

// given reports whether the flag stands in the arguments, also with an empty value.
func (c *command) given(name string) bool {
	found := false
	c.flags.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// secret resolves the value of the named flag. Without the flag the secret is empty; given but empty is an error, as
// that is what an unset shell variable leaves behind.
func (c *command) secret(flagName, value string) (sign.Secret, error) {
	if !c.given(flagName) {
		return sign.Secret{}, nil
	}
	if name, ok := strings.CutPrefix(value, "env:"); ok {
		if value = os.Getenv(name); value == "" {
			return sign.Secret{}, fmt.Errorf("read -%s: environment variable %q is not set or empty", flagName, name)
		}
	} else if path, ok := strings.CutPrefix(value, "file:"); ok {
		text, err := os.ReadFile(path)
		if err != nil {
			return sign.Secret{}, fmt.Errorf("read -%s: %w", flagName, err)
		}
		if reason := config.Misencoded(string(text)); reason != "" {
			return sign.Secret{}, fmt.Errorf("read -%s: file %q %s", flagName, path, reason)
		}
		// Editors and echo end a file with a line break, which is no part of the secret. The configuration cuts the same.
		cut := false
		if value, cut = strings.CutSuffix(string(text), "\n"); cut {
			value = strings.TrimSuffix(value, "\r")
		}
		if value == "" {
			return sign.Secret{}, fmt.Errorf("read -%s: file %q is empty", flagName, path)
		}
	} else if strings.HasPrefix(value, "cred:") {
		return sign.Secret{}, fmt.Errorf("read -%s: systemd credentials exist inside a service only; use file:/path", flagName)
	}
	if value == "" {
		return sign.Secret{}, fmt.Errorf("-%s is empty: leave it out or give a value", flagName)
	}
	return sign.NewSecret(value), nil
}

// Input reads all of standard input for a command, and says so when that is a terminal. what is read is what.
func Input(ctx context.Context, command, what string, stdin io.Reader, stderr io.Writer) ([]byte, error) {
	if isTerminal(stdin) {
		fmt.Fprintf(stderr, "%s: reading %s from the terminal; end it with Ctrl-D\n", command, what)
	}
	return readAll(ctx, stdin)
}

// readAll reads r to its end, at most inputMax bytes, or until ctx ends. In that case the goroutine that reads stays
// behind until r ends: a read from a terminal can't be interrupted.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(r, inputMax+1))
		read <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case got := <-read:
		if got.err == nil && len(got.text) > inputMax {
			return nil, fmt.Errorf("more than %d MiB", inputMax>>20)
		}
		return got.text, got.err
	}
}
