package simulate

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// receiver is an endpoint's far side, with a ledger of what came.
type receiver struct {
	w        *world
	endpoint string
	host     *host
	close    func() error

	mu         sync.Mutex
	tempers    []temper // the last one is the present one
	deliveries map[*event]*delivery
	health     health
	limited    time.Time // when it last said 429
	held       time.Time // until when it asked, last,
	heldAt     time.Time // and when that was
	gone       time.Time // when it last said 410
	everGone   time.Time // when it last sent 410, whether or not that arrived
	cameAt     time.Time // when a request last came
	underWay   []*request
	ends       []*request // those that have ended, in that order

	open   []*event // that may not have been delivered; of whoever judges liveness, as is looked
	looked int      // events of the ledger that were looked at
}

// temper is how a receiver behaves for a while.
type temper struct {
	name    string
	since   time.Time
	trouble trouble
	answer  func(e *event, nth uint64) answer
	mixed   bool // other events or other requests fare differently
}

// delivery is one event at one endpoint. It is there as soon as something came.
type delivery struct {
	requests []*request
}

func (w *world) newReceiver(endpoint string, h *host) *receiver {
	r := &receiver{w: w, endpoint: endpoint, host: h, deliveries: map[*event]*delivery{}}
	r.tempers = []temper{{name: "well", since: w.began, answer: well}}
	w.ledger.receivers[endpoint] = r
	h.failed = r.failed
	ln := w.net.listen(netip.AddrPortFrom(h.address, 80), nil)
	r.close = ln.Close
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go r.serve(c.(*conn))
		}
	}()
	return r
}

func well(*event, uint64) answer { return answer{status: 200} }

// draw chooses how the receiver behaves next.
func draw(r *rand.Rand) temper {
	always := func(a answer) func(*event, uint64) answer { return func(*event, uint64) answer { return a } }
	pick := func(list ...int) int { return list[r.IntN(len(list))] }
	after := time.Duration(1+r.IntN(900)) * time.Second
	some := func(salt, nth uint64, of uint64) bool { return (nth^salt)*0x9e3779b97f4a7c15>>32%of == 0 }
	salt, status := r.Uint64(), pick(500, 502, 503, 404, 401, 301, 302)
	odd := answer{status: pick(422, 400, 500, 409)}
	if r.IntN(6) == 0 {
		odd = answer{how: "reset"}
	}
	typ := types[r.IntN(len(types))]
	switch n := r.IntN(44); {
	case n < 16:
		return temper{name: "well", answer: well}
	case n < 18:
		most := uint64(1 + r.IntN(8000))
		return temper{name: "slow", answer: func(_ *event, nth uint64) answer {
			return answer{status: 200, wait: time.Duration((nth^salt)%most) * time.Millisecond}
		}}
	case n < 21:
		return temper{name: fmt.Sprint("answers ", status), answer: always(answer{status: status})}
	case n < 23:
		return temper{name: "hangs", answer: always(answer{how: "hang"})}
	case n < 24:
		return temper{name: "resets", answer: always(answer{how: "reset"})}
	case n < 25:
		return temper{name: "talks no HTTP", answer: always(answer{how: "garbage"})}
	case n < 27:
		return temper{name: "refuses connections", trouble: refusing, answer: well}
	case n < 29:
		return temper{name: "is silent", trouble: silent, answer: well}
	case n < 30:
		return temper{name: "has no name", trouble: unknownName, answer: well}
	case n < 31:
		return temper{name: "has a name that lies", trouble: lyingName, answer: well}
	case n < 34:
		return temper{name: fmt.Sprint("can't take ", typ, ": ", odd), mixed: true, answer: func(e *event, _ uint64) answer {
			if e.typ == typ {
				return odd
			}
			return answer{status: 200}
		}}
	case n < 37:
		of := uint64(2 + r.IntN(12))
		return temper{name: fmt.Sprint("can't take one of ", of, " events: ", odd), mixed: true, answer: func(e *event, _ uint64) answer {
			if some(salt, hash(e.id), of) {
				return odd
			}
			return answer{status: 200}
		}}
	case n < 38:
		return temper{name: "answers 429", answer: always(answer{status: 429})}
	case n < 40:
		return temper{name: fmt.Sprint("answers 429 for ", after), answer: always(answer{status: 429, after: after})}
	case n < 41:
		return temper{name: fmt.Sprint("answers 503 for ", after), answer: always(answer{status: 503, after: after})}
	case n < 42:
		return temper{name: fmt.Sprint("flaps with ", status), mixed: true, answer: func(_ *event, nth uint64) answer {
			if some(salt, nth, 2) {
				return answer{status: status}
			}
			return answer{status: 200}
		}}
	case n < 43:
		return temper{name: "takes events and breaks its answers", answer: always(answer{status: 200, how: "liar"})}
	default:
		return temper{name: "is gone", answer: always(answer{status: 410})}
	}
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, s)
	return h.Sum64()
}

