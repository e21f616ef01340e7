package log

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// usage is what the log has of each source's events.
type usage map[string]entry.Usage

func (s *usage) add(source string, k entry.Usage) {
	if *s == nil {
		*s = usage{}
	}
	(*s)[source] = (*s)[source].Plus(k)
}

// usageTable is what the log has of each source's events: those in segments, and those that only the journal has so far. Its
// methods are safe for concurrent use.
type usageTable struct {
	mu       sync.RWMutex
	bySource usage
}

func (l *usageTable) add(source string, k entry.Usage) {
	l.mu.Lock()
	l.bySource.add(source, k)
	l.mu.Unlock()
}

func (l *usageTable) remove(gone usage) {
	l.mu.Lock()
	for source, k := range gone {
		if left := l.bySource[source].Minus(k); left == (entry.Usage{}) {
			delete(l.bySource, source)
		} else {
			l.bySource[source] = left
		}
	}
	l.mu.Unlock()
}

// Usage returns what the log has of a source's events: all that were accepted and whose bodies are on disk, also carried
// ones, and those that nobody needs any more until their segment goes. It reads memory.
func (l *Log) Usage(source string) entry.Usage {
	l.usage.mu.RLock()
	defer l.usage.mu.RUnlock()
	return l.usage.bySource[source]
}

// The named values of a footer are a count, and for each a name and its bytes; then CRC-32C of all of it, 4 bytes. A reader
// passes over names that it does not know, and leaves them out when it writes the segment anew.
const (
	// valueSources is what the segment has of each source's events: a count, and for each its name, events, and bytes of
	// their bodies.
	valueSources = "sources"
)

func appendValues(dst []byte, s usage) []byte {
	from := len(dst)
	var list []byte
	list = binary.AppendUvarint(list, uint64(len(s)))
	for _, source := range slices.Sorted(maps.Keys(s)) {
		list = codec.AppendText(list, source)
		list = binary.AppendUvarint(list, uint64(s[source].Events))
		list = binary.AppendUvarint(list, uint64(s[source].Bytes))
	}
	dst = binary.AppendUvarint(dst, 1)
	dst = codec.AppendText(dst, valueSources)
	dst = codec.AppendText(dst, list)
	return binary.LittleEndian.AppendUint32(dst, codec.Sum(dst[from:]))
}

// parseValues reads the named values of a footer. ok is false when they can't be read, or don't name the sources.
func parseValues(raw []byte) (s usage, ok bool) {
	if len(raw) < 4 || codec.Sum(raw[:len(raw)-4]) != le.Uint32(raw[len(raw)-4:]) {
		return nil, false
	}
	d := codec.Decoder{Buf: raw[:len(raw)-4]}
	for n := d.Count(); n > 0 && d.OK(); n-- {
		name, value := d.Text(), d.Text()
		if string(name) != valueSources {
			continue
		}
		v := codec.Decoder{Buf: value}
		for k := v.Count(); k > 0 && v.OK(); k-- {
			s.add(string(v.Text()), entry.Usage{Events: int64(v.Uvarint()), Bytes: int64(v.Uvarint())})
		}
		ok = v.OK()
	}
	return s, ok && d.OK()
}

// countUsage makes the table: of sealed segments from their footers or, without that, from the blocks.
func (l *Log) countUsage() error {
	l.usage.bySource = usage{}
	for _, s := range l.segments {
		if s.sealed && !s.stripped && s.usage == nil {
			if err := l.readUsage(s); err != nil {
				return err
			}
		}
		for source, k := range s.usage {
			l.usage.bySource.add(source, k)
		}
	}
	return nil
}

func (l *Log) readUsage(s *segment) error {
	raw := make([]byte, s.values)
	err := s.readAt(raw, s.valuesAt())
	if Gone(err) {
		return err
	}
	ok := false
	if s.usage, ok = parseValues(raw); err == nil && ok {
		return nil
	}
	if s.values > 0 {
		l.reportDamage(s, "its count of events by source can't be read, so its blocks are counted")
	}
	s.usage = usage{}
	blocks, err := l.table(s)
	for i := range blocks {
		if blocks[i].Kind != Entries && blocks[i].Kind != Carried || blocks[i].Events == 0 {
			continue
		}
		b, err := s.block(blocks[i].Offset, &blocks[i].Sum)
		if err != nil {
			continue // the reader that needs it reports it
		}
		frames, _ := b.Frames()
		for _, f := range frames {
			f.EachUsage(s.usage.add)
		}
	}
	return err
}
