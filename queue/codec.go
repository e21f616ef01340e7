package queue

import "encoding/binary"

// appendText appends s with its length before it.
func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendTexts(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}

// appendSeqs appends ascending numbers, none below from.
func appendSeqs(dst []byte, from uint64, list []uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, seq := range list {
		dst = binary.AppendUvarint(dst, seq-from)
		from = seq
	}
	return dst
}

// decoder takes apart what the append functions put together. After the first thing that does not fit it is not ok and
// returns zeros, so that callers check once, at the end. Returned texts are slices of its buffer.
type decoder struct {
	buf    []byte
	failed bool
}

func (d *decoder) ok() bool { return !d.failed }

func (d *decoder) fail() {
	d.failed = true
	d.buf = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.buf)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.buf)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

// count reads the length of a list, which can't be longer than the bytes that are left.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.buf)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) text() []byte {
	n := d.uvarint()
	if n > uint64(len(d.buf)) {
		d.fail()
		return nil
	}
	s := d.buf[:n:n]
	d.buf = d.buf[n:]
	return s
}

func (d *decoder) byte() byte {
	if len(d.buf) == 0 {
		d.fail()
		return 0
	}
	b := d.buf[0]
	d.buf = d.buf[1:]
	return b
}

func (d *decoder) texts() (list []string) {
	for n := d.count(); n > 0 && d.ok(); n-- {
		list = append(list, string(d.text()))
	}
	return list
}

func (d *decoder) seqs(from uint64) (list []uint64) {
	for n := d.count(); n > 0 && d.ok(); n-- {
		step := d.uvarint()
		if from+step < from {
			d.fail()
		}
		from += step
		list = append(list, from)
	}
	return list
}
