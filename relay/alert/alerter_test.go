package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/rfc3339"
)

const patience = 30 * time.Second

// harness is an alerter with a real queue, an endpoint that takes alerts and one that gets everything else.
type harness struct {
	*Alerter
	t            *testing.T
	free         atomic.Int64
	status       atomic.Int64 // what the other endpoint answers
	certificates []Certificate
	leap         atomic.Int64    // of the queue's clock
	only         config.Endpoint // the one that takes alerts

	mu   sync.Mutex
	came []string // the alerts' bodies, in order
}

func openHarness(t *testing.T) *harness {
	t.Helper()
	b := &harness{t: t}
	b.free.Store(10 << 30)
	b.status.Store(200)
	chat := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.came = append(b.came, string(body))
	}))
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(b.status.Load())) }))
	t.Cleanup(chat.Close)
	t.Cleanup(crm.Close)
	q, err := queue.Open(queue.Options{
		Dir: filepath.Join(t.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: time.Hour,
		MinFree: 1 << 30, Free: func() (int64, error) { return b.free.Load(), nil },
		UnservedRetention: 50 * time.Hour, Now: func() time.Time { return time.Now().Add(time.Duration(b.leap.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	one := func(name, url, events string) config.Endpoint {
		return config.Endpoint{Name: name, URL: config.NewURL(url), Events: []string{events}, Enabled: true, Signatures: []string{"realtorbot"},
			Delivery: config.Delivery{Timeout: 10 * time.Second, Concurrency: 1, MaxAge: time.Hour}}
	}
	b.only = one("chat", chat.URL, "relay.*")
	post, err := delivery.NewDispatcher(q, []config.Endpoint{b.only, one("crm", crm.URL, "*")}, 0, "1.2.3", zerolog.Nop(), client.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		post.Stop(ended)
		_ = q.Close()
	})
	b.Alerter = &Alerter{Queue: q, Dispatcher: post, Log: zerolog.Nop(), host: "relay-1", gather: map[string]time.Time{}, ending: map[string]time.Time{},
		Own: func() []Certificate { return b.certificates }}
	return b
}

// accept stores lead.created events.
func (b *harness) accept(ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		ev := queue.Event{ID: []byte(id), Type: []byte("lead.created"), Body: []byte(`{"id":"` + id + `","type":"lead.created","data":{}}`), Lanes: b.Dispatcher.Route([]byte("lead.created"), nil)}
		if err := b.Queue.Append("platform", []queue.Event{ev}, make([]queue.Receipt, 1)); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *harness) await(what string, is func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not so: %s", what)
		}
	}
}

// next is the type and message of the alert that comes next, with what else is in its data.
func (b *harness) next() (kind string, data told) {
	b.t.Helper()
	var first string
	b.await("an alert arrives", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.came) == 0 {
			return false
		}
		first, b.came = b.came[0], b.came[1:]
		return true
	})
	var event struct {
		ID, Type, Timestamp string
		Data                told
	}
	if err := json.Unmarshal([]byte(first), &event); err != nil || !strings.HasPrefix(event.ID, "evt_") || event.Timestamp == "" || event.Data.Host != "relay-1" {
		b.t.Fatalf("%v: %s", err, first)
	}
	return event.Type, event.Data
}

