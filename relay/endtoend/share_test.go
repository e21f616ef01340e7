package endtoend

import (
	"fmt"
	"strings"
	"testing"
)

// sourceStats is what the tests look at of a source in /stats.
type sourceStats struct {
	Name         string
	QueuedEvents int64 `json:"queued_events"`
	QueuedBytes  int64 `json:"queued_bytes"`
	MaxQueued    int64 `json:"max_queued_bytes"`
	Full         bool
	Refused      int64 `json:"requests_source_full"`
}

func (r *relay) source(name string) sourceStats {
	r.t.Helper()
	var s struct{ Sources []sourceStats }
	r.get("/stats", &s)
	for _, one := range s.Sources {
		if one.Name == name {
			return one
		}
	}
	r.t.Fatalf("/stats has no source %q", name)
	return sourceStats{}
}

func TestASourceThatFloodsIsRefusedAndOthersGoOn(t *testing.T) {
	t.Parallel()
	const flood, others = "[[source]]\nname = \"flood\"\npath = \"/flood\"\n", "[[source]]\nname = \"others\"\npath = \"/events\"\n"
	config := preamble + "dedup_window = \"1h\"\nretention = \"1h\"\n"
	r := start(t, config+flood+"max_queued = \"1MiB\"\n"+others)
	n := 0
	post := func() answer {
		n++
		body := fmt.Sprintf(`{"id":"flood_%d","type":"lead.created","data":{"x":%q}}`, n, strings.Repeat("x", 100<<10))
		return r.intake.ask(t, "POST", "/flood", body, "Content-Type", "application/json")
	}
	accepted := 0
	var last answer
	for ; accepted < 20; accepted++ {
		if last = post(); last.status != 200 {
			break
		}
	}
	code, text, _ := last.failure()
	if accepted != 10 || last.status != 503 || code != "source_full" || last.header.Get("Retry-After") != "60" || !strings.Contains(text, "max_queued") {
		t.Fatalf("after %d events: %d %s, Retry-After %q", accepted, last.status, last.body, last.header.Get("Retry-After"))
	}
	line := r.awaitLog("it is full", `"source":"flood"`)
	for range 4 {
		if a := post(); a.status != 503 {
			t.Errorf("answered %d %s", a.status, a.body)
		}
		r.post(event(fmt.Sprint("evt_", n)))
	}
	repeat := r.intake.ask(t, "POST", "/flood", fmt.Sprintf(`{"id":"flood_1","type":"lead.created","data":{"x":%q}}`, strings.Repeat("x", 100<<10)), "Content-Type", "application/json")
	if repeat.status != 200 || !strings.Contains(repeat.body, "duplicate") {
		t.Errorf("a repeat: %d %s", repeat.status, repeat.body)
	}
	// 1e20 is kept as 100000000000000000000: no room that comes back is enough.
	grown := fmt.Sprintf(`{"id":"grown","type":"lead.created","data":{"x":[%s1]}}`, strings.Repeat("1e20,", 80_000))
	if a := r.intake.ask(t, "POST", "/flood", grown, "Content-Type", "application/json"); a.status != 413 || !strings.Contains(a.body, "max_queued") {
		t.Errorf("an event that is above the share by itself: %d %s", a.status, a.body)
	}
	if a := r.intake.ask(t, "GET", "/health", ""); a.status != 200 || a.body != "{\"status\":\"ok\"}\n" {
		t.Errorf("the intake's health: %d %s", a.status, a.body)
	}
	s := r.stats()
	if reasons := strings.Join(s.Health.Reasons, " "); s.Health.Status != "degraded" || !strings.Contains(reasons, `source "flood" is full`) || strings.Contains(reasons, "others") {
		t.Errorf("health is %+v", s.Health)
	}
	one := r.source("flood")
	if one.QueuedEvents != 10 || one.QueuedBytes < 10*100<<10 || one.QueuedBytes > 1<<20 || one.MaxQueued != 1<<20 || !one.Full || one.Refused != 5 {
		t.Errorf("the source is %+v", one)
	}
	if one := r.source("others"); one.QueuedEvents != 4 || one.MaxQueued != 0 || one.Full || one.Refused != 0 {
		t.Errorf("the other is %+v", one)
	}
	metrics := r.admin.ask(t, "GET", "/metrics", "").body
	for _, want := range []string{
		`relay_ingest_requests_unavailable_total{source="flood",reason="source_full"} 5`, `relay_ingest_requests_unavailable_total{source="others",reason="source_full"} 0`,
		fmt.Sprintf(`relay_ingest_queued_bytes{source="flood"} %v`, float64(one.QueuedBytes)), fmt.Sprintf(`relay_ingest_max_queued_bytes{source="flood"} %v`, float64(1<<20)),
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if r.stderr.count(`"message":"events are refused"`) != 0 || !strings.Contains(line, "retention deletes") {
		t.Errorf("the log tells of more than one source, or less: %s", line)
	}

	r.reload(config + flood + "max_queued = \"2MiB\"\n" + others)
	r.awaitLog("events of this source are accepted again", `"source":"flood"`, `"requests":5`)
	if a := post(); a.status != 200 {
		t.Errorf("with more room: %d %s", a.status, a.body)
	}
	if r.stderr.count("it is full") != 1 {
		t.Error("the beginning is told more than once")
	}

	// A start knows what is kept, and the room comes back with what is deleted.
	r.stop()
	writeConfig(t, r.dir, config+flood+"max_queued = \"1MiB\"\n"+others)
	r = r.again()
	if a := post(); a.status != 503 {
		t.Errorf("after a start: %d %s", a.status, a.body)
	}
	r.stop()
	writeConfig(t, r.dir, preamble+"dedup_window = \"1m\"\nretention = \"1s\"\n"+flood+"max_queued = \"1MiB\"\n"+others)
	r = r.again()
	eventually(t, "there is room again", func() bool { return post().status == 200 })
}
