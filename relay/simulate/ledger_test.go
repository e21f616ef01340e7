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

// event is one use of an id.
type event struct {
	id, typ string
	source  string // which posted it
	earlier *event // which had the id before
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
	what     string    // pause, resume, discard, replay, cancel; move, edit, rotate: of the file
	endpoint string
	typ      string // of the deliveries that it is about; empty for all types

	// Of a replay. Without ids it is for what failed or, with since, for all that was accepted from then on.
	ids    []string
	since  time.Time
	failed []failedDelivery // what had failed, said the relay just before
	total  int              // how many deliveries it is for
	replay string           // its name; empty until it is known
	cancel *command         // what cancelled it
}

func newLedger(w *world) *ledger {
	return &ledger{w: w, events: map[string]*event{}, receivers: map[string]*receiver{}}
}

func (l *ledger) event(id, typ, body string) *event {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.events[id]
	if e == nil {
		e = &event{id: id}
		l.events[id] = e
		l.order = append(l.order, e)
	}
	if e.body == "" {
		e.typ, e.body = typ, body
	}
	return e
}

// renew lets an id be that of another event from now on.
func (l *ledger) renew(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &event{id: id, earlier: l.events[id]}
	l.events[id] = e
	l.order = append(l.order, e)
}

// uses is how many events have had an id.
func (l *ledger) uses(id string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.events[id]; e != nil; e = e.earlier {
		n++
	}
	return n
}

// find returns the event of an id that fits; nil when there is none.
func (l *ledger) find(id string, fits func(*event) bool) *event {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.events[id]; e != nil; e = e.earlier {
		if fits(e) {
			return e
		}
	}
	return nil
}

// nth returns the nth newest event of an id that fits, from 0; nil when there is none. What the relay tells of the time at which one was
// accepted is no help: a clock that was set, and a reboot, move it.
func (l *ledger) nth(id string, n int, fits func(*event) bool) *event {
	return l.find(id, func(e *event) bool {
		if fits(e) {
			n--
		}
		return n < 0
	})
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

// edited reports whether the file said something else of an endpoint since then.
func (w *world) edited(endpoint string, since time.Time) bool {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return w.ledger.commandsOn(endpoint, since, "edit", "rotate")
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
	return len(w.ledger.replays(endpoint, e)) > 0
}

// replays returns the replays of an endpoint that may be for an event; without one, all of them.
func (l *ledger) replays(endpoint string, e *event) (list []command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.commands {
		if c.what == "replay" && c.endpoint == endpoint && (e == nil || l.isFor(c, e)) {
			list = append(list, *c)
		}
	}
	return list
}

// isFor reports whether a replay may be for an event. The caller holds the ledger's lock. An event may be told as accepted later than it
// was: by the time that the machine was off, when a reboot with a wrong clock did not let it pass.
func (l *ledger) isFor(c *command, e *event) bool {
	from, to := e.accepting()
	return !from.IsZero() && (c.done.IsZero() || from.Before(c.done)) && (c.typ == "" || c.typ == e.typ) &&
		(c.ids == nil || slices.Contains(c.ids, e.id)) && (c.since.IsZero() || to.Add(l.w.relay().offSince(to)).After(c.since.Add(-time.Second)))
}

// freeSince is since when nobody has held an endpoint; paused says that it may be held.
func (w *world) freeSince(endpoint string) (since time.Time, paused bool) {
	var resumed time.Time
	w.ledger.mu.Lock()
	for _, c := range w.ledger.commands {
		if c.endpoint != endpoint || !slices.Contains([]string{"pause", "resume", "move", "edit"}, c.what) {
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
