package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// The store is made of the entries by applying them in their order, here and nowhere else: as they are saved, at a start
// those that it does not have, and all of them when it is made again. Applying an entry twice changes nothing. A
// transaction ends with an entry, so what it has done is always told by one number.

// placedBlock is a block of events that the store is to be told of.
type placedBlock struct {
	end   uint64 // the entry behind its last one
	last  uint64 // its last event
	value []byte
}

// note remembers the places of blocks that were saved, until the store knows them.
func (k *keeper) note(saved []log.Saved) {
	for i := range saved {
		if b := &saved[i]; b.Kind == log.Entries && b.Events > 0 {
			k.places = append(k.places, placeOf(b.Place, &b.Info))
		}
	}
}

func placeOf(p log.Place, b *log.Info) placedBlock {
	return placedBlock{b.EndEntry(), b.EndEvent() - 1, placed{p, b.FirstEvent}.append(nil)}
}

// applier writes entries and places into a store.
type applier struct {
	store   *store.Store
	batch   *store.Batch
	applied uint64
	missing []store.Key
	dropped []LaneID // lanes that were deleted, whose records are still to go
}

func newApplier(s *store.Store) *applier {
	return &applier{store: s, batch: s.Batch(), applied: s.Applied()}
}

// room makes sure that n more writes of size bytes fit, committing what is gathered if they don't.
func (a *applier) room(n, size int) error {
	if a.batch.Room(n, size) {
		return nil
	}
	return a.commit()
}

