package format1

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strconv"

	"realtorbot-relay/queue/codec"
)

// The logs of the store have the commits that are in none of its tables yet. Each file was made long, so zeros follow its
// last entry.
//
//	log:    20 bytes; entries
//	entry:  meta, 1 byte; user's meta, 1; length of key, of value and expiry, uvarints; key with its version; value;
//	        CRC-32C of all of these, 4 bytes, big-endian
//
// The last entry of a commit has a meta of its own, and the commit's version as text.
const (
	logHeader   = 20
	logInCommit = 1 << 6
	logCommit   = 1 << 7
	maxKey      = 1 << 10
	maxValue    = 1 << 20 // more than any is
)

// scanLog calls fn with every complete commit of a log, without what can't be read of it. It reports whether good entries
// lie behind a place that can't be read: a crash leaves nothing behind the place where it cut.
func scanLog(raw []byte, fn func([]entry)) (broken bool) {
	raw = bytes.TrimRight(raw, "\x00")
	raw = raw[:min(len(raw)+16, cap(raw))] // the last entry may end with zeros
	var commit []entry
	gap := false
	for at := logHeader; at < len(raw); {
		meta, e, size := parseLogEntry(raw[at:])
		if size == 0 {
			gap = true // what is left of this commit still counts
			at++
			continue
		}
		broken = broken || gap
		at += size
		if meta&logCommit != 0 {
			if len(commit) > 0 && string(e.value) == strconv.FormatUint(commit[0].version, 10) {
				fn(commit)
			}
			commit = nil
			continue
		}
		if len(commit) > 0 && commit[0].version != e.version {
			commit = nil
		}
		commit = append(commit, e)
	}
	return broken
}

func parseLogEntry(raw []byte) (meta byte, e entry, size int) {
	if len(raw) < 5 || raw[0]&(logInCommit|logCommit) == 0 || raw[1] != 0 {
		return 0, e, 0
	}
	d := codec.Decoder{Buf: raw[2:]}
	key, value, expires := d.Uvarint(), d.Uvarint(), d.Uvarint()
	head := len(raw) - len(d.Buf)
	if !d.OK() || key <= keyVersion || key > maxKey+keyVersion || value > maxValue || expires != 0 || uint64(len(d.Buf)) < key+value+crc32.Size {
		return 0, e, 0
	}
	end := head + int(key+value)
	if codec.Sum(raw[:end]) != binary.BigEndian.Uint32(raw[end:]) {
		return 0, e, 0
	}
	return raw[0], entry{
		key: d.Buf[:key-keyVersion], value: d.Buf[key : key+value],
		version: ^binary.BigEndian.Uint64(d.Buf[key-keyVersion:]), deletes: raw[0]&metaDelete != 0,
	}, end + crc32.Size
}

// writes are the newest writes of the logs, sorted by key.
type writes []entry

func sortWrites(list []entry) writes {
	slices.SortFunc(list, func(a, b entry) int { return compare(&a, &b) })
	return slices.CompactFunc(list, func(a, b entry) bool { return bytes.Equal(a.key, b.key) })
}

// cursorFrom returns the writes from a key on.
func (w writes) cursorFrom(from []byte) *writesCursor {
	at, _ := slices.BinarySearchFunc(w, from, func(e entry, key []byte) int { return bytes.Compare(e.key, key) })
	return &writesCursor{w[at:]}
}

// writesCursor is a source over writes.
type writesCursor struct{ rest writes }

func (w *writesCursor) peek() *entry { return &w.rest[0] }

func (w *writesCursor) advance() bool {
	w.rest = w.rest[1:]
	return len(w.rest) > 0
}

func (w *writesCursor) close() {}
