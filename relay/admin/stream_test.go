package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
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

func (o *office) open(path, last string) *reader {
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
func (o *office) append(text string) {
	o.t.Helper()
	var named struct{ ID, Type string }
	if err := json.Unmarshal([]byte(text), &named); err != nil {
		o.t.Fatal(err)
	}
	events := []queue.Event{{ID: []byte(named.ID), Type: []byte(named.Type), Body: []byte(text), Lanes: o.Post.Route([]byte(named.Type))}}
	if err := o.Queue.Append("platform", events, make([]queue.Receipt, 1)); err != nil {
		o.t.Fatal(err)
	}
}

func eventText(id, eventType string) string {
	return fmt.Sprintf(`{"id":%q,"type":%q,"timestamp":"2024-01-15T10:30:00Z","data":{"text":"\nline"}}`, id, eventType)
}

func TestAStreamHasEveryEventThatIsWanted(t *testing.T) {
	o := openOffice(t, "")
	defer o.Close()
	o.append(eventText("evt_before", "lead.created"))
	all, leads := o.open("/stream", ""), o.open("/stream?types=lead.*,test", "")
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
	again := o.open("/stream?types=lead.*", last)
	for i := 10; i < 20; i++ {
		if _, event, data, ok := again.next(); !ok || event != "" || data != eventText(fmt.Sprint("evt_lead_", i), "lead.created") {
			t.Fatalf("after id %s: got %q %q, want event %d", last, event, data, i)
		}
	}
	if _, event, data, ok := o.open("/stream", "0").next(); !ok || event != "" || data != eventText("evt_before", "lead.created") {
		t.Errorf("from the beginning: got %q %q", event, data)
	}
	if s := o.Post.Statuses()[0]; s.Pending+s.Retrying+s.Failed > 0 && s.State != "up" {
		t.Errorf("the endpoint noticed: %+v", s)
	}
}

func TestAStreamRefusesWhatItCantFollow(t *testing.T) {
	o := openOffice(t, "")
	for path, header := range map[string]string{
		"/stream?types=Lead.*": "Accept: */*", "/stream?types=lead.*,": "Accept: */*", "/stream": "Last-Event-ID: evt_1",
	} {
		if status, body := o.ask("GET", path, header); status != 400 || !strings.Contains(body, "bad_query") {
			t.Errorf("%s with %s: %d %s", path, header, status, body)
		}
	}
	if status, _ := o.ask("POST", "/stream"); status != 405 {
		t.Errorf("POST is answered %d", status)
	}
}

// A reader that takes nothing is held by its connection alone, and Close does not wait for it.
func TestStreamsEndWhenTheRelayStops(t *testing.T) {
	o := openOffice(t, "")
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
		o.Close()
	}()
	select {
	case <-closed:
	case <-time.After(liveWrite / 2):
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
	o := openOffice(t, "")
	defer o.Close()
	var first *reader
	for range maxLive {
		first = o.open("/stream", "")
	}
	if status, body := o.ask("GET", "/stream"); status != 503 || !strings.Contains(body, "unavailable") {
		t.Fatalf("one more is answered %d %s", status, body)
	}
	_ = first.answer.Body.Close()
	deadline := time.Now().Add(patience)
	for {
		o.lives.mu.Lock()
		open := len(o.lives.open)
		o.lives.mu.Unlock()
		if open < maxLive {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a reader that left keeps its place")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
