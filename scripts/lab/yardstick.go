package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// A server of the laboratory that nobody stops ends after this long.
const serveLimit = time.Hour

// newServer has the settings that the relay's intake must have too, so that only the storing differs.
func newServer(handler fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      handler,
		ReadTimeout:                  30 * time.Second,
		IdleTimeout:                  time.Minute,
		NoDefaultServerHeader:        true,
		DisablePreParseMultipartForm: true,
		CloseOnShutdown:              true,
	}
}

// serve serves until ctx ends or the limit has passed.
func serve(ctx context.Context, srv *fasthttp.Server, ln net.Listener, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	// Connections that are kept alive end with the process; what is being answered gets a moment.
	stop, cancelStop := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancelStop()
	if err := srv.ShutdownWithContext(stop); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop serving %s: %w", ln.Addr(), err)
	}
	return nil
}

// As long as what the relay answers.
const yardstickAnswer = `{"id":"evt_01234567_000000000","status":"accepted","endpoints":1}`

// yardstickHandler parses the event, calls store with bytes that are valid until it returns, and answers.
func yardstickHandler(store func(body []byte) error) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType("application/json")
		body := ctx.PostBody()
		if !isEvents(ctx.Request.Header.ContentType(), body) {
			ctx.SetStatusCode(fasthttp.StatusBadRequest)
			ctx.SetBodyString(`{"error":{"code":"invalid_json","message":"not JSON"}}`)
			return
		}
		if err := store(body); err != nil {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			ctx.SetBodyString(`{"error":{"code":"unavailable","message":"the log could not be written"}}`)
			return
		}
		ctx.SetBodyString(yardstickAnswer)
	}
}

// isEvents reports whether a body is JSON, or, for a batch, whether each of its lines is.
func isEvents(contentType, body []byte) bool {
	if string(contentType) != "application/x-ndjson" {
		return json.Valid(body)
	}
	for line := range bytes.Lines(body) {
		if !json.Valid(line) {
			return false
		}
	}
	return len(body) > 0
}

func runKeepNothing(ctx context.Context, args []string, _ io.Writer) error {
	fs := newFlags("keep-nothing", "Serves POST on any path: parses the JSON, stores nothing, answers 200. Ends on SIGTERM or after an hour.")
	listen := fs.String("listen", "127.0.0.1:9001", "loopback `address`")
	cert, key := fs.String("cert", "", "`file` of a certificate: speak TLS"), fs.String("key", "", "`file` of its key")
	unpack := fs.Bool("unpack", false, "unpack and read bodies as an ordinary server does, without a limit of its own")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	ln, err := listenLoopback(*listen)
	if err != nil {
		return err
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			ln.Close()
			return err
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	handler := yardstickHandler(func([]byte) error { return nil })
	if *unpack {
		handler = readAsUsual(handler)
	}
	return serve(ctx, newServer(handler), ln, serveLimit)
}

// readAsUsual unpacks what is compressed and reads it before the next handler is asked.
func readAsUsual(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		body, err := ctx.Request.BodyUncompressed()
		var read any
		if err == nil && string(ctx.Request.Header.ContentType()) != "application/x-ndjson" {
			err = json.Unmarshal(body, &read)
		}
		if err != nil {
			ctx.Error(err.Error(), fasthttp.StatusBadRequest)
			return
		}
		ctx.Request.Header.Del(fasthttp.HeaderContentEncoding)
		ctx.Request.SetBody(body)
		next(ctx)
	}
}

func runBareLog(ctx context.Context, args []string, _ io.Writer) error {
	fs := newFlags("bare-log", "Serves POST on any path: parses the JSON, appends the body to a file, syncs once for all that wait, answers 200.\nEnds on SIGTERM or after an hour.")
	listen := fs.String("listen", "127.0.0.1:9002", "loopback `address`")
	file := fs.String("file", "", "the log's `path` (required; appended to, made when missing)")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *file == "" {
		return usageError("bare-log needs -file")
	}
	ln, err := listenLoopback(*listen)
	if err != nil {
		return err
	}
	log, err := openBareLog(*file)
	if err != nil {
		ln.Close()
		return err
	}
	served := serve(ctx, newServer(yardstickHandler(log.append)), ln, serveLimit)
	return errors.Join(served, log.close())
}

// bareLog is the least that a durable intake can do: append is safe for concurrent use and returns when the body is
// synced. One goroutine owns the file.
type bareLog struct {
	file    *os.File
	waiting chan *entry
	done    chan struct{}
	entries sync.Pool // of *entry
}

// entry is one body that waits for the sync which covers it. The body belongs to the caller of append.
type entry struct {
	body   []byte
	synced chan error // capacity 1
}

// Bounds what one sync covers; there are never more waiters than connections.
const bareLogGather = 4096

func openBareLog(path string) (*bareLog, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &bareLog{
		file:    file,
		waiting: make(chan *entry, bareLogGather),
		done:    make(chan struct{}),
		entries: sync.Pool{New: func() any { return &entry{synced: make(chan error, 1)} }},
	}
	go l.commit()
	return l, nil
}

func (l *bareLog) append(body []byte) error {
	e := l.entries.Get().(*entry)
	e.body = body
	l.waiting <- e
	err := <-e.synced
	e.body = nil
	l.entries.Put(e)
	return err
}

// commit takes what waits, without waiting for more: the previous sync is the window in which it gathered.
func (l *bareLog) commit() {
	defer close(l.done)
	var buf []byte
	var batch []*entry
	for e := range l.waiting {
		buf, batch = buf[:0], batch[:0]
		for {
			buf = append(append(buf, e.body...), '\n')
			batch = append(batch, e)
			if len(batch) == bareLogGather || len(l.waiting) == 0 {
				break
			}
			e = <-l.waiting
		}
		_, err := l.file.Write(buf)
		if err == nil {
			err = unix.Fdatasync(int(l.file.Fd()))
		}
		for _, e := range batch {
			e.synced <- err
		}
	}
}

// close must come after the last append has returned.
func (l *bareLog) close() error {
	close(l.waiting)
	<-l.done
	return l.file.Close()
}
