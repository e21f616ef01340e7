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
// pieces; other blocks may lie between them. The store can be made again from the newest whole snapshot and the entries
// behind it. So how long that takes depends on how much is retrying and failed, and not on how much was ever logged. Each
// piece begins with the number of the entry, its own number, and whether it is the last one; records follow. The last piece
// is written only when what was read of the store agrees with its sums.
//
// With a million retries a snapshot takes a second to write. So the writer writes it in steps, between two saves.
const (
	snapshotPiece = 256 << 10
	// snapshotTime is how long one step takes.
	snapshotTime = 30 * time.Millisecond
	// At least snapshotEvery bytes, and snapshotRatio times the size of the last snapshot, are logged between two snapshots.
	snapshotEvery = 16 << 20
	snapshotRatio = 8
)

// snapshotState is what the writer knows of the last whole snapshot.
type snapshotState struct {
	segment   uint64 // in which it begins
	size      int64
	writtenAt int64 // Log.Written at its end
}

// snapshotWriter is a snapshot that is being written. Until it is whole, the last one counts, and the segments from that one
// on stay.
type snapshotWriter struct {
	dump    *store.Dump
	segment uint64 // in which it begins
	size    int64  // bytes so far
	pieces  uint64 // so far
	records []byte // of the next piece
}

// snapshotWhenDue goes on with a snapshot, or begins one when enough was logged since the last.
func (w *writer) snapshotWhenDue(q *Queue) error {
	if w.snapshotting == nil && q.log.Written()-w.lastSnapshot.writtenAt < max(snapshotEvery, snapshotRatio*w.lastSnapshot.size) {
		return nil
	}
	_, err := w.snapshotStep(q)
	return err
}

// snapshotStep goes on with a snapshot, or begins one. It reports whether there is one, begun or whole: there is none while
// the store is suspected or the disk is full.
func (w *writer) snapshotStep(q *Queue) (is bool, err error) {
	if w.snapshotting == nil {
		w.beginSnapshot(q)
	}
	began := uptime()
	return w.writeSnapshot(q, func() bool { return uptime()-began > int64(q.opts.snapshots) })
}

// writeWholeSnapshot writes a snapshot as of now, to its end.
func (w *writer) writeWholeSnapshot(q *Queue) error {
	w.dropSnapshot()
	w.beginSnapshot(q)
	_, err := w.writeSnapshot(q, func() bool { return false })
	return err
}

// beginSnapshot begins a snapshot as of now: the store has everything that is in the log.
func (w *writer) beginSnapshot(q *Queue) {
	w.snapshotting = &snapshotWriter{
		dump: q.index.store.Dump(store.Lane, store.Retry, store.Replay, store.Failed), segment: q.log.OpenNumber(),
	}
}

// dropSnapshot forgets the snapshot that is being written, if there is one. Without its last piece it counts for nothing.
func (w *writer) dropSnapshot() {
	if w.snapshotting != nil {
		w.snapshotting.dump.End()
		w.snapshotting = nil
	}
}

// writeSnapshot goes on until the snapshot is whole or over says so. It returns what snapshotStep does.
func (w *writer) writeSnapshot(q *Queue, over func() bool) (is bool, err error) {
	s := w.snapshotting
	more := true
	for more && err == nil {
		more, err = s.dump.Step(func(key store.Key, value []byte) error {
			s.records = append(s.records, byte(key.Kind))
			s.records = binary.AppendUvarint(s.records, uint64(key.Lane))
			s.records = binary.AppendUvarint(s.records, key.Number)
			s.records = codec.AppendText(s.records, value)
			if len(s.records) >= snapshotPiece {
				s.writePiece(q, false)
			}
			return nil
		})
		if over() {
			break
		}
	}
	switch {
	case errors.Is(err, codec.ErrDamaged):
		w.dropSnapshot()
		w.suspectStore()
		return false, nil
	case err != nil:
		w.dropSnapshot()
		return false, err
	case !more:
		s.writePiece(q, true)
	}
	before := q.log.Written()
	if _, err := q.log.Save(); err != nil {
		w.dropSnapshot()
		if q.disk.noteShortage(q, err) {
			return false, nil
		}
		return false, err
	}
	s.size += q.log.Written() - before
	if !more {
		w.lastSnapshot = snapshotState{segment: s.segment, size: s.size, writtenAt: q.log.Written()}
		w.dropSnapshot()
	}
	return true, nil
}

// writePiece gives the log a piece of the records that have gathered.
func (s *snapshotWriter) writePiece(q *Queue, last bool) {
	piece := binary.AppendUvarint(make([]byte, 0, len(s.records)+2*binary.MaxVarintLen64+1), s.dump.Applied())
	piece = binary.AppendUvarint(piece, s.pieces)
	if piece = append(piece, 0); last {
		piece[len(piece)-1] = 1
	}
	q.log.Local(log.Snapshot, append(piece, s.records...), nil)
	s.pieces++
	s.records = s.records[:0]
}

// savedSnapshot is a snapshot in the log.
type savedSnapshot struct {
	at     uint64      // the entry
	pieces []log.Place // in order
	whole  bool
}

// newestSnapshot finds the newest whole snapshot, zero when there is none. It reads all pieces.
func (q *Queue) newestSnapshot() (newest savedSnapshot, err error) {
	var at savedSnapshot
	err = q.log.Blocks(log.Snapshot, 0, func(p log.Place, _ *log.Info) error {
		b, err := q.log.Read(p)
		if errors.Is(err, codec.ErrDamaged) {
			at = savedSnapshot{}
			return nil
		}
		if err != nil {
			return err
		}
		d := codec.Decoder{Buf: b.Raw}
		entry, number, last := d.Uvarint(), d.Uvarint(), d.Byte()
		switch {
		case number == 0:
			at = savedSnapshot{at: entry}
		case !d.OK() || entry != at.at || int(number) != len(at.pieces):
			at = savedSnapshot{}
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

// each calls fn with the records of the snapshot.
func (s *savedSnapshot) each(q *Queue, fn func(store.Key, []byte) error) error {
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