// delete deletes keys.
func (a *applier) delete(keys ...store.Key) error {
	for _, key := range keys {
		if err := a.room(1, 0); err != nil {
			return err
		}
		if err := a.batch.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) commit() error {
	a.missing = append(a.missing, a.batch.Missing()...)
	if err := a.batch.Commit(a.applied); err != nil {
		return err
	}
	a.batch = a.store.Batch()
	return nil
}

// place writes the place of a block. It may be there already when again says so.
func (a *applier) place(p *placedBlock, again bool) error {
	if again {
		if value, err := a.store.Get(store.PlaceKey(p.last)); err != nil || value != nil {
			return err
		}
	}
	if err := a.room(1, len(p.value)); err != nil {
		return err
	}
	return a.batch.SetNew(store.PlaceKey(p.last), p.value)
}

func (a *applier) progress(number uint64, p *entry.Progress) error {
	n, size := 1+len(p.Changes), len(p.Record)
	for i := range p.Changes {
		size += len(p.Changes[i].Record)
	}
	if err := a.room(n, size); err != nil {
		return err
	}
	if p.Record != nil {
		if err := a.batch.Set(store.LaneKey(uint32(p.Lane)), p.Record); err != nil {
			return err
		}
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		key := recordKey(p.Lane, c.What, c.Seq)
		var err error
		if c.Record == nil {
			err = a.batch.Delete(key)
		} else {
			err = a.batch.Set(key, c.Record)
		}
		if err != nil {
			return err
		}
	}
	a.applied = number
	return nil
}

func (a *applier) lane(number uint64, l *entry.Lane, discard bool) error {
	if err := a.room(2, len(l.Record)+16); err != nil {
		return err
	}
	var err error
	if discard {
		err = a.batch.Delete(store.LaneKey(uint32(l.ID)))
		a.dropped = append(a.dropped, l.ID)
	} else {
		err = errors.Join(a.batch.Set(store.LaneKey(uint32(l.ID)), l.Record),
			a.batch.Set(nextLaneKey, binary.AppendUvarint(nil, uint64(l.ID)+1)))
	}
	if err == nil {
		a.applied = number
	}
	return err
}

// nextLaneKey names the number that the next lane gets: it is written with each lane, so that none is given twice.
var nextLaneKey = store.LaneKey(math.MaxUint32)

// entry applies an entry that was read from the log.
func (a *applier) entry(h entry.Header, raw []byte) error {
	switch h.Kind {
	case entry.KindProgress:
		p, err := entry.ParseProgress(h, raw)
		if err != nil {
			return err
		}
		return a.progress(h.Number, p)
	case entry.KindLane, entry.KindDiscard:
		l, err := entry.ParseLane(h, raw)
		if err != nil {
			return err
		}
		return a.lane(h.Number, l, h.Kind == entry.KindDiscard)
	}
	a.applied = h.Number
	return nil
}

// end commits what is left and deletes the records of lanes that were deleted. If we die in between, the next start
// finds records of a lane that is not there, and goes on.
func (a *applier) end() error {
	if err := a.commit(); err != nil {
		return err
	}
	for len(a.dropped) > 0 {
		if err := a.drop(a.dropped[0]); err != nil {
			return err
		}
		a.dropped = a.dropped[1:]
	}
	return nil
}

// drop deletes the retries, failed deliveries and replays of a lane.
func (a *applier) drop(id LaneID) error {
	for _, kind := range []store.Kind{store.Retry, store.Replay, store.Failed} {
		from := store.Key{Kind: kind, Lane: uint32(id)}
		to := store.Key{Kind: kind, Lane: uint32(id), Number: ^uint64(0)}
		for {
			var keys []store.Key
			err := a.store.Scan(from, to, func(key store.Key, _ []byte) (bool, error) {
				keys = append(keys, key)
				return len(keys) < 1024, nil
			})
			if err != nil {
				return err
			}
			if err := a.delete(keys...); err != nil {
				return err
			}
			if err := a.commit(); err != nil {
				return err
			}
			if len(keys) < 1024 {
				break
			}
		}
	}
	return nil
}

// apply brings to the store what the log has and it does not.
func (k *keeper) apply(q *Queue) error {
	if len(k.pending) == 0 && len(k.places) == 0 {
		return nil
	}
	a := newApplier(q.index.store)
	err := k.applyTo(a)
	k.again = err != nil
	if err != nil && !q.disk.lacking(q, err) {
		// Nobody knows what the store has. The log knows what it should have.
		err = k.remake(q, fmt.Sprintf("it can't be written (%v)", err))
	}
	if err != nil {
		return err
	}
	if len(a.missing) > 0 {
		k.doubt()
	}
	return k.landed(q)
}

func (k *keeper) applyTo(a *applier) error {
	places := k.places
	for i := range k.pending {
		e := &k.pending[i]
		for len(places) > 0 && places[0].end <= e.h.Number {
			if err := a.place(&places[0], k.again); err != nil {
				return err
			}
			places = places[1:]
		}
		if e.h.Number <= a.applied {
			continue
		}
		var err error
		switch {
		case e.frame != nil:
			a.applied = e.h.Number
		case e.gathered.progress != nil:
			err = a.progress(e.h.Number, e.gathered.progress)
		default:
			err = a.lane(e.h.Number, e.gathered.made, e.gathered.discard)
		}
		if err != nil {
			return err
		}
	}
	for i := range places {
		if err := a.place(&places[i], k.again); err != nil {
			return err
		}
	}
	return a.end()
}

// landed tells everybody that the store has what was pending.
func (k *keeper) landed(q *Queue) error {
	last := uint64(0)
	for i := range k.pending {
		e := &k.pending[i]
		if e.frame != nil {
			last = e.frame.End()
		} else if e.gathered.progress != nil {
			e.gathered.lane.landed(e.gathered.batch, e.gathered.progress.Changes)
		}
	}
	k.pending, k.places, k.behind = nil, nil, 0
	if last > 0 {
		q.applied.Store(last)
		q.tail.trim(last, q.opts.tailBytes)
	}
	return k.writeMark(q, &q.log.Segments()[0])
}

// writeMark notes how far all has come. low is the first segment of the log.
func (k *keeper) writeMark(q *Queue, low *log.Segment) error {
	return q.mark.write(highWater{
		version: q.index.store.Applied(), end: q.end.Load(), slot: k.slot.Load(), low: low.Number, first: low.FirstEvent,
		clock: q.clockState(), marks: k.retain.marks,
	})
}

// entriesFrom calls fn with the entries of the log from a number on.
func (q *Queue) entriesFrom(number uint64, fn func(h entry.Header, raw []byte) error) (unread int, err error) {
	err = q.log.Blocks(log.Entries, number, func(p log.Place, info *log.Info) error {
		b, err := q.log.Read(p)
		if err == nil {
			err = b.Unpack(func(h entry.Header, raw []byte) error {
				if h.Number < number {
					return nil
				}
				return fn(h, raw)
			})
		}
		if errors.Is(err, codec.ErrDamaged) {
			unread += int(info.Entries)
			return nil
		}
		return err
	})
	return unread, err
}
