package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// attackerKind is one way to attack, by so many at once.
type attackerKind struct {
	name    string
	workers int
	target  string // address
	request func(n int64) string
}

const (
	attackerAddresses = 8 // loopback addresses that they have, from 127.0.0.2 on
	attackerSlow      = 50
	attackerFlooders  = 16
	attackerHeld      = 1000 // connections of the flood that are kept open
	attackerRest      = 20 * time.Millisecond

	attackerIdle = 400 // idle connections, over TLS
	attackerHalf = 100 // whose handshake stops halfway, in each of two ways
)

// attackerKinds are those that send a request and wait for its answer, as fast as they get one.
func attackerKinds(intake, admin string) []attackerKind {
	always := func(request string) func(int64) string { return func(int64) string { return request } }
	const head = "POST /signed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	unsigned := sealed("") + "\r\n"
	unpacking := func(text string) string {
		return posting("/signed", "Content-Encoding: gzip\r\n"+unsigned, packed(text))
	}
	level := strings.Repeat(`{"b":0,"a":`, 120) + "0" + strings.Repeat("}", 120)
	nested := `{"type":"bot.deactivated","data":{"a":[` + strings.Repeat(level+",", 300) + "0]}}"
	// Small enough to be let in, with ids of their own: what the disk has of them is what max_queued bounds.
	stored := func(n int64) string {
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, `{"id":"flood_%d_%d","type":"bot.%s","data":{"x":"%s"}}`+"\n", n, i, []string{"created", "updated", "activated"}[i%3], strings.Repeat("x", 1000))
		}
		return strings.Replace(posting("/flood", "", b.String()), "application/json", "application/x-ndjson", 1)
	}
	wrong := []string{} // bodies whose signature has the right form and is that of another, by each scheme
	for _, size := range []int{16 << 10, 64 << 10, 1_000_000} {
		body := `{"type":"bot.deactivated","data":{"z":0,"a":"` + strings.Repeat("x", size-50) + `"}}`
		standard := standardCredential("whsec_"+base64.StdEncoding.EncodeToString([]byte("another's")))(nil, []byte("evt_wrong"), []byte(body), time.Now())
		wrong = append(wrong, posting("/signed", unsigned, body), posting("/standard", string(standard), body))
	}
	return []attackerKind{
		{"wrongly signed bodies", 16, intake, func(n int64) string { return wrong[n%int64(len(wrong))] }},
		{"subnormal numbers, unsigned", 8, intake, always(unpacking("[" + strings.Repeat("5e-324,", 149_000) + "0]"))},
		{"members, unsigned", 8, intake, always(unpacking("{" + strings.Repeat(`"":0,`, 200_000) + `"a":0}`))},
		{"bodies that are never whole", 70, intake, always(head + unsigned + "Content-Length: 1048576\r\n\r\n" + strings.Repeat(" ", 1<<20-10))},
		{"chunk extensions", 8, intake, always(head + unsigned + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 30_000)+"\r\nx\r\n", 30))},
		{"bombs", 4, intake, always(posting("/flood", "Content-Encoding: gzip\r\n", packed(strings.Repeat(" ", 64<<20))))},
		{"batches of the smallest events", 4, intake, always(posting("/flood", "Content-Encoding: gzip\r\n", packed("["+strings.Repeat(attackEvent+",", 9_999)+attackEvent+"]")))},
		{"nested members out of order", 4, intake, always(posting("/flood", "", nested))},
		{"a flood of events", 4, intake, stored},
		{"many headers", 8, intake, always("GET /health HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("a:\r\n", 1_900) + "\r\n")},
		{"admin: wrong tokens", 16, admin, always(asking("GET", "/stats", "Authorization: Bearer guessed\r\n", ""))},
		{"admin: no token", 4, admin, always(asking("GET", "/metrics", "", ""))},
	}
}

