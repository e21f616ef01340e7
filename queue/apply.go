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

// The store is the result of applying the entries in their order, here and nowhere else: as they are saved, at a start those that
// it lacks, and all of them when it is made again. The places of carried events are no entries: see carry.go and retain.go.
// Applying an entry twice changes nothing. A transaction ends with an entry, so one number says what the store has applied.

// placedBlock is the place of a block of events, for the store.
type placedBlock struct {
	end   uint64 // the entry behind the block's last one
	last  uint64 // the block's last event
	value []byte
}

// notePlaces remembers the places of saved blocks until the store has them.
func (w *writer) notePlaces(saved []log.Saved) {
	for i := range saved {
		if b := &saved[i]; b.Kind == log.Entries && b.Events > 0 {
			w.places = append(w.places, placeOf(b.Place, &b.Info))
		}
	}
}

func placeOf(p log.Place, b *log.Info) placedBlock {
	return placedBlock{b.EndEntry(), b.EndEvent() - 1, placed{p, b.FirstEvent}.append(nil)}
}

// applier writes entries and places into a store.
type applier struct {
	store        *store.Store
	batch        *store.Batch
	applied      uint64
	missing      []store.Key
	droppedLanes []LaneID // lanes that were discarded, whose records are still to be deleted
}

func newApplier(s *store.Store) *applier {
	return &applier{store: s, batch: s.Batch(), applied: s.Applied()}
}

// fit makes sure that n more writes of size bytes in all fit into the transaction. If they don't, it commits what is
// gathered.
func (a *applier) fit(n, size int) error {
	if a.batch.Fits(n, size) {
		return nil
	}
	return a.commit()
}

// delete deletes records.
func (a *applier) delete(keys ...store.Key) error {
	for _, key := range keys {
		if err := a.fit(1, 0); err != nil {
			return err
		}
		if err := a.batch.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// commit commits what is gathered, as one durable transaction, and begins the next.
func (a *applier) commit() error {
	a.missing = append(a.missing, a.batch.Missing()...)
	if err := a.batch.Commit(a.applied); err != nil {
		return err
	}
	a.batch = a.store.Batch()
	return nil
}

// addPlace writes the place of a block. again: it may be there already.
func (a *applier) addPlace(p *placedBlock, again bool) error {
	if again {
		if value, err := a.store.Get(store.PlaceKey(p.last)); err != nil || value != nil {
			return err
		}
	}
	if err := a.fit(1, len(p.value)); err != nil {
		return err
	}
	return a.batch.SetNew(store.PlaceKey(p.last), p.value)
}

// addProgress applies a lane's progress.
func (a *applier) addProgress(number uint64, p *entry.Progress) error {
	n, size := 1+len(p.Changes), len(p.Record)
	for i := range p.Changes {
		size += len(p.Changes[i].Record)
	}
	if err := a.fit(n, size); err != nil {
		return err
	}
	if p.Record != nil {
		if err := a.batch.Set(store.LaneKey(uint32(p.Lane)), p.Record); err != nil {
			return err
		}
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		key := recordKey(p.Lane, c.Kind, c.Seq)
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

// addLane applies a lane that was made or, with discard, discarded.
func (a *applier) addLane(number uint64, l *entry.Lane, discard bool) error {
	if err := a.fit(2, len(l.Record)+16); err != nil {
		return err
	}
	var err error
	if discard {
		err = a.batch.Delete(store.LaneKey(uint32(l.ID)))
		a.droppedLanes = append(a.droppedLanes, l.ID)
	} else {
		err = errors.Join(a.batch.Set(store.LaneKey(uint32(l.ID)), l.Record),
			a.batch.Set(nextLaneKey, binary.AppendUvarint(nil, uint64(l.ID)+1)))
	}
	if err == nil {
		a.applied = number
	}
	return err
}

// nextLaneKey names the record of the next lane's number. It is written with each lane, so that no number is given twice.
var nextLaneKey = store.LaneKey(math.MaxUint32)

// add applies an entry that was read from the log.
func (a *applier) add(h entry.Header, raw []byte) error {
	switch h.Kind {
	case entry.KindProgress:
		p, err := entry.ParseProgress(h, raw)
		if err != nil {
			return err
		}
		return a.addProgress(h.Number, p)
	case entry.KindLane, entry.KindDiscard:
		l, err := entry.ParseLane(h, raw)
		if err != nil {
			return err
		}
		return a.addLane(h.Number, l, h.Kind == entry.KindDiscard)
	}
	a.applied = h.Number
	return nil
}

// finish commits what is left, and deletes the records of discarded lanes. If we die in between, the next start finds
// records of a lane that does not exist, and deletes them.
func (a *applier) finish() error {
	if err := a.commit(); err != nil {
		return err
	}
	for len(a.droppedLanes) > 0 {
		if err := a.dropLane(a.droppedLanes[0]); err != nil {
			return err
		}
		a.droppedLanes = a.droppedLanes[1:]
	}
	return nil
}

// dropLane deletes the retries, failed deliveries and replays of a lane.
func (a *applier) dropLane(id LaneID) error {
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

// apply brings to the store what the log has and it lacks.
func (w *writer) apply(q *Queue) error {
	if len(w.pending) == 0 && len(w.places) == 0 {
		return nil
	}
	a := newApplier(q.index.store)
	err := w.applyTo(a)
	w.reapply = err != nil
	if err != nil && !q.disk.noteShortage(q, err) {
		// Nobody knows what the store has. The log knows what it must have.
		err = w.remake(q, fmt.Sprintf("it can't be written (%v)", err))
	}
	if err != nil {
		return err
	}
	if len(a.missing) > 0 {
		w.suspectStore()
	}
	return w.announceApplied(q)
}

func (w *writer) applyTo(a *applier) error {
	places := w.places
	for i := range w.pending {
		e := &w.pending[i]
		for len(places) > 0 && places[0].end <= e.h.Number {
			if err := a.addPlace(&places[0], w.reapply); err != nil {
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
		case e.draft.progress != nil:
			err = a.addProgress(e.h.Number, e.draft.progress)
		default:
			err = a.addLane(e.h.Number, e.draft.made, e.draft.discard)
		}
		if err != nil {
			return err
		}
	}
	for i := range places {
		if err := a.addPlace(&places[i], w.reapply); err != nil {
			return err
		}
	}
	return a.finish()
}

// announceApplied tells lanes and readers that the store has everything that was pending.
func (w *writer) announceApplied(q *Queue) error {
	last := uint64(0)
	for i := range w.pending {
		e := &w.pending[i]
		if e.frame != nil {
			last = e.frame.End()
		} else if e.draft.progress != nil {
			e.draft.lane.changesApplied(e.draft.saveNumber, e.draft.progress.Changes)
		}
	}
	w.pending, w.places, w.pendingBytes = nil, nil, 0
	if last > 0 {
		q.applied.Store(last)
		q.tail.trim(last, q.opts.tailBytes)
	}
	return w.writeCheckpoint(q, &q.log.Segments()[0])
}

// writeCheckpoint writes how far journal, log and store have come. low is the first segment of the log.
func (w *writer) writeCheckpoint(q *Queue, low *log.Segment) error {
	return q.checkpoint.write(checkpoint{
		applied: q.index.store.Applied(), end: q.end.Load(), journalGeneration: w.journalGeneration.Load(), firstSegment: low.Number, firstEvent: low.FirstEvent,
		clock: q.clockState(), watermarks: w.retain.watermarks,
	})
}

// entriesFrom calls fn with the entries of the log from a number on, in order. unread is how many entries could not be read.
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
