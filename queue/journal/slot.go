package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"slices"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"

	"realtorbot-relay/queue/codec"
)

const (
	page       = 4 << 10
	slotMagic  = "RBJOURN2"
	slotHeader = 36 // bytes of it that are not zeros
)

// Header is how many bytes Append needs free in front of the payload.
const Header = 40

// incarnation tells the records of one use of a slot from those of all others.
type incarnation struct {
	generation uint64 // 0: none
	salt       uint64
}

// slot is one file of the journal.
type slot struct {
	incarnation
	file   *os.File
	size   int64
	end    int64  // where the next record goes
	closed bool   // nothing is added in this incarnation
	next   uint64 // the number behind the slot's last entry; 0 in an empty slot
	device uint64 // identifies the file, whatever its path
	inode  uint64
}

// errNoFile: what has a slot's name is no regular file.
var errNoFile = errors.New("it is not a regular file")

// newSlot makes a slot, without an incarnation, from an open file.
func newSlot(f *os.File) (*slot, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errNoFile
	}
	return &slot{file: f, size: st.Size, end: page, device: st.Dev, inode: st.Ino}, nil
}

// limit is where the records of the slot must end.
func (s *slot) limit() int64 { return s.size - page }

// roundUp rounds n up to pages.
func roundUp(n int64) int64 { return (n + page - 1) / page * page }

// header is the page that a slot begins and ends with.
func (l incarnation) header(size int64) []byte {
	raw := make([]byte, page)
	copy(raw, slotMagic)
	binary.LittleEndian.PutUint64(raw[8:], l.generation)
	binary.LittleEndian.PutUint64(raw[16:], l.salt)
	binary.LittleEndian.PutUint64(raw[24:], uint64(size))
	binary.LittleEndian.PutUint32(raw[32:], codec.Sum(raw[:32]))
	return raw
}

// parseHeader reads the page that a slot begins or ends with. Without a header there the generation is 0.
func parseHeader(raw []byte) (l incarnation, size int64) {
	if len(raw) < slotHeader || string(raw[:8]) != slotMagic || codec.Sum(raw[:32]) != binary.LittleEndian.Uint32(raw[32:]) {
		return incarnation{}, 0
	}
	return incarnation{binary.LittleEndian.Uint64(raw[8:]), binary.LittleEndian.Uint64(raw[16:])}, int64(binary.LittleEndian.Uint64(raw[24:]))
}

// packedBit is set in a record's length when the payload is packed.
const packedBit = 1 << 31

// seal fills the header of a record: the first bytes of buf, in front of the payload as it is stored.
func (l incarnation) seal(buf []byte, first, end uint64, packed bool) {
	binary.LittleEndian.PutUint64(buf, l.generation)
	binary.LittleEndian.PutUint64(buf[8:], l.salt)
	binary.LittleEndian.PutUint64(buf[16:], first)
	binary.LittleEndian.PutUint64(buf[24:], end)
	size := uint32(len(buf) - Header)
	if packed {
		size |= packedBit
	}
	binary.LittleEndian.PutUint32(buf[32:], size)
	binary.LittleEndian.PutUint32(buf[36:], recordSum(buf))
}

func recordSum(record []byte) uint32 {
	return crc32.Update(codec.Sum(record[:36]), codec.Castagnoli, record[Header:])
}

// pack appends a record with a packed payload to dst. Its header is yet to be filled.
func pack(dst, record []byte) []byte {
	dst = slices.Grow(dst, int(roundUp(int64(Header+s2.MaxEncodedLen(len(record)-Header)))))
	n := len(dst) + Header
	return dst[:n+len(s2.Encode(dst[n:cap(dst)], record[Header:]))]
}

// parseRecord reads the record at the start of raw, of whatever incarnation. The payload belongs to the caller; stored is
// the record as it lies there, a slice of raw. A payload that can't be unpacked though its checksum holds was written wrong.
func parseRecord(raw []byte) (l incarnation, r Record, stored []byte, ok bool) {
	if len(raw) < Header {
		return incarnation{}, Record{}, nil, false
	}
	l = incarnation{binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(raw[8:])}
	r.First, r.End = binary.LittleEndian.Uint64(raw[16:]), binary.LittleEndian.Uint64(raw[24:])
	field := binary.LittleEndian.Uint32(raw[32:])
	size := uint64(field &^ packedBit)
	if l.generation == 0 || r.End <= r.First || size > uint64(len(raw)-Header) {
		return incarnation{}, Record{}, nil, false
	}
	stored = raw[:Header+size]
	if recordSum(stored) != binary.LittleEndian.Uint32(raw[36:]) {
		return incarnation{}, Record{}, nil, false
	}
	if field&packedBit == 0 {
		r.Payload = bytes.Clone(stored[Header:])
		return l, r, stored, true
	}
	var err error
	if r.Payload, err = s2.Decode(nil, stored[Header:]); err != nil {
		return incarnation{}, Record{}, nil, false
	}
	return l, r, stored, true
}

// PayloadOf returns the payload of the record that raw, the bytes of one write to a slot, begins with; nil when it begins
// with none. It is for tests and tools that watch writes.
func PayloadOf(raw []byte) []byte {
	_, r, _, _ := parseRecord(raw)
	return r.Payload
}

// foundRecord is a record and where it lies.
type foundRecord struct {
	Record
	slot   *slot
	at     int64
	stored []byte // the record as it lies there; only of a slot's last one
}

// scan finds the records of an incarnation in raw, whose first page is the slot's header. end is the position behind the
// last good record, broken the positions of records that can't be read though another one begins behind them. torn is the
// position of the last record when that one can't be read, else 0. What is stored is a slice of raw.
func scan(raw []byte, l incarnation) (records []foundRecord, end int64, broken []int64, torn int64) {
	var prefix [16]byte
	binary.LittleEndian.PutUint64(prefix[:], l.generation)
	binary.LittleEndian.PutUint64(prefix[8:], l.salt)
	end = page
	var gap []int64 // where, behind the last good record, records begin by their first bytes and can't be read
	hole := func(to int64) []int64 {
		if to > end && (len(gap) == 0 || gap[0] != end) {
			return append([]int64{end}, gap...) // the first bytes of this one are damaged, too
		}
		return gap
	}
	for at := int64(page); at+page <= int64(len(raw)); {
		of, r, stored, ok := parseRecord(raw[at:])
		switch {
		case ok && of == l:
			broken = append(broken, hole(at)...)
			gap = nil
			records = append(records, foundRecord{Record: r, at: at, stored: stored})
			at += roundUp(int64(len(stored)))
			end = at
			continue
		case bytes.HasPrefix(raw[at:], prefix[:]):
			gap = append(gap, at)
		}
		at += page
	}
	if n := len(gap); n > 0 {
		torn = gap[n-1]
		gap = gap[:n-1]
		broken = append(broken, hole(torn)...)
	}
	return records, end, broken, torn
}