// become changes how the receiver behaves.
func (r *receiver) become(t temper) {
	t.since = time.Now()
	r.mu.Lock()
	r.tempers = append(r.tempers, t)
	r.mu.Unlock()
	r.w.net.set(r.host, t.trouble)
	r.w.say(r.endpoint, "%s", t.name)
}

func (r *receiver) temper() *temper {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &r.tempers[len(r.tempers)-1]
}

func (r *receiver) serve(c *conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		got, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(got.Body)
		if err != nil {
			return
		}
		q := r.came(got, string(body))
		if q == nil {
			return
		}
		a := q.answer
		gone := make(chan struct{})
		if a.wait > 0 || a.how == "hang" {
			// Whoever has given up closes the connection.
			if a.how == "hang" {
				a.wait = time.Hour
			}
			_ = c.SetReadDeadline(time.Now().Add(a.wait))
			if _, err := in.Peek(1); err != nil && !isTimeout(err) {
				close(gone)
			}
			_ = c.SetReadDeadline(time.Time{})
		}
		select {
		case <-gone:
			r.ended(q, false)
			return
		default:
		}
		switch a.how {
		case "reset":
			r.ended(q, false)
			c.reset()
			return
		case "garbage":
			_, err = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			r.ended(q, err == nil)
			return
		}
		_, err = io.WriteString(c, a.text())
		sane := err == nil && !c.lost.Load() && !c.peer.lost.Load() && time.Since(q.at) < r.timeout()-time.Second
		r.ended(q, sane)
		if a.how == "liar" || err != nil {
			return
		}
	}
}