// runAttackers is the other half of the assault command, a process of its own so that it has no more than one core.
func runAttackers(ctx context.Context, args []string, _ io.Writer) error {
	fs := newFlags("attackers", "Attacks a relay in all ways at once. The assault command starts it; it ends by itself and writes what it got done.")
	intake, admin := fs.String("intake", "", "`address` of the intake"), fs.String("admin", "", "`address` of the admin listener")
	receivers := fs.String("receivers", "", "`addresses` at which to answer as badly as can be, one for each way of answering without end, one that fails, one that hangs")
	secure := fs.Bool("tls", false, "both listeners speak TLS")
	d, to := fs.Duration("d", time.Minute, "how long"), fs.String("out", "", "`file` for what was done")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *d <= 0 || *d > serveLimit {
		return usageError("-d must be more than 0 and at most an hour")
	}
	for _, addr := range []string{*intake, *admin} {
		if err := checkLoopback(addr); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, *d)
	defer cancel()
	done := map[string]*atomic.Int64{}
	count := func(kind string) *atomic.Int64 {
		done[kind] = new(atomic.Int64)
		return done[kind]
	}
	sumUp := func() {}
	if *receivers != "" {
		var err error
		if sumUp, err = answerBadly(strings.Split(*receivers, ","), count); err != nil {
			return err
		}
	}
	var all sync.WaitGroup
	var serial atomic.Int64
	for _, kind := range attackerKinds(*intake, *admin) {
		n := count(kind.name)
		for i := range kind.workers {
			all.Go(func() {
				by := attacker(i, *secure)
				for ctx.Err() == nil {
					if tellBy(ctx, by, kind.target, kind.request(serial.Add(1))) != 0 {
						n.Add(1)
					} else {
						pause(ctx, attackerRest) // refused without a word
					}
				}
			})
		}
	}
	hold := func(kind string, clients int, client func(i int, holding *atomic.Int64)) {
		most, now := count(kind), new(atomic.Int64)
		for i := range clients {
			all.Go(func() { client(i, now) })
		}
		all.Go(func() {
			for ; ctx.Err() == nil; pause(ctx, pollInterval) {
				most.Store(max(most.Load(), now.Load()))
			}
		})
	}
	for _, w := range weapons {
		hold("slow: "+w.name, attackerSlow, func(i int, holding *atomic.Int64) {
			keepWaiting(ctx, *intake, w, attacker(i, *secure), holding)
		})
	}
	if *secure {
		hello, err := greeting()
		if err != nil {
			return err
		}
		idle := func(kind string, clients int, first string, within bool) {
			hold("TLS: "+kind, clients, func(i int, holding *atomic.Int64) {
				keepIdle(ctx, *intake, first, attacker(i, within), holding)
			})
		}
		idle("idle connections", attackerIdle, ask, true)
		idle("half a greeting", attackerHalf, hello[:len(hello)/2], false)
		idle("half a handshake", attackerHalf, hello, false)
		left := count("TLS: handshakes left at the server's answer")
		for i := range attackerFlooders {
			all.Go(func() {
				for ctx.Err() == nil {
					if leaveHandshake(ctx, *intake, hello, attacker(i, false)) {
						left.Add(1)
					} else {
						pause(ctx, attackerRest)
					}
				}
			})
		}
	}
	begun := count("connections")
	for i := range attackerFlooders {
		all.Go(func() {
			begun.Add(beginAndKeep(ctx, *intake, byte(2+i%attackerAddresses), attackerHeld/attackerFlooders))
		})
	}
	all.Wait()
	sumUp()
	result := map[string]int64{}
	for kind, n := range done {
		result[kind] = n.Load()
	}
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return os.WriteFile(*to, text, 0o600)
}

// answerBadly takes the deliveries of a relay until the process ends. sumUp counts what it did.
func answerBadly(addresses []string, count func(string) *atomic.Int64) (sumUp func(), err error) {
	if len(addresses) != len(endless)+2 {
		return nil, usageError(fmt.Sprintf("%d receivers: want %d", len(addresses), len(endless)+2))
	}
	asked, failing := count("receivers: answers without end"), count("receivers: long answers of 500")
	most := count("receivers: hanging")
	hanging, err := newHangingPort(addresses[len(endless)+1])
	if err != nil {
		return nil, err
	}
	var answered [len(endless)]atomic.Uint64
	for i, addr := range addresses[:len(endless)+1] {
		ln, err := listenLoopback(addr)
		if err != nil {
			return nil, err
		}
		if i < len(endless) {
			go answerEndlessly(ln, endless[i].first, endless[i].then, &answered[i])
			continue
		}
		long := []byte(strings.Repeat("what went wrong here ", 1<<10))
		server := newServer(func(ctx *fasthttp.RequestCtx) {
			failing.Add(1)
			ctx.SetStatusCode(fasthttp.StatusInternalServerError)
			ctx.SetBody(long)
		})
		go func() { _ = server.Serve(ln) }()
	}
	return func() {
		most.Store(hanging.most.Load())
		for i := range answered {
			asked.Add(int64(answered[i].Load()))
		}
	}, nil
}

// attacker is how the ith of a kind connects.
func attacker(i int, secure bool) dials { return dialsFrom(byte(2+i%attackerAddresses), secure) }

// leaveHandshake has a server make its half of a handshake, which is work, and leaves.
func leaveHandshake(ctx context.Context, addr, hello string, by dials) (answered bool) {
	conn, err := by.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer abort(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := io.WriteString(conn, hello); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, make([]byte, 5))
	return err == nil
}
