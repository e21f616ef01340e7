package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// relay is a process that serves.
type relay struct {
	*process
	dir           string // its working directory, with config.toml
	intake, admin *door
}

// door is one listener of a relay, as a client sees it.
type door struct {
	network, address string
	client           *http.Client
}

// preamble is the beginning of every configuration here: ports that the system chooses, and no limit on free disk space.
const preamble = `
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[queue]
min_free = "0B"
`

// endpoint is a table of the configuration; more are further lines of it.
func endpoint(name, url string, more ...string) string {
	return fmt.Sprintf("[[endpoint]]\nname = %q\nurl = %q\nevents = [\"*\"]\n%s\n", name, url, strings.Join(more, "\n"))
}

// start runs a relay in a directory of its own.
func start(t *testing.T, config string) *relay {
	t.Helper()
	return startIn(t, t.TempDir(), config)
}

// startIn runs a relay in dir, in addition to the environment with env.
func startIn(t *testing.T, dir, config string, env ...string) *relay {
	t.Helper()
	writeConfig(t, dir, config)
	cmd := command(dir, "-config", "config.toml")
	cmd.Env = append(os.Environ(), env...)
	r := &relay{process: launch(t, cmd), dir: dir}
	r.awaitServing()
	return r
}

func writeConfig(t *testing.T, dir, config string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// again starts it once more, after it has ended, with the file as it is now.
func (r *relay) again() *relay {
	r.t.Helper()
	config, err := os.ReadFile(filepath.Join(r.dir, "config.toml"))
	if err != nil {
		r.t.Fatal(err)
	}
	return startIn(r.t, r.dir, string(config))
}

// awaitServing reads from the log where it serves, and waits until it is healthy there.
func (r *relay) awaitServing() {
	r.t.Helper()
	var said struct{ Intake, Admin string }
	if err := json.Unmarshal([]byte(r.awaitLog(`"message":"serving"`)), &said); err != nil {
		r.t.Fatal(err)
	}
	r.intake, r.admin = newDoor(r.t, said.Intake), newDoor(r.t, said.Admin)
	eventually(r.t, "the relay is healthy", func() bool {
		return r.intake.ask(r.t, "GET", "/health", "").status == 200
	})
}

func newDoor(t *testing.T, address string) *door {
	d := &door{network: "tcp", address: address}
	if strings.HasPrefix(address, "/") {
		d.network = "unix"
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, d.network, d.address)
		},
		MaxIdleConnsPerHost: 64,
	}
	d.client = &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(transport.CloseIdleConnections)
	return d
}

// answer is what the relay said to a request; status is 0 when it said nothing.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// ask makes one request. The headers are names and values in turn.
func (d *door) ask(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(body))
	if err != nil {
		t.Errorf("make request: %v", err)
		return answer{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := d.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{err: err}
	}
	seen.hear(response.Header, text)
	if what := lacks(response.Header); what != "" {
		t.Errorf("%s %s: the answer %d lacks %s: %v", method, path, response.StatusCode, what, response.Header)
	}
	if response.Header.Get("Content-Type") == "application/json" {
		names.note(fmt.Sprint(method, " ", request.URL.Path, " ", response.StatusCode), text)
	}
	return answer{status: response.StatusCode, header: response.Header, body: string(text)}
}

// failure is the documented shape of an error; its code is empty when the answer has another.
func (a answer) failure() (code, text string, index *int) {
	var shape struct {
		Error struct {
			Code, Message string
			Index         *int
		}
	}
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&shape) != nil || a.header.Get("Content-Type") != "application/json" {
		return "", "", nil
	}
	return shape.Error.Code, shape.Error.Message, shape.Error.Index
}

// offer posts events to the default source and returns whatever is answered.
func (r *relay) offer(body string, headers ...string) answer {
	return r.intake.ask(r.t, "POST", "/events", body, append([]string{"Content-Type", "application/json"}, headers...)...)
}