func (r *receiver) timeout() time.Duration {
	for _, v := range r.w.file.between(time.Now(), time.Now()) {
		for _, e := range v.endpoints {
			if e.name == r.endpoint {
				return e.timeout
			}
		}
	}
	return 10 * time.Second
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (a answer) text() string {
	head := fmt.Sprintf("HTTP/1.1 %d x\r\n", a.status)
	if a.after > 0 {
		head += fmt.Sprintf("Retry-After: %d\r\n", int(a.after.Seconds()))
	}
	if a.how == "liar" {
		return head + "Content-Length: 100\r\n\r\nshort"
	}
	return head + "Content-Length: 2\r\n\r\nok"
}

// failed notes an attempt that never became a request.
func (r *receiver) failed(who blame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if who == theirs {
		r.health.note(failing, time.Now(), true)
		return
	}
	r.health.note(unsure, time.Now(), false)
	r.health.localAt = time.Now()
}

// failedDials is how many attempts came to nothing since a time before they were requests.
func (r *receiver) failedDials(since time.Time) int {
	r.w.net.mu.Lock()
	defer r.w.net.mu.Unlock()
	list := r.host.dials
	return len(list) - sort.Search(len(list), func(i int) bool { return list[i].end.After(since) })
}

// failedDialsWithin is failedDials between two times.
func (r *receiver) failedDialsWithin(from, to time.Time) (n int) {
	r.w.net.mu.Lock()
	defer r.w.net.mu.Unlock()
	for _, d := range r.host.dials {
		if !d.end.Before(from) && !d.end.After(to) {
			n++
		}
	}
	return n
}

// chargedDials are those of them that may be charged: this machine had a network, or may not have known that it had none.
func (r *receiver) chargedDials(since time.Time) (n int) {
	r.w.net.mu.Lock()
	defer r.w.net.mu.Unlock()
	known := false // something else is wrong with the host, by which the relay may judge what follows
	for i := len(r.host.dials) - 1; i >= 0 && r.host.dials[i].end.After(since); i-- {
		known = known || r.host.dials[i].blame != ours
		n++
	}
	if !known {
		return 0
	}
	return n
}

// came notes a request, and judges it at once.
func (r *receiver) came(got *http.Request, body string) *request {
	w, now := r.w, time.Now()
	id := got.Header.Get("webhook-id")
	e := w.ledger.find(id, func(e *event) bool { return e.body == body })
	if e == nil {
		e = w.ledger.find(id, func(*event) bool { return true })
	}
	if e == nil {
		if !strings.HasPrefix(got.Header.Get("X-RealtorBot-Event"), "relay.") {
			w.fail("%s got %q, which nobody posted", r.endpoint, id)
		}
		return nil
	}
	q := &request{event: e, at: now, replay: got.Header.Get("X-RealtorBot-Replay")}
	q.attempt, _ = strconv.Atoi(got.Header.Get("X-RealtorBot-Attempt"))
	edition, _ := strconv.Atoi(got.Header.Get("X-Edition"))
	if o, ok := w.file.edition(r.endpoint, edition); !ok || !o.holds(e) {
		w.fail("%s got %s, which is not its own by edition %d of its configuration", r.endpoint, id, edition)
	}
	signs := func(secret string) bool {
		return got.Header.Get("X-RealtorBot-Signature") == signature(secret, body)
	}
	switch {
	case body != e.body:
		w.fail("%s got %s with another body: %q", r.endpoint, id, body)
	case got.Header.Get("X-RealtorBot-Event") != e.typ:
		w.fail("%s got %s as %q", r.endpoint, id, got.Header.Get("X-RealtorBot-Event"))
	case !slices.ContainsFunc(w.secretsOf(r.endpoint), signs):
		w.fail("%s got %s with a wrong signature", r.endpoint, id)
	}
	t := r.temper()
	q.answer = t.answer(e, hash(id)+uint64(now.UnixNano()))
	r.mu.Lock()
	d := r.deliveries[e]
	if d == nil {
		d = &delivery{}
		r.deliveries[e] = d
	}
	if since, is := r.health.isDown(); is {
		runs, _ := w.relay().runsSince()
		q.probe = now.Sub(since) > unsaved && since.After(runs) && !w.hastened(r.endpoint, since)
	}
	n := len(r.ends)
	q.offline = !r.health.localAt.IsZero() && (n == 0 || !r.ends[n-1].end.After(r.health.localAt))
	before := append([]*request(nil), d.requests...)
	d.requests = append(d.requests, q)
	r.underWay, r.cameAt = append(r.underWay, q), now
	r.mu.Unlock()
	w.events.Add(1)
	w.say(r.endpoint, "gets %s, attempt %d %s, will answer %v", id, q.attempt, q.replay, q.answer)
	w.judgeRequest(r, q, before)
	return q
}

// ended notes the end of a request.
func (r *receiver) ended(q *request, heard bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q.end, q.heard = time.Now(), heard
	r.ends = append(r.ends, q)
	if q.answer.status == 410 {
		r.everGone = q.end
	}
	if r.health.sure > 0 && r.w.hastened(r.endpoint, r.health.sureAt) {
		r.health.sure = 0 // an operator who resumes it has it judged anew
	}
	r.health.note(means(q), q.end, !breaks(q)) // an attempt may be two requests when its connection is broken
	switch means(q) {
	case agreement:
		r.limited = q.end
		if q.end.Sub(r.health.good) > blamesType && heldUntil(q).After(r.held) { // else it may be one type's alone
			r.held, r.heldAt = heldUntil(q), q.end
		}
	case gone:
		r.gone = q.end
	}
}
