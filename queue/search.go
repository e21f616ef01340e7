package queue

import (
	"errors"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// Query says which events Search looks for. The zero value asks for the newest events.
type Query struct {
	Types        []string  // each a type, "group.*" or "*"; none for all
	Lane         *Lane     // events for this endpoint; nil: for any
	Source       string    // events of this source; empty: of any
	State        string    // of the delivery to Lane or, without Lane, to any endpoint; empty: any
	Since, Until time.Time // accepted from Since on and before Until; zero: no bound
	Classes      []string  // with Lane and Failed: of the failure
	FailedSince  time.Time // with Lane and Failed: failed from then on, and before FailedUntil; zero: no bound
	FailedUntil  time.Time
	Below        uint64 // only events with a lower number; 0: all
	Limit        int    // of events; 100 when it is 0

	// Members are those that Fits asks for by their values: they say where to look, as far as they were read of events when these came.
	Members []Member

	// Fits reports whether an event is looked for; nil: each is. With State it is asked of those alone whose delivery is in that state as
	// the search comes by. It must not block, nor keep the event.
	Fits func(*Stored) bool
}

// Member is a member of events that is one of some values, in the form of Words.
type Member struct {
	Name   string
	Values [][]byte
}

func (q *Queue) members(list []Member) (hashed []log.Member) {
	for _, m := range list {
		one := log.Member{Name: q.log.Key().Member(m.Name)}
		for _, v := range m.Values {
			one.Values = append(one.Values, q.log.Key().Value(m.Name, v))
		}
		hashed = append(hashed, one)
	}
	return hashed
}

// Words adds a member to the words of an event, by which searches find it. Of a value the first 64 bytes count; nil: the event does not
// have the member.
func (q *Queue) Words(words Words, name string, value []byte) Words {
	hash := uint64(0)
	if value != nil {
		hash = q.log.Key().Value(name, value)
	}
	return words.Add(q.log.Key().Member(name), hash)
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
	Failure    *Failure // of the delivery to Query.Lane, when the query is for Failed
	Letter     *Letter  // of which failed delivery the event is a copy; nil when it is none
}

// FoundDelivery is the state of an event's delivery to one endpoint.
type FoundDelivery struct {
	Lane  string
	State string
}

const (
	// A page costs at most searchBytes of events read, and searchSteps of keys and states looked at.
	searchBytes = 16 << 20
	searchSteps = 10_000
)

// Search finds events that are kept. Its cost depends on what it finds, not on how much is kept: the postings of the
// segments say where to look. It reads disk and holds no lock meanwhile; the cost of one page is bounded. For Failed and
// Retrying it first waits for a save; and it waits for one when it has to find out whether deliveries are discarded.
func (q *Queue) Search(query Query) (Found, error) {
	s := search{
		q: q, query: query, bytes: searchBytes, steps: searchSteps, limit: query.Limit,
		criteria: criteria{query.Types, query.Lane, query.Source, q.members(query.Members), q.stampOrZero(query.Since), q.stampOrZero(query.Until)},
		at:       q.end.Load(),
	}
	s.finder = q.finder(&s.criteria)
	if s.limit == 0 {
		s.limit = 100
	}
	if query.Below != 0 {
		s.at = min(s.at, query.Below)
	}
	var err error
	switch query.State {
	case Failed:
		err = s.scanRecords(entry.Failed)
	case Retrying:
		err = s.scanRecords(entry.Retry)
	default:
		err = s.scanLog()
	}
	if err == nil {
		err = s.prove()
	}
	found := Found{Events: s.events}
	if !s.exhausted {
		found.Next = s.at
	}
	return found, err
}

// search walks down the log, newest first.
type search struct {
	q         *Queue
	query     Query
	criteria  criteria
	at        uint64 // everything at or above it was looked at
	exhausted bool   // everything below it, too
	events    []FoundEvent
	limit     int
	bytes     int // that may still be read
	steps     int // that may still be made

	finder  *log.Finder
	frames  []*entry.Frame // of the block that was read last
	matches []Stored       // events of one of them that match the criteria

	unproven []unproven
}

// unproven is a delivery on the page that is delivered, or discarded: see deliveryState.
type unproven struct {
	event, delivery int // where on the page it is
	attempted
}

// spent reports that the page is full or has cost enough.
func (s *search) spent() bool { return len(s.events) >= s.limit || s.bytes <= 0 || s.steps <= 0 }

// scanLog looks at the events themselves.
func (s *search) scanLog() error {
	lowest, discardedTo := uint64(0), uint64(0)
	for _, l := range s.lanes() {
		low, high, discarded := l.spans()
		discardedTo = max(discardedTo, discarded)
		switch s.query.State {
		case Pending: // none is below low
			if lowest == 0 || low < lowest {
				lowest = low
			}
		case Delivered: // none is from high on
			if l == s.query.Lane {
				s.at = min(s.at, high)
			}
		}
	}
	switch {
	case s.query.State == Pending && lowest == 0:
		s.exhausted = true // there is no lane
	case s.query.State == Discarded:
		s.at, s.exhausted = min(s.at, discardedTo), discardedTo == 0
	}
	for !s.exhausted && !s.spent() {
		from, to, err := s.nextRange()
		if err != nil {
			return err
		}
		s.at = to
		if to <= lowest || to == 0 {
			s.exhausted = true
			return nil
		}
		if err := s.scanDown(max(from, lowest)); err != nil {
			return err
		}
	}
	return nil
}

// lanes are the lanes whose deliveries count.
func (s *search) lanes() []*Lane {
	if s.query.Lane != nil {
		return []*Lane{s.query.Lane}
	}
	return s.q.Lanes()
}

// nextRange returns the nearest events below at that may match: from the one up to below the other.
func (s *search) nextRange() (from, to uint64, err error) {
	_, end := s.q.log.End()
	if s.at > end {
		return end, s.at, nil // only in memory
	}
	s.steps--
	from, to, ok, err := s.finder.Before(s.at)
	if err != nil || ok {
		return from, to, err
	}
	// Older events were carried.
	return 0, min(s.at, s.q.log.FirstKeptEvent()), nil
}

// scanDown looks at the events below at, down to from.
func (s *search) scanDown(from uint64) error {
	for s.at > from && !s.spent() {
		if err := s.readBefore(s.at); err != nil {
			return err
		}
		if len(s.frames) == 0 {
			return s.scanCarried(from)
		}
		for n := len(s.frames) - 1; n >= 0 && s.at > from && !s.spent(); n-- {
			if err := s.scanFrame(s.frames[n], from); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanFrame looks at the events of a frame that are below at, down to from.
func (s *search) scanFrame(f *entry.Frame, from uint64) error {
	s.matches = s.matches[:0]
	for r := f.Reader(); r.Seq() < s.at; {
		ev, ok, err := r.Next()
		if err != nil || !ok {
			break // damage, which the lanes report
		}
		if ev.Seq >= from && s.criteria.match(&ev) {
			s.matches = append(s.matches, ev)
		}
	}
	for _, ev := range slices.Backward(s.matches) {
		if s.at = ev.Seq; s.spent() {
			s.at++
			return nil
		}
		if err := s.addIfState(&ev); err != nil {
			return err
		}
	}
	s.at = max(min(s.at, f.First), from)
	return nil
}

// scanCarried looks at carried events below at, down to from.
func (s *search) scanCarried(from uint64) error {
	for s.at > from && !s.spent() {
		key, found, err := s.q.index.before(store.CarriedKey(from), store.CarriedKey(s.at-1))
		if err != nil {
			return err
		}
		if !found {
			s.at = from
			return nil
		}
		s.at = key.Number
		s.steps--
		f, err := s.q.carriedFrame(key.Number)
		if err != nil && !errors.Is(err, codec.ErrDamaged) {
			return err
		}
		if f == nil {
			continue
		}
		s.bytes -= len(f.Raw)
		if ev, err := f.Find(key.Number); err == nil && s.criteria.match(&ev) {
			if err := s.addIfState(&ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanRecords looks at deliveries that have records of the kind, and at no others.
func (s *search) scanRecords(kind entry.RecordKind) error {
	if err := s.q.saveProgress(); err != nil {
		return err
	}
	lanes := s.lanes()
	if s.query.Lane == nil {
		lanes = slices.DeleteFunc(lanes, func(l *Lane) bool { return !l.mayHave(kind) })
	}
	heads := make([]uint64, len(lanes)) // the next event of each lane, 0 for none
	for i := range heads {
		heads[i] = s.at
	}
	for !s.spent() {
		from, to, err := s.nextRange()
		if err != nil {
			return err
		}
		s.at = to
		next := uint64(0)
		for i, l := range lanes {
			if heads[i] >= s.at {
				if heads[i], err = l.recordBefore(kind, s.at); err != nil {
					return err
				}
				s.steps--
			}
			next = max(next, heads[i])
		}
		if next == 0 {
			s.exhausted = true
			return nil
		}
		if next < from {
			s.at = next + 1 // and see whether a block there may match
			continue
		}
		s.at = next
		failure, fits, err := s.failure(kind, next)
		if err != nil {
			return err
		}
		if !fits {
			continue
		}
		ev, ok, err := s.find(next)
		if err != nil {
			return err
		}
		if !ok && failure != nil && len(s.criteria.types) == 0 && s.criteria.source == "" && s.query.Fits == nil {
			s.events = append(s.events, FoundEvent{Seq: next, Deliveries: []FoundDelivery{}, Failure: failure}) // people must see it all the same
		}
		if ok && s.criteria.match(&ev) {
			n := len(s.events)
			if err := s.addIfState(&ev); err != nil {
				return err
			}
			if len(s.events) > n {
				s.events[n].Failure = failure
			}
		}
	}
	return nil
}

// failure returns the record of a failed delivery to the query's lane, and whether the query is for it.
func (s *search) failure(kind entry.RecordKind, seq uint64) (f *Failure, fits bool, err error) {
	l := s.query.Lane
	if kind != entry.Failed || l == nil {
		return nil, true, nil
	}
	s.steps--
	l.mu.Lock()
	records, err := l.recordsOf(seq, entry.Failed)
	l.mu.Unlock()
	if err != nil || records[0] == nil {
		return nil, false, err
	}
	one, err := parseFailure(seq, records[0])
	if err != nil {
		return nil, false, nil // retention leaves it where it is
	}
	one.At = time.UnixMilli(s.q.shown(one.At.UnixMilli()))
	return &one, s.query.fits(&one), nil
}

// fits reports whether the query is for a delivery that failed so.
func (q *Query) fits(f *Failure) bool {
	return !f.At.Before(q.FailedSince) && (q.FailedUntil.IsZero() || f.At.Before(q.FailedUntil)) &&
		(len(q.Classes) == 0 || slices.Contains(q.Classes, f.Class))
}

// find returns one event; ok is false when it can't be read any more.
func (s *search) find(seq uint64) (ev Stored, ok bool, err error) {
	s.steps--
	for again := false; ; again = true {
		for _, f := range s.frames {
			if f.First <= seq && seq < f.End() {
				ev, err = f.Find(seq)
				return ev, err == nil, nil
			}
		}
		if again {
			break
		}
		if err = s.readBefore(seq + 1); err != nil {
			return ev, false, err
		}
	}
	ev, ok, err = s.q.find(seq)
	if errors.Is(err, codec.ErrDamaged) {
		err = nil
	}
	return ev, ok, err
}

// readBefore reads the block that holds the event before seq, or the nearest block before that.
func (s *search) readBefore(seq uint64) (err error) {
	if n := len(s.frames); n > 0 && s.frames[0].First < seq && seq <= s.frames[n-1].End() {
		return nil // as before
	}
	s.frames, err = s.q.framesBefore(seq)
	s.steps -= 1 + 2*len(s.frames)
	for _, f := range s.frames {
		s.bytes -= len(f.Raw)
	}
	return err
}

// addIfState adds an event to the page if it fits the query and its deliveries are in the query's state.
func (s *search) addIfState(ev *Stored) error {
	fits := s.query.State == ""
	if fits && !s.query.wants(ev) {
		return nil
	}
	found := FoundEvent{
		Seq: ev.Seq, At: s.q.shown(ev.At), Source: ev.Source, ID: string(ev.ID), Type: string(ev.Type), Bytes: len(ev.Body), Deliveries: []FoundDelivery{}, Letter: LetterOf(ev),
	}
	var open []unproven
	for _, l := range s.q.lanesOf(ev.Lanes) {
		s.steps--
		d, err := l.state(ev.Seq)
		if err != nil {
			return err
		}
		if d.unproven {
			open = append(open, unproven{len(s.events), len(found.Deliveries), attempted{l.id, ev.Seq}})
		}
		found.Deliveries = append(found.Deliveries, FoundDelivery{l.name, d.state})
		fits = fits || s.query.isFor(l.name, d.state) || d.unproven && s.query.isFor(l.name, Discarded)
	}
	if fits && (s.query.State == "" || s.query.wants(ev)) {
		s.events, s.unproven = append(s.events, found), append(s.unproven, open...)
	}
	return nil
}

// wants reports whether an event is one of those that the query's Fits is for.
func (q *Query) wants(ev *Stored) bool { return q.Fits == nil || q.Fits(ev) }

// isFor reports whether the query is for deliveries to a lane that are in a state.
func (q *Query) isFor(lane, state string) bool {
	return state == q.State && (q.Lane == nil || q.Lane.name == lane)
}

// prove finds out which of the deliveries on the page are discarded, and takes those events off it that do not fit then.
func (s *search) prove() error {
	if len(s.unproven) == 0 {
		return nil
	}
	// The states are as of now. Attempts that led to them may be in memory alone.
	if err := s.q.saveProgress(); err != nil {
		return err
	}
	deliveries := make([]attempted, 0, len(s.unproven))
	for _, u := range slices.Backward(s.unproven) { // a page has the newest event first
		deliveries = append(deliveries, u.attempted)
	}
	good, err := s.q.wentWell(deliveries)
	if err != nil {
		return err
	}
	for _, u := range s.unproven {
		if !good[u.attempted] {
			s.events[u.event].Deliveries[u.delivery].State = Discarded
		}
	}
	if s.query.State == Delivered || s.query.State == Discarded {
		s.events = slices.DeleteFunc(s.events, func(ev FoundEvent) bool {
			return !slices.ContainsFunc(ev.Deliveries, func(d FoundDelivery) bool { return s.query.isFor(d.Lane, d.State) })
		})
	}
	return nil
}
