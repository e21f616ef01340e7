package queue

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
)

// A digest tells what a stretch of the log holds, so that whoever looks for a few events among millions reads a few
// blocks. The stretch is cut into at most 64 slots of about a block each, and for every type and every lane a bit for each
// slot says whether it has such events. A bit that is set in vain costs a look; one that is missing would hide an event,
// so bits are only ever added.
//
// The keeper writes the digest at hand with each save, in place, and begins the next one when it is full: a key of a few
// hundred bytes for a thousand events.
type digest struct {
	first  uint64   // event
	ends   []uint64 // of the slots: behind the last event of each, ascending
	open   int      // bytes in the last slot
	oldest int64    // of the times at which its events were accepted, Unix milliseconds
	newest int64
	types  []digestType
	others uint64 // slots with types that found no room in the list
	lanes  []digestLane

	at   int     // of the type that was added last, the likeliest to come again
	set  LaneSet // added last
	into uint64  // where to
}

type digestType struct {
	name string
	in   uint64 // slots
}

type digestLane struct {
	id LaneID
	in uint64
}

const (
	digestSlots = 64
	slotEvents  = 16
	slotBytes   = 64 << 10
	// digestTypes bounds the list of types: somebody may make them up.
	digestTypes = 64
)

// end is behind the last event that the digest tells of.
func (d *digest) end() uint64 {
	if len(d.ends) == 0 {
		return d.first
	}
	return d.ends[len(d.ends)-1]
}

// begin is where a slot begins.
func (d *digest) begin(slot int) uint64 {
	if slot == 0 {
		return d.first
	}
	return d.ends[slot-1]
}

// add takes in an event and reports false when there is no room. An event that was taken in before, by a save that was cut
// short, changes nothing.
func (d *digest) add(ev *Stored) bool {
	slot, size := 0, len(ev.Body)+len(ev.ID)+len(ev.Type)
	switch n := len(d.ends); {
	case n == 0:
		d.first, d.ends, d.open = ev.Seq, append(d.ends, ev.Seq+1), size
		d.oldest, d.newest = ev.At, ev.At
	case ev.Seq < d.ends[n-1]:
		slot, _ = slices.BinarySearch(d.ends, ev.Seq+1)
	case d.open < slotBytes && ev.Seq-d.begin(n-1) < slotEvents:
		slot, d.ends[n-1], d.open = n-1, ev.Seq+1, d.open+size
	case n < digestSlots:
		slot, d.ends, d.open = n, append(d.ends, ev.Seq+1), size
	default:
		return false
	}
	d.oldest, d.newest = min(d.oldest, ev.At), max(d.newest, ev.At)
	bit := uint64(1) << slot
	if d.at >= len(d.types) || d.types[d.at].name != string(ev.Type) {
		d.at = slices.IndexFunc(d.types, func(t digestType) bool { return t.name == string(ev.Type) })
		if d.at < 0 && len(d.types) < digestTypes {
			d.at, d.types = len(d.types), append(d.types, digestType{name: string(ev.Type)})
		}
	}
	if d.at < 0 {
		d.at, d.others = 0, d.others|bit
	} else {
		d.types[d.at].in |= bit
	}
	if d.set != ev.Lanes || d.into != bit {
		d.set, d.into = ev.Lanes, bit
		ev.Lanes.each(func(id LaneID) { d.addLane(id, bit) })
	}
	return true
}

func (d *digest) addLane(id LaneID, bit uint64) {
	at, in := slices.BinarySearchFunc(d.lanes, id, func(l digestLane, id LaneID) int { return cmp.Compare(l.id, id) })
	if !in {
		d.lanes = slices.Insert(d.lanes, at, digestLane{id: id})
	}
	d.lanes[at].in |= bit
}

func (d *digest) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendVarint(dst, d.oldest)
	dst = binary.AppendVarint(dst, d.newest)
	dst = binary.AppendUvarint(dst, uint64(d.open))
	dst = binary.AppendUvarint(dst, uint64(len(d.ends)))
	last := d.first
	for _, end := range d.ends {
		dst = binary.AppendUvarint(dst, end-last)
		last = end
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.types)))
	for _, t := range d.types {
		dst = appendText(dst, t.name)
		dst = binary.AppendUvarint(dst, t.in)
	}
	dst = binary.AppendUvarint(dst, d.others)
	dst = binary.AppendUvarint(dst, uint64(len(d.lanes)))
	for _, l := range d.lanes {
		dst = binary.AppendUvarint(dst, uint64(l.id))
		dst = binary.AppendUvarint(dst, l.in)
	}
	return dst
}

