package simulate

import (
	"slices"
	"sync"
	"time"
)

// ledger is what the world has seen with its own eyes: posts and their answers, requests at the receivers and what they answered.
// The relay's own word is no part of it.
type ledger struct {
	w  *world
	mu sync.Mutex

	events    map[string]*event
	order     []*event
	receivers map[string]*receiver // by endpoint
	commands  []*command
}

// event is one id.
type event struct {
	id, typ string
	body    string
	posts   []post
	under   int // posts that were begun
}

// post is one try of a source to have an event accepted.
type post struct {
	at, end time.Time
	answer  string // accepted, duplicate, refused; empty when no answer came
}

// acked is when the event was first known to be accepted; zero when it never was.
func (e *event) acked() time.Time {
	for _, p := range e.posts {
		if p.answer == "accepted" || p.answer == "duplicate" {
			return p.end
		}
	}
	return time.Time{}
}

// accepting is the time within which the event was accepted, if it was.
func (e *event) accepting() (from, to time.Time) {
	first := true
	for _, p := range e.posts {
		if p.answer == "refused" {
			continue
		}
		if first {
			from, first = p.at, false
		}
		to = p.end
		if p.answer != "" {
			break
		}
	}
	return from, to
}

// request is one that came to a receiver.
type request struct {
	event   *event
	at, end time.Time // end is when the answer was sent, or the receiver gave up; zero while it is under way
	attempt int
	replay  string
	answer  answer
	heard   bool // the answer can't have failed to arrive in time
	probe   bool // the endpoint was down, for certain
	offline bool // nothing was answered since this machine may have had no network: this may be the probe that finds it has one
}

// answer is what a receiver does with a request.
type answer struct {
	status int           // 0: none
	after  time.Duration // Retry-After
	wait   time.Duration // before it
	how    string        // "", hang, reset, garbage, liar
}

// command is what an operator had the relay do with an endpoint.
type command struct {
	at, done time.Time // done is when it was answered; zero when it may or may not have been done
	what     string    // pause, resume, replay, discard; move, edit: of the file
	endpoint string    // empty: of several
	ids      []string
	typ      string // of the deliveries that it is about; empty for all types
}

func newLedger(w *world) *ledger {
	return &ledger{w: w, events: map[string]*event{}, receivers: map[string]*receiver{}}
}

func (l *ledger) event(id, typ, body string) *event {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.events[id]
	if e == nil {
		e = &event{id: id, typ: typ, body: body}
		l.events[id] = e
		l.order = append(l.order, e)
	}
	return e
}

// begin notes a command, which may have its effect before it is answered; finish notes its answer.
func (l *ledger) begin(what, endpoint, typ string) *command {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &command{at: time.Now(), what: what, endpoint: endpoint, typ: typ}
	l.commands = append(l.commands, c)
	return c
}

func (l *ledger) finish(c *command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.done = time.Now()
}

// commandsOn returns what was done to an endpoint since a time.
func (l *ledger) commandsOn(endpoint string, since time.Time, what ...string) bool {
	return slices.ContainsFunc(l.commands, func(c *command) bool {
		return (c.endpoint == endpoint || c.endpoint == "") && (c.done.IsZero() || !c.done.Before(since)) && slices.Contains(what, c.what)
	})
}

// since reports whether anything was done to an endpoint since a command.
func (l *ledger) since(endpoint string, than *command) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.commands, func(c *command) bool {
		return c != than && (c.endpoint == endpoint || c.endpoint == "") && (c.done.IsZero() || !c.done.Before(than.at))
	})
}

// hastened reports whether an operator did something that lets an endpoint's deliveries go at once.
func (w *world) hastened(endpoint string, since time.Time) bool {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return w.ledger.commandsOn(endpoint, since, "resume", "move")
}

// moved reports whether an endpoint was another receiver since then.
func (w *world) moved(endpoint string, since time.Time) bool {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return w.ledger.commandsOn(endpoint, since, "move")
}

// discards returns the commands that may have discarded a failed delivery of a type to an endpoint.
func (l *ledger) discards(endpoint, typ string) (list []command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.commands {
		if c.what == "discard" && c.endpoint == endpoint && (c.typ == "" || c.typ == typ) {
			list = append(list, *c)
		}
	}
	return list
}

// replayed reports whether an event may have been replayed.
func (w *world) replayed(endpoint string, e *event) bool {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return slices.ContainsFunc(w.ledger.commands, func(c *command) bool {
		return c.endpoint == endpoint && c.what == "replay" && (c.ids == nil || slices.Contains(c.ids, e.id))
	})
}

// freeSince is since when nobody has held an endpoint; paused says that it may be held.
func (w *world) freeSince(endpoint string) (since time.Time, paused bool) {
	var resumed time.Time
	w.ledger.mu.Lock()
	for _, c := range w.ledger.commands {
		if c.endpoint != endpoint || c.what == "discard" {
			continue
		}
		switch c.what {
		case "pause":
			paused = true
		case "resume":
			if !c.done.IsZero() {
				paused, resumed = false, c.at
			}
		}
		since = c.at
		if c.done.After(since) {
			since = c.done
		}
	}
	w.ledger.mu.Unlock()
	r := w.ledger.receivers[endpoint]
	r.mu.Lock()
	defer r.mu.Unlock()
	return since, paused || r.gone.After(resumed)
}
