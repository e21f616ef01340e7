package log

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// Kind says what a block has.
type Kind byte

// The kinds of blocks. The numbers are on disk and never change.
const (
	Entries         Kind = 1 // entries of the sequence
	Carried         Kind = 2 // frames of one event each, of segments that are deleted
	Snapshot        Kind = 3 // a piece of a snapshot
	CarriedAttempts Kind = 4 // attempts of carried events, as progress
)

const (
	blockHeader = 80
	blockMagic  = 0x324b4252 // "RBK2"
	// maxUnpacked is more than any block is: the largest body, grown by its canonical form, and what stood before it.
	maxUnpacked = 512 << 20
)

// Info is what the header of a block says, and where the block is.
type Info struct {
	Offset      int64 // in its segment
	Stored      uint32
	Unpacked    uint32
	Kind        Kind
	Packed      bool
	unknownForm bool   // written in a way that this version does not know
	FirstEntry  uint64 // of local records: the entry behind them
	Entries     uint32
	FirstEvent  uint64 // the next event's, when the block has none
	Events      uint32
	Bodies      uint32 // bytes
	FirstAt     int64  // queue time, Unix milliseconds
	LastAt      int64
	Sum         uint32
}

// EndEntry is the number behind the last entry.
func (b *Info) EndEntry() uint64 { return b.FirstEntry + uint64(b.Entries) }

// EndEvent is the sequence number behind the last event of Entries; for local records it is that of the next event.
func (b *Info) EndEvent() uint64 {
	if b.Kind != Entries {
		return b.FirstEvent
	}
	return b.FirstEvent + uint64(b.Events)
}

func (b *Info) end() int64 { return b.Offset + blockHeader + int64(b.Stored) }

// appendHeader appends the header, which does not have the offset.
func (b *Info) appendHeader(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, make([]byte, blockHeader)...)
	h := dst[from:]
	le := binary.LittleEndian
	le.PutUint32(h, blockMagic)
	h[4] = byte(b.Kind)
	if b.Packed {
		h[5] = 1
	}
	le.PutUint32(h[8:], b.Stored)
	le.PutUint32(h[12:], b.Unpacked)
	le.PutUint64(h[16:], b.FirstEntry)
	le.PutUint64(h[32:], b.FirstEvent)
	le.PutUint64(h[40:], uint64(b.FirstAt))
	le.PutUint64(h[48:], uint64(b.LastAt))
	le.PutUint32(h[56:], b.Entries)
	le.PutUint32(h[60:], b.Events)
	le.PutUint32(h[64:], b.Bodies)
	le.PutUint32(h[68:], b.Sum)
	le.PutUint32(h[72:], codec.Sum(h[:72]))
	return dst
}

// parseHeader reads the header that stands at offset.
func parseHeader(h []byte, offset int64) (b Info, ok bool) {
	le := binary.LittleEndian
	if len(h) < blockHeader || le.Uint32(h) != blockMagic || codec.Sum(h[:72]) != le.Uint32(h[72:]) {
		return b, false
	}
	b = Info{
		Offset: offset, Stored: le.Uint32(h[8:]), Unpacked: le.Uint32(h[12:]), Kind: Kind(h[4]), Packed: h[5] == 1, unknownForm: h[5] > 1 || h[6] != 0 || h[7] != 0,
		FirstEntry: le.Uint64(h[16:]), Entries: le.Uint32(h[56:]), FirstEvent: le.Uint64(h[32:]), Events: le.Uint32(h[60:]),
		Bodies: le.Uint32(h[64:]), FirstAt: int64(le.Uint64(h[40:])), LastAt: int64(le.Uint64(h[48:])), Sum: le.Uint32(h[68:]),
	}
	return b, b.Unpacked <= maxUnpacked
}

// seal packs raw where that makes it shorter, and appends header and bytes. It sets the lengths and the sum of b.
func (b *Info) seal(dst, raw []byte) []byte {
	b.Unpacked = uint32(len(raw))
	at := len(dst)
	dst = append(dst, make([]byte, blockHeader)...)
	dst = append(dst, make([]byte, s2.MaxEncodedLen(len(raw)))...)
	packed := s2.Encode(dst[at+blockHeader:], raw)
	if b.Packed = len(packed) < len(raw); !b.Packed {
		packed = append(dst[:at+blockHeader], raw...)[at+blockHeader:]
	}
	b.Stored, b.Sum = uint32(len(packed)), codec.Sum(packed)
	b.appendHeader(dst[:at])
	return dst[:at+blockHeader+len(packed)]
}

// errUnknownForm is no damage: it stops the reader.
var errUnknownForm = errors.New("it is written in a way that this version of the relay does not know: install the version that wrote it")

// open verifies what stands behind the header, and unpacks it.
func (b *Info) open(stored []byte) ([]byte, error) {
	if b.unknownForm {
		return nil, errUnknownForm
	}
	if codec.Sum(stored) != b.Sum {
		return nil, fmt.Errorf("checksum: %w", codec.ErrDamaged)
	}
	if !b.Packed {
		return stored, nil
	}
	n, err := s2.DecodedLen(stored)
	if err != nil || n != int(b.Unpacked) {
		return nil, fmt.Errorf("length of packed data: %w", codec.ErrDamaged)
	}
	raw, err := s2.Decode(nil, stored)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, codec.ErrDamaged)
	}
	return raw, nil
}

// Place is where a block is. The sum ties it to what was written there.
type Place struct {
	Segment uint64
	Offset  int64
	Sum     uint32
}

const placeSize = 20

// Append appends the place in the form of the store.
func (p Place) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, p.Segment)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Offset))
	return binary.LittleEndian.AppendUint32(dst, p.Sum)
}

// ParsePlace reads a place at the beginning of raw.
func ParsePlace(raw []byte) (Place, error) {
	if len(raw) < placeSize {
		return Place{}, fmt.Errorf("read place of %d bytes: %w", len(raw), codec.ErrDamaged)
	}
	le := binary.LittleEndian
	return Place{le.Uint64(raw), int64(le.Uint64(raw[8:])), le.Uint32(raw[16:])}, nil
}

// Block is a block with its content, unpacked.
type Block struct {
	Info
	Raw []byte
}

// Unpack calls fn with each entry of a block of Entries or CarriedAttempts, in order, until fn returns an error.
func (b *Block) Unpack(fn func(h entry.Header, raw []byte) error) error {
	for rest := b.Raw; len(rest) > 0; {
		h, raw, more, err := entry.Next(rest)
		if err != nil {
			return err
		}
		if err := fn(h, raw); err != nil {
			return err
		}
		rest = more
	}
	return nil
}

// Frames returns the frames of a block.
func (b *Block) Frames() (frames []*entry.Frame, err error) {
	err = b.Unpack(func(h entry.Header, raw []byte) error {
		if h.Kind != entry.KindFrame {
			return nil
		}
		f, err := entry.ParseFrame(h, raw)
		if err == nil {
			frames = append(frames, f)
		}
		return err
	})
	return frames, err
}

// le is the byte order of all numbers.
var le = binary.LittleEndian
