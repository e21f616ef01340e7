package delivery

import (
	"context"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
)

func TestStopEndsAlthoughTheDiskIsFull(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	q, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour,
		Free: func() (int64, error) { return free.Load(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	url, arrivals := slowReceiver(t)
	quick, _ := quickReceiver(t, func(*http.Request) int { return 500 })
	_ = quick
	ep := subscriber("crm", quick)
	ep.Delivery.Rate = 0
	ep.Delivery.Retry = []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond}
	_, _ = url, arrivals
	post, err := NewPost(q, []config.Endpoint{ep}, "1", zerolog.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	lane := post.Lane("crm")
	_ = lane.Pause("x")
	ids := numbered(5000)
	events := make([]queue.Event, len(ids))
	for i, id := range ids {
		events[i] = queue.Event{ID: []byte(id), Type: []byte("test"), Body: []byte(`{"id":"` + id + `","type":"test","data":{}}`), Lanes: post.Route([]byte("test"))}
	}
	if err := q.Append("s", events, make([]queue.Receipt, len(events))); err != nil {
		t.Fatal(err)
	}
	_ = lane.Resume()
	free.Store(1 << 20)
	<-time.After(3 * time.Second)
	t.Logf("%+v", post.Statuses()[0])
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	go func() { post.Stop(ctx); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("Stop hangs")
		free.Store(1 << 40)
		<-done
	}
	story := make(chan struct{})
	free.Store(1 << 20)
	go func() { q.Story([]byte(ids[0])); close(story) }()
	select {
	case <-story:
	case <-time.After(3 * time.Second):
		t.Error("Story hangs while the disk is full")
		free.Store(1 << 40)
		<-story
	}
	q.Close()
}
