package store

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"realtorbot-relay/queue/codec"
)

// Sum is the sum of a kind of records: how many there are, and the wrapping sum of their hashes.
type Sum struct{ Count, Hash uint64 }

// Sums are the sums of all kinds. They depend on the records alone, and not on the order in which they came.
type Sums [kindCount]Sum

// Of returns the sum of a kind.
func (s *Sums) Of(k Kind) Sum { return s[k.index()] }

// Diff returns the kinds for which other, which was found, differs from s.
func (s *Sums) Diff(other *Sums) (list []Mismatch) {
	for _, k := range Kinds {
		if want, found := s.Of(k), other.Of(k); want != found {
			list = append(list, Mismatch{Kind: k, Want: want, Found: found})
		}
	}
	return list
}

// hashedCount is how many records have a hash in memory; no more than can be true of a sum that may be wrong.
func (s *Sums) hashedCount() (n int) {
	for _, k := range Kinds {
		if k.hashed() {
			n += int(min(s.Of(k).Count, 1<<24))
		}
	}
	return n
}

func (s *Sum) add(hash uint64) { s.Count++; s.Hash += hash }
func (s *Sum) sub(hash uint64) { s.Count--; s.Hash -= hash }

// hashOf is xxHash64 of key and value. It is written into each store, so it never changes.
func hashOf(key Key, value []byte) uint64 {
	var buf [256]byte
	raw := key.append(buf[:0])
	if len(raw)+len(value) <= len(buf) {
		return xxhash.Sum64(append(raw, value...))
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(raw)
	_, _ = d.Write(value)
	return d.Sum64()
}

// Append appends the sums: how many kinds, then kind, count and hash of each.
func (s *Sums) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, kindCount)
	for _, k := range Kinds {
		sum := s.Of(k)
		dst = append(dst, byte(k))
		dst = binary.AppendUvarint(dst, sum.Count)
		dst = binary.LittleEndian.AppendUint64(dst, sum.Hash)
	}
	return dst
}

// ReadSums reads what Append wrote. An unknown kind makes the decoder not OK.
func ReadSums(d *codec.Decoder) (s Sums) {
	for n := d.Count(); n > 0 && d.OK(); n-- {
		at := Kind(d.Byte()).index()
		count := d.Uvarint()
		if at < 0 || len(d.Buf) < 8 {
			d.Fail()
			break
		}
		s[at] = Sum{count, binary.LittleEndian.Uint64(d.Buf)}
		d.Buf = d.Buf[8:]
	}
	return s
}

// Mismatch says that the records of a kind are not those that were written.
type Mismatch struct {
	Kind        Kind
	Want, Found Sum
	Err         error // why some could not be read, nil when all that were found could
}

func (m Mismatch) String() string {
	switch {
	case m.Err != nil:
		return fmt.Sprintf("%s: %v", m.Kind, m.Err)
	case m.Kind == State:
		return "position and sums are not those of the last transaction"
	case m.Want.Count == m.Found.Count:
		return fmt.Sprintf("%s: %d are there as expected, but with other content", m.Kind, m.Found.Count)
	}
	return fmt.Sprintf("%s: %d are there, %d are expected", m.Kind, m.Found.Count, m.Want.Count)
}

// state is the value of the store's own record: a version, the fields, and a CRC-32C of both.
type state struct {
	applied uint64
	sums    Sums
}

const stateVersion = 1

func (s *state) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, stateVersion)
	dst = binary.AppendUvarint(dst, s.applied)
	dst = s.sums.Append(dst)
	return binary.LittleEndian.AppendUint32(dst, codec.Sum(dst[at:]))
}

// maxState is more than the length of any state.
const maxState = 256

func parseState(raw []byte) (s state, err error) {
	if len(raw) < 5 || codec.Sum(raw[:len(raw)-4]) != binary.LittleEndian.Uint32(raw[len(raw)-4:]) {
		return s, fmt.Errorf("the store's position: %w", codec.ErrDamaged)
	}
	d := codec.Decoder{Buf: raw[:len(raw)-4]}
	if v := d.Byte(); v != stateVersion {
		return s, fmt.Errorf("the store's position has version %d, this program reads %d", v, stateVersion)
	}
	s.applied = d.Uvarint()
	s.sums = ReadSums(&d)
	if !d.OK() || len(d.Buf) > 0 {
		return s, fmt.Errorf("the store's position: %w", codec.ErrDamaged)
	}
	return s, nil
}
