package queue

import (
	"encoding/binary"
	"errors"
	"fmt"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// A snapshot is what the store has of lanes, retries, replays and failed deliveries as of an entry, written into the log in
// pieces. The store can be made again from the newest whole one and the entries behind it, so that how long that takes
// depends on what is retrying and failed, and not on how much was ever logged. Each piece begins with the number of the
// entry, its own number and whether it is the last one; the records follow. It is written only when what was read of the
// store agrees with its sums.
const (
	snapshotPiece = 256 << 10
	// snapshotEvery is the least that is logged between two snapshots, and snapshotRatio how many times the size of the last.
	snapshotEvery = 16 << 20
	snapshotRatio = 8
)

// snapshotState is the keeper's memory of the last snapshot.
type snapshotState struct {
	at      uint64 // the entry
	segment uint64 // it begins in
	size    int64
	mark    int64 // bytes that the log had written behind it
}

// snapshotWhenDue writes a snapshot when enough was logged since the last one.
func (k *keeper) snapshotWhenDue(q *Queue) error {
	if q.log.Written()-k.snapped.mark < max(snapshotEvery, snapshotRatio*k.snapped.size) {
		return nil
	}
	return k.snapshot(q)
}

// snapshot writes one as of now: all that is in the log is in the store.
func (k *keeper) snapshot(q *Queue) error {
	s := q.index.store
	applied := s.Applied()
	before := q.log.Written()
	segment := q.log.Last()
	var piece []byte
	number := uint64(0)
	begin := func() {
		piece = binary.AppendUvarint(piece[:0], applied)
		piece = binary.AppendUvarint(piece, number)
		piece = append(piece, 0)
	}
	flag := func() int { return len(binary.AppendUvarint(binary.AppendUvarint(nil, applied), number)) }
	begin()
	list, err := s.Dump(func(key store.Key, value []byte) error {
		piece = append(piece, byte(key.Kind))
		piece = binary.AppendUvarint(piece, uint64(key.Lane))
		piece = binary.AppendUvarint(piece, key.Number)
		piece = codec.AppendText(piece, value)
		if len(piece) >= snapshotPiece {
			q.log.Local(log.Snapshot, piece, nil)
			number++
			begin()
		}
		return nil
	}, store.Lane, store.Retry, store.Replay, store.Failed)
	if err != nil && !errors.Is(err, codec.ErrDamaged) {
		return err
	}
	if err != nil || len(list) > 0 {
		k.doubt() // without its last piece it is none
		return nil
	}
	piece[flag()] = 1
	q.log.Local(log.Snapshot, piece, nil)
	if _, err := q.log.Save(); err != nil {
		if q.disk.lacking(q, err) {
			return nil
		}
		return err
	}
	k.snapped = snapshotState{at: applied, segment: segment, size: q.log.Written() - before, mark: q.log.Written()}
	return nil
}

// foundSnapshot is a snapshot in the log: its pieces, in order.
type foundSnapshot struct {
	at     uint64
	pieces []log.Place
	whole  bool
}

// newestSnapshot finds the newest whole snapshot, zero when there is none.
func (q *Queue) newestSnapshot() (newest foundSnapshot, err error) {
	var at foundSnapshot
	err = q.log.Blocks(log.Snapshot, 0, func(p log.Place, _ *log.Info) error {
		b, err := q.log.Read(p)
		if errors.Is(err, codec.ErrDamaged) {
			at = foundSnapshot{}
			return nil
		}
		if err != nil {
			return err
		}
		d := codec.Decoder{Buf: b.Raw}
		entry, number, last := d.Uvarint(), d.Uvarint(), d.Byte()
		switch {
		case number == 0:
			at = foundSnapshot{at: entry}
		case !d.OK() || entry != at.at || int(number) != len(at.pieces):
			at = foundSnapshot{}
			return nil
		}
		if at.pieces = append(at.pieces, p); last == 1 {
			at.whole = true
			newest = at
		}
		return nil
	})
	return newest, err
}

// each calls fn with the records of a snapshot.
func (s *foundSnapshot) each(q *Queue, fn func(store.Key, []byte) error) error {
	for _, p := range s.pieces {
		b, err := q.log.Read(p)
		if err != nil {
			return err
		}
		d := codec.Decoder{Buf: b.Raw}
		d.Uvarint()
		d.Uvarint()
		d.Byte()
		for len(d.Buf) > 0 && d.OK() {
			key := store.Key{Kind: store.Kind(d.Byte()), Lane: uint32(d.Uvarint()), Number: d.Uvarint()}
			value := d.Text()
			if !d.OK() {
				break
			}
			if err := fn(key, value); err != nil {
				return err
			}
		}
		if !d.OK() {
			return fmt.Errorf("read snapshot of entry %d: %w", s.at, codec.ErrDamaged)
		}
	}
	return nil
}
