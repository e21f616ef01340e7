package delivery

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// arrival is a request that a receiver got. It is answered when the test says so.
type arrival struct {
	id, eventType string
	attempt       int
	answer        chan<- int
}

// slowReceiver hands every request to the test, which answers it.
func slowReceiver(t *testing.T) (url string, arrivals <-chan arrival) {
	in, over := make(chan arrival, 1024), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := make(chan int, 1)
		attempt, _ := strconv.Atoi(r.Header.Get("X-RealtorBot-Attempt"))
		in <- arrival{r.Header.Get("webhook-id"), r.Header.Get("X-RealtorBot-Event"), attempt, answer}
		select {
		case status := <-answer:
			w.WriteHeader(status)
		case <-over:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		close(over)
		server.Close()
	})
	return server.URL, in
}

func mustArrive(t *testing.T, arrivals <-chan arrival) arrival {
	t.Helper()
	select {
	case a := <-arrivals:
		return a
	case <-time.After(patience):
		t.Fatal("nothing arrived")
		return arrival{}
	}
}

func mustStaySilent(t *testing.T, arrivals <-chan arrival) {
	t.Helper()
	select {
	case a := <-arrivals:
		t.Errorf("event %s arrived, attempt %d", a.id, a.attempt)
	default:
	}
}

// ledger counts what a receiver got.
type ledger struct {
	mu    sync.Mutex
	ids   []string
	times map[string]int
}

func (l *ledger) enter(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.times == nil {
		l.times = map[string]int{}
	}
	l.times[id]++
	l.ids = append(l.ids, id)
}

// arrived returns the ids of all requests so far, in order.
func (l *ledger) arrived() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids)
}

// quickReceiver answers at once with what status says, and enters every request into a ledger.
func quickReceiver(t *testing.T, status func(r *http.Request) int) (url string, got *ledger) {
	got = &ledger{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.enter(r.Header.Get("webhook-id"))
		w.WriteHeader(status(r))
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func well(*http.Request) int { return 200 }
