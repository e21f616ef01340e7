package queue

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	badger "github.com/dgraph-io/badger/v4"
)

// checker walks the whole store of a queue at rest and compares it with itself and with a ledger.
type checker struct {
	q          *Queue
	ledger     *ledger
	events     map[uint64]Stored
	kept       map[uint64]bool
	ids        map[string]uint64
	listed     map[string]uint64 // ids of deleted blocks
	lanes      map[LaneID]laneRecord
	retries    map[LaneID]map[uint64]bool
	failures   map[LaneID]map[uint64]bool
	attempts   map[uint64]bool // events that have records of attempts
	wells      map[LaneID]bool
	replays    map[LaneID]bool
	applied    applied
	digests    []*digest // ascending
	complaints []string
}

// check returns everything that is wrong with the store. No lane may be used meanwhile.
func check(q *Queue, l *ledger) []string {
	c := &checker{
		q: q, ledger: l, events: map[uint64]Stored{}, kept: map[uint64]bool{}, ids: map[string]uint64{}, listed: map[string]uint64{},
		lanes: map[LaneID]laneRecord{}, retries: map[LaneID]map[uint64]bool{}, failures: map[LaneID]map[uint64]bool{},
		attempts: map[uint64]bool{}, wells: map[LaneID]bool{}, replays: map[LaneID]bool{},
	}
	if err := q.keeper.drain(q); err != nil {
		return []string{err.Error()}
	}
	// The keeper, and the janitor with it, waits meanwhile.
	if err := q.update(func(*batch) error { c.walk(); return nil }); err != nil {
		return []string{err.Error()}
	}
	c.checkEvents()
	c.checkDigests()
	c.checkIDs()
	for _, id := range slices.Sorted(maps.Keys(c.lanes)) {
		c.checkLane(id)
	}
	c.checkOrphans()
	return c.complaints
}

func (c *checker) say(format string, args ...any) {
	c.complaints = append(c.complaints, fmt.Sprintf(format, args...))
}

func (c *checker) walk() {
	var blocks []uint64
	err := c.q.store.scan(nil, nil, false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		record, err := value()
		if err != nil {
			return false, err
		}
		return true, c.file(bytes.Clone(key), record, &blocks)
	})
	if err != nil {
		c.say("walk: %v", err)
	}
	last := uint64(0)
	for _, at := range blocks {
		err := c.q.store.read(func(txn *badger.Txn) error {
			frames, err := readBlock(txn, kindBlock, at)
			for _, f := range frames {
				if f.first <= last {
					c.say("log: events %d to %d are there twice", f.first, last)
				}
				last = f.end() - 1
				c.add(f)
			}
			return err
		})
		if err != nil || last != at {
			c.say("log: block %d ends with event %d: %v", at, last, err)
		}
	}
}

// file takes one key of the store.
func (c *checker) file(key, record []byte, blocks *[]uint64) (err error) {
	lane, seq, _ := parseDeliveryKey(key)
	switch key[0] {
	case kindMeta:
		if bytes.Equal(key, keyApplied) {
			c.applied, err = parseApplied(record)
		}
	case kindBlock:
		if last, piece, ok := parsePieceKey(key); !ok || piece == 0 {
			*blocks = append(*blocks, last)
		}
	case kindKept:
		if seq, piece, _ := parsePieceKey(key); piece == 0 {
			var f *frame
			if f, err = c.q.store.kept(seq); err == nil {
				c.kept[seq] = true
				c.add(f)
			}
		}
	case kindID:
		c.ids[string(key[1:])], _, err = parseIDRecord(record)
	case kindIDs:
		var list []listedID
		list, err = parseIDs(record)
		for _, one := range list {
			c.listed[string(one.id)] = one.seq
		}
	case kindLane:
		r, err := parseLane(record)
		c.lanes[LaneID(uint32(key[3])<<8|uint32(key[4]))] = r
		return err
	case kindRetry, kindFailed:
		of := c.retries
		if key[0] == kindFailed {
			of = c.failures
			_, err = parseFailure(seq, record)
		} else {
			_, err = parseRetry(seq, record)
		}
		if of[lane] == nil {
			of[lane] = map[uint64]bool{}
		}
		of[lane][seq] = true
	case kindAttempt:
		seq, _, _ := parseAttemptKey(key)
		c.attempts[seq] = true
	case kindWell:
		lane, _, _ := parseWellKey(key)
		c.wells[lane] = true
	case kindReplay:
		if _, err := parseReplay(seq, record); err != nil {
			return err
		}
		c.replays[lane] = true
	case kindDigest:
		first, _ := parseDigestKey(key)
		d, err := parseDigest(first, record)
		if err == nil {
			c.digests = append(c.digests, d)
		}
		return err
	case kindScratch:
	default:
		c.say("key %q is of no kind", key)
	}
	return err
}