func (b *harness) mustBeQuiet() {
	b.t.Helper()
	b.await("all is settled", func() bool { s := b.Dispatcher.Statuses()[0]; return s.Pending+s.Retrying == 0 && s.InFlight == 0 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.came) > 0 || len(b.unsent) > 0 {
		b.t.Errorf("alerts came: %q; wait: %d", b.came, len(b.unsent))
	}
}

func TestFailedDeliveriesAreToldOnceAMinute(t *testing.T) {
	b := openHarness(t)
	ctx, now := context.Background(), time.Now()
	b.status.Store(500)
	fail := func(ids ...string) {
		t.Helper()
		before := b.Dispatcher.Statuses()[1].Failed
		b.accept(ids...)
		b.await("they fail", func() bool {
			s := b.Dispatcher.Statuses()[1]
			return s.Failed == before+int64(len(ids)) && s.InFlight == 0
		})
	}
	fail("evt_1")
	b.look(ctx, now)
	kind, data := b.next()
	if kind != "relay.delivery.failed" || data.Count != 1 || data.Endpoint != "crm" || data.Event != "evt_1" || data.Type != "lead.created" ||
		data.Message != `1 delivery to endpoint "crm" failed for good, the latest (evt_1): gave up after 1 attempt: answered 500 Internal Server Error` {
		t.Errorf("%s %+v", kind, data)
	}
	fail("evt_2", "evt_3")
	b.look(ctx, now.Add(gatherFor-time.Second))
	b.mustBeQuiet()
	b.look(ctx, now.Add(gatherFor))
	if _, data := b.next(); data.Count != 2 || data.Classes["status"] != 2 {
		t.Errorf("%+v", data)
	}
	if n := b.Raised()["relay.delivery.failed"]; n != 2 {
		t.Errorf("%d are counted", n)
	}
}

// What became failed because nobody serves its endpoint any more is told as other failed deliveries are.
func TestWhatExpiresOfAnEndpointThatIsGoneIsTold(t *testing.T) {
	b := openHarness(t)
	ctx, now := context.Background(), time.Now()
	if err := b.Dispatcher.Lane("crm").Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	b.look(ctx, now)
	b.next()
	b.accept("evt_1", "evt_2", "evt_3")
	if err := b.Dispatcher.Apply([]config.Endpoint{b.only}); err != nil {
		t.Fatal(err)
	}
	b.look(ctx, now)
	b.mustBeQuiet()
	b.leap.Store(int64(60 * time.Hour))
	b.await("they expire", func() bool { return b.Queue.Stats().Expired == 3 })
	b.look(ctx, now)
	if kind, data := b.next(); kind != "relay.delivery.failed" || data.Endpoint != "crm" || data.Count != 3 || data.Classes["expired"] != 3 ||
		data.Message != `3 deliveries to endpoint "crm" failed for good: `+data.Reason || !strings.Contains(data.Reason, "queue.unserved_retention") {
		t.Errorf("%s %+v", kind, data)
	}
	b.look(ctx, now.Add(time.Hour))
	b.mustBeQuiet()
}

func TestEndpointsThatGoAndComeBackAreTold(t *testing.T) {
	b := openHarness(t)
	ctx := context.Background()
	b.status.Store(500)
	b.accept("evt_1", "evt_2", "evt_3", "evt_4", "evt_5")
	b.await("crm is down", func() bool { return b.Dispatcher.Statuses()[1].State == delivery.StateDown })
	b.look(ctx, time.Now())
	kind, data := b.next()
	if kind != "relay.endpoint.down" || data.Endpoint != "crm" || !strings.Contains(data.Message, `endpoint "crm" is down: `) {
		t.Errorf("%s %+v", kind, data)
	}
	b.next() // the failed deliveries
	b.status.Store(200)
	if err := b.Dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	b.accept("evt_6")
	b.await("it is delivered", func() bool { return b.Dispatcher.Statuses()[1].Delivered == 1 })
	b.await("it is news", func() bool { b.look(ctx, time.Now()); b.mu.Lock(); defer b.mu.Unlock(); return len(b.came) > 0 })
	if kind, data = b.next(); kind != "relay.endpoint.recovered" || data.Began.IsZero() {
		t.Errorf("%s %+v", kind, data)
	}
	if err := b.Dispatcher.Lane("crm").Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	b.look(ctx, time.Now())
	if kind, data = b.next(); kind != "relay.endpoint.paused" || data.Reason != "paused by the operator" {
		t.Errorf("%s %+v", kind, data)
	}
	if err := b.Dispatcher.Lane("crm").Resume(); err != nil {
		t.Fatal(err)
	}
	b.look(ctx, time.Now())
	if kind, data = b.next(); kind != "relay.endpoint.resumed" || data.Endpoint != "crm" || data.Began.IsZero() {
		t.Errorf("%s %+v", kind, data)
	}
}

func TestLowDiskIsToldAboveTheLimitAndPastTheQueueBelowIt(t *testing.T) {
	b := openHarness(t)
	ctx := context.Background()
	at := func(free int64) {
		b.free.Store(free)
		b.await("the queue knows", func() bool { return errors.Is(b.Queue.Ready(), queue.ErrDiskLow) == (free < 1<<30) })
		b.look(ctx, time.Now())
	}
	at(1280 << 20)
	b.mustBeQuiet()
	at(1279 << 20) // a quarter above the limit, where the queue still takes it
	if kind, data := b.next(); kind != "relay.disk.low" || data.FreeBytes != 1279<<20 || data.MinFree != 1<<30 {
		t.Errorf("%s %+v", kind, data)
	}
	b.await("it is delivered", func() bool { return b.Dispatcher.Statuses()[0].Delivered == 1 })
	at(1400 << 20)
	at(1200 << 20)
	b.mustBeQuiet() // it goes up and down between the marks
	at(1536 << 20)
	if kind, _ := b.next(); kind != "relay.disk.ok" {
		t.Error(kind)
	}
	b.await("it is delivered", func() bool { return b.Dispatcher.Statuses()[0].Delivered == 2 })

	at(100 << 20) // filled at once
	if kind, data := b.next(); kind != "relay.disk.low" || !strings.Contains(data.Message, "100 MiB of disk are free; below 1024 MiB events are refused") {
		t.Errorf("%s %+v", kind, data)
	}
	// Another alert waits until the queue takes it again.
	if err := b.Dispatcher.Lane("crm").Pause("paused by the operator"); err != nil {
		t.Fatal(err)
	}
	b.look(ctx, time.Now())
	if s := b.Dispatcher.Statuses()[0]; s.Delivered != 2 || len(b.unsent) != 1 {
		t.Errorf("%d went through the queue, %d wait", s.Delivered, len(b.unsent))
	}
	at(10 << 30)
	one, _ := b.next()
	other, _ := b.next()
	if one+" "+other != "relay.endpoint.paused relay.disk.ok" {
		t.Errorf("then came %s, %s", one, other)
	}
}

func TestEndingCertificatesAreToldOnceADay(t *testing.T) {
	b := openHarness(t)
	ctx, now := context.Background(), time.Now()
	b.certificates = []Certificate{
		{What: `the certificate of endpoint "crm"`, Endpoint: "crm", Expires: now.Add(9*24*time.Hour + time.Minute)},
		{What: "server.tls_cert", Expires: now.Add(90 * 24 * time.Hour)},
	}
	b.look(ctx, now)
	kind, data := b.next()
	if kind != "relay.certificate.expiring" || data.Endpoint != "crm" || !strings.Contains(data.Message, "in 9 days: have it renewed") {
		t.Errorf("%s %+v", kind, data)
	}
	b.look(ctx, now.Add(time.Hour))
	b.mustBeQuiet()
	b.look(ctx, now.Add(24*time.Hour))
	if _, data := b.next(); !strings.Contains(data.Message, "in 8 days") {
		t.Errorf("%+v", data)
	}
	b.certificates[0].Expires = now.Add(90 * 24 * time.Hour)
	b.look(ctx, now.Add(25*time.Hour))
	if kind, data := b.next(); kind != "relay.certificate.renewed" || data.Endpoint != "crm" || !data.Expires.Equal(rfc3339.At(b.certificates[0].Expires).Time) {
		t.Errorf("%s %+v", kind, data)
	}
	b.look(ctx, now.Add(26*time.Hour))
	b.mustBeQuiet()
}

// An alert goes through the same canonical form as what a source posts.
func TestAlertsAreCanonical(t *testing.T) {
	a, err := newAlert("relay.endpoint.down", time.UnixMilli(1700000000123), told{Message: "a\u2028<b> \x01 é", Endpoint: "crm"})
	want := fmt.Sprintf(`{"id":"%s","type":"relay.endpoint.down","timestamp":"2023-11-14T22:13:20.123Z","data":{"message":"a`+"\u2028"+`<b> \u0001 é","host":"","endpoint":"crm"}}`, a.id)
	if err != nil || string(a.body) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, a.body, want)
	}
}
