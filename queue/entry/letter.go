package entry

import (
	"encoding/binary"
	"fmt"

	"realtorbot-relay/queue/codec"
)

// flagLetter marks an event that is a letter.
const flagLetter = 1

// Letter says of which failed delivery an event is a copy: it has the id, type and body of that event, goes to a lane of its
// own, and is no duplicate of it.
type Letter struct {
	Seq    uint64 // of the event that failed
	At     int64  // when that delivery became failed, queue time
	Lane   string // whose delivery failed
	Class  string
	Reason string
}

// Append appends the letter in the form of Event.Letter.
func (l *Letter) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, l.Seq)
	dst = binary.AppendVarint(dst, l.At)
	dst = codec.AppendText(dst, l.Lane)
	dst = codec.AppendText(dst, l.Class)
	return codec.AppendText(dst, l.Reason)
}

// ParseLetter reads what Append wrote.
func ParseLetter(raw []byte) (Letter, error) {
	d := codec.Decoder{Buf: raw}
	l := Letter{Seq: d.Uvarint(), At: d.Varint(), Lane: string(d.Text()), Class: string(d.Text()), Reason: string(d.Text())}
	if !d.OK() {
		return l, fmt.Errorf("read letter: %w", codec.ErrDamaged)
	}
	return l, nil
}
