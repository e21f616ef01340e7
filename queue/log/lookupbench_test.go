package log

import (
	"fmt"
	"testing"

	"realtorbot-relay/queue/entry"
)

// BenchmarkLookupOfANewID asks for ids that no segment has, by how many segments there are.
func BenchmarkLookupOfANewID(b *testing.B) {
	for _, segments := range []int{1, 40, 190} {
		b.Run(fmt.Sprint(segments), func(b *testing.B) {
			l := &Log{}
			var first *segment
			for range segments {
				s := &segment{sealed: true}
				s.lastAt = 1
				words := newFilterWords(maxIDs)
				for i := range maxIDs {
					h := l.key.Hash(fmt.Appendf(nil, "%d", i))
					filterAdd(words, &h)
				}
				s.filter.words.Store(&words)
				s.sections[sectionIDs].length = maxIDs / idsOnPage * idPage
				first = s
				l.segments = append(l.segments, s)
			}
			l.segments = append(l.segments, &segment{})
			var hashes []entry.Hash
			for i := range 1 << 16 {
				// Here is no page to be read where a filter takes an id for one that it has.
				if h := l.key.Hash(fmt.Appendf(nil, "new %d", i)); !first.filter.mayHave(&h) {
					hashes = append(hashes, h)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok, _ := l.Lookup(&hashes[i%len(hashes)], 0); ok {
					b.Fatal("found")
				}
			}
		})
	}
}
