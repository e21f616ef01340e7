package format1

import (
	"fmt"

	"realtorbot-relay/queue/codec"
)

// IDs calls fn with the ids that are known, of whatever event, and when each was accepted, queue time in milliseconds,
// rounded down to a second. Ids of events that only the journal had are not among them. Once damage was found, the ids of
// deleted events come from their second place as well, to the millisecond: then an id may come twice, and the higher number
// is the newer.
func (r *Reader) IDs(fn func(id []byte, seq uint64, at int64) error) error {
	m := r.store.scan([]byte{kindID})
	defer m.close()
	for e := m.next(); e != nil; e = m.next() {
		seq, at, err := parseIDRecord(e.value)
		if err != nil {
			r.damage("store", fmt.Sprintf("the record of id %q: %v", e.key[1:], err))
			continue
		}
		if err := fn(e.key[1:], seq, at); err != nil {
			return err
		}
	}
	if r.damaged == 0 || r.store.err != nil {
		return r.store.err
	}
	d := r.store.scan([]byte{kindIDs})
	defer d.close()
	for e := d.next(); e != nil; e = d.next() {
		record, err := unpack(nil, e.value)
		list := codec.Decoder{Buf: record}
		for err == nil && len(list.Buf) > 0 {
			seq, at, id := list.Uvarint(), list.Varint(), list.Text()
			if err = fits(&list); err == nil {
				if err := fn(id, seq, at); err != nil {
					return err
				}
			}
		}
		if err != nil {
			r.damage("store", fmt.Sprintf("a list of ids of deleted events: %v", err))
		}
	}
	return r.store.err
}

// Attempts calls fn with the records of attempts of existing lanes: first attempts that went well, lane by lane, and then
// all others, by event and lane.
func (r *Reader) Attempts(fn func(lane uint32, seq uint64, a Attempt) error) error {
	h, err := r.lanes()
	if err != nil {
		return err
	}
	succeeded := r.store.scan([]byte{kindSucceeded})
	defer succeeded.close()
	for e := succeeded.next(); e != nil; e = succeeded.next() {
		id, ok := parseSucceededKey(e.key)
		record, err := unpack(nil, e.value)
		if !ok || err != nil {
			r.damage("store", fmt.Sprintf("a block of attempts of lane %d can't be read", id))
			continue
		}
		if h.at(id) == nil {
			continue
		}
		for d := (codec.Decoder{Buf: record}); len(d.Buf) > 0; {
			seq, a := d.Uvarint(), parseAttempt(&d)
			if !d.OK() {
				r.damage("store", fmt.Sprintf("the end of a block of attempts of lane %d can't be read", id))
				break
			}
			if err := fn(id, seq, a); err != nil {
				return err
			}
		}
	}
	m := r.store.scan([]byte{kindAttempt})
	defer m.close()
	for e := m.next(); e != nil; e = m.next() {
		seq, id, ok := parseAttemptKey(e.key)
		d := codec.Decoder{Buf: e.value}
		a := parseAttempt(&d)
		a.Replay = replayBehind(&d)
		if !ok || !d.OK() {
			r.damage("store", fmt.Sprintf("an attempt at event %d can't be read", seq))
			continue
		}
		if h.at(id) == nil {
			continue
		}
		if err := fn(id, seq, a); err != nil {
			return err
		}
	}
	return r.store.err
}
