package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// A snapshot is what the store has of lanes, retries, replays and failed deliveries as of an entry, written into the log in
// pieces, which other blocks may lie between. The store can be made again from the newest whole one and the entries behind it,
// so that how long that takes depends on what is retrying and failed, and not on how much was ever logged. Each piece begins
// with the number of the entry, its own number and whether it is the last one; the records follow. The last piece is written
// only when what was read of the store agrees with its sums.
//
// With a million retries it takes a second to write. So the keeper writes it in turns, between two saves.
const (
	snapshotPiece = 256 << 10
	// snapshotTime is how long the keeper writes one before it saves again.
	snapshotTime = 30 * time.Millisecond
	// snapshotEvery is the least that is logged between two snapshots, and snapshotRatio how many times the size of the last.
	snapshotEvery = 16 << 20
	snapshotRatio = 8
)

// snapshotState is the keeper's memory of the last whole snapshot.
type snapshotState struct {
	segment uint64 // it begins in
	size    int64
	mark    int64 // bytes that the log had written behind it
}

// snapshotting is a snapshot under way. Until it is whole the last one counts, and the segments from that on stay.
type snapshotting struct {
	dump    *store.Dump
	segment uint64 // it begins in
	size    int64  // so far
	pieces  uint64 // so far
	records []byte // of the next piece
}

// snapshotWhenDue goes on with the snapshot under way, or begins one when enough was logged since the last one.
func (k *keeper) snapshotWhenDue(q *Queue) error {
	if k.snapping == nil && q.log.Written()-k.snapped.mark < max(snapshotEvery, snapshotRatio*k.snapped.size) {
		return nil
	}
	_, err := k.snapshotTurn(q)
	return err
}

// snapshotTurn goes on with the snapshot under way, or begins one. It reports whether there is one, under way or whole: there is
// none while the store is in doubt or the disk is full.
func (k *keeper) snapshotTurn(q *Queue) (is bool, err error) {
	if k.snapping == nil {
		k.beginSnapshot(q)
	}
	began := uptime()
	return k.writeSnapshot(q, func() bool { return uptime()-began > int64(q.opts.snapshots) })
}

// snapshot writes one as of now, to its end.
func (k *keeper) snapshot(q *Queue) error {
	k.endSnapshot()
	k.beginSnapshot(q)
	_, err := k.writeSnapshot(q, func() bool { return false })
	return err
}

// beginSnapshot begins one as of now: all that is in the log is in the store.
func (k *keeper) beginSnapshot(q *Queue) {
	k.snapping = &snapshotting{
		dump: q.index.store.Dump(store.Lane, store.Retry, store.Replay, store.Failed), segment: q.log.Last(),
	}
}

// endSnapshot forgets the snapshot under way, if there is one. Without its last piece it is none.
func (k *keeper) endSnapshot() {
	if k.snapping != nil {
		k.snapping.dump.End()
		k.snapping = nil
	}
}

// writeSnapshot goes on with the snapshot under way, until it is whole or over says so. It returns what snapshotTurn does.
func (k *keeper) writeSnapshot(q *Queue, over func() bool) (is bool, err error) {
	s := k.snapping
	more := true
	for more && err == nil {
		more, err = s.dump.Step(func(key store.Key, value []byte) error {
			s.records = append(s.records, byte(key.Kind))
			s.records = binary.AppendUvarint(s.records, uint64(key.Lane))
			s.records = binary.AppendUvarint(s.records, key.Number)
			s.records = codec.AppendText(s.records, value)
			if len(s.records) >= snapshotPiece {
				s.put(q, false)
			}
			return nil
		})
		if over() {
			break
		}
	}
	switch {
	case errors.Is(err, codec.ErrDamaged):
		k.endSnapshot()
		k.doubt()
		return false, nil
	case err != nil:
		k.endSnapshot()
		return false, err
	case !more:
		s.put(q, true)
	}
	before := q.log.Written()
	if _, err := q.log.Save(); err != nil {
		k.endSnapshot()
		if q.disk.lacking(q, err) {
			return false, nil
		}
		return false, err
	}
	s.size += q.log.Written() - before
	if !more {
		k.snapped = snapshotState{segment: s.segment, size: s.size, mark: q.log.Written()}
		k.endSnapshot()
	}
	return true, nil
}

// put gives the log a piece of the records that have gathered.
func (s *snapshotting) put(q *Queue, last bool) {
	piece := binary.AppendUvarint(make([]byte, 0, len(s.records)+2*binary.MaxVarintLen64+1), s.dump.Applied())
	piece = binary.AppendUvarint(piece, s.pieces)
	if piece = append(piece, 0); last {
		piece[len(piece)-1] = 1
	}
	q.log.Local(log.Snapshot, append(piece, s.records...), nil)
	s.pieces++
	s.records = s.records[:0]
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
