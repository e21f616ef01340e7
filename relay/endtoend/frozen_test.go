package endtoend

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The process stands still while attempts are under way, as when its machine is moved or a laptop sleeps, for longer than
// they may take. What was answered meanwhile lies in the sockets: it is read before anything is judged.
func TestAnswersThatCameWhileTheRelayStoodStillCount(t *testing.T) {
	t.Parallel()
	const events, timeout = 32, 10 * time.Second
	var answered atomic.Int32
	open := make(chan struct{})
	hold := until(open, 200)
	crm := receive(t, func(w http.ResponseWriter, request *http.Request, a attempt) {
		hold(w, request, a)
		_ = http.NewResponseController(w).Flush()
		answered.Add(1)
	})
	r := start(t, preamble+endpoint("crm", crm.url, fmt.Sprintf("timeout = %q\nretry = []\nconcurrency = %d", timeout, events)))
	for i := range events {
		r.post(event(fmt.Sprintf("evt_%d", i)))
	}
	crm.await(events)
	r.signal(syscall.SIGSTOP)
	begun := time.Now()
	close(open)
	eventually(t, "all are answered", func() bool { return answered.Load() >= events })
	eventuallyWithin(t, 2*timeout, "their time is over", func() bool { return time.Since(begun) > timeout+time.Second })
	r.signal(syscall.SIGCONT)
	ep := r.awaitEndpoint("crm", "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying == 0 })
	if ep.Delivered != events || ep.Failed != 0 || ep.State != "up" {
		t.Errorf("the endpoint stands at %+v", ep)
	}
	for id, n := range crm.counts() {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
}
