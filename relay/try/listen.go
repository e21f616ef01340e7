package try

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/exit"
	"realtorbot-relay/sign"
)

// stopWithin is how long listen waits for requests in flight when it is told to stop.
const stopWithin = 2 * time.Second

// Listen is the command listen: an HTTP server that prints each event posted to it, at any path, and says whether its
// signatures match. It answers 200, or 401 when a secret is given and no signature was made with it, or what it was told
// to rehearse. With -from it takes the events of a running relay instead. It returns 0 when ctx ends, 1 when it can't
// listen or follow, 2 for bad usage.
func Listen(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("listen", "[-addr :3000] [-secret S] [-fail 30%] [-delay 2s] [-status 503]\n"+
		"       realtorbot-relay listen -from URL [-token T] [-types T,…] [-all] [-forward URL] [-secret S]",
		"A local receiver: prints every event that is posted to it, at any path, and checks its signature.\n"+
			"With a secret, an event that isn't signed with it is answered 401.\n\n"+
			"With -from, takes the events of a running relay from its admin listener instead, without taking any from an\n"+
			"endpoint, and with -forward posts each to a receiver on this machine as the relay does.", stdout, stderr)
	addr := c.flags.String("addr", ":3000", "`host:port` to listen on; without a host, every address of this machine; port 0 picks one")
	secretText := c.flags.String("secret", "", secretUsage+"; with -forward, signs")
	fail := c.flags.String("fail", "", "answer so many `percent` of the events with -status, by default 500")
	delay := c.flags.Duration("delay", 0, "wait for a `duration` before each answer")
	status := c.flags.Int("status", 0, "answer with this `status`; with -fail, to those that fail")
	from := c.flags.String("from", "", "`URL` of a relay's admin listener, as in http://127.0.0.1:8081")
	tokenText := c.flags.String("token", "", "admin.token of that relay; `token` may be env:NAME or file:/path as well")
	types := c.flags.String("types", "", "only events of these `types`, as in lead.*,appointment.scheduled")
	all := c.flags.Bool("all", false, "begin with the oldest event that is kept, not with the next one")
	forward := c.flags.String("forward", "", "`URL` to post each event to")
	if code, done := c.parse(args); done {
		return code
	}
	secret, err := c.secret("secret", *secretText)
	if err != nil {
		return c.usage("%v", err)
	}
	for _, name := range []string{"token", "types", "all", "forward"} {
		if c.given(name) && !c.given("from") {
			return c.usage("-%s is for following a relay: name that with -from", name)
		}
	}
	for _, name := range []string{"addr", "fail", "delay", "status"} {
		if c.given(name) && c.given("from") {
			return c.usage("-%s is for a receiver of its own, not for following a relay with -from", name)
		}
	}
	if c.given("from") {
		token, err := c.secret("token", *tokenText)
		if err != nil {
			return c.usage("%v", err)
		}
		f := &follower{receiver: &receiver{secret: secret, now: time.Now, colors: paletteOf(stdout), out: stdout}, token: token}
		if *all {
			f.last = "0"
		}
		return c.follow(ctx, f, *from, *types, *forward)
	}
	if _, err := net.ResolveTCPAddr("tcp", *addr); err != nil {
		return c.usage("-addr %q is not host:port, as in :3000 or 127.0.0.1:3000", *addr)
	}
	rehearsed, err := newTrouble(ctx, *fail, *status, *delay)
	if err != nil {
		return c.usage("%v", err)
	}

	listener, err := net.Listen("tcp", *addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return c.fail("address %s is taken by another program: stop that one, or choose another port with -addr", *addr)
	case errors.Is(err, syscall.EACCES):
		return c.fail("address %s needs more rights: choose a port above 1023 with -addr", *addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return c.fail("address %s is not one of this machine: choose another with -addr", *addr)
	case err != nil:
		return c.fail("open %q: %v", *addr, err)
	}

	r := &receiver{secret: secret, trouble: rehearsed, now: time.Now, colors: paletteOf(stdout), out: stdout}
	server := &fasthttp.Server{
		Handler:                      r.serve,
		ErrorHandler:                 r.refuse,
		Logger:                       silent{}, // what it logs, refuse prints
		ReadTimeout:                  30 * time.Second,
		IdleTimeout:                  time.Minute,
		ReadBufferSize:               16 << 10,
		MaxRequestBodySize:           inputMax,
		Concurrency:                  1024,
		CloseOnShutdown:              true,
		NoDefaultServerHeader:        true,
		DisablePreParseMultipartForm: true,
	}

	fmt.Fprintf(stdout, "listening on %s, any path; stop with Ctrl-C\n", listener.Addr())
	fmt.Fprintf(stdout, "endpoint for the relay's configuration: url = %q\n", endpointURL(listener.Addr()))
	if secret.IsZero() {
		fmt.Fprintf(stdout, "signatures are not checked: give the endpoint's secret with -secret\n")
	}
	if what := rehearsed.String(); what != "" {
		fmt.Fprintf(stdout, "rehearsing: %s\n", what)
	}
	fmt.Fprintln(stdout)

	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		within, done := context.WithTimeout(context.Background(), stopWithin)
		defer done()
		_ = server.ShutdownWithContext(within) // what is left is a client that doesn't finish its request
		_ = listener.Close()                   // when ctx ended before Serve began, Shutdown knew no listener
	}()
	err = server.Serve(listener)
	wanted := ctx.Err() != nil
	cancel()
	<-stopped
	if err != nil && !wanted {
		return c.fail("serve on %q: %v", *addr, err)
	}
	return exit.Well
}

// follow completes f from the flags and has it run.
func (c *command) follow(ctx context.Context, f *follower, from, types, forward string) int {
	relay, err := parseURL(from)
	if err != nil {
		return c.usage("-from must be http://host:port, or https, without a user name: the relay's admin listener")
	}
	relay = relay.JoinPath("stream")
	relay.RawQuery = ""
	if types != "" {
		relay.RawQuery = url.Values{"type": {types}}.Encode()
	}
	f.stream = relay.String()
	if forward != "" {
		to, err := parseURL(forward)
		if err != nil {
			return c.usage("-forward must be http://host:port/path, or https, without a user name")
		}
		f.forward = to.String()
		if key, err := sign.ParseStandardKey(f.secret); err == nil {
			f.key = &key
		}
		if f.secret.IsZero() {
			fmt.Fprintf(c.stdout, "events are not signed: give the receiver's secret with -secret\n")
		}
	}
	fmt.Fprintf(c.stdout, "following the relay at %s; stop with Ctrl-C\n\n", relay.Host)
	if err := f.run(ctx); err != nil {
		return c.fail("follow %s: %v", relay.Host, err)
	}
	return exit.Well
}

// parseURL takes http and https without credentials. The error doesn't show the URL: it may hold a password.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, errors.New("not a URL that can be used")
	}
	return u, nil
}

// endpointURL is where a relay on this machine reaches the listener. The path is the one that config.example.toml
// uses; any other does as well.
func endpointURL(addr net.Addr) string {
	host, port := "127.0.0.1", ""
	if tcp, ok := addr.(*net.TCPAddr); ok {
		port = strconv.Itoa(tcp.Port)
		if !tcp.IP.IsUnspecified() {
			host = tcp.IP.String()
		}
	}
	return "http://" + net.JoinHostPort(host, port) + "/webhooks/realtorbot"
}

// silent is a fasthttp.Logger that drops everything.
type silent struct{}

func (silent) Printf(string, ...any) {}
