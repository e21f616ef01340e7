package endtoend

import (
	"fmt"
	"strings"
	"testing"
)

// padded is an event of about size bytes, in the form in which it is kept.
func padded(id string, size int) string {
	return fmt.Sprintf(`{"id":%q,"type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"pad":"%s"}}`, id, strings.Repeat(id+" ", size/(len(id)+1)))
}

func TestABacklogComesFromDiskWholeAndInOrder(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	config := strings.Replace(preamble, "[admin]", "max_body = \"4MiB\"\n[admin]", 1)
	r := start(t, config+endpoint("crm", crm.url, "concurrency = 1"))
	r.turn("POST", "/endpoints/crm/pause")
	const batches, each = 20, 250 // 10 MB, more than is kept in memory
	post := func(batch int) {
		list := make([]string, each)
		for i := range list {
			list[i] = padded(fmt.Sprintf("evt_%d", batch*each+i), 2000)
		}
		r.post("[" + strings.Join(list, ",") + "]")
	}
	for batch := range batches {
		if batch == batches/2 {
			r.kill()
			r = r.again()
		}
		post(batch)
	}
	post(0) // all of them again
	if ep := r.endpoint("crm"); ep.Pending != batches*each {
		t.Errorf("it stands at %+v, want %d pending", ep, batches*each)
	}
	r.turn("POST", "/endpoints/crm/resume")
	for i, a := range crm.await(batches * each) {
		if id := fmt.Sprintf("evt_%d", i); a.id != id || a.body != padded(id, 2000) {
			t.Fatalf("the %d. to arrive is %q with %d bytes", i, a.id, len(a.body))
		}
	}
	r.awaitEndpoint("crm", "has settled all", func(ep endpointStats) bool { return ep.Pending == 0 && ep.Delivered == batches*each })
	if n := len(crm.all()); n != batches*each {
		t.Errorf("%d arrived, want %d", n, batches*each)
	}
}

func TestLargeEventsArriveByteForByteAlsoAfterAKill(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	config := strings.Replace(preamble, "[admin]", "max_body = \"16MiB\"\n[admin]", 1)
	r := start(t, config+endpoint("crm", crm.url, "concurrency = 2"))
	r.turn("POST", "/endpoints/crm/pause")
	sizes := map[string]int{"small": 100, "block": 64 << 10, "value": 256 << 10, "default": 1<<20 - 200, "largest": 16<<20 - 200}
	for id, size := range sizes {
		r.post(padded(id, size))
	}
	r.kill()
	r = r.again()
	r.turn("POST", "/endpoints/crm/resume")
	crm.await(len(sizes))
	for _, a := range crm.all() {
		if a.body != padded(a.id, sizes[a.id]) {
			t.Errorf("event %q arrived with %d bytes that are not those that were posted", a.id, len(a.body))
		}
	}
	for id := range sizes {
		r.awaitState(id, "crm", "delivered")
	}
}
