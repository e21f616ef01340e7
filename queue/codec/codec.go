// Package codec writes the records of the queue as bytes and reads them: integers as varints, texts behind their length. It
// reads and writes no file.
package codec

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// ErrDamaged: bytes are not those that were written.
var ErrDamaged = errors.New("damaged")

// Castagnoli is the polynomial of every checksum on disk: CRC-32C.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the CRC-32C of b.
func Sum(b []byte) uint32 { return crc32.Checksum(b, Castagnoli) }

// AppendText appends the length of s and s.
func AppendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// AppendTexts appends the number of texts and the texts.
func AppendTexts(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = AppendText(dst, s)
	}
	return dst
}

// AppendSeqs appends ascending numbers, none below from, as differences.
func AppendSeqs(dst []byte, from uint64, list []uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, seq := range list {
		dst = binary.AppendUvarint(dst, seq-from)
		from = seq
	}
	return dst
}

// Decoder reads what the append functions wrote. After the first thing that does not fit it is not OK and returns zeros, so
// that callers check once, at the end. Returned texts are slices of Buf.
type Decoder struct {
	Buf    []byte // what is not read yet
	failed bool
}

// OK reports whether everything that was read did fit.
func (d *Decoder) OK() bool { return !d.failed }

// Fail makes the decoder not OK.
func (d *Decoder) Fail() {
	d.failed = true
	d.Buf = nil
}

// Uvarint reads an unsigned number.
func (d *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(d.Buf)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.Buf = d.Buf[n:]
	return v
}

// Varint reads a signed number.
func (d *Decoder) Varint() int64 {
	v, n := binary.Varint(d.Buf)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.Buf = d.Buf[n:]
	return v
}

// Count reads the length of a list, which can't be longer than the bytes that are left.
func (d *Decoder) Count() int {
	n := d.Uvarint()
	if n > uint64(len(d.Buf)) {
		d.Fail()
		return 0
	}
	return int(n)
}

// Text reads a text. It is a slice of Buf.
func (d *Decoder) Text() []byte {
	n := d.Uvarint()
	if n > uint64(len(d.Buf)) {
		d.Fail()
		return nil
	}
	s := d.Buf[:n:n]
	d.Buf = d.Buf[n:]
	return s
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if len(d.Buf) == 0 {
		d.Fail()
		return 0
	}
	b := d.Buf[0]
	d.Buf = d.Buf[1:]
	return b
}

// Texts reads a list of texts.
func (d *Decoder) Texts() (list []string) {
	for n := d.Count(); n > 0 && d.OK(); n-- {
		list = append(list, string(d.Text()))
	}
	return list
}

// Seqs reads ascending numbers, none below from.
func (d *Decoder) Seqs(from uint64) (list []uint64) {
	for n := d.Count(); n > 0 && d.OK(); n-- {
		step := d.Uvarint()
		if from+step < from {
			d.Fail()
		}
		from += step
		list = append(list, from)
	}
	return list
}
