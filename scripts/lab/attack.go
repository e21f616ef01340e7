// attack tries to break the promise that nobody gets in: framing, credentials, bodies and memory.

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	attackToken  = "a-token-that-the-attackers-lack"
	attackSecret = "a-secret-that-the-attackers-lack"
	attackMemory = 200 // MiB of anonymous memory that the relay may take
	attackLeast  = 96  // requests that the attackers must have ended, or the attack was none
	attackLax    = 20  // ambiguous requests that another server must take, or they are none
	attackWait   = 15 * time.Second
)

// attackCase is a request, and what it is to be answered: 0 for any refusal.
type attackCase struct {
	name, request string
	status        int
}

// sealed is the signature over a body.
func sealed(body string) string {
	mac := hmac.New(sha256.New, []byte(attackSecret))
	_, _ = io.WriteString(mac, body)
	return "X-RealtorBot-Signature: " + hex.EncodeToString(mac.Sum(nil))
}

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

const attackEvent = `{"type":"test","data":{}}`

// posting is a request to a path, with more headers and a body.
func posting(path, headers, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", path, headers, len(body), body)
}

// attackCases are refused all but those with a status of 200, which are the controls.
func attackCases() map[string][]attackCase {
	const head = "POST /open HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
	const chunked = head + "Transfer-Encoding: chunked\r\n\r\n"
	const event = "19\r\n" + attackEvent + "\r\n0\r\n\r\n"
	bearer := "Authorization: Bearer "
	return map[string][]attackCase{
		"framing": {
			{"control: a length", posting("/open", "", attackEvent), 200}, {"control: chunks", chunked + event, 200},
			{"control: an extension", chunked + "19;a=b\r\n" + event[4:], 200},
			{"length and chunks", head + "Content-Length: 25\r\nTransfer-Encoding: chunked\r\n\r\n" + event, 400},
			{"two lengths", head + "Content-Length: 25\r\nContent-Length: 26\r\n\r\n" + attackEvent, 400},
			{"signed length", head + "Content-Length: +25\r\n\r\n" + attackEvent, 400},
			{"two encodings", head + "Transfer-Encoding: gzip, chunked\r\n\r\n" + event, 400},
			{"folded header", head + "X: 1\r\n 2\r\nContent-Length: 25\r\n\r\n" + attackEvent, 400},
			{"space before the colon", head + "Content-Length : 25\r\n\r\n" + attackEvent, 400},
			{"space in a name", head + "X Y: 1\r\nContent-Length: 25\r\n\r\n" + attackEvent, 400},
			{"lines that end in LF", strings.ReplaceAll(posting("/open", "", attackEvent), "\r\n", "\n"), 400},
			{"blank behind a size", chunked + "19 \r\n" + event[4:], 400}, {"NUL behind a size", chunked + "19\x00\r\n" + event[4:], 400},
			{"size with a sign", chunked + "+19\r\n" + event[4:], 400}, {"chunk too long", chunked + "18\r\n" + event[4:], 400},
			{"user in the host", strings.Replace(posting("/open", "", attackEvent), "Host: ", "Host: x@", 1), 400},
			{"two hosts", strings.Replace(posting("/open", "", attackEvent), "Host: ", "Host: a\r\nHost: ", 1), 400},
			{"absolute target", strings.Replace(posting("/open", "", attackEvent), "POST /", "POST http://localhost/", 1), 400},
			{"long extension", chunked + "19;" + strings.Repeat("x", 5000) + "\r\n" + event[4:], 400},
			{"long headers", head + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 20) + "\r\n", 431},
		},
		"credentials": {
			{"control: the token", posting("/token", bearer+attackToken+"\r\n", attackEvent), 200},
			{"control: the signature", posting("/signed", sealed(attackEvent)+"\r\n", attackEvent), 200},
			{"no token", posting("/token", "", attackEvent), 401}, {"a longer token", posting("/token", bearer+attackToken+"x\r\n", attackEvent), 401},
			{"a shorter token", posting("/token", bearer+attackToken[:8]+"\r\n", attackEvent), 401}, {"an empty token", posting("/token", bearer+"\r\n", attackEvent), 401},
			{"basic", posting("/token", "Authorization: Basic "+attackToken+"\r\n", attackEvent), 401},
			{"the token in the query", posting("/token?token="+attackToken, "", attackEvent), 401},
			{"no signature", posting("/signed", "", attackEvent), 401}, {"another body's signature", posting("/signed", sealed("{}")+"\r\n", attackEvent), 401},
			{"the token for a signature", posting("/signed", bearer+attackToken+"\r\n", attackEvent), 401},
			{"escaped path", posting("/%6fpen", "", attackEvent), 404}, {"path with dots", posting("/x/../open", "", attackEvent), 404},
			{"a page's host", strings.Replace(posting("/open", "", attackEvent), "localhost", "rebound.example", 1), 403},
			{"a form", strings.Replace(posting("/open", "", attackEvent), "application/json", "text/plain", 1), 415},
			{"the relay's own type", posting("/open", "", `{"type":"relay.endpoint.down","data":{}}`), 400},
		},
		"bodies": {
			{"control: a large one", posting("/open", "", `{"type":"test","data":{"x":"`+strings.Repeat("x", 1_000_000)+`"}}`), 200},
			{"control: compressed", posting("/open", "Content-Encoding: gzip\r\n", packed(attackEvent)), 200},
			{"members that repeat", posting("/open", "", `{"type":"test","data":{`+strings.Repeat(`"":0,`, 200_000)+`"a":0}}`), 400},
			{"many members", posting("/open", "", `{"type":"test","data":{"a":[`+strings.Repeat(`{"a":0},`, 110_000)+`0]}}`), 413},
			{"many events", posting("/open", "", "["+strings.Repeat(attackEvent+",", 20_000)+attackEvent+"]"), 413},
			{"a bomb", posting("/open", "Content-Encoding: gzip\r\n", packed(strings.Repeat(" ", 64<<20))), 413},
			{"deep", posting("/open", "", strings.Repeat("[", 500_000)), 400}, {"invalid UTF-8", posting("/open", "", `{"type":"test","data":{"a":"`+"\xff"+`"}}`), 400},
			{"subnormal numbers, unsigned", posting("/signed", "Content-Encoding: gzip\r\n"+sealed("")+"\r\n", packed("["+strings.Repeat("5e-324,", 149_000)+"0]")), 401},
		},
	}
}

