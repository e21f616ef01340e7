package queue

import (
	"fmt"
	"runtime"
	"testing"
)

// The tail counts the memory that the newest events take, also when each was committed by itself: a record of one event
// takes a page of the journal.
func TestSmallEventsTakeNoMoreMemoryThanIsCounted(t *testing.T) {
	b := openBench(t, func(o *Options) { o.tailBytes = 1 << 20 })
	set := NewLaneSet(b.lane("crm").ID())
	for i := range 200 {
		b.append(set, fmt.Sprint("warm_", i))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const events = 2000
	for i := range events {
		b.append(set, fmt.Sprint("evt_", i))
	}
	b.saveAll()
	if more := int64(heap()) - int64(before); more > 2<<20 {
		t.Errorf("%d events take %d bytes more", events, more)
	}
}