func (c *checker) add(f *frame) {
	for r := f.reader(); ; {
		ev, ok, err := r.next()
		if err != nil {
			c.say("log: %v", err)
		}
		if err != nil || !ok {
			return
		}
		if _, twice := c.events[ev.Seq]; twice && !c.kept[ev.Seq] {
			c.say("log: event %d is there twice", ev.Seq)
		}
		c.events[ev.Seq] = ev
	}
}

// checkEvents: no acknowledged event is missing, none is there that nobody sent, and they are counted.
func (c *checker) checkEvents() {
	for _, id := range slices.Sorted(maps.Keys(c.ledger.acked)) {
		want := c.ledger.acked[id]
		ev, there := c.events[want.seq]
		switch {
		case !there && c.mayBeGone(id):
			c.ledger.gone[id] = true // whatever was thought to be saved of it since
		case !there:
			c.say("log: event %s, number %d, was acknowledged and is missing", id, want.seq)
		case there && (string(ev.ID) != id || !bytes.Equal(ev.Body, playBody(id))):
			c.say("log: event %s, number %d, is now %s with %d bytes", id, want.seq, ev.ID, len(ev.Body))
		}
	}
	var bodies int64
	for _, ev := range c.events {
		bodies += int64(len(ev.Body))
		if !c.ledger.tried[string(ev.ID)] {
			c.say("log: event %s was never sent", ev.ID)
		}
		if ev.Seq >= c.applied.next {
			c.say("log: event %d is behind the end, %d", ev.Seq, c.applied.next)
		}
	}
	if int64(len(c.events)) != c.applied.events || bodies != c.applied.bytes {
		c.say("counters: %d events of %d bytes are there, %d of %d are counted", len(c.events), bodies, c.applied.events, c.applied.bytes)
	}
}

// mayBeGone: every lane is done with the event for the time of retention, also with its failed delivery. An event that was
// kept by itself, for a retry that outlived its block, goes as soon as that is settled.
func (c *checker) mayBeGone(id string) bool {
	if c.ledger.gone[id] {
		return true
	}
	for _, lane := range c.ledger.acked[id].lanes {
		changes := c.ledger.deliveries[lane+" "+id]
		last := changes[len(changes)-1]
		age := c.ledger.now - last.at
		if len(changes) > 2 {
			age = max(age, c.ledger.now-changes[0].at)
		}
		for _, one := range changes[c.ledger.saved[lane+" "+id]:] {
			if one.state == Settled { // and a replay of it, which nobody saved, was cut short
				last.state = Settled
			}
		}
		done := last.state == Settled && age >= c.q.opts.Retention.Milliseconds() ||
			last.state == GivenUp && c.ledger.now-last.at >= c.q.opts.FailedRetention.Milliseconds()
		if !done && c.ledger.lanes[lane] {
			return false
		}
	}
	return true
}

// checkDigests: no event hides from those who look for it, and no digest tells of nothing but events that are gone.
func (c *checker) checkDigests() {
	for i, d := range c.digests {
		if i > 0 && c.digests[i-1].end() > d.first {
			c.say("digests: that of the events from %d goes beyond %d", c.digests[i-1].first, d.first)
		}
		if d.end() > c.applied.next {
			c.say("digests: that of the events from %d goes beyond the end, %d", d.first, c.applied.next)
		}
	}
	for seq, ev := range c.events {
		if c.kept[seq] {
			continue
		}
		at := sort.Search(len(c.digests), func(i int) bool { return c.digests[i].end() > seq })
		if at == len(c.digests) || c.digests[at].first > seq {
			c.say("digests: event %d is in none", seq)
			continue
		}
		slot, _ := slices.BinarySearch(c.digests[at].ends, seq+1)
		ev.Lanes.each(func(id LaneID) {
			one := sieve{types: []string{string(ev.Type)}, lane: &Lane{id: id}, since: ev.At, until: ev.At + 1}
			if one.slots(c.digests[at])&(1<<slot) == 0 {
				c.say("digests: event %d for lane %d hides from its digest", seq, id)
			}
		})
	}
}