// post posts events, which must be accepted.
func (r *relay) post(body string) answer {
	r.t.Helper()
	a := r.offer(body)
	if a.status != 200 {
		r.t.Fatalf("posting %.200s: %d %s %v", body, a.status, a.body, a.err)
	}
	return a
}

// event is the text of one.
func event(id string) string {
	return fmt.Sprintf(`{"id":%q,"type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"score":75}}`, id)
}

// turn does something to an endpoint, which must go well.
func (r *relay) turn(method, path string) {
	r.t.Helper()
	if a := r.admin.ask(r.t, method, path, ""); a.status != 200 {
		r.t.Fatalf("%s %s: %d %s %v", method, path, a.status, a.body, a.err)
	}
}

// get reads what the admin listener answers with 200 into v.
func (r *relay) get(path string, v any) {
	r.t.Helper()
	a := r.admin.ask(r.t, "GET", path, "")
	if a.status != 200 {
		r.t.Fatalf("GET %s: %d %s %v", path, a.status, a.body, a.err)
	}
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
}

// stats is what the tests look at of /stats.
type stats struct {
	Health struct {
		Status  string
		Reasons []string
	}
	Queue  struct{ Events, Pending, Retrying, Failed int64 }
	Totals struct {
		Accepted, Duplicates, Delivered, Attempts int64
		Invalid                                   int64 `json:"requests_invalid"`
		Unauthorized                              int64 `json:"requests_unauthorized"`
	}
	Endpoints []endpointStats
}

type endpointStats struct {
	Name, State, Reason                  string
	Pending, Retrying, Failed, Delivered int64
	InFlight                             int `json:"in_flight"`
	Attempts                             int64
	LastError                            string `json:"last_error"`
}

func (r *relay) stats() (s stats) {
	r.t.Helper()
	r.get("/stats", &s)
	return s
}

// endpoint is one of /stats; without a name when it is not there.
func (r *relay) endpoint(name string) endpointStats {
	r.t.Helper()
	for _, ep := range r.stats().Endpoints {
		if ep.Name == name {
			return ep
		}
	}
	return endpointStats{}
}

// awaitEndpoint waits until an endpoint is as wanted.
func (r *relay) awaitEndpoint(name, what string, is func(endpointStats) bool) endpointStats {
	r.t.Helper()
	var ep endpointStats
	eventually(r.t, fmt.Sprintf("endpoint %q: %s", name, what), func() bool {
		ep = r.endpoint(name)
		return is(ep)
	})
	return ep
}

// story is what the tests look at of /events/{id}, for one endpoint.
type story struct {
	Endpoint, State, Reason, Note string
	NextAttempt                   time.Time `json:"next_attempt_at"`
	Attempts                      []struct {
		Number, Status        int
		Began                 time.Time `json:"began_at"`
		Class, Error, Excerpt string
	}
}

// story tells of an event's delivery to an endpoint.
func (r *relay) story(id, name string) story {
	r.t.Helper()
	var whole struct {
		ID         string
		Deliveries []story
	}
	r.get("/events/"+id, &whole)
	for _, d := range whole.Deliveries {
		if d.Endpoint == name && whole.ID == id {
			return d
		}
	}
	r.t.Fatalf("event %q is not told of for endpoint %q: %+v", id, name, whole)
	return story{}
}

// awaitState waits until a delivery is pending, retrying, delivered or failed.
func (r *relay) awaitState(id, name, state string) (s story) {
	r.t.Helper()
	return r.awaitStateFor(patience, id, name, state)
}

func (r *relay) awaitStateFor(most time.Duration, id, name, state string) (s story) {
	r.t.Helper()
	eventuallyWithin(r.t, most, fmt.Sprintf("event %q is %s for endpoint %q", id, state, name), func() bool {
		s = r.story(id, name)
		return s.State == state
	})
	return s
}

// awaitTold waits until a delivery is in a state and its latest attempt is told of, which may be a moment later.
func (r *relay) awaitTold(id, name, state string) (s story) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("event %q is %s for endpoint %q, with its attempt", id, state, name), func() bool {
		s = r.story(id, name)
		return s.State == state && len(s.Attempts) > 0
	})
	return s
}
