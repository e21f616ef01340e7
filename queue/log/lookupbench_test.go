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
			var f *filter
			for n := range segments {
				s := &segment{sealed: true}
				s.lastAt = 1
				if n%filterGroup == 0 {
					f = &filter{newFilterWords(maxIDs * filterGroup)}
					for i := range maxIDs * filterGroup {
						h := l.key.Hash(fmt.Appendf(nil, "%d", i))
						filterAdd(f.words, &h)
					}
				}
				s.filter.Store(f)
				s.sections[sectionIDs].length = maxIDs / idsOnPage * idPage
				first = s
				l.segments = append(l.segments, s)
			}
			l.segments = append(l.segments, &segment{})
			var hashes []entry.Hash
			for i := range 1 << 16 {
				// Here is no page to be read where a filter takes an id for one that it has.
				if h := l.key.Hash(fmt.Appendf(nil, "new %d", i)); !first.filter.Load().mayHave(&h) {
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