// checkIDs: each id that must be known points to its event, and each id record to an event or to the list that it will be
// deleted by.
func (c *checker) checkIDs() {
	for _, id := range slices.Sorted(maps.Keys(c.ledger.acked)) {
		want := c.ledger.acked[id]
		seq, known := c.ids[id]
		if in := c.ledger.now-want.at < c.q.opts.DedupWindow.Milliseconds(); (in || known) && seq != want.seq {
			c.say("dedup: id %s points to event %d, want %d", id, seq, want.seq)
		}
	}
	for seq, ev := range c.events {
		in := c.ledger.now-ev.At < c.q.opts.DedupWindow.Milliseconds()
		if to, known := c.ids[string(ev.ID)]; (in || known) && to < seq {
			c.say("dedup: event %d has the id %s, which points to %d", seq, ev.ID, to)
		}
	}
	for id, seq := range c.ids {
		ev, there := c.events[seq]
		if there && string(ev.ID) != id || !there && c.listed[id] != seq {
			c.say("dedup: id %s points to event %d, which is not there", id, seq)
		}
	}
}

// checkLane: each delivery is in one state, one that the ledger allows; the counters are what a walk counts.
func (c *checker) checkLane(id LaneID) {
	r := c.lanes[id]
	if r.cursor > c.applied.next {
		c.say("lane %s: the cursor, %d, is behind the end of the log, %d", r.name, r.cursor, c.applied.next)
	}
	for _, seq := range r.settled {
		if ev, there := c.events[seq]; seq < r.cursor || !there && seq >= c.applied.next || there && !ev.Lanes.Has(id) {
			c.say("lane %s: event %d is settled above the cursor, %d, and is not for it", r.name, seq, r.cursor)
		}
	}
	var pending int64
	for _, seq := range slices.Sorted(maps.Keys(c.events)) {
		ev := c.events[seq]
		if !ev.Lanes.Has(id) {
			continue
		}
		var states []string
		if seq >= r.cursor && !slices.Contains(r.settled, seq) {
			states = append(states, Pending)
			pending++
			if c.kept[seq] {
				c.say("lane %s: event %d is pending and its block is gone", r.name, seq)
			}
		}
		if c.retries[id][seq] {
			states = append(states, Retrying)
		}
		if c.failures[id][seq] {
			states = append(states, GivenUp)
		}
		if len(states) == 0 {
			states = append(states, Settled)
		}
		if len(states) > 1 {
			c.say("lane %s: event %d is in two states, %v", r.name, seq, states)
			continue
		}
		c.checkDelivery(r.name, string(ev.ID), states[0])
	}
	if given := c.applied.matched[id]; given-r.passed != pending {
		c.say("counters: lane %s has %d pending, %d given less %d passed are counted", r.name, pending, given, r.passed)
	}
	if n := len(c.retries[id]); int64(n) != r.retrying {
		c.say("counters: lane %s has %d retrying, %d are counted", r.name, n, r.retrying)
	}
	if n := len(c.failures[id]); int64(n) != r.failed {
		c.say("counters: lane %s has %d failed, %d are counted", r.name, n, r.failed)
	}
	if settled := r.delivered + r.retrying + r.failed; settled > r.passed+r.replayed {
		c.say("counters: lane %s has settled %d, %d passed and %d replayed are counted", r.name, settled, r.passed, r.replayed)
	}
}

