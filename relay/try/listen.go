package try

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// stopWithin is how long listen waits for requests in flight when it is told to stop.
const stopWithin = 2 * time.Second

// Listen is the command listen: an HTTP server that prints each event posted to it, at any path, and says whether its
// signatures match. It answers 200, or 401 when a secret is given and no signature was made with it. It returns 0 when
// ctx ends, 1 when it can't listen, 2 for bad usage.
func Listen(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("listen", "[-addr :3000] [-secret S]",
		"A local receiver: prints every event that is posted to it, at any path, and checks its signature.\n"+
			"With a secret, an event that isn't signed with it is answered 401.", stdout, stderr)
	addr := c.flags.String("addr", ":3000", "`host:port` to listen on; without a host, every address of this machine; port 0 picks one")
	secretText := c.flags.String("secret", "", secretUsage)
	if code, done := c.parse(args); done {
		return code
	}
	secret, err := c.secret("secret", *secretText)
	if err != nil {
		return c.usage("%v", err)
	}
	if _, err := net.ResolveTCPAddr("tcp", *addr); err != nil {
		return c.usage("-addr %q is not host:port, as in :3000 or 127.0.0.1:3000", *addr)
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

	r := &receiver{secret: secret, now: time.Now, colors: paletteOf(stdout), out: stdout}
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
	return exitWell
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
