package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// customers are the files of a directory, one for each customer, and the receiver of them all: where an event arrived, in the order of arrival, and
// that it was the right customer's.
type customers struct {
	t    *testing.T
	dir  string
	url  string
	mu   sync.Mutex
	came map[string]string // paths by event
}

func newCustomers(t *testing.T) *customers {
	c := &customers{t: t, dir: t.TempDir(), came: map[string]string{}}
	if err := os.Mkdir(filepath.Join(c.dir, "endpoints.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.url = strings.TrimSuffix(receive(t, func(_ http.ResponseWriter, request *http.Request, a attempt) {
		var event struct{ Data struct{ Account int } }
		if err := json.Unmarshal([]byte(a.body), &event); err != nil || !strings.HasPrefix(request.URL.Path, fmt.Sprintf("/%d/", event.Data.Account)) {
			t.Errorf("an event of %d arrived at %s", event.Data.Account, request.URL.Path)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.came[a.id] = request.URL.Path
	}).url, "/webhooks")
	return c
}

// write writes the file of a customer as an editor does, or the API.
func (c *customers) write(i int, version, more string) {
	c.t.Helper()
	name := filepath.Join(c.dir, "endpoints.d", fmt.Sprintf("%05d.toml", i))
	text := endpoint(fmt.Sprintf("c%05d", i), fmt.Sprintf("%s/%d/%s", c.url, i, version), fmt.Sprintf("match = { \"data.account\" = %d }", i), more)
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		c.t.Fatal(err)
	}
}

// expect posts an event of a customer, which must arrive at this version of its endpoint.
func (c *customers) expect(r *relay, i int, version string) {
	c.t.Helper()
	id := fmt.Sprintf("evt_%d_%d", i, time.Now().UnixNano())
	r.post(fmt.Sprintf(`{"id":%q,"type":"lead.created","data":{"account":%d}}`, id, i))
	want := fmt.Sprintf("/%d/%s", i, version)
	var at string
	eventually(c.t, "an event of "+want, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		at = c.came[id]
		return at != ""
	})
	if at != want {
		c.t.Errorf("an event arrived at %s, want %s", at, want)
	}
}

type reloaded struct {
	Applied bool
	Changes []struct{ Section, Name, File, Change, Means string }
	Broken  []struct {
		File, Serves string
		Faults       []struct {
			File, Key, Message string
			Line               int
		}
	}
}

