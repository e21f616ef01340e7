package queue

import (
	"errors"
	"slices"
	"strings"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// Query says which events Search looks for. The zero value asks for the newest ones, whatever they are.
type Query struct {
	Types        []string  // each a type, "group.*" or "*"; none for all
	Lane         *Lane     // events for this endpoint; nil for any
	State        string    // of the delivery to Lane or, without it, to any endpoint; empty for any
	Since, Until time.Time // accepted from Since on and before Until; zero for no bound
	Classes      []string  // with Lane and GivenUp: of the failure
	FailedSince  time.Time // with Lane and GivenUp: given up from then on, and before FailedUntil; zero for no bound
	FailedUntil  time.Time
	Below        uint64 // of what is found, only what has a lower number; 0 for all
	Limit        int    // of events; 100 when it is 0
}

// Found is one page of what Search found, newest first.
type Found struct {
	Events []FoundEvent
	// Next is the Below of the next page; 0 when there is no more. A page may be short, or empty, and have a next one: the
	// work for one page is bounded.
	Next uint64
}

// FoundEvent is an event of the log without its body.
type FoundEvent struct {
	Seq        uint64
	At         int64 // when it was accepted, Unix milliseconds
	Source     string
	ID, Type   string
	Bytes      int // of its body
	Deliveries []FoundDelivery
	Failure    *Failure // of the delivery to Query.Lane, when GivenUp was asked for
	Letter     *Letter  // of which failed delivery it is a copy; nil when it is none
}

// FoundDelivery is the state of an event's delivery to one endpoint.
type FoundDelivery struct {
	Lane  string
	State string
}

const (
	// A page costs at most searchBytes of events read and searchSteps of keys and states looked at.
	searchBytes = 16 << 20
	searchSteps = 10_000
)

// Search finds events that are kept. What it costs depends on what it finds, not on how much is kept: the postings of the
// segments tell where to look.
func (q *Queue) Search(query Query) (Found, error) {
	w := descent{
		q: q, query: query, bytes: searchBytes, steps: searchSteps, limit: query.Limit,
		sieve: sieve{query.Types, query.Lane, q.stampOrZero(query.Since), q.stampOrZero(query.Until)},
		at:    q.end.Load(),
	}
	w.finder = q.finder(&w.sieve)
	if w.limit == 0 {
		w.limit = 100
	}
	if query.Below != 0 {
		w.at = min(w.at, query.Below)
	}
	var err error
	switch query.State {
	case GivenUp:
		err = w.overRecords(entry.Failed)
	case Retrying:
		err = w.overRecords(entry.Retry)
	default:
		err = w.overLog()
	}
	found := Found{Events: w.events}
	if !w.over {
		found.Next = w.at
	}
	return found, err
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (q *Queue) stampOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return q.stamp(t)
}

// descent goes down the log, newest first.
type descent struct {
	q      *Queue
	query  Query
	sieve  sieve
	at     uint64 // everything at or above was looked at
	over   bool   // and everything below too
	events []FoundEvent
	limit  int
	bytes  int // that may still be read
	steps  int // that may still be made

	finder *log.Finder
	frames []*entry.Frame // the block that was read last
	inside []Stored       // what one of them has that passes the sieve
}

// spent reports that the page is full or cost enough.
func (w *descent) spent() bool { return len(w.events) >= w.limit || w.bytes <= 0 || w.steps <= 0 }

// overLog looks at the events themselves.
func (w *descent) overLog() error {
	lowest := uint64(0)
	for _, l := range w.lanes() {
		low, high := l.span()
		switch w.query.State {
		case Pending: // none is below low
			if lowest == 0 || low < lowest {
				lowest = low
			}
		case Settled: // none is from high on
			if l == w.query.Lane {
				w.at = min(w.at, high)
			}
		}
	}
	if w.query.State == Pending && lowest == 0 {
		w.over = true // there is no lane
	}
	for !w.over && !w.spent() {
		from, to, err := w.stretch()
		if err != nil {
			return err
		}
		w.at = to
		if to <= lowest || to == 0 {
			w.over = true
			return nil
		}
		if err := w.descend(max(from, lowest)); err != nil {
			return err
		}
	}
	return nil
}

func (w *descent) lanes() []*Lane {
	if w.query.Lane != nil {
		return []*Lane{w.query.Lane}
	}
	return w.q.Lanes()
}

// stretch returns the nearest events below at that may be what is looked for: from the one up to below the other.
func (w *descent) stretch() (from, to uint64, err error) {
	_, end := w.q.log.End()
	if w.at > end {
		return end, w.at, nil // only in memory
	}
	w.steps--
	from, to, ok, err := w.finder.Before(w.at)
	if err != nil || ok {
		return from, to, err
	}
	// What is older was carried.
	return 0, min(w.at, w.q.log.Low()), nil
}

// descend looks at the events below at down to from.
func (w *descent) descend(from uint64) error {
	for w.at > from && !w.spent() {
		if err := w.readBefore(w.at); err != nil {
			return err
		}
		if len(w.frames) == 0 {
			return w.overCarried(from)
		}
		for n := len(w.frames) - 1; n >= 0 && w.at > from && !w.spent(); n-- {
			if err := w.lookInto(w.frames[n], from); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookInto looks at the events of a frame that are below at, down to from.
func (w *descent) lookInto(f *entry.Frame, from uint64) error {
	w.inside = w.inside[:0]
	for r := f.Reader(); r.Seq() < w.at; {
		ev, ok, err := r.Next()
		if err != nil || !ok {
			break // damage, of which the lanes tell
		}
		if ev.Seq >= from && w.sieve.passes(&ev) {
			w.inside = append(w.inside, ev)
		}
	}
	for _, ev := range slices.Backward(w.inside) {
		if w.at = ev.Seq; w.spent() {
			w.at++
			return nil
		}
		if err := w.look(&ev); err != nil {
			return err
		}
	}
	w.at = max(min(w.at, f.First), from)
	return nil
}

// overCarried looks at the events below at whose segments are gone and which were carried.
func (w *descent) overCarried(from uint64) error {
	for w.at > from && !w.spent() {
		key, found, err := w.q.index.before(store.CarriedKey(from), store.CarriedKey(w.at-1))
		if err != nil {
			return err
		}
		if !found {
			w.at = from
			return nil
		}
		w.at = key.Number
		w.steps--
		f, err := w.q.carriedFrame(key.Number)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return err
		}
		if f == nil {
			continue
		}
		w.bytes -= len(f.Raw)
		if ev, err := f.Find(key.Number); err == nil && w.sieve.passes(&ev) {
			if err := w.look(&ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// overRecords looks at deliveries that have records of the kind, and at no others.
func (w *descent) overRecords(what entry.What) error {
	if err := w.q.settled(); err != nil {
		return err
	}
	lanes := w.lanes()
	heads := make([]uint64, len(lanes)) // the next event of each lane, 0 for none
	for i := range heads {
		heads[i] = w.at
	}
	for !w.spent() {
		from, to, err := w.stretch()
		if err != nil {
			return err
		}
		w.at = to
		next := uint64(0)
		for i, l := range lanes {
			if heads[i] >= w.at {
				if heads[i], err = l.recordBefore(what, w.at); err != nil {
					return err
				}
				w.steps--
			}
			next = max(next, heads[i])
		}
		if next == 0 {
			w.over = true
			return nil
		}
		if next < from {
			w.at = next + 1 // and look whether it is worth reading
			continue
		}
		w.at = next
		failure, fits, err := w.failure(what, next)
		if err != nil {
			return err
		}
		if !fits {
			continue
		}
		ev, ok, err := w.find(next)
		if err != nil {
			return err
		}
		if !ok && failure != nil && len(w.sieve.types) == 0 {
			w.events = append(w.events, FoundEvent{Seq: next, Deliveries: []FoundDelivery{}, Failure: failure}) // it must be seen all the same
		}
		if ok && w.sieve.passes(&ev) {
			n := len(w.events)
			if err := w.look(&ev); err != nil {
				return err
			}
			if len(w.events) > n {
				w.events[n].Failure = failure
			}
		}
	}
	return nil
}

// failure returns the record of a failed delivery to the lane that was asked for, and whether it is one of those.
func (w *descent) failure(what entry.What, seq uint64) (f *Failure, fits bool, err error) {
	l := w.query.Lane
	if what != entry.Failed || l == nil {
		return nil, true, nil
	}
	w.steps--
	l.mu.Lock()
	records, err := l.kept(seq, entry.Failed)
	l.mu.Unlock()
	if err != nil || records[0] == nil {
		return nil, false, err
	}
	one, err := parseFailure(seq, records[0])
	if err != nil {
		return nil, false, nil // the janitor leaves it where it is
	}
	one.At = time.UnixMilli(w.q.shown(one.At.UnixMilli()))
	return &one, w.query.fits(&one), nil
}

// fits reports whether a delivery that was given up so is asked for.
func (q *Query) fits(f *Failure) bool {
	return !f.At.Before(q.FailedSince) && (q.FailedUntil.IsZero() || f.At.Before(q.FailedUntil)) &&
		(len(q.Classes) == 0 || slices.Contains(q.Classes, f.Class))
}

// find returns one event; ok is false when it can't be read any more.
func (w *descent) find(seq uint64) (ev Stored, ok bool, err error) {
	w.steps--
	for again := false; ; again = true {
		for _, f := range w.frames {
			if f.First <= seq && seq < f.End() {
				ev, err = f.Find(seq)
				return ev, err == nil, nil
			}
		}
		if again {
			break
		}
		if err = w.readBefore(seq + 1); err != nil {
			return ev, false, err
		}
	}
	ev, ok, err = w.q.find(seq)
	if errors.Is(err, codec.ErrDamaged) {
		err = nil
	}
	return ev, ok, err
}

// readBefore reads the block that holds the event before seq or the nearest one before that.
func (w *descent) readBefore(seq uint64) (err error) {
	if n := len(w.frames); n > 0 && w.frames[0].First < seq && seq <= w.frames[n-1].End() {
		return nil // as before
	}
	w.frames, err = w.q.framesBefore(seq)
	w.steps -= 1 + 2*len(w.frames)
	for _, f := range w.frames {
		w.bytes -= len(f.Raw)
	}
	return err
}

// look adds an event to what was found, if its deliveries are in the state that is looked for.
func (w *descent) look(ev *Stored) error {
	found := FoundEvent{
		Seq: ev.Seq, At: w.q.shown(ev.At), Source: ev.Source, ID: string(ev.ID), Type: string(ev.Type), Bytes: len(ev.Body), Deliveries: []FoundDelivery{}, Letter: LetterOf(ev),
	}
	fits := w.query.State == ""
	for _, l := range w.q.Lanes() {
		if !ev.Lanes.Has(l.id) {
			continue
		}
		w.steps--
		state, err := l.state(ev.Seq)
		if err != nil {
			return err
		}
		found.Deliveries = append(found.Deliveries, FoundDelivery{l.name, state})
		fits = fits || state == w.query.State && (w.query.Lane == nil || w.query.Lane == l)
	}
	if fits {
		w.events = append(w.events, found)
	}
	return nil
}

// settled saves what the lanes did. On a disk that is too full for that it goes on without: what is on disk is then a
// little behind.
func (q *Queue) settled() error {
	if err := q.keeper.drain(q); err != nil && !errors.Is(err, ErrDiskLow) {
		return err
	}
	return nil
}

// framesBefore returns the frames of the block that holds the event before seq, from memory or from the log, or of the
// nearest one before that. What can't be read is passed over; the lanes tell of it.
func (q *Queue) framesBefore(seq uint64) (frames []*entry.Frame, err error) {
	if seq <= 1 {
		return nil, nil
	}
	if frames := q.tail.from(seq-1, 0); frames != nil {
		return frames, nil
	}
	all := q.log.NewFinder(nil, nil, 0, 0)
	for {
		from, to, ok, err := all.Before(seq)
		if err != nil || !ok {
			return nil, err
		}
		_, frames, _, err := q.block(to - 1)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return nil, err
		}
		if err == nil && len(frames) > 0 && frames[0].First < seq {
			return frames, nil
		}
		seq = from
	}
}

// sieve says what is looked for, as far as an event can tell. The zero value lets everything pass.
type sieve struct {
	types        []string // see matchesType
	lane         *Lane    // nil for any
	since, until int64    // accepted from since on and before until, queue times; 0 for no bound
}

// matchesType reports whether a type is one of the patterns, each a type, "group.*" or "*"; without any, every type is.
func matchesType[T string | []byte](patterns []string, name T) bool {
	for _, p := range patterns {
		group, open := strings.CutSuffix(p, "*")
		if open && len(name) > len(group) && string(name[:len(group)]) == group || !open && string(name) == p {
			return true
		}
	}
	return len(patterns) == 0
}

// passes reports whether an event is looked for.
func (s *sieve) passes(ev *Stored) bool {
	return ev.At >= s.since && (s.until == 0 || ev.At < s.until) &&
		(s.lane == nil || ev.Lanes.Has(s.lane.id)) && matchesType(s.types, ev.Type)
}

// finder looks for blocks that may have what passes a sieve.
func (q *Queue) finder(s *sieve) *log.Finder {
	var lanes []uint64
	if s.lane != nil {
		lanes = []uint64{log.LaneWord(q.log.Key(), s.lane.id)}
	}
	return q.log.NewFinder(log.TypeWords(q.log.Key(), s.types), lanes, s.since, s.until)
}
