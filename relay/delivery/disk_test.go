package delivery

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery/client"
)

// A lane that can save nothing on a full disk takes nothing more, and neither a stop nor a story waits for room.
func TestStopEndsAlthoughTheDiskIsFull(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	q, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour,
		Free: func() (int64, error) { return free.Load(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	defer free.Store(1 << 40)
	url, _ := quickReceiver(t, func(*http.Request) int { return 422 }) // which makes nobody down
	ep := subscriber("crm", url)
	dispatcher, err := NewDispatcher(q, []config.Endpoint{ep}, 0, "1", zerolog.Nop(), client.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	lane := dispatcher.Lane("crm")
	if err := lane.Pause("until the disk is full"); err != nil {
		t.Fatal(err)
	}
	ids := numbered(5000)
	events := make([]queue.Event, len(ids))
	for i, id := range ids {
		events[i] = queue.Event{ID: []byte(id), Type: []byte("test"), Body: []byte(`{"id":"` + id + `","type":"test","data":{}}`), Lanes: dispatcher.Route([]byte("test"), nil)}
	}
	if err := q.Append("s", events, make([]queue.Receipt, len(events))); err != nil {
		t.Fatal(err)
	}
	free.Store(1 << 20)
	resumed := make(chan struct{})
	go func() {
		defer close(resumed)
		_ = lane.Resume() // which can't be saved
	}()
	for end := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
		s := dispatcher.Statuses()[0]
		if o := lane.queueLane.Outlook(); s.InFlight == 0 && s.Retrying > 0 && s.Pending > 0 && o.Due.IsZero() {
			t.Logf("%+v", s)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it goes on: %+v", s)
		}
	}
	within(t, "a stop", func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		dispatcher.Stop(ctx)
	})
	within(t, "a story", func() { _, _, _, _ = q.Story([]byte(ids[0])) })
	free.Store(1 << 40)
	<-resumed
}

// What the queue has against a new endpoint is no fault of the configuration, and its words are marked as its own.
func TestAnEndpointThatTheQueueCantPlaceIsNoFaultOfTheConfiguration(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	q, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour,
		Free: func() (int64, error) { return free.Load(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	url, _ := quickReceiver(t, well)
	crm := subscriber("crm", url)
	dispatcher, err := NewDispatcher(q, []config.Endpoint{crm}, 0, "1", zerolog.Nop(), client.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	defer dispatcher.Stop(context.Background())
	free.Store(1 << 20)
	if err = dispatcher.Apply([]config.Endpoint{crm, subscriber("new", url)}); !errors.Is(err, ErrNoLane) || !errors.Is(err, queue.ErrDiskLow) {
		t.Errorf("on a full disk a new endpoint is answered %v", err)
	}
	if dispatcher.Lane("new") != nil || dispatcher.Lane("crm") == nil {
		t.Error("something was changed")
	}
	free.Store(1 << 40)
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		err = dispatcher.Apply([]config.Endpoint{crm, subscriber("new", url)})
	}
	if err != nil {
		t.Errorf("with room again: %v", err)
	}
}
