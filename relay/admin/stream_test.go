package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/queue"
)

// reader reads a stream of server-sent events.
type reader struct {
	t      *testing.T
	answer *http.Response
	lines  *bufio.Scanner
}

func (o *harness) open(path, last string) *reader {
	o.t.Helper()
	r, err := http.NewRequest("GET", o.url+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		o.t.Fatalf("GET %s: %d %s", path, answer.StatusCode, answer.Header.Get("Content-Type"))
	}
	o.t.Cleanup(func() { _ = answer.Body.Close() })
	o.mustHaveAll(answer)
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &reader{o.t, answer, lines}
}

// next is the next event of the stream, without comments. ok is false when the stream has ended.
func (r *reader) next() (id, event, data string, ok bool) {
	r.t.Helper()
	for r.lines.Scan() {
		name, value, _ := strings.Cut(r.lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			data = value
		case "":
			if data != "" {
				return id, event, data, true
			}
		}
	}
	return "", "", "", false
}

// append accepts the event whose text this is.
func (o *harness) append(text string) {
	o.t.Helper()
	var named struct{ ID, Type string }
	if err := json.Unmarshal([]byte(text), &named); err != nil {
		o.t.Fatal(err)
	}
	events := []queue.Event{{ID: []byte(named.ID), Type: []byte(named.Type), Body: []byte(text), Lanes: o.Dispatcher.Route([]byte(named.Type), []byte(text))}}
	if err := o.Queue.Append("platform", events, make([]queue.Receipt, 1)); err != nil {
		o.t.Fatal(err)
	}
}

func eventText(id, eventType string) string {
	return fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":"2024-01-15T10:30:00Z","data":{"text":"\nline"}}`, id, eventType)
}

func TestAStreamHasEveryEventThatIsWanted(t *testing.T) {
	o := openHarness(t, "")
	defer o.Close(t.Context())
	o.append(eventText("evt_before", "lead.created"))
	all, leads := o.open("/stream", ""), o.open("/stream?type=lead.*,test", "")
	last := ""
	for i := range 20 {
		lead, other := eventText(fmt.Sprint("evt_lead_", i), "lead.created"), eventText(fmt.Sprint("evt_bot_", i), "bot.created")
		o.append(lead)
		o.append(other)
		for _, want := range []string{lead, other} {
			id, _, data, ok := all.next()
			if !ok || data != want || id == "" {
				t.Fatalf("got %q %q, want %q", id, data, want)
			}
		}
		id, _, data, ok := leads.next()
		if !ok || data != lead {
			t.Fatalf("got %q, want %q", data, lead)
		}
		if i == 9 {
			last = id
		}
	}
	again := o.open("/stream?type=lead.*", last)
	for i := 10; i < 20; i++ {
		if _, event, data, ok := again.next(); !ok || event != "" || data != eventText(fmt.Sprint("evt_lead_", i), "lead.created") {
			t.Fatalf("after id %s: got %q %q, want event %d", last, event, data, i)
		}
	}
	if _, event, data, ok := o.open("/stream", "0").next(); !ok || event != "" || data != eventText("evt_before", "lead.created") {
		t.Errorf("from the beginning: got %q %q", event, data)
	}
	if s := o.Dispatcher.Statuses()[0]; s.Pending+s.Retrying+s.Failed > 0 && s.State != "up" {
		t.Errorf("the endpoint noticed: %+v", s)
	}
}

func TestAStreamRefusesWhatItCantFollow(t *testing.T) {
	o := openHarness(t, "")
	for path, header := range map[string]string{
		"/stream?type=lead*": "Accept: */*", "/stream?type=lead.*,": "Accept: */*", "/stream": "Last-Event-ID: evt_1",
	} {
		if status, body := o.ask("GET", path, header); status != 400 || !strings.Contains(body, "invalid_query") {
			t.Errorf("%s with %s: %d %s", path, header, status, body)
		}
	}
	if status, _ := o.ask("POST", "/stream"); status != 405 {
		t.Errorf("POST is answered %d", status)
	}
}

// A reader that takes nothing is held by its connection alone, and Close does not wait for it.
func TestStreamsEndWhenTheRelayStops(t *testing.T) {
	o := openHarness(t, "")
	slow, quick := o.open("/stream", ""), o.open("/stream", "")
	large := `{"id":"evt_%d","type":"test","timestamp":"2024-01-15T10:30:00Z","data":{"text":"` + strings.Repeat("x", 512<<10) + `"}}`
	for i := range 24 { // more than the sockets hold
		o.append(fmt.Sprintf(large, i))
		if _, _, data, ok := quick.next(); !ok || data != fmt.Sprintf(large, i) {
			t.Fatalf("event %d did not arrive", i)
		}
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		o.Close(context.Background())
	}()
	select {
	case <-closed:
	case <-time.After(streamWriteTimeout / 2):
		t.Fatal("Close waits for a reader that takes nothing")
	}
	if _, _, _, ok := quick.next(); ok {
		t.Error("the stream goes on")
	}
	_ = slow
	if status, _ := o.ask("GET", "/stream"); status != 503 {
		t.Errorf("a stream after Close is answered %d", status)
	}
}