// checkDelivery: the store shows what the ledger says, not older than the last save.
func (c *checker) checkDelivery(lane, id, state string) {
	key := lane + " " + id
	changes := c.ledger.deliveries[key]
	if len(changes) == 0 { // the event was not acknowledged
		changes = []change{{Pending, 0}}
	}
	for _, one := range changes[c.ledger.saved[key]:] {
		expired := one.state == GivenUp && c.ledger.now-one.at >= c.q.opts.FailedRetention.Milliseconds()
		if one.state == state || expired && state == Settled {
			return
		}
	}
	c.say("lane %s: event %s is %s, but what was settled is %v, of which %d must be saved", lane, id, state, changes, c.ledger.saved[key])
}

// checkOrphans: nothing is left of lanes and events that are gone, and no lane is gone that nobody gave up.
func (c *checker) checkOrphans() {
	names := map[string]bool{}
	for _, r := range c.lanes {
		names[r.name] = true
	}
	for name, wanted := range c.ledger.lanes {
		if wanted && !names[name] || c.ledger.givenUp[name] && names[name] {
			c.say("lane %s: wanted %v, there %v", name, wanted, names[name])
		}
	}
	for _, of := range []map[LaneID]map[uint64]bool{c.retries, c.failures} {
		for id, seqs := range of {
			if _, there := c.lanes[id]; !there {
				c.say("orphans: %d deliveries of lane %d, which is gone", len(seqs), id)
			}
			for seq := range seqs {
				if ev, there := c.events[seq]; !there || !ev.Lanes.Has(id) {
					c.say("orphans: a delivery of event %d for lane %d, which it is not for", seq, id)
				}
			}
		}
	}
	for id := range c.wells {
		if _, there := c.lanes[id]; !there {
			c.say("orphans: attempts of lane %d, which is gone", id)
		}
	}
	for id := range c.replays {
		if _, there := c.lanes[id]; !there {
			c.say("orphans: replays of lane %d, which is gone", id)
		}
	}
	left := 0
	for seq := range c.attempts {
		if _, there := c.events[seq]; !there {
			left++
		}
	}
	if left > 0 {
		c.say("orphans: attempts of %d events, which are gone", left)
	}
}