// tell sends a request and returns the status of its answer, 0 without one.
func tell(ctx context.Context, addr, request string) int {
	return tellBy(ctx, &net.Dialer{}, addr, request)
}

func tellBy(ctx context.Context, by dials, addr, request string) int {
	ctx, cancel := context.WithTimeout(ctx, attackWait)
	defer cancel()
	conn, err := by.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	written := make(chan struct{})
	go func() { // the answer may come before all is sent
		defer close(written)
		_, _ = io.WriteString(conn, request)
	}()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	_ = conn.Close()
	<-written
	if err != nil {
		return 0
	}
	return answer.StatusCode
}

func runAttack(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("attack", "Attacks a relay by framing, credentials, bodies and at its admin listener, each with controls that must get in; by names\n"+
		"that lead where nobody meant, and by endpoints that answer without end; by a flood of new connections from eight addresses; and then by memory: bodies that wait and compressed ones without a credential, and chunk extensions, while\n"+
		"honest ones post. Exit code 1 when anything gets in that may not, a control does not, an honest post is refused (of those beside\n"+
		"the flood 2 %), or the relay takes more than "+fmt.Sprint(attackMemory)+" MiB.")
	var s site
	s.flags(fs)
	d := fs.Duration("d", 15*time.Second, "how long the attack on memory takes")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *d <= 0 || *d > serveLimit {
		return usageError("-d must be more than 0 and at most an hour")
	}
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()
	relay, err := s.newRelay("attacked", nil, fmt.Sprintf("[[source]]\nname = \"open\"\npath = \"/open\"\n[[source]]\nname = \"token\"\npath = \"/token\"\ntoken = %q\n"+
		"[[source]]\nname = \"signed\"\npath = \"/signed\"\nsecret = %q", attackToken, attackSecret))
	if err != nil {
		return err
	}
	if _, err := relay.start(ctx); err != nil {
		return err
	}
	defer relay.proc.kill()
	var failed error
	entered := 0
	all := attackCases()
	ambiguous, sound := framingCases()
	all["framing, and a second request behind it"] = append(ambiguous, sound...)
	entered += len(sound) // the second requests
	lax, err := takenByOthers(ctx, ambiguous)
	if err != nil {
		return err
	}
	if lax < attackLax {
		failed = fmt.Errorf("framing: a server that is not so strict takes %d of %d requests, which shows little", lax, len(ambiguous))
	}
	for kind, cases := range all {
		for _, c := range cases {
			if got := tell(ctx, relay.ingest, c.request); got != c.status && (c.status != 0 || got/100 == 2) {
				failed = errors.Join(failed, fmt.Errorf("%s, %s: answered %d, not %d", kind, c.name, got, c.status))
			}
			if c.status == 200 {
				entered++
			}
		}
		fmt.Fprintf(out, "%s: %d cases\n", kind, len(cases))
	}
	var stats struct{ Totals struct{ Accepted int } }
	if err := relay.call(ctx, http.MethodGet, "http://"+relay.admin+"/stats", &stats); err != nil {
		return err
	}
	if stats.Totals.Accepted != entered {
		failed = errors.Join(failed, fmt.Errorf("%d events got in, not the %d of the controls", stats.Totals.Accepted, entered))
	}
	fmt.Fprintf(out, "framing: a server as fasthttp comes takes %d of %d that are refused\n", lax, len(ambiguous))
	cases, err := besiegeAdmin(ctx, &s)
	failed = errors.Join(failed, err)
	fmt.Fprintf(out, "admin: %d cases\n", cases)
	if os.Geteuid() == 0 || os.Getenv("CI") != "" {
		cases, err = besiegeGuard(ctx, &s)
		failed = errors.Join(failed, err)
		fmt.Fprintf(out, "guard: %d cases\n", cases)
	} else {
		fmt.Fprintln(out, "guard: left out: it needs root")
	}
	failed = errors.Join(failed, besiegeReceivers(ctx, &s, out))
	failed = errors.Join(failed, besiegePlaces(ctx, &s, out))
	failed = errors.Join(failed, overrun(ctx, relay, *d, out), relay.alive(), ctx.Err())
	return failed
}