func parseDigest(first uint64, record []byte) (*digest, error) {
	d := decoder{buf: record}
	d.version()
	g := &digest{first: first, oldest: d.varint(), newest: d.varint(), open: int(min(d.uvarint(), maxUnpacked))}
	last := first
	for n := d.count(); n > 0 && d.ok(); n-- {
		step := d.uvarint()
		if step == 0 || last+step < last {
			d.fail()
		}
		last += step
		g.ends = append(g.ends, last)
	}
	for n := d.count(); n > 0 && d.ok(); n-- {
		g.types = append(g.types, digestType{string(d.text()), d.uvarint()})
	}
	g.others = d.uvarint()
	for n := d.count(); n > 0 && d.ok(); n-- {
		g.lanes = append(g.lanes, digestLane{LaneID(d.uvarint()), d.uvarint()})
	}
	if !d.ok() || len(g.ends) == 0 || len(g.ends) > digestSlots {
		return nil, fmt.Errorf("read digest of the events from %d: %w", first, errDamaged)
	}
	return g, nil
}

// sieve says what is looked for, as far as a digest can tell. The zero value lets everything pass.
type sieve struct {
	types        []string // see matchesType
	lane         *Lane    // nil for any
	since, until int64    // accepted from since on and before until, Unix milliseconds; 0 for no bound
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

// slots tells which slots of a digest may hold what is looked for.
func (s *sieve) slots(d *digest) uint64 {
	if d.newest < s.since || s.until != 0 && d.oldest >= s.until {
		return 0
	}
	in := ^uint64(0)
	if len(s.types) > 0 {
		in = d.others
		for _, t := range d.types {
			if matchesType(s.types, t.name) {
				in |= t.in
			}
		}
	}
	if s.lane != nil {
		at, there := slices.BinarySearchFunc(d.lanes, s.lane.id, func(l digestLane, id LaneID) int { return cmp.Compare(l.id, id) })
		if !there {
			return 0
		}
		in &= d.lanes[at].in
	}
	return in
}

// sum adds an event to the digest at hand.
func (k *keeper) sum(b *batch, ev *Stored) {
	if !k.digest.add(ev) {
		k.writeDigest(b)
		k.digest = digest{}
		k.digest.add(ev)
	}
}

func (k *keeper) writeDigest(b *batch) { b.set(digestKey(k.digest.first), k.digest.append(nil)) }

// restoreDigest goes on with the newest digest. What a save that was cut short told of events from next on is told again
// by the one that repeats it; a digest that begins there goes with its events.
func (q *Queue) restoreDigest(next uint64) error {
	b := q.store.batch()
	err := q.store.scan([]byte{kindDigest}, digestKey(next), true, func(key []byte, _ func() ([]byte, error)) (bool, error) {
		b.delete(slices.Clone(key))
		return b.err == nil, b.err
	})
	if err = errors.Join(err, b.flush()); err != nil {
		return err
	}
	list, err := q.digestsBefore(next, 1)
	if err == nil && len(list) > 0 && list[0].end() >= next {
		q.keeper.digest = *list[0]
	}
	return err
}

// digestsBefore returns up to n digests of events below seq, newest first. One that can't be read is left out: its events
// are then looked at themselves.
func (q *Queue) digestsBefore(seq uint64, n int) (list []*digest, err error) {
	if seq == 0 {
		return nil, nil
	}
	prefix := []byte{kindDigest}
	err = q.store.read(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: true})
		defer it.Close()
		for it.Seek(digestKey(seq - 1)); it.ValidForPrefix(prefix) && len(list) < n; it.Next() {
			record, err := it.Item().ValueCopy(nil)
			if err != nil {
				return fmt.Errorf("read store: %w", err)
			}
			if first, ok := parseDigestKey(it.Item().Key()); ok {
				if d, err := parseDigest(first, record); err == nil {
					list = append(list, d)
				}
			}
		}
		return nil
	})
	return list, err
}