func TestSoManyStreamsAtATime(t *testing.T) {
	o := openHarness(t, "")
	defer o.Close(t.Context())
	var first *reader
	for range maxStreams {
		first = o.open("/stream", "")
	}
	if status, body := o.ask("GET", "/stream"); status != 503 || !strings.Contains(body, "unavailable") {
		t.Fatalf("one more is answered %d %s", status, body)
	}
	here, there := net.Pipe() // of one that found a place when it asked
	defer there.Close()
	go func() {
		defer here.Close()
		o.serveOn(here, func(*eventStream) { t.Error("it is served without a place") })
	}()
	answer, err := http.ReadResponse(bufio.NewReader(there), nil)
	if err != nil || answer.StatusCode != 503 {
		t.Fatalf("without a place: %v, %v", answer, err)
	}
	o.mustHaveAll(answer)
	_ = first.answer.Body.Close()
	deadline := time.Now().Add(patience)
	for {
		o.streams.mu.Lock()
		open := len(o.streams.open)
		o.streams.mu.Unlock()
		if open < maxStreams {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a reader that left keeps its place")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// places is how many streams have a place.
func (o *harness) places() int {
	o.streams.mu.Lock()
	defer o.streams.mu.Unlock()
	return len(o.streams.open)
}

// A client that asks for a stream behind another request and resets its connection leaves no place taken: the stream may never
// begin, and a place that nobody gives back is missing for ever, and waited for at a stop.
func TestClientsThatResetTakeNoPlaces(t *testing.T) {
	o := openHarness(t, "")
	address := strings.TrimPrefix(o.url, "http://")
	for i := range 12 * maxStreams {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		asked := "/live"
		if i%2 == 1 {
			asked = "/stream"
		}
		_, _ = fmt.Fprintf(conn, "GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\nGET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", asked)
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close() // a reset
	}
	for deadline := time.Now().Add(patience); o.places() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d places of %d stay taken", o.places(), maxStreams)
		}
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for open, deadline := 0, time.Now().Add(patience); open < maxStreams; { // all are there
		answer, err := client.Get(o.url + "/stream")
		if err == nil {
			defer answer.Body.Close()
		}
		switch {
		case err == nil && answer.StatusCode == 200:
			open++
		case time.Now().After(deadline):
			t.Fatalf("stream %d is answered %v, %v", open, answer, err)
		default: // the server of the test has not seen all of them go yet
			time.Sleep(5 * time.Millisecond)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if o.Close(ctx); ctx.Err() != nil || o.places() > 0 {
		t.Errorf("Close waited in vain for %d streams", o.places())
	}
}

// A panic is one failed stream: its place is free again, and the others go on.
func TestAPanicInAStreamIsOneFailedStream(t *testing.T) {
	o := openHarness(t, "")
	defer o.Close(t.Context())
	other := o.open("/stream", "")
	here, there := net.Pipe()
	defer there.Close()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	l := &eventStream{ending: make(chan struct{}), gone: make(chan struct{}), conn: here}
	l.Writer = bufio.NewWriterSize(deadlineWriter{l}, streamBuffer)
	o.run(l, func(*eventStream) { panic("of the test") })
	if line := o.log.String(); !strings.Contains(line, "of the test") || !strings.Contains(line, "a stream made the relay fail") {
		t.Errorf("the log says %s", line)
	}
	o.append(eventText("evt_after", "lead.created"))
	if _, _, data, ok := other.next(); !ok || data != eventText("evt_after", "lead.created") {
		t.Errorf("another stream got %q", data)
	}
}

// A stop waits for a stream until its time is over and no longer.
func TestCloseIsBoundedByItsContext(t *testing.T) {
	o := openHarness(t, "")
	o.read("/stats") // it serves: fasthttp forgets a stop that comes before
	here, there := net.Pipe()
	defer there.Close()
	stuck := &eventStream{ending: make(chan struct{}), gone: make(chan struct{}), conn: here}
	if !o.streams.begin(stuck) { // and nobody ends it
		t.Fatal("there is no place")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	o.Close(ended)
}
