package queue

import "encoding/binary"

// Every key of the store is spelled here and nowhere else. A key is one letter for its kind and then big-endian numbers,
// so that keys sort by what they count. doc.go has the whole layout in one table.
const (
	kindMeta    = 'm'
	kindBlock   = 'e'
	kindID      = 'i'
	kindLane    = 'l'
	kindRetry   = 'r'
	kindFailed  = 'f'
	kindAttempt = 't'
	kindWell    = 'a'
	kindKept    = 'k'
	kindIDs     = 'd'
	kindDigest  = 's'
	kindReplay  = 'p'
	kindScratch = '~'
)

var (
	keyApplied = []byte{kindMeta, 'a'}
	keyMarks   = []byte{kindMeta, 'm'}
	keyCommit  = []byte{kindMeta, 'c'}
	keyScratch = []byte{kindScratch}
)

// blockKey names piece n of the block whose last event is last. Blocks are named by their last event so that seeking
// the sequence number of an event, forward, finds the block that holds it.
func blockKey(last uint64, piece uint16) []byte { return pieceKey(kindBlock, last, piece) }

func pieceKey(kind byte, last uint64, piece uint16) []byte {
	key := make([]byte, 0, 11)
	key = append(key, kind)
	key = binary.BigEndian.AppendUint64(key, last)
	return binary.BigEndian.AppendUint16(key, piece)
}

func parsePieceKey(key []byte) (last uint64, piece uint16, ok bool) {
	if len(key) != 11 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint16(key[9:]), true
}

func appendIDKey(dst, id []byte) []byte { return append(append(dst, kindID), id...) }

func laneKey(lane LaneID) []byte {
	return binary.BigEndian.AppendUint32([]byte{kindLane}, uint32(lane))
}

// deliveryKey names the retry or the failed delivery of one event for one endpoint.
func deliveryKey(kind byte, lane LaneID, seq uint64) []byte {
	key := make([]byte, 0, 13)
	key = append(key, kind)
	key = binary.BigEndian.AppendUint32(key, uint32(lane))
	return binary.BigEndian.AppendUint64(key, seq)
}

func parseDeliveryKey(key []byte) (lane LaneID, seq uint64, ok bool) {
	if len(key) != 13 {
		return 0, 0, false
	}
	return LaneID(binary.BigEndian.Uint32(key[1:])), binary.BigEndian.Uint64(key[5:]), true
}

// attemptKey names one attempt of a delivery that did not go well at once, by when it began, Unix milliseconds, and its
// number, which alone does not tell it from one that was not charged.
func attemptKey(seq uint64, lane LaneID, at int64, number int) []byte {
	key := make([]byte, 0, 23)
	key = append(key, kindAttempt)
	key = binary.BigEndian.AppendUint64(key, seq)
	key = binary.BigEndian.AppendUint32(key, uint32(lane))
	key = binary.BigEndian.AppendUint64(key, uint64(max(at, 0)))
	return binary.BigEndian.AppendUint16(key, uint16(number))
}

func parseAttemptKey(key []byte) (seq uint64, lane LaneID, ok bool) {
	if len(key) != 23 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), LaneID(binary.BigEndian.Uint32(key[9:])), true
}

// wellKey names a block of first attempts that went well: of one lane, up to event last, saved as the serial-th.
func wellKey(lane LaneID, last, serial uint64) []byte {
	key := make([]byte, 0, 21)
	key = append(key, kindWell)
	key = binary.BigEndian.AppendUint32(key, uint32(lane))
	key = binary.BigEndian.AppendUint64(key, last)
	return binary.BigEndian.AppendUint64(key, serial)
}

func parseWellKey(key []byte) (lane LaneID, last uint64, ok bool) {
	if len(key) != 21 {
		return 0, 0, false
	}
	return LaneID(binary.BigEndian.Uint32(key[1:])), binary.BigEndian.Uint64(key[5:]), true
}

// idsKey names the ids of a deleted block, which are known for longer than their events are kept.
func idsKey(last uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindIDs}, last)
}

// keptKey names piece n of an event that was kept when its block was deleted: a block of its own.
func keptKey(seq uint64, piece uint16) []byte { return pieceKey(kindKept, seq, piece) }

// digestKey names the digest of the events from first on.
func digestKey(first uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindDigest}, first)
}

func parseDigestKey(key []byte) (first uint64, ok bool) {
	if len(key) != 9 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// replayKey names a replay of a lane by its number.
func replayKey(lane LaneID, number uint64) []byte { return deliveryKey(kindReplay, lane, number) }
