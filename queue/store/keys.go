package store

import (
	"cmp"
	"encoding/binary"
	"math"
)

// Kind is a kind of record. It is the first byte of its keys.
type Kind byte

// The kinds of records.
const (
	Place   Kind = 'e' // where a block of events lies, by its last event
	Carried Kind = 'k' // where a carried event lies, by its number
	Lane    Kind = 'l' // a lane, by its id
	Retry   Kind = 'r' // by lane and event
	Replay  Kind = 'p' // by lane and number
	Failed  Kind = 'f' // a failed delivery, by lane and event

	// State is the store's own record: its position in the log and its sums. Nobody else gets keys of this kind, only
	// mismatches.
	State Kind = 'm'
)

// Kinds are all kinds of records, in the order of their keys.
var Kinds = []Kind{Place, Failed, Carried, Lane, Replay, Retry}

func (k Kind) String() string {
	switch k {
	case Place:
		return "places of blocks"
	case Carried:
		return "carried events"
	case Lane:
		return "lanes"
	case Retry:
		return "retries"
	case Replay:
		return "replays"
	case Failed:
		return "failed deliveries"
	case State:
		return "position and sums"
	}
	return "unknown kind " + string(rune(k))
}

// index is the kind's index in Sums, -1 when it has none.
func (k Kind) index() int {
	switch k {
	case Place:
		return 0
	case Carried:
		return 1
	case Lane:
		return 2
	case Retry:
		return 3
	case Replay:
		return 4
	case Failed:
		return 5
	}
	return -1
}

const kindCount = 6

// hashed reports whether the hashes of all records of the kind are in memory. Of the other kinds there may be millions.
func (k Kind) hashed() bool { return k != Place && k != Failed && k != Retry }

// checkedAtOpen reports whether Open compares the kind with its sums.
func (k Kind) checkedAtOpen() bool { return k != Place && k != Failed }

func (k Kind) hasLane() bool   { return k != Place && k != Carried }
func (k Kind) hasNumber() bool { return k != Lane }

// Key names a record. Keys of one kind are ordered by lane, then by number. The function of its kind makes one.
type Key struct {
	Kind   Kind
	_      [3]byte // zeros, so that a key is hashed and compared as 16 bytes without a gap
	Lane   uint32  // of lanes, retries, replays and failed deliveries
	Number uint64  // an event's or a replay's number
}

// PlaceKey names the place of the block whose last event is last.
func PlaceKey(last uint64) Key { return Key{Kind: Place, Number: last} }

// CarriedKey names the place of a carried event.
func CarriedKey(seq uint64) Key { return Key{Kind: Carried, Number: seq} }

// LaneKey names a lane.
func LaneKey(lane uint32) Key { return Key{Kind: Lane, Lane: lane} }

// RetryKey names the retry of one event for one lane.
func RetryKey(lane uint32, seq uint64) Key { return Key{Kind: Retry, Lane: lane, Number: seq} }

// ReplayKey names a replay of a lane.
func ReplayKey(lane uint32, number uint64) Key { return Key{Kind: Replay, Lane: lane, Number: number} }

// FailedKey names the failed delivery of one event for one lane.
func FailedKey(lane uint32, seq uint64) Key { return Key{Kind: Failed, Lane: lane, Number: seq} }

// First is the lowest key of a kind.
func First(k Kind) Key { return Key{Kind: k} }

// Last is the highest key of a kind.
func Last(k Kind) Key {
	key := Key{Kind: k}
	if k.hasLane() {
		key.Lane = math.MaxUint32
	}
	if k.hasNumber() {
		key.Number = math.MaxUint64
	}
	return key
}

// Compare orders keys as the store does.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Kind, other.Kind), cmp.Compare(k.Lane, other.Lane), cmp.Compare(k.Number, other.Number))
}

// next is the key behind k, and whether its kind has one.
func (k Key) next() (Key, bool) {
	if k == Last(k.Kind) {
		return k, false
	}
	if !k.Kind.hasNumber() {
		k.Lane++
		return k, true
	}
	if k.Number++; k.Number == 0 {
		k.Lane++
	}
	return k, true
}

// keyBytes is the length of the longest key.
const keyBytes = 1 + 4 + 8

// append appends the key in Badger's form. Only append and parse know that form.
func (k Key) append(dst []byte) []byte {
	dst = append(dst, byte(k.Kind))
	if k.Kind.hasLane() {
		dst = binary.BigEndian.AppendUint32(dst, k.Lane)
	}
	if k.Kind.hasNumber() {
		dst = binary.BigEndian.AppendUint64(dst, k.Number)
	}
	return dst
}

func parse(raw []byte) (k Key, ok bool) {
	if len(raw) == 0 || Kind(raw[0]).index() < 0 {
		return k, false
	}
	k.Kind, raw = Kind(raw[0]), raw[1:]
	if k.Kind.hasLane() {
		if len(raw) < 4 {
			return k, false
		}
		k.Lane, raw = binary.BigEndian.Uint32(raw), raw[4:]
	}
	if k.Kind.hasNumber() {
		if len(raw) < 8 {
			return k, false
		}
		k.Number, raw = binary.BigEndian.Uint64(raw), raw[8:]
	}
	return k, len(raw) == 0
}

// stateKey is the key of the store's own record.
var stateKey = []byte{byte(State)}

// prefix is what all keys from one to the other begin with: the kind, and the lane when there is one lane.
func prefix(from, to Key) []byte {
	raw := []byte{byte(from.Kind)}
	if from.Kind.hasLane() && from.Lane == to.Lane {
		raw = binary.BigEndian.AppendUint32(raw, from.Lane)
	}
	return raw
}
