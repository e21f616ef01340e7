package endtoend

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// poster posts events over one connection, as long as nobody drops it.
type poster struct {
	client *http.Client
	dials  atomic.Int64
	posted []string
}

func newPoster(t *testing.T, address string) *poster {
	p := &poster{}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			p.dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		MaxConnsPerHost: 1,
	}
	p.client = &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(transport.CloseIdleConnections)
	return p
}

// post is answered 200, or something is said of it.
func (p *poster) post(id string) error {
	response, err := p.client.Post("http://localhost/events", "application/json", strings.NewReader(event(id)))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 {
		return fmt.Errorf("answered %d %s %w", response.StatusCode, text, err)
	}
	p.posted = append(p.posted, id)
	return nil
}

// TestAStormOfReloadsLosesNothing reloads a hundred times within ten seconds under load, every third time a file that is
// broken, by SIGHUP and by POST at once.
func TestAStormOfReloadsLosesNothing(t *testing.T) {
	t.Parallel()
	const reloads, posters, pace = 100, 4, 60 * time.Millisecond
	slow := func(_ http.ResponseWriter, request *http.Request, _ attempt) {
		select { // so that at each reload some attempts are under way
		case <-time.After(20 * time.Millisecond):
		case <-request.Context().Done():
		}
	}
	crm, other := receive(t, slow), receive(t, slow)
	config := func(i int) string {
		return preamble + endpoint("crm", crm.url, fmt.Sprintf("rate = %d", 100000+i)) + endpoint("other", other.url)
	}
	r := start(t, config(0))

	stop := make(chan struct{})
	var load sync.WaitGroup
	var all []*poster
	for worker := range posters {
		p := newPoster(t, r.intake.address)
		all = append(all, p)
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
				}
				if err := p.post(fmt.Sprintf("evt_%d_%d", worker, i)); err != nil {
					t.Errorf("event %d: %v", i, err)
					return
				}
			}
		})
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for i := range reloads {
		<-tick.C
		broken := i%3 == 2
		text := config(i + 1)
		if broken {
			text += "colour = 1\n"
		}
		writeConfig(t, r.dir, text)
		r.signal(syscall.SIGHUP)
		a := r.admin.ask(t, "POST", "/reload", "")
		if code, _, _ := a.failure(); broken != (a.status == 422) || !broken && a.status != 200 || broken && !strings.Contains(a.body, `"invalid_config"`) {
			t.Errorf("reload %d (broken: %v) is answered %d %s %s", i, broken, a.status, code, a.body)
		}
	}
	close(stop)
	load.Wait()

	posted := map[string]bool{}
	for i, p := range all {
		for _, id := range p.posted {
			posted[id] = true
		}
		if n := p.dials.Load(); n != 1 {
			t.Errorf("poster %d needed %d connections, want the one it began with", i, n)
		}
	}
	for name, receiver := range map[string]*receiver{"crm": crm, "other": other} {
		receiver.await(len(posted))
		r.awaitEndpoint(name, "has settled all", func(ep endpointStats) bool { return ep.Pending+ep.Retrying+int64(ep.InFlight) == 0 })
		counts := receiver.counts()
		for id := range posted {
			if counts[id] != 1 {
				t.Errorf("endpoint %q got event %q %d times: an attempt was dropped", name, id, counts[id])
			}
		}
		if len(counts) != len(posted) {
			t.Errorf("endpoint %q got %d events, want %d", name, len(counts), len(posted))
		}
	}
	if n := r.stderr.count(`"message":"configuration reloaded"`); n < reloads*2/3 {
		t.Errorf("the log tells of %d reloads", n)
	}
	t.Logf("%d events, %d reloads by POST", len(posted), reloads)
}
