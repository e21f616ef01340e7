package try

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/exit"
	"realtorbot-relay/sign"
)

// sendTimeout bounds one send from connection to last byte.
const sendTimeout = 30 * time.Second

// Send is the command send: posts one event to a relay's intake and prints the answer. It returns 0 when the event was
// accepted now or before, 1 when it was not, with the relay's reason, and 2 for bad usage. stdin is read for -data -
// alone.
func Send(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := newCommand("send", "-type T [-data JSON] [-url URL] [-token S] [-secret S] [-id ID]",
		"Posts one event to a relay and prints the answer.", stdout, stderr)
	eventType := c.flags.String("type", "", "event `type`, as in lead.created (required)")
	data := c.flags.String("data", "", "the event's data: a `JSON` object, - for standard input, or @file; without it a sample of the type's")
	target := c.flags.String("url", "http://127.0.0.1:8080/events", "`URL` of the relay's intake: server.listen and the source's path")
	tokenText := c.flags.String("token", "", "bearer token of the source; `token` may be env:NAME or file:/path as well")
	secretText := c.flags.String("secret", "", "signs with X-RealtorBot-Signature; "+secretUsage)
	id := c.flags.String("id", "", "event `id`; without one the relay makes it")
	if code, done := c.parse(args); done {
		return code
	}
	if *eventType == "" {
		return c.usage("-type is required, as in -type lead.created")
	}
	intake, err := parseURL(*target)
	if err != nil {
		return c.usage("-url must be http://host:port/path, or https, without a user name")
	}
	token, err := c.secret("token", *tokenText)
	if err != nil {
		return c.usage("%v", err)
	}
	secret, err := c.secret("secret", *secretText)
	if err != nil {
		return c.usage("%v", err)
	}
	if !c.given("data") {
		if *data = samples[*eventType]; *data == "" {
			*data = "{}" // a type of one's own
		}
	}
	text, err := readData(ctx, *data, stdin)
	if err != nil {
		return c.fail("read -data: %v", err)
	}
	if !json.Valid(text) {
		return c.usage("-data is not JSON; quote it for the shell, as in -data '{\"score\":75}'")
	}
	body, err := eventBody(*id, *eventType, text)
	if err != nil {
		return c.fail("build event: %v", err)
	}

	request, response := &fasthttp.Request{}, &fasthttp.Response{}
	request.SetRequestURI(intake.String())
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	if !token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	if !secret.IsZero() {
		request.Header.SetBytesV("X-RealtorBot-Signature", sign.RealtorBot(nil, secret, body))
	}
	request.SetBodyRaw(body)
	if err := post(ctx, request, response); err != nil {
		return c.fail("%s", unreachable(ctx, intake.Host, err))
	}
	return c.report(response, *eventType)
}

// readData is the value of -data, from where it says.
func readData(ctx context.Context, data string, stdin io.Reader) ([]byte, error) {
	if data == "-" {
		return readAll(ctx, stdin)
	}
	path, ok := strings.CutPrefix(data, "@")
	if !ok {
		return []byte(data), nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readAll(ctx, file)
}

// eventBody is the event as JSON, without an id when that is empty. The timestamp is left to the relay.
func eventBody(id, eventType string, data []byte) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // so that data travels as it was given
	err := encoder.Encode(struct {
		ID   string          `json:"id,omitempty"`
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}{id, eventType, data})
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// post makes one attempt, without retries or redirects. When ctx ends its connection is closed, which ends the attempt.
func post(ctx context.Context, request *fasthttp.Request, response *fasthttp.Response) error {
	client := &fasthttp.Client{
		NoDefaultUserAgentHeader:  true,
		MaxIdemponentCallAttempts: 1,
		MaxResponseBodySize:       1 << 20,
		DialTimeout: func(addr string, timeout time.Duration) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", addr) // IPv4 and IPv6
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			return conn, nil
		},
	}
	defer client.CloseIdleConnections()
	return client.DoTimeout(request, response, sendTimeout)
}

// unreachable says in one line why no answer came from host.
func unreachable(ctx context.Context, host string, err error) string {
	switch {
	case ctx.Err() != nil:
		return "stopped before the relay answered: the event may have been accepted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens on %s: start the relay, or say where it is with -url", host)
	case errors.Is(err, fasthttp.ErrTimeout), errors.Is(err, fasthttp.ErrDialTimeout):
		return fmt.Sprintf("no answer from %s within %s: the event may have been accepted; send it again with the same -id", host, sendTimeout)
	}
	return fmt.Sprintf("post to %s: %s", host, harmless(err.Error()))
}

// report prints the relay's answer and returns the exit code.
func (c *command) report(response *fasthttp.Response, eventType string) int {
	var answer struct {
		ID        string
		Status    string
		Endpoints int
		Error     struct{ Code, Message string }
	}
	status, body := response.StatusCode(), response.Body()
	parsed := json.Unmarshal(body, &answer) == nil

	switch {
	case status == fasthttp.StatusOK && parsed && answer.Status == "accepted":
		whereTo := fmt.Sprintf("for %d endpoints", answer.Endpoints)
		switch answer.Endpoints {
		case 0:
			whereTo = "kept, but no endpoint subscribes to " + harmless(eventType)
		case 1:
			whereTo = "for 1 endpoint"
		}
		fmt.Fprintf(c.stdout, "accepted %s: %s\n", harmless(answer.ID), whereTo)
		return exit.Well
	case status == fasthttp.StatusOK && parsed && answer.Status == "duplicate":
		fmt.Fprintf(c.stdout, "duplicate %s: accepted before, so it is not delivered again\n", harmless(answer.ID))
		return exit.Well
	case status == fasthttp.StatusOK:
		return c.fail("answered 200, but not as a relay does: is -url the relay's intake?")
	case parsed && answer.Error.Code != "":
		retry := ""
		if after := response.Header.Peek("Retry-After"); len(after) > 0 {
			retry = fmt.Sprintf(" (try again in %s s)", harmless(string(after)))
		}
		return c.fail("refused with %d %s: %s%s", status, harmless(answer.Error.Code), harmless(answer.Error.Message), retry)
	}
	return c.fail("answered %d %s, and not as a relay does: is -url the relay's intake?", status, fasthttp.StatusMessage(status))
}