// takenByOthers says how many of the requests a server takes that has what fasthttp comes with: the control of what is refused.
func takenByOthers(ctx context.Context, cases []attackCase) (taken int, err error) {
	addr, err := freeAddress()
	if err != nil {
		return 0, err
	}
	ln, err := listenLoopback(addr)
	if err != nil {
		return 0, err
	}
	server := newServer(yardstickHandler(func([]byte) error { return nil }))
	server.Logger = quiet{}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	for _, c := range cases {
		if tell(ctx, addr, c.request) == 200 {
			taken++
		}
	}
	return taken, errors.Join(server.Shutdown(), <-served, ctx.Err())
}

// overrun attacks the relay's memory, while honest ones post.
func overrun(ctx context.Context, r *relay, d time.Duration, out io.Writer) error {
	attack, retreat := context.WithTimeout(ctx, d)
	defer retreat()
	var memory memoryMeter
	memory.watch(r.proc.pid())
	defer memory.stop()
	const head = "POST /signed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	unsigned := sealed("") + "\r\n"
	members := "{" + strings.Repeat(`"":0,`, 200_000) + `"a":0}`
	weapons := []string{
		head + unsigned + "Content-Length: 1048576\r\n\r\n" + strings.Repeat(" ", 1<<20-10),
		posting("/signed", "Content-Encoding: gzip\r\n"+unsigned, packed(members)),
		head + unsigned + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 30_000)+"\r\nx\r\n", 30),
	}
	var ended atomic.Int64
	var all sync.WaitGroup
	for i := range 96 {
		all.Go(func() {
			weapon := weapons[i%len(weapons)]
			for attack.Err() == nil {
				tell(attack, r.ingest, weapon)
				ended.Add(1)
			}
		})
	}
	posts, refused := 0, 0
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for attack.Err() == nil {
		if posts++; tell(ctx, r.ingest, posting("/token", "Authorization: Bearer "+attackToken+"\r\n", attackEvent)) != 200 {
			refused++
		}
		<-tick.C
	}
	all.Wait()
	memory.stop()
	result := map[string]any{"attack": "memory", "posts": posts, "refused": refused, "attackers_requests": ended.Load(), "memory_mib": int(memory.max())}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	switch {
	case refused > 0:
		return fmt.Errorf("memory: %d of %d honest posts were refused", refused, posts)
	case memory.max() > attackMemory:
		return fmt.Errorf("memory: the relay took %.0f MiB", memory.max())
	case ended.Load() < attackLeast:
		return fmt.Errorf("memory: the attackers made only %d requests, which shows nothing", ended.Load())
	}
	return nil
}
