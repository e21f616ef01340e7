package entry

import (
	"encoding/binary"

	"github.com/dchest/siphash"
)

// Hash is how the log knows an id: 96 bits of a keyed hash, for which nobody outside can make collisions.
type Hash [12]byte

// Key keys the hashes of one queue. It is made with the queue and is in the header of each segment.
type Key [16]byte

// Hash is the hash of an id.
func (k *Key) Hash(id []byte) (h Hash) {
	a, b := siphash.Hash128(binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:]), id)
	binary.BigEndian.PutUint64(h[:], a)
	binary.BigEndian.PutUint32(h[8:], uint32(b))
	return h
}

// Word is the hash of a word of the postings.
func (k *Key) Word(kind byte, text string) uint64 {
	buf := make([]byte, 0, 64)
	buf = append(append(buf, kind), text...)
	return siphash.Hash(binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:]), buf)
}

// EventHash is the hash of an event's id. Letters have other hashes than the events they are copies of: an id is accepted
// once, however many letters there are.
func (k *Key) EventHash(id, letter []byte) Hash {
	if letter == nil {
		return k.Hash(id)
	}
	return k.Hash(append(append(make([]byte, 0, len(id)+1), id...), 0))
}
