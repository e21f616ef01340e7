package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// index is the store, which is replaced by another one when it proves to be damaged. One goroutine writes to it and
// replaces it: whoever opens the queue, and from then on the writer.
type index struct {
	mu    sync.RWMutex // held for reading while the store is used, for writing while it is replaced
	store *store.Store
}

// current is the store in use. Once it is replaced it answers with store.ErrClosed.
func (x *index) current() *store.Store {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.store
}

func (x *index) get(key store.Key) (value []byte, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	value, err = x.store.Get(key)
	return value, closed(err)
}

func (x *index) scan(from, to store.Key, fn func(store.Key, []byte) (bool, error)) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return closed(x.store.Scan(from, to, fn))
}

func (x *index) seek(from, to store.Key) (key store.Key, value []byte, found bool, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	key, value, found, err = x.store.Seek(from, to)
	return key, value, found, closed(err)
}

func (x *index) before(from, at store.Key) (key store.Key, found bool, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	key, found, err = x.store.Before(from, at)
	return key, found, closed(err)
}

// carriedFrom lists the carried events from one up to below another, ascending, all of them. It reads memory.
func (x *index) carriedFrom(from, to uint64) []uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.store.CarriedFrom(from, to)
}

func closed(err error) error {
	if errors.Is(err, store.ErrClosed) {
		return ErrClosed
	}
	return err
}

// recordKey names a record of a lane in the store.
func recordKey(lane LaneID, kind entry.RecordKind, seq uint64) store.Key {
	switch kind {
	case entry.Retry:
		return store.RetryKey(uint32(lane), seq)
	case entry.Failed:
		return store.FailedKey(uint32(lane), seq)
	default:
		return store.ReplayKey(uint32(lane), seq)
	}
}

// placed is what the store has of a block of events.
type placed struct {
	log.Place
	first uint64 // the block's first event
}

func (p placed) append(dst []byte) []byte {
	return binary.AppendUvarint(p.Place.Append(dst), p.first)
}

func parsePlaced(raw []byte) (p placed, err error) {
	if p.Place, err = log.ParsePlace(raw); err != nil {
		return p, err
	}
	d := codec.Decoder{Buf: raw[len(p.Place.Append(nil)):]}
	if p.first = d.Uvarint(); !d.OK() {
		return p, fmt.Errorf("read place of a block: %w", codec.ErrDamaged)
	}
	return p, nil
}

// carried is what the store has of an event whose segment is deleted.
type carried struct {
	log.Place
	bytes int // of its body
	lanes LaneSet
}

func (c carried) append(dst []byte) []byte {
	dst = binary.AppendUvarint(c.Place.Append(dst), uint64(c.bytes))
	return codec.AppendText(dst, string(c.lanes))
}

func parseCarried(raw []byte) (c carried, err error) {
	if c.Place, err = log.ParsePlace(raw); err != nil {
		return c, err
	}
	d := codec.Decoder{Buf: raw[len(c.Place.Append(nil)):]}
	c.bytes, c.lanes = int(d.Uvarint()), LaneSet(d.Text())
	if !d.OK() {
		return c, fmt.Errorf("read place of a carried event: %w", codec.ErrDamaged)
	}
	return c, nil
}
