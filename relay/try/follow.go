package try

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/sign"
)

const (
	// silence is how long a stream may say nothing, in which time a relay says several times that it is there.
	silence = 40 * time.Second
	// A relay that is gone is tried again after a wait that grows from the one to the other.
	comeBackFirst = 200 * time.Millisecond
	comeBackLast  = 10 * time.Second
	// shownAnswer is how much of an answer is shown, in bytes.
	shownAnswer = 512
)

// follower takes the events of a running relay from its stream, shows them, and posts them on if it is told to.
type follower struct {
	*receiver
	stream  string            // the relay's /stream, with its query
	token   sign.Secret       // admin.token of the relay
	last    string            // id of the last event seen, within the stream; empty: begin with the next one
	forward string            // empty: events are only shown
	key     *sign.StandardKey // signs as Standard Webhooks has it as well; nil when the secret is none for that
}

// direct asks the relay itself. What HTTP_PROXY names is for the world outside, and would be told the token; so would be
// whoever an answer points at.
var direct = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// errRefused ends a follower: the relay will not answer better next time.
var errRefused = errors.New("the relay refuses")

// run follows until ctx ends, across interruptions. It fails when the relay can't be reached at first, or refuses.
func (f *follower) run(ctx context.Context) error {
	wait, connected := comeBackFirst, false
	for {
		err := f.read(ctx, func() {
			if connected {
				f.say(f.colors.in(green, "connected again"))
			}
			connected, wait = true, comeBackFirst
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case !connected || errors.Is(err, errRefused):
			return err
		}
		f.say(f.colors.in(red, fmt.Sprintf("the relay is gone (%v); trying again", err)))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, comeBackLast)
	}
}

// read follows over one connection until that ends.
func (f *follower) read(ctx context.Context, connected func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.stream, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if f.last != "" {
		request.Header.Set("Last-Event-ID", f.last)
	}
	if !f.token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+f.token.Reveal())
	}
	watch := time.AfterFunc(silence, cancel)
	defer watch.Stop()
	answer, err := direct.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the address, which is known
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("nothing listens on %s: is -from the relay's admin.listen?", request.URL.Host)
		}
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		return refusal(answer)
	}
	connected()
	lines := bufio.NewReaderSize(answer.Body, 64<<10)
	var id, kind string
	var data []byte
	for {
		line, err := readLine(lines)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("it closed the connection")
			}
			return err
		}
		watch.Reset(silence)
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "id":
			id = string(value)
		case "event":
			kind = string(value)
		case "data":
			data = value
		case "":
			if len(line) > 0 || data == nil {
				continue // a comment, or nothing
			}
			f.take(ctx, kind, data)
			if ctx.Err() != nil {
				return ctx.Err() // not taken: it comes again
			}
			if id != "" {
				f.last = id
			}
			id, kind, data = "", "", nil
			watch.Reset(silence) // posting it on took its time
		}
	}
}

// readLine returns the next line without its break. It is the caller's.
func readLine(r *bufio.Reader) ([]byte, error) {
	var whole []byte
	for {
		part, err := r.ReadSlice('\n')
		if whole = append(whole, part...); err == nil {
			return bytes.TrimRight(whole, "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(whole) > 2*inputMax {
			return nil, fmt.Errorf("a line of more than %d MiB", 2*inputMax>>20)
		}
	}
}

// refusal says why there is no stream.
func refusal(answer *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	var said struct {
		Error struct{ Code, Message string }
	}
	switch {
	case json.Unmarshal(text, &said) == nil && said.Error.Code == "unavailable":
		return fmt.Errorf("answered %d: %s", answer.StatusCode, harmless(said.Error.Message))
	case said.Error.Code != "":
		return fmt.Errorf("%w with %d %s: %s", errRefused, answer.StatusCode, harmless(said.Error.Code), harmless(said.Error.Message))
	case answer.StatusCode >= 500:
		return fmt.Errorf("answered %d", answer.StatusCode)
	}
	return fmt.Errorf("%w: answered %d, and not as a relay's admin listener does", errRefused, answer.StatusCode)
}

// say prints a line about the stream itself.
func (f *follower) say(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(f.out, "%s  %s\n\n", f.now().Format("15:04:05.000"), text)
}

// take shows one event of the stream, and posts it on.
func (f *follower) take(ctx context.Context, kind string, data []byte) {
	if kind == "missed" {
		var gap struct{ Events int64 }
		_ = json.Unmarshal(data, &gap) // what it says else is that some are missing
		f.say(f.colors.in(yellow, fmt.Sprintf("%d events are not kept any more and were missed", gap.Events)))
		return
	}
	var named struct{ ID, Type string }
	if kind != "" || json.Unmarshal(data, &named) != nil {
		return // of a relay that says more than this one knows
	}
	a := arrival{at: f.now(), event: named.Type, id: named.ID, attempt: "1", body: data}
	finding := "accepted by the relay"
	if f.forward != "" {
		finding = f.post(ctx, a)
		if ctx.Err() != nil {
			return
		}
	}
	f.print(a, finding)
}

// post makes one attempt as the relay does, signed with the listener's own secret, and says what was answered.
func (f *follower) post(ctx context.Context, a arrival) string {
	request, response := &fasthttp.Request{}, &fasthttp.Response{}
	request.SetRequestURI(f.forward)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	request.Header.SetUserAgent("RealtorBot-Relay/listen")
	request.Header.Set("X-RealtorBot-Event", a.event)
	request.Header.Set("X-RealtorBot-Attempt", a.attempt)
	request.Header.Set("webhook-id", a.id)
	unix := a.at.Unix()
	request.Header.Set("webhook-timestamp", strconv.FormatInt(unix, 10))
	if !f.secret.IsZero() {
		request.Header.SetBytesV("X-RealtorBot-Signature", sign.RealtorBot(nil, f.secret, a.body))
	}
	if f.key != nil {
		request.Header.SetBytesV("webhook-signature", sign.Standard(nil, []sign.StandardKey{*f.key}, a.id, unix, a.body))
	}
	request.SetBodyRaw(a.body)
	began := time.Now()
	if err := post(ctx, request, response); err != nil {
		host := string(request.URI().Host())
		if errors.Is(err, syscall.ECONNREFUSED) {
			return f.colors.in(red, "→ nothing listens on "+harmless(host))
		}
		return f.colors.in(red, "→ no answer: "+harmless(err.Error()))
	}
	color, status := green, response.StatusCode()
	if status < 200 || status > 299 {
		color = red
	}
	text := f.colors.in(color, fmt.Sprintf("→ %d %s", status, fasthttp.StatusMessage(status))) +
		fmt.Sprintf(" in %s", time.Since(began).Round(time.Millisecond))
	if body := bytes.TrimSpace(response.Body()); len(body) > 0 {
		text += "  " + string(appendHarmless(nil, body[:min(len(body), shownAnswer)], false))
	}
	return text
}
