package simulate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
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
	number int // of its origin in the file
	n      int
	unsure []string // ids whose posts were not answered, or refused for now
}

// newOrigin adds a source to the file. Every second one signs.
func (w *world) newOrigin(number int) {
	name := fmt.Sprint("source", number)
	w.file.origins = append(w.file.origins, &origin{name: name, path: fmt.Sprint("/events/", number), signs: number%2 == 1, current: "example-credential-of-" + name})
}

func (w *world) newSource(number int, mean time.Duration) {
	s := &source{w: w, name: fmt.Sprint("source", number), number: number}
	w.act(s.name, func(r *rand.Rand) time.Duration { return around(mean, r) }, func(r *rand.Rand) { s.step(r) })
}

// step is one visit: something new, alone or in a batch or a burst; again what was not answered; what was accepted long ago, or so long
// ago that its id is new again; or something that must be refused.
func (s *source) step(r *rand.Rand) {
	if len(s.unsure) > 0 && r.IntN(3) > 0 {
		list := s.unsure
		s.unsure = nil
		for _, id := range list {
			if s.isRepeat(id) {
				s.post([]string{id}, r)
			}
		}
	}
	switch n := r.IntN(20); {
	case n < 8:
		s.post(s.fresh(1, r), r)
	case n < 11:
		s.post(s.fresh(1+r.IntN(12), r), r)
	case n < 15:
		for range 1 + r.IntN(12) {
			s.post(s.fresh(1, r), r)
			if !s.w.sleep(around(100*time.Millisecond, r)) {
				return
			}
		}
	case n < 17 && s.n > 0: // late
		if id := s.id(1 + r.IntN(s.n)); s.isRepeat(id) {
			s.post([]string{id}, r)
		}
	case n < 18 && s.n > 0: // its id was used before
		if id := s.id(1 + r.IntN(s.n)); s.isNewAgain(id) {
			s.w.ledger.renew(id)
			s.make(id, r)
			s.post([]string{id}, r)
		}
	case n < 19: // two at once with the same id
		ids := s.fresh(1, r)
		header := s.header(r)
		done := make(chan struct{})
		go func() {
			s.w.post(s.w.relay(), s.number, ids, header)
			close(done)
		}()
		s.post(ids, r)
		<-done
	default:
		s.bad(r)
	}
}

func (s *source) id(n int) string { return fmt.Sprintf("evt_%s_%d", s.name, n) }

// isRepeat reports whether an id is so young that to post it again can't make a new event of it.
func (s *source) isRepeat(id string) bool {
	began, _ := s.w.posted(id)
	return time.Since(began) < s.w.file.dedup*9/10
}

// isNewAgain reports whether an id is so old that to post it again makes a new event of it. After a reboot with a clock that was later
// before, no time has passed while the machine was off (guarantees: "across a reboot it believes the wall clock if that is later").
func (s *source) isNewAgain(id string) bool {
	began, ended := s.w.posted(id)
	return !began.IsZero() && time.Since(ended)-s.w.relay().offSince(ended) > s.w.file.dedup*11/10 && s.w.ledger.uses(id) < mostUses
}

// mostUses is how many events of an id a story tells.
const mostUses = 10

// posted is when an event was first and last posted.
func (w *world) posted(id string) (began, ended time.Time) {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	if e := w.ledger.events[id]; e != nil && len(e.posts) > 0 && len(e.posts) == e.under {
		return e.posts[0].at, e.posts[len(e.posts)-1].end
	}
	return time.Time{}, time.Time{}
}

// fresh makes new events.
func (s *source) fresh(n int, r *rand.Rand) (ids []string) {
	for range n {
		s.n++
		ids = append(ids, s.id(s.n))
		s.make(s.id(s.n), r)
	}
	return ids
}

// make makes an event.
func (s *source) make(id string, r *rand.Rand) {
	typ, text := types[r.IntN(len(types))], strings.Repeat("x", int(min(around(200, r), 20000)))
	s.w.ledger.event(id, typ, fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":"2000-01-01T00:00:00Z","data":{%s"text":%q,"use":%d}}`, id, typ, accountMember(id), text, s.w.ledger.uses(id)))
}

// header chooses one of the credentials that must be accepted.
func (s *source) header(r *rand.Rand) func(body string) string {
	always, _ := s.w.file.credentials(s.number)
	credential := always[r.IntN(len(always))]
	return func(body string) string { return s.w.file.origins[s.number].header(credential, body) }
}

func (s *source) post(ids []string, r *rand.Rand) {
	if s.w.post(s.w.relay(), s.number, ids, s.header(r)) == "" {
		s.unsure = append(s.unsure, ids...)
	}
}

// bad posts what must be refused.
func (s *source) bad(r *rand.Rand) {
	w, origin := s.w, s.w.file.origins[s.number]
	ids := s.fresh(1, r)
	refused := func(body, what string) {
		w.exchange(w.relay().intake, "POST", origin.path, s.header(r)(body), body, func(status int, _ []byte) {
			if status == 200 {
				w.fail("%s was accepted", what)
			}
		})
	}
	switch r.IntN(4) {
	case 0:
		refused(`{"id":"evt_bad","type":"lead.created","data":7}`, "no event")
	case 1:
		refused("["+w.ledger.event(ids[0], "", "").body+`,{"id":"evt_bad","type":"relay.own","data":{}}]`, "a batch with a bad event")
	default: // a credential of another source, or one that is no more
		_, ever := w.file.credentials(s.number)
		others, _ := w.file.credentials(r.IntN(len(w.file.origins)))
		for _, wrong := range []string{"wrong", others[0], "example-credential-of-" + s.name} {
			if !slices.Contains(ever, wrong) {
				s.postWrong(ids, wrong)
			}
		}
	}
}

// postWrong posts with a credential that is not the source's.
func (s *source) postWrong(ids []string, wrong string) {
	w, origin, at := s.w, s.w.file.origins[s.number], time.Now()
	body := w.ledger.event(ids[0], "", "").body
	w.exchange(w.relay().intake, "POST", origin.path, origin.header(wrong, body), body, func(status int, _ []byte) {
		if _, ever := w.file.credentials(s.number); status != 401 && (status != 503 || !w.relay().troubledSince(at) && !w.disk.tight(at.Add(-time.Second), minFree)) && !slices.Contains(ever, wrong) {
			w.fail("a post to %s with another's credential is answered %d", origin.path, status)
		}
	})
}

// post posts events in one request and notes what it was answered: "accepted", "refused", or "" when the source has to post again.
func (w *world) post(to *machine, source int, ids []string, header func(body string) string) string {
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
		list[i].source = w.file.origins[source].name
		w.ledger.mu.Unlock()
		w.judgePost(list[i], p, before)
	}
	result := ""
	answered := w.exchange(to.intake, "POST", w.file.origins[source].path, header(body), body, func(status int, got []byte) {
		w.say("source", "%d for %s", status, strings.Join(ids, " "))
		switch {
		case status == 200:
			result = "accepted"
			for i, one := range results(got) {
				note(i, one)
			}
			return
		case status == 503:
			w.judgeRefusal(to, at, string(got))
		default:
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
func (w *world) exchange(to netip.AddrPort, method, path, header, body string, got func(status int, body []byte)) bool {
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
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\nConnection: close\r\n", method, path, to, header)
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