func (r *relay) tryReload(query string, want int) (done reloaded) {
	r.t.Helper()
	began := time.Now()
	a := r.admin.ask(r.t, "POST", "/reload"+query, "")
	r.t.Logf("POST /reload%s: %s", query, time.Since(began).Round(time.Millisecond))
	if a.status != want {
		r.t.Fatalf("the reload is answered %d %.2000s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &done); err != nil {
		r.t.Fatal(err)
	}
	return done
}

// TestOneCustomersCommaStopsNobody: of thousands of files a thousand change at once while events flow, and three of these are broken.
func TestOneCustomersCommaStopsNobody(t *testing.T) {
	many, changed := 10_000, 1000
	if testing.Short() {
		many, changed = 1000, 100
	}
	c := newCustomers(t)
	for i := range many {
		c.write(i, "v1", "")
	}
	r := startIn(t, c.dir, "include = [\"endpoints.d/*.toml\"]\n"+preamble)
	if n := len(r.stats().Endpoints); n != many {
		t.Fatalf("%d endpoints are served", n)
	}
	ctx, stop := context.WithCancel(context.Background())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	serving := r
	load.Go(func() {
		pace := time.NewTicker(3 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			a := serving.offer(fmt.Sprintf(`{"id":"evt_load_%d","type":"lead.created","data":{"account":%d}}`, n, n*7%many))
			if a.status != 200 && ctx.Err() == nil {
				t.Errorf("a post is answered %d %s %v", a.status, a.body, a.err)
				return
			}
		}
	})
	if done := r.tryReload("", 200); len(done.Changes)+len(done.Broken) > 0 {
		t.Errorf("a reload of what is served says %+v", done)
	}
	r.turn("POST", "/endpoints/c00020/pause")
	r.post(`{"id":"evt_held","type":"lead.created","data":{"account":20}}`)
	for i := range changed {
		switch i {
		case 10:
			c.write(i, "v2", ",")
		case 20:
			c.write(i, "v2", "timeout = 5")
		case 30:
			c.write(i, "v2", "name = \"twice\"")
		default:
			c.write(i, "v2", "")
		}
	}
	r.tryReload("?strict=1", 422)
	c.expect(r, 11, "v1")
	done := r.tryReload("", 200)
	if len(done.Changes) != changed-3 || len(done.Broken) != 3 || !done.Applied {
		t.Fatalf("%d changes, broken %+v", len(done.Changes), done.Broken)
	}
	if one := done.Changes[0]; one.File != "endpoints.d/00000.toml" || one.Change != "changed" || one.Name != "c00000" {
		t.Errorf("a change is %+v", one)
	}
	b := done.Broken[1]
	if f := b.Faults[0]; b.File != "endpoints.d/00020.toml" || f.File != b.File || f.Line != 6 || f.Key != "endpoint.c00020.timeout" ||
		!strings.HasPrefix(b.Serves, "its last good version: endpoint c00020: ") || !strings.Contains(b.Serves, "pending held until it is resumed") {
		t.Errorf("the second broken file is told as %+v", b)
	}
	health := strings.Join(r.stats().Health.Reasons, "\n")
	for _, line := range []string{"endpoints.d/00010.toml:6: ", "endpoints.d/00020.toml:6: endpoint.c00020.timeout: ", "endpoints.d/00030.toml:6: "} {
		if !strings.Contains(health, line) || !r.stderr.has("reload: "+line) {
			t.Errorf("health or the log does not tell %s:\n%s", line, health)
		}
	}
	if status := r.stats().Health.Status; status != "degraded" {
		t.Errorf("health is %s", status)
	}
	r.turn("POST", "/endpoints/c00020/resume")
	for i, version := range map[int]string{10: "v1", 20: "v1", 30: "v1", 11: "v2", changed - 1: "v2", changed: "v1"} {
		c.expect(r, i, version)
	}
	if code, _, stderr := end(t, command(c.dir, "check", "-config", "config.toml")); code != 2 || strings.Count(stderr, "\n") != 3 {
		t.Errorf("check ends with %d and says %s", code, stderr)
	}
	c.write(20, "v3", "")
	if done := r.tryReload("", 200); len(done.Changes) != 1 || len(done.Broken) != 2 {
		t.Errorf("after one was mended: %+v", done)
	}
	c.expect(r, 20, "v3")
	c.write(40, "v4", "]")
	stop()
	load.Wait()
	r.kill()

	r = r.again()
	if n := len(r.stats().Endpoints); n != many {
		t.Errorf("after a kill and a start %d endpoints are served", n)
	}
	r.awaitLog("endpoints.d/00040.toml:6: ", "its last good version is served")
	for i, version := range map[int]string{10: "v1", 20: "v3", 30: "v1", 40: "v2", 11: "v2", changed: "v1"} {
		c.expect(r, i, version)
	}
	for _, i := range []int{10, 30, 40} {
		c.write(i, "v5", "")
	}
	if err := os.Remove(filepath.Join(c.dir, "endpoints.d", "00050.toml")); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGHUP)
	r.awaitLog(`"configuration reloaded"`)
	for _, i := range []int{10, 30, 40} {
		c.expect(r, i, "v5")
	}
	if ep := r.endpoint("c00050"); ep.Name != "" && ep.State != "orphaned" {
		t.Errorf("an endpoint whose file is gone is %+v", ep)
	}
	if h := strings.Join(r.stats().Health.Reasons, "\n"); strings.Contains(h, "included") {
		t.Errorf("after all was mended health says %s", h)
	}
	r.stop()
}
