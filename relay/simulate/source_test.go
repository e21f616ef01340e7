package simulate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

var types = []string{"lead.created", "lead.scored", "appointment.scheduled", "conversation.message", "email.sent"}

// accounts are whose an event can be, as JSON has them.
var accounts = []string{`"acct_a"`, `"acct_b"`, "7", "true"}

// accountOf is whose an event is; empty for one that does not say.
func accountOf(id string) string {
	if n := hash("account of "+id) % uint64(len(accounts)+2); n < uint64(len(accounts)) {
		return accounts[n]
	}
	return ""
}

func accountMember(id string) string {
	if of := accountOf(id); of != "" {
		return `"account":` + of + ","
	}
	return ""
}

// source posts events, and posts again what was not answered.
type source struct {
	w      *world
	name   string
	n      int
	unsure []string // ids whose posts were not answered, or refused for now
}

func (w *world) newSource(name string, mean time.Duration) {
	s := &source{w: w, name: name}
	w.act(name, func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) { s.step(r) })
}

// step is one visit: something new, alone or in a batch or a burst; again what was not answered; what was accepted long ago; or
// something that must be refused.
func (s *source) step(r *rand.Rand) {
	if len(s.unsure) > 0 && r.IntN(3) > 0 {
		list := s.unsure
		s.unsure = nil
		for _, id := range list {
			if s.isRepeat(id) {
				s.post([]string{id})
			}
		}
	}
	switch n := r.IntN(20); {
	case n < 9:
		s.post(s.fresh(1, r))
	case n < 12:
		s.post(s.fresh(1+r.IntN(12), r))
	case n < 16:
		for range 1 + r.IntN(12) {
			s.post(s.fresh(1, r))
			if !s.w.sleep(around(100*time.Millisecond, r)) {
				return
			}
		}
	case n < 18 && s.n > 0: // late
		if id := fmt.Sprintf("evt_%s_%d", s.name, 1+r.IntN(s.n)); s.isRepeat(id) {
			s.post([]string{id})
		}
	case n < 19: // two at once with the same id
		ids := s.fresh(1, r)
		done := make(chan struct{})
		go func() {
			s.w.post(s.w.relay(), ids, sourceToken)
			close(done)
		}()
		s.post(ids)
		<-done
	default:
		s.bad(r)
	}
}

// isRepeat reports whether an id is so young that to post it again can't make a new event of it.
func (s *source) isRepeat(id string) bool { return s.w.ageOf(id) < s.w.file.dedup*9/10 }

// ageOf is how long ago an event was first posted.
func (w *world) ageOf(id string) time.Duration {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	if e := w.ledger.events[id]; e != nil && len(e.posts) > 0 {
		return time.Since(e.posts[0].at)
	}
	return 0
}

// fresh makes new events.
func (s *source) fresh(n int, r *rand.Rand) (ids []string) {
	for range n {
		s.n++
		id, typ := fmt.Sprintf("evt_%s_%d", s.name, s.n), types[r.IntN(len(types))]
		text := strings.Repeat("x", int(min(around(200, r), 20000)))
		s.w.ledger.event(id, typ, fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":"2000-01-01T00:00:00Z","data":{%s"text":%q}}`, id, typ, accountMember(id), text))
		ids = append(ids, id)
	}
	return ids
}

func (s *source) post(ids []string) {
	if s.w.post(s.w.relay(), ids, sourceToken) == "" {
		s.unsure = append(s.unsure, ids...)
	}
}

// bad posts what must be refused.
func (s *source) bad(r *rand.Rand) {
	ids := s.fresh(1, r)
	switch r.IntN(3) {
	case 0:
		s.w.post(s.w.relay(), ids, "wrong")
	case 1:
		s.w.exchange(s.w.relay().intake, "POST", "/events", sourceToken, `{"id":"evt_bad","type":"lead.created","data":7}`, func(status int, _ []byte) {
			if status == 200 {
				s.w.fail("no event was accepted")
			}
		})
	default:
		e := s.w.ledger.event(ids[0], "", "")
		body := "[" + e.body + `,{"id":"evt_bad","type":"relay.own","data":{}}]`
		s.w.exchange(s.w.relay().intake, "POST", "/events", sourceToken, body, func(status int, _ []byte) {
			if status == 200 {
				s.w.fail("a batch with a bad event was accepted")
			}
		})
	}
}

// post posts events in one request and notes what it was answered: "accepted", "refused", or "" when the source has to post again.
func (w *world) post(to *machine, ids []string, token string) string {
	var list []*event
	var bodies []string
	for _, id := range ids {
		e := w.ledger.event(id, "", "")
		list, bodies = append(list, e), append(bodies, e.body)
		w.ledger.mu.Lock()
		e.under++
		w.ledger.mu.Unlock()
	}
	body := bodies[0]
	if len(bodies) > 1 {
		body = "[" + strings.Join(bodies, ",") + "]"
	}
	at := time.Now()
	note := func(i int, answer string) {
		w.ledger.mu.Lock()
		before := append([]post(nil), list[i].posts...)
		p := post{at: at, end: time.Now(), answer: answer}
		list[i].posts = append(list[i].posts, p)
		w.ledger.mu.Unlock()
		w.judgePost(list[i], p, before)
	}
	result := ""
	answered := w.exchange(to.intake, "POST", "/events", token, body, func(status int, got []byte) {
		w.say("source", "%d for %s", status, strings.Join(ids, " "))
		if token != sourceToken {
			if status != 401 && (status != 503 || !to.troubledSince(at)) {
				w.fail("a post with a wrong token is answered %d", status)
			}
			result = "refused"
		}
		switch {
		case status == 200:
			result = "accepted"
			for i, one := range results(got) {
				note(i, one)
			}
			return
		case status == 503 && result == "":
			w.judgeRefusal(to, at, string(got))
		case result == "":
			w.fail("a post is answered %d: %s", status, got)
		}
		for i := range list {
			note(i, "refused")
		}
	})
	if !answered {
		w.say("source", "no answer for %s", strings.Join(ids, " "))
		if !to.troubledSince(at) {
			w.fail("a post got no answer, and the relay runs")
		}
		for i := range list {
			note(i, "")
		}
	}
	return result
}

func results(raw []byte) (list []string) {
	var one struct {
		Status  string
		Results []struct{ Status string }
	}
	_ = json.Unmarshal(raw, &one)
	for _, r := range one.Results {
		list = append(list, r.Status)
	}
	if len(one.Results) == 0 {
		list = []string{one.Status}
	}
	return list
}

// exchange makes one request on a connection of its own. It returns false when no answer came.
func (w *world) exchange(to netip.AddrPort, method, path, token, body string, got func(status int, body []byte)) bool {
	w.net.mu.Lock()
	ln := w.net.listeners[to]
	w.net.mu.Unlock()
	if ln == nil {
		return false
	}
	c, err := w.net.join(ln, &host{latency: 300 * time.Microsecond}, nil)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n", method, path, to, token)
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	} else if method != "GET" {
		head += "Content-Length: 0\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"+body); err != nil {
		return false
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return false
	}
	got(answer.StatusCode, raw)
	return true
}