// TestTheCheckerSeesDamage is the control of the fault matrix: a store that is damaged on purpose must not pass.
func TestTheCheckerSeesDamage(t *testing.T) {
	// After begin and a save, evt_0 to evt_9 are events 1 to 10; crm, lane 0, has failed 2 and 3 and is retrying 6.
	lane := func(t *testing.T, q *Queue, b *batch, change func(*laneRecord)) {
		record, err := q.store.get(laneKey(0))
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseLane(record)
		if err != nil {
			t.Fatal(err)
		}
		change(&r)
		b.set(laneKey(0), r.append(nil))
	}
	tests := []struct {
		name   string
		damage func(*testing.T, *Queue, *batch)
		want   string
	}{
		{"nothing", func(*testing.T, *Queue, *batch) {}, ""},
		{"a block is gone", func(_ *testing.T, _ *Queue, b *batch) { b.delete(blockKey(6, 0)) }, "acknowledged and is missing"},
		{"a block is gone, counted", func(_ *testing.T, _ *Queue, b *batch) { b.delete(blockKey(6, 0)) }, "counters: 4 events"},
		{"a retry is gone", func(_ *testing.T, _ *Queue, b *batch) { b.delete(deliveryKey(kindRetry, 0, 6)) }, "evt_5 is delivered, but"},
		{"a retry is gone, counted", func(_ *testing.T, _ *Queue, b *batch) { b.delete(deliveryKey(kindRetry, 0, 6)) }, "has 0 retrying, 1 are counted"},
		{"a failed delivery is gone", func(_ *testing.T, _ *Queue, b *batch) { b.delete(deliveryKey(kindFailed, 0, 3)) }, "has 1 failed, 2 are counted"},
		{"a failed delivery is retrying", func(t *testing.T, q *Queue, b *batch) {
			b.set(deliveryKey(kindRetry, 0, 3), appendRetry(nil, &retry{due: q.opts.Now(), attempts: 1}))
		}, "event 3 is in two states"},
		{"a pending delivery is retrying", func(t *testing.T, q *Queue, b *batch) {
			b.set(deliveryKey(kindRetry, 0, 9), appendRetry(nil, &retry{due: q.opts.Now(), attempts: 1}))
		}, "event 9 is in two states"},
		{"a cursor is ahead", func(t *testing.T, q *Queue, b *batch) {
			lane(t, q, b, func(r *laneRecord) { r.cursor++; r.passed++; r.delivered++ })
		}, "evt_6 is delivered, but"},
		{"an event is settled above the cursor", func(t *testing.T, q *Queue, b *batch) {
			lane(t, q, b, func(r *laneRecord) { r.settled = []uint64{9}; r.passed++ })
		}, "evt_8 is delivered, but"},
		{"a cursor is behind what was saved", func(t *testing.T, q *Queue, b *batch) {
			lane(t, q, b, func(r *laneRecord) { r.cursor, r.passed, r.delivered = 5, r.passed-1, r.delivered-1 })
		}, "evt_4 is pending, but"},
		{"a cursor is beyond the log", func(t *testing.T, q *Queue, b *batch) {
			lane(t, q, b, func(r *laneRecord) { r.cursor = 99 })
		}, "is behind the end of the log"},
		{"an id is gone", func(_ *testing.T, _ *Queue, b *batch) { b.delete(appendIDKey(nil, []byte("evt_7"))) }, "id evt_7 points to event 0"},
		{"an id points elsewhere", func(_ *testing.T, q *Queue, b *batch) {
			b.set(appendIDKey(nil, []byte("evt_7")), appendIDRecord(nil, 1, q.opts.Now().UnixMilli()))
		}, "id evt_7 points to event 1, want 8"},
		{"an id of nothing", func(_ *testing.T, q *Queue, b *batch) {
			b.set(appendIDKey(nil, []byte("ghost")), appendIDRecord(nil, 77, q.opts.Now().UnixMilli()))
		}, "id ghost points to event 77"},
		{"a lane is gone", func(_ *testing.T, _ *Queue, b *batch) { b.delete(laneKey(0)) }, "lane crm: wanted true, there false"},
		{"a lane is gone, its deliveries are not", func(_ *testing.T, _ *Queue, b *batch) { b.delete(laneKey(0)) }, "deliveries of lane 0, which is gone"},
		{"an event is there twice", func(t *testing.T, q *Queue, b *batch) {
			_, frames, _, err := q.store.block(10)
			if err != nil {
				t.Fatal(err)
			}
			writeBlock(b, kindBlock, 11, frames[0].raw)
		}, "are there twice"},
		{"an event nobody sent", func(_ *testing.T, _ *Queue, b *batch) {
			var d draft
			d.add("platform", &Event{ID: []byte("ghost")}, "")
			_, f := d.seal(11, 0, 0)
			writeBlock(b, kindBlock, 11, f.raw)
		}, "event ghost was never sent"},
		{"the events are miscounted", func(_ *testing.T, q *Queue, b *batch) { q.keeper.keep(b, 1, 0) }, "counters: 10 events"},
		{"a replay of nothing", func(_ *testing.T, _ *Queue, b *batch) {
			b.set(replayKey(77, 1), (&replay{state: ReplayDone}).append(nil))
		}, "replays of lane 77"},
		{"an event hides from its digest", func(t *testing.T, q *Queue, b *batch) {
			list, err := q.digestsBefore(10, 1)
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			list[0].types[0].in = 0
			b.set(digestKey(list[0].first), list[0].append(nil))
		}, "hides from its digest"},
		{"a digest is gone", func(t *testing.T, q *Queue, b *batch) { b.delete(digestKey(1)) }, "is in none"},
		{"attempts of nothing", func(_ *testing.T, _ *Queue, b *batch) {
			b.set(attemptKey(77, 0, 0, 1), appendAttempt(nil, broken(1), 0))
		}, "attempts of 1 events"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			book := &bytes.Buffer{}
			p := newPlay(t, filepath.Join(t.TempDir(), "data"), act{}, harm{}, book, playStart)
			p.begin()
			defer func() { _ = p.Close() }()
			p.must(p.save())
			p.must(p.update(func(b *batch) error { test.damage(t, p.Queue, b); return nil }))
			l := newLedger()
			mustTell(t, l, book)
			said := strings.Join(check(p.Queue, l), "\n")
			if test.want == "" && said != "" || !strings.Contains(said, test.want) {
				t.Errorf("the checker says %q, want %q", said, test.want)
			}
		})
	}
}
