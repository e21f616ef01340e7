package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"
)

// A block is consecutive frames, compressed together, under one key or, when it is large, in pieces under several:
//
//	version, 1 byte; length of all pieces, uvarint; S2 of the frames
const blockVersion = 1

func writeBlock(b *batch, kind byte, last uint64, frames []byte) {
	packed := s2.Encode(make([]byte, s2.MaxEncodedLen(len(frames))), frames)
	value := append([]byte{blockVersion}, binary.AppendUvarint(nil, uint64(len(packed)))...)
	value = append(value, packed...)
	for piece := uint16(0); ; piece++ {
		n := min(len(value), maxValue)
		b.set(pieceKey(kind, last, piece), value[:n:n])
		if value = value[n:]; len(value) == 0 {
			return
		}
	}
}

// readBlock puts the pieces of a block together and returns its frames, none when there is no such block.
func readBlock(txn *badger.Txn, kind byte, last uint64) ([]*frame, error) {
	value, err := txnGet(txn, pieceKey(kind, last, 0))
	if err != nil || value == nil {
		return nil, err
	}
	d := decoder{buf: value}
	version, size := d.byte(), d.uvarint()
	if !d.ok() || version != blockVersion {
		return nil, fmt.Errorf("read block %d: header: %w", last, errDamaged)
	}
	packed := d.buf
	for piece := uint16(1); uint64(len(packed)) < size; piece++ {
		more, err := txnGet(txn, pieceKey(kind, last, piece))
		if err != nil {
			return nil, err
		}
		if len(more) == 0 {
			return nil, fmt.Errorf("read block %d: piece %d is missing: %w", last, piece, errDamaged)
		}
		packed = append(packed, more...)
	}
	raw, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("read block %d: %w: %w", last, err, errDamaged)
	}
	var frames []*frame
	for len(raw) > 0 {
		var f *frame
		if f, raw, err = parseFrame(raw); err != nil {
			return nil, fmt.Errorf("read block %d: %w", last, err)
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// block finds the block that holds event seq or, when that is gone, the first one behind it. ok is false when there is
// none.
func (s *store) block(seq uint64) (last uint64, frames []*frame, ok bool, err error) {
	err = s.read(func(txn *badger.Txn) error {
		last, ok = seekBlock(txn, seq)
		if !ok {
			return nil
		}
		frames, err = readBlock(txn, kindBlock, last)
		return err
	})
	return last, frames, ok, err
}

// kept returns the frame of an event that was kept when its block was deleted, nil when it was not.
func (s *store) kept(seq uint64) (f *frame, err error) {
	err = s.read(func(txn *badger.Txn) error {
		frames, err := readBlock(txn, kindKept, seq)
		if len(frames) > 0 {
			f = frames[0]
		}
		return err
	})
	return f, err
}

func seekBlock(txn *badger.Txn, seq uint64) (last uint64, ok bool) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindBlock}, PrefetchValues: false})
	defer it.Close()
	if it.Seek(blockKey(seq, 0)); !it.ValidForPrefix([]byte{kindBlock}) {
		return 0, false
	}
	last, _, ok = parsePieceKey(it.Item().Key())
	return last, ok
}

// frames returns the frames from the one that holds event seq, or from the first behind it, in order: from memory when
// they are new, else one block. Frames end at the position that the lanes may read to. damagedTo is set when a block
// could not be read: all below it must be passed over.
func (q *Queue) frames(seq uint64) (frames []*frame, damagedTo uint64, err error) {
	end := q.end.Load()
	if seq >= end {
		return nil, 0, nil
	}
	for at := seq; ; {
		if frames = q.tail.from(at, blockBytes); frames != nil {
			break
		}
		oldest, applied := q.tail.first(), q.applied.Load()
		last, found, ok, err := q.store.block(at)
		if err == nil && ok && len(found) == 0 {
			// A piece of it is there, its first is not: Badger takes what it can't read for what is not there.
			err = fmt.Errorf("read block %d: its beginning is not found: %w", last, errDamaged)
		}
		if err != nil && (!ok || last < applied) {
			return nil, max(last, seq) + 1, err
		}
		if err == nil && len(found) > 0 && found[0].first < oldest {
			frames = found
			break
		}
		if oldest == noFrames {
			break
		}
		// The store has nothing that comes before what is in memory, or is just writing it. Should that leave memory now,
		// the next round finds it in the store.
		at = oldest
	}
	return slices.DeleteFunc(frames, func(f *frame) bool { return f.end() <= seq || f.first >= end }), 0, nil
}

// find returns one event of the log. ok is false when it is not kept any more.
func (q *Queue) find(seq uint64) (ev Stored, ok bool, err error) {
	if seq >= q.end.Load() {
		return ev, false, nil
	}
	if frames := q.tail.from(seq, 0); frames != nil {
		ev, err = frames[0].find(seq)
		return ev, err == nil, err
	}
	_, frames, _, err := q.store.block(seq)
	for _, f := range frames {
		if f.first <= seq && seq < f.end() {
			ev, err = f.find(seq)
			return ev, err == nil, err
		}
	}
	// Also when the block could not be read: the janitor may be deleting it.
	f, err2 := q.store.kept(seq)
	if f == nil {
		return ev, false, errors.Join(err, err2)
	}
	ev, err = f.find(seq)
	return ev, err == nil, err
}
