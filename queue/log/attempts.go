package log

import (
	"encoding/binary"
	"slices"

	"realtorbot-relay/queue/codec"
)

// AttemptBlocks lists the blocks that have attempts of any of these events, which ascend, in the order in which they were
// written. It reads, once, the footers of those segments whose range of events fits.
func (l *Log) AttemptBlocks(seqs ...uint64) (places []Place, err error) {
	has := func(from, to uint64) bool {
		at, _ := slices.BinarySearch(seqs, from)
		return at < len(seqs) && seqs[at] < to
	}
	for _, s := range l.list() {
		if sealed, t := l.state(s); sealed && !has(t.attemptsLow, t.attemptsHigh) {
			continue
		}
		more, err := l.attemptBlocks(s, has)
		if err != nil {
			return nil, err
		}
		places = append(places, more...)
	}
	return places, nil
}

// AttemptBlocksIn lists the blocks of one segment that have attempts of a range of events, from one up to below another, of
// which any returns true.
func (l *Log) AttemptBlocksIn(number uint64, any func(from, to uint64) bool) ([]Place, error) {
	s := l.segment(number)
	if s == nil {
		return nil, nil
	}
	return l.attemptBlocks(s, any)
}

func (l *Log) attemptBlocks(s *segment, any func(from, to uint64) bool) (places []Place, err error) {
	var blocks []uint32
	all := false
	l.mu.RLock()
	sealed := s.sealed
	for i := 0; !sealed && i < len(s.attempts); i++ {
		if slices.ContainsFunc(s.attempts[i].ranges, func(r seqRange) bool { return any(r.from, r.to) }) {
			blocks = append(blocks, s.attempts[i].block)
		}
	}
	l.mu.RUnlock()
	if sealed {
		raw, err := s.read(sectionAttempts)
		switch {
		case Gone(err):
			return nil, nil
		case err != nil:
			l.reportDamage(s, "its list of attempts can't be read, so all its blocks are read")
			all = true
		default:
			blocks = blocksWithAttempts(raw, any)
		}
	}
	if len(blocks) == 0 && !all {
		return nil, nil
	}
	table, err := l.table(s)
	if Gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for n := 0; all && n < len(table); n++ {
		blocks = append(blocks, uint32(n))
	}
	for _, n := range blocks {
		if int(n) < len(table) && (table[n].Kind == Entries || table[n].Kind == CarriedAttempts) {
			places = append(places, Place{s.number, table[n].Offset, table[n].Sum})
		}
	}
	return places, nil
}

// attemptedEvents are the events of whose deliveries a block has attempts, as ranges.
type attemptedEvents struct {
	block  uint32
	ranges []seqRange
}

type seqRange struct{ from, to uint64 }

// rangesOf sorts seqs and makes ranges of them.
func rangesOf(seqs []uint64) (ranges []seqRange) {
	slices.Sort(seqs)
	for _, seq := range seqs {
		if n := len(ranges); n > 0 && seq <= ranges[n-1].to {
			ranges[n-1].to = seq + 1
		} else {
			ranges = append(ranges, seqRange{seq, seq + 1})
		}
	}
	return ranges
}

func appendAttempted(dst []byte, list []attemptedEvents) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = binary.AppendUvarint(dst, uint64(s.block))
		dst = binary.AppendUvarint(dst, uint64(len(s.ranges)))
		next := uint64(0)
		for _, r := range s.ranges {
			dst = binary.AppendVarint(dst, int64(r.from-next))
			dst = binary.AppendUvarint(dst, r.to-r.from)
			next = r.to
		}
	}
	return dst
}

// blocksWithAttempts lists the blocks of a section that have attempts of a range of which any returns true.
func blocksWithAttempts(raw []byte, any func(from, to uint64) bool) (blocks []uint32) {
	d := codec.Decoder{Buf: raw}
	for n := d.Count(); n > 0 && d.OK(); n-- {
		block, in := uint32(d.Uvarint()), false
		next := uint64(0)
		for k := d.Count(); k > 0 && d.OK(); k-- {
			from := next + uint64(d.Varint())
			next = from + d.Uvarint()
			in = in || any(from, next)
		}
		if in && d.OK() {
			blocks = append(blocks, block)
		}
	}
	return blocks
}
