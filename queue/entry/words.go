package entry

import (
	"encoding/binary"

	"github.com/dchest/siphash"
)

// Words are by which members an event is found: of each member that was read of it when it came, in pairs, the keyed hash of its name,
// and that of its name and value, 0 when the event does not have it. Nil: none was read.
type Words []byte

// Add adds a member. name and value are hashes.
func (w Words) Add(name, value uint64) Words {
	return binary.AppendUvarint(binary.AppendUvarint(w, name), value)
}

// Each calls fn with each member.
func (w Words) Each(fn func(name, value uint64)) {
	for len(w) > 0 {
		name, n := binary.Uvarint(w)
		value, m := binary.Uvarint(w[max(n, 0):])
		if n <= 0 || m <= 0 {
			return
		}
		fn(name, value)
		w = w[n+m:]
	}
}

// count is how many hashes these are.
func (w Words) count() (n uint64) {
	for _, b := range w {
		if b < 0x80 {
			n++
		}
	}
	return n
}

const (
	wordMember = 'm'
	wordValue  = 'v'
	// longestValue is how many bytes of a value are hashed: the rest has to be compared.
	longestValue = 64
)

// Member is the hash of a member's name. It is not 0.
func (k *Key) Member(name string) uint64 { return k.member(wordMember, name, nil) }

// Value is the hash of a member's name and value. It is not 0.
func (k *Key) Value(name string, value []byte) uint64 {
	return k.member(wordValue, name, value[:min(len(value), longestValue)])
}

func (k *Key) member(kind byte, name string, value []byte) uint64 {
	buf := make([]byte, 0, 192)
	buf = append(append(buf, kind), name...)
	buf = append(append(buf, 0), value...)
	return max(siphash.Hash(binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:]), buf), 1)
}
