package log

import (
	"fmt"
	"testing"
)

// With 50 million ids there are 190 full segments, and each whose filter passes a new id costs a read.
func TestANewIDSeldomSeemsToBeInASegment(t *testing.T) {
	t.Parallel()
	l := &Log{}
	words := newFilterWords(maxIDs)
	for i := range maxIDs {
		h := l.key.Hash(fmt.Appendf(nil, "evt_%d", i))
		filterAdd(words, &h)
	}
	var f filter
	f.words.Store(&words)
	const looks = 200_000
	wrong := 0
	for i := range looks {
		if h := l.key.Hash(fmt.Appendf(nil, "new_%d", i)); f.mayHave(&h) {
			wrong++
		}
	}
	if reads := 190 * float64(wrong) / looks; reads > 0.1 {
		t.Errorf("%d of %d ids seem to be there: %.2f reads for a new one among 190 segments", wrong, looks, reads)
	}
}
