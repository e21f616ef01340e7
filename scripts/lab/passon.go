package main

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/valyala/fasthttp"
)

// passOn is the least that a relay can do: an event that was answered is in memory until it is posted, and gone when the
// process ends or the receiver does not want it. What it takes is what HTTP alone costs a relay.
type passOn struct {
	client  fasthttp.HostClient
	url     string
	waiting chan *[]byte
	over    chan struct{}
	bodies  sync.Pool // of *[]byte
}

const (
	passOnSenders = 16   // the relay's default concurrency
	passOnWaiting = 4096 // events that may wait for a sender before their posters do
)

func runPassOn(ctx context.Context, args []string, _ io.Writer) error {
	fs := newFlags("pass-on", "Serves POST on any path: parses the JSON, answers 200, and then posts the body to another address, from memory and unsigned.\nEnds on SIGTERM or after an hour.")
	listen := fs.String("listen", "127.0.0.1:9004", "loopback `address`")
	to := fs.String("to", "", "loopback `address` of the receiver (required)")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *to == "" {
		return usageError("pass-on needs -to")
	}
	ln, err := listenLoopback(*listen)
	if err != nil {
		return err
	}
	p := &passOn{
		client:  fasthttp.HostClient{Addr: *to, NoDefaultUserAgentHeader: true, MaxConns: passOnSenders},
		url:     "http://" + *to + "/events",
		waiting: make(chan *[]byte, passOnWaiting),
		over:    make(chan struct{}),
		bodies:  sync.Pool{New: func() any { return new([]byte) }},
	}
	var senders sync.WaitGroup
	for range passOnSenders {
		senders.Go(p.send)
	}
	err = serve(ctx, newServer(yardstickHandler(p.take)), ln, serveLimit)
	close(p.over)
	senders.Wait()
	return err
}

func (p *passOn) take(body []byte) error {
	buf := p.bodies.Get().(*[]byte)
	*buf = append((*buf)[:0], body...)
	select {
	case p.waiting <- buf:
		return nil
	case <-p.over:
		return context.Canceled
	}
}

func (p *passOn) send() {
	var req fasthttp.Request
	var res fasthttp.Response
	req.SetRequestURI(p.url)
	req.Header.SetMethod(http.MethodPost)
	req.Header.SetContentType("application/json")
	for {
		select {
		case buf := <-p.waiting:
			req.SetBodyRaw(*buf)
			_ = p.client.Do(&req, &res) // the receiver's count tells what did not arrive
			p.bodies.Put(buf)
		case <-p.over:
			return
		}
	}
}
