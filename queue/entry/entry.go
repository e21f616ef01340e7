package entry

import (
	"encoding/binary"
	"errors"
	"fmt"

	"realtorbot-relay/queue/codec"
)

// Kind says what an entry has.
type Kind byte

// The kinds of entries. The numbers are on disk and never change.
const (
	KindFrame    Kind = 1 // events that were accepted at one moment
	KindProgress Kind = 2 // what a lane did since its last progress
	KindLane     Kind = 3 // a lane's name gets its number
	KindDiscard  Kind = 4 // a lane is deleted with everything that it holds
)

const (
	// HeaderSize is the length of the header.
	HeaderSize = 28
	version    = 1
	// versionLetters is the version of a frame with letters: a reader that does not know letters can't read behind one.
	versionLetters = 2
)

// ErrUnknown: the entry is whole, and only a newer version of the relay can read it.
var ErrUnknown = errors.New("is not known to this version of the relay: install the version that wrote it")

// Header is what every entry begins with.
type Header struct {
	Kind   Kind
	Number uint64 // its place in the sequence; the first is 1
	At     int64  // queue time, Unix milliseconds
}

// Begin appends room for a header. Finish fills it.
func Begin(dst []byte) []byte { return append(dst, make([]byte, HeaderSize)...) }

// Finish fills the header of the entry raw, all of it.
func Finish(raw []byte, h Header) {
	raw[0], raw[1] = byte(h.Kind), version
	binary.LittleEndian.PutUint32(raw[4:], uint32(len(raw)))
	binary.LittleEndian.PutUint64(raw[12:], h.Number)
	binary.LittleEndian.PutUint64(raw[20:], uint64(h.At))
	binary.LittleEndian.PutUint32(raw[8:], codec.Sum(raw[12:]))
}

// Next takes the entry at the beginning of buf apart: its header, all its bytes, and what lies behind it. It checks length
// and checksum, and copies nothing.
func Next(buf []byte) (h Header, raw, rest []byte, err error) {
	if len(buf) < HeaderSize {
		return h, nil, nil, fmt.Errorf("read entry: %d bytes are none: %w", len(buf), codec.ErrDamaged)
	}
	size := binary.LittleEndian.Uint32(buf[4:])
	if size < HeaderSize || uint64(size) > uint64(len(buf)) {
		return h, nil, nil, fmt.Errorf("read entry: length %d of %d bytes: %w", size, len(buf), codec.ErrDamaged)
	}
	raw = buf[:size:size]
	if codec.Sum(raw[12:]) != binary.LittleEndian.Uint32(raw[8:]) {
		return h, nil, nil, fmt.Errorf("read entry: checksum: %w", codec.ErrDamaged)
	}
	h = Header{Kind: Kind(raw[0]), Number: binary.LittleEndian.Uint64(raw[12:]), At: int64(binary.LittleEndian.Uint64(raw[20:]))}
	known := raw[1] == version || raw[1] == versionLetters && h.Kind == KindFrame
	if !known || h.Kind < KindFrame || h.Kind > KindDiscard {
		return h, nil, nil, fmt.Errorf("read entry %d: kind %d, version %d %w", h.Number, raw[0], raw[1], ErrUnknown)
	}
	return h, raw, buf[size:], nil
}

// noValues ends an entry without named values.
const noValues = 0

// end reads the named values, of which none is known yet, and reports whether the entry ends there.
func end(d *codec.Decoder) bool {
	for n := d.Count(); n > 0 && d.OK(); n-- {
		d.Text()
		d.Text()
	}
	return d.OK() && len(d.Buf) == 0
}
