package format1

import (
	"fmt"

	"realtorbot-relay/queue/codec"
)

// Retained calls fn with the events that were retrying or failed when their block was deleted, ascending.
func (r *Reader) Retained(fn func(Event) error) error {
	t, err := r.count()
	if err != nil {
		return err
	}
	return r.eachBlock(kindRetained, func(seq uint64, raw []byte, err error) error {
		var f *Frame
		if err == nil {
			f, _, err = r.entries.parse(raw)
		}
		if err != nil {
			r.damage("store", fmt.Sprintf("retained event %d can't be read: %v", seq, err))
			return nil
		}
		for _, ev := range f.Events {
			if t.has(ev.Seq) {
				continue // its block still exists: its deletion was cut short
			}
			if err := fn(ev); err != nil {
				return err
			}
		}
		return nil
	})
}

const blockVersion = 1

// eachBlock puts the pieces of blocks together, and calls fn with the frames of each block, or with what is wrong with it.
//
//	block, in pieces: version, 1 byte; length of all pieces, uvarint; S2 of the frames
func (r *Reader) eachBlock(kind byte, fn func(last uint64, raw []byte, err error) error) error {
	m := r.store.scan([]byte{kind})
	defer m.close()
	var last, size uint64
	var packed, raw []byte
	var pieces uint16 // read so far; 0 when no block is begun
	cut := func() error {
		if pieces == 0 {
			return nil
		}
		pieces = 0
		return fn(last, nil, fmt.Errorf("a piece of it is missing: %w", codec.ErrDamaged))
	}
	var skip uint64 // the pieces of this one make no block
	for e := m.next(); e != nil; e = m.next() {
		of, piece, ok := parsePieceKey(e.key)
		if !ok {
			r.damage("store", fmt.Sprintf("a block has the key %x", e.key))
			continue
		}
		if pieces > 0 && (of != last || piece != pieces) {
			skip = last
			if err := cut(); err != nil {
				return err
			}
		}
		if pieces == 0 {
			if of == skip && piece > 0 {
				continue
			}
			last, skip = of, of
			d := codec.Decoder{Buf: e.value}
			if piece > 0 {
				pieces = 1
				if err := cut(); err != nil {
					return err
				}
				continue
			}
			if d.Byte() != blockVersion {
				d.Fail()
			}
			if size = d.Uvarint(); !d.OK() || size > maxUnpacked {
				if err := fn(last, nil, fmt.Errorf("its header: %w", codec.ErrDamaged)); err != nil {
					return err
				}
				continue
			}
			packed = append(packed[:0], d.Buf...)
		} else {
			packed = append(packed, e.value...)
		}
		pieces++
		if uint64(len(packed)) < size {
			continue
		}
		pieces = 0
		var err error
		if raw, err = unpack(raw, packed); err != nil {
			raw = nil
		}
		if err := fn(last, raw, err); err != nil {
			return err
		}
	}
	if err := cut(); err != nil {
		return err
	}
	return r.store.err
}
