package log

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"strings"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
)

// postings say which blocks of a segment have a word: a type, the group of a type, a lane, a source, a member with its value. A word is
// known by its hash. The name of a member alone is the word of a block of which all events were asked for it: where it lacks, any value
// may be. A block that is named without reason costs a read; one that is missing would hide an event.
type postings map[uint64][]run

// run is blocks from one up to below another.
type run struct{ from, to uint32 }

func (p postings) add(word uint64, block uint32) {
	runs := p[word]
	switch n := len(runs); {
	case n > 0 && runs[n-1].to > block:
	case n > 0 && runs[n-1].to == block:
		runs[n-1].to++
	default:
		p[word] = append(runs, run{block, block + 1})
	}
}

// The kinds of words.
const (
	wordType   = 't'
	wordLane   = 'l'
	wordSource = 's'
)

// LaneWord is the word of a lane.
func LaneWord(key *entry.Key, id entry.LaneID) uint64 {
	var text [4]byte
	binary.LittleEndian.PutUint32(text[:], uint32(id))
	return key.Word(wordLane, string(text[:]))
}

// SourceWord is the word of a source.
func SourceWord(key *entry.Key, name string) uint64 { return key.Word(wordSource, name) }

// TypeWords are the words one of which a block has that holds an event of one of the patterns, each a type or "group.*"; nil
// when any block may: without patterns, or when a pattern has another form.
func TypeWords(key *entry.Key, patterns []string) (words []uint64) {
	for _, p := range patterns {
		if strings.HasSuffix(p, "*") && !strings.HasSuffix(p, ".*") {
			return nil
		}
		words = append(words, key.Word(wordType, p))
	}
	return words
}

// typeWords calls fn with the words of a type: itself and its groups.
func typeWords(key *entry.Key, name string, fn func(uint64)) {
	fn(key.Word(wordType, name))
	for i := 0; i < len(name); i++ {
		if name[i] == '.' {
			fn(key.Word(wordType, name[:i+1]+"*"))
		}
	}
}

// Member is a member with one of some values that events are looked for by. All are hashes.
type Member struct {
	Name   uint64
	Values []uint64
}

// lastWords remembers the last type, lane set and members that were added for a block: the next event probably has the same.
type lastWords struct {
	segment uint64
	at      uint32 // the block in it
	name    string
	set     entry.LaneSet
	words   []byte // of its members
}

// postingEntry is the size of a word in the section's directory: its hash, and where its runs begin.
const postingEntry = 12

// append writes the number of words, the directory, sorted by hash, and the runs of each word as gaps and lengths.
func (p postings) append(dst []byte) []byte {
	words := make([]uint64, 0, len(p))
	for w := range p {
		words = append(words, w)
	}
	slices.Sort(words)
	from := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(words)))
	dst = append(dst, make([]byte, len(words)*postingEntry)...)
	for i, w := range words {
		at := from + 4 + i*postingEntry
		binary.LittleEndian.PutUint64(dst[at:], w)
		binary.LittleEndian.PutUint32(dst[at+8:], uint32(len(dst)-from))
		dst = binary.AppendUvarint(dst, uint64(len(p[w])))
		next := uint32(0)
		for _, r := range p[w] {
			dst = binary.AppendUvarint(dst, uint64(r.from-next))
			dst = binary.AppendUvarint(dst, uint64(r.to-r.from))
			next = r.to
		}
	}
	return dst
}

// lookUp finds the runs of a word in a section.
func lookUp(raw []byte, word uint64) (runs []run) {
	if len(raw) < 4 {
		return nil
	}
	n := int(binary.LittleEndian.Uint32(raw))
	if len(raw) < 4+n*postingEntry {
		return nil
	}
	dir := raw[4 : 4+n*postingEntry]
	at := sort.Search(n, func(i int) bool { return binary.LittleEndian.Uint64(dir[i*postingEntry:]) >= word })
	if at == n || binary.LittleEndian.Uint64(dir[at*postingEntry:]) != word {
		return nil
	}
	d := codec.Decoder{Buf: raw[min(int(binary.LittleEndian.Uint32(dir[at*postingEntry+8:])), len(raw)):]}
	next := uint32(0)
	for k := d.Count(); k > 0 && d.OK(); k-- {
		from := next + uint32(d.Uvarint())
		next = from + uint32(d.Uvarint())
		runs = append(runs, run{from, next})
	}
	return runs
}

// union returns the blocks that are in either list.
func union(a, b []run) (out []run) {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y run) int { return int(int64(x.from) - int64(y.from)) })
	for _, r := range all {
		if n := len(out); n > 0 && r.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, r.to)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// others returns the blocks that are not in a list.
func others(a []run) (out []run) {
	next := uint32(0)
	for _, r := range a {
		if r.from > next {
			out = append(out, run{next, r.from})
		}
		next = r.to
	}
	return append(out, run{next, math.MaxUint32})
}

// intersect returns the blocks that are in both lists.
func intersect(a, b []run) (out []run) {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		from, to := max(a[i].from, b[j].from), min(a[i].to, b[j].to)
		if from < to {
			out = append(out, run{from, to})
		}
		if a[i].to < b[j].to {
			i++
		} else {
			j++
		}
	}
	return out
}
