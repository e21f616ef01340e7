package admin

import (
	"maps"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
)

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"

	perNano = 1e-9
)

// metrics answers with all metrics. Label values are names of the configuration and words of closed sets, nothing that a
// client could make up. What is left of endpoints that are not configured any more is in the sums alone.
func (a *Admin) metrics(ctx *fasthttp.RequestCtx) {
	e := asked(ctx)
	statuses, q := a.Dispatcher.Statuses(), a.Queue.Stats()
	a.healthMetrics(e, a.judge(statuses, q).Status)
	a.ingestMetrics(e)
	a.connectionMetrics(e)
	diskMetrics(e, q.FreeDisk, q.MinFree)
	queueMetrics(e, q)
	a.deliveryMetrics(e, statuses)
	e.family("relay_alert_raised_total", counter, "Alerts that the relay raised as events, by type.")
	raised := a.Raised()
	for _, kind := range config.Alerts() {
		e.sample("relay_alert_raised_total", float64(raised[kind]), "type", kind)
	}
	a.processMetrics(e)
	e.answer(ctx)
}

func (a *Admin) healthMetrics(e *exposition, now string) {
	e.family("relay_build_info", gauge, "Always 1; the label says which version runs.")
	e.sample("relay_build_info", 1, "version", a.Version)
	e.family("relay_health_status", gauge, "1 for how the relay is now: ok, degraded (something needs a look) or failing (events are refused).")
	for _, status := range []string{"ok", "degraded", "failing"} {
		e.sample("relay_health_status", truth(status == now), "status", status)
	}
}

func diskMetrics(e *exposition, free, needed int64) {
	e.single("relay_queue_disk_free_bytes", gauge, "Free bytes where queue.dir is; -1 when they can't be told.", float64(free))
	e.single("relay_queue_disk_needed_bytes", gauge, "Free bytes below which events are refused (queue.min_free).", float64(needed))
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (a *Admin) ingestMetrics(e *exposition) {
	tallies := a.Intake.Tallies()
	e.family("relay_ingest_events_total", counter, "Events that were stored.")
	for _, t := range tallies {
		e.sample("relay_ingest_events_total", float64(t.Events), "source", t.Source)
	}
	e.family("relay_ingest_duplicates_total", counter, "Events whose id was known already: answered 200 and delivered to nobody.")
	for _, t := range tallies {
		e.sample("relay_ingest_duplicates_total", float64(t.Duplicates), "source", t.Source)
	}
	if a.Certificate != nil {
		ends, _ := a.Certificate()
		e.single("relay_ingest_certificate_expiry_timestamp_seconds", gauge, "When the intake's certificate ends, Unix time.", float64(ends.Unix()))
	}
	e.family("relay_ingest_unavailable_total", counter, "Requests answered 503: disk (low), overloaded, stopping, reloaded (meanwhile), failed (a write), or source_full (its max_queued).")
	for _, t := range tallies {
		for _, reason := range slices.Sorted(maps.Keys(t.Refused)) {
			e.sample("relay_ingest_unavailable_total", float64(t.Refused[reason]), "source", t.Source, "reason", reason)
		}
	}
	e.family("relay_ingest_queued_bytes", gauge, "Bytes of the bodies of a source's events that are kept, delivered or not.")
	for _, t := range tallies {
		e.sample("relay_ingest_queued_bytes", float64(t.KeptBytes), "source", t.Source)
	}
	e.family("relay_ingest_queued_limit_bytes", gauge, "How many may be kept (max_queued); 0 for no limit.")
	for _, t := range tallies {
		e.sample("relay_ingest_queued_limit_bytes", float64(t.MaxQueued), "source", t.Source)
	}
	e.family("relay_ingest_requests_total", counter, "Requests to the path of a source, by the status of the answer.")
	for _, t := range tallies {
		for _, status := range slices.Sorted(maps.Keys(t.Requests)) {
			e.sample("relay_ingest_requests_total", float64(t.Requests[status]), "source", t.Source, "status", status)
		}
	}
}

func (a *Admin) connectionMetrics(e *exposition) {
	const name = "relay_answer_connections_refused_total"
	e.family(name, counter, "Connections that got no place: address (its address has as many as one may have), full, pace (its address begins too many a second, on which it asks nothing), or proxy (a trusted one began it without the PROXY protocol).")
	for _, listener := range slices.Sorted(maps.Keys(a.Refused)) {
		counts := a.Refused[listener].Counts()
		for _, reason := range slices.Sorted(maps.Keys(counts)) {
			e.sample(name, float64(counts[reason]), "listener", listener, "reason", reason)
		}
	}
}

func queueMetrics(e *exposition, q queue.Stats) {
	e.single("relay_queue_events", gauge, "Events that are kept, delivered or not.", float64(q.Events))
	e.single("relay_queue_events_bytes", gauge, "Bytes of the bodies of the events that are kept.", float64(q.Bytes))
	e.single("relay_queue_store_bytes", gauge, "Bytes of the store's files.", float64(q.StoreBytes))
	e.single("relay_queue_journal_bytes", gauge, "Bytes of the journal's files.", float64(q.JournalBytes))
	e.single("relay_queue_unserved_bytes", gauge, "Bytes that are kept for disabled and orphaned endpoints alone (queue.unserved_bytes bounds them).", float64(q.Unserved))
	e.single("relay_queue_expired_total", counter, "Deliveries of disabled and orphaned endpoints that became failed for having been held too long.", float64(q.Expired))
	e.single("relay_queue_damaged_total", counter, "Events or records that could not be read from disk and were set aside.", float64(q.Damaged))
	e.single("relay_queue_writable", gauge, "1 while the queue can write; 0 after a write failed, until the relay is started again.", truth(q.Err == nil))
	e.family("relay_queue_commit_events", histogram, "Events that one commit, one write and one sync, took together.")
	e.histogram("relay_queue_commit_events", q.CommitEvents, 1)
	e.family("relay_queue_commit_seconds", histogram, "Time of one commit, sync included.")
	e.histogram("relay_queue_commit_seconds", q.CommitTimes, perNano)
}

// perEndpoint are the metrics with one sample for each endpoint.
var perEndpoint = []struct {
	name, kind, help string
	value            func(*delivery.Status) float64
}{
	{"relay_delivery_pending", gauge, "Deliveries whose first attempt is ahead.", func(s *delivery.Status) float64 { return float64(s.Pending) }},
	{"relay_delivery_retrying", gauge, "Deliveries that failed and will be attempted again.", func(s *delivery.Status) float64 { return float64(s.Retrying) }},
	{"relay_delivery_failed", gauge, "Failed deliveries that are kept.", func(s *delivery.Status) float64 { return float64(s.Failed) }},
	{"relay_delivery_delivered_total", counter, "Deliveries that went well, ever.", func(s *delivery.Status) float64 { return float64(s.Delivered) }},
	{"relay_delivery_attempts_in_flight", gauge, "Attempts under way.", func(s *delivery.Status) float64 { return float64(s.InFlight) }},
	{"relay_delivery_lag_seconds", gauge, "Age of the oldest pending delivery; 0 when there is none.", func(s *delivery.Status) float64 { return s.LagSeconds }},
}

var states = []string{delivery.StateUp, delivery.StateDown, delivery.StateLimited, delivery.StateOffline, delivery.StatePaused, delivery.StateDisabled}

func (a *Admin) deliveryMetrics(e *exposition, statuses []delivery.Status) {
	orphans := map[string]int64{"pending": 0, "retrying": 0, "failed": 0}
	for _, s := range statuses {
		if s.State == delivery.StateOrphaned {
			orphans["pending"] += s.Pending
			orphans["retrying"] += s.Retrying
			orphans["failed"] += s.Failed
		}
	}
	e.family("relay_delivery_orphaned", gauge, "Deliveries left of endpoints that are not configured any more.")
	for _, state := range []string{"pending", "retrying", "failed"} {
		e.sample("relay_delivery_orphaned", float64(orphans[state]), "state", state)
	}
	configured := slices.DeleteFunc(slices.Clone(statuses), func(s delivery.Status) bool { return s.State == delivery.StateOrphaned })
	e.family("relay_delivery_endpoint_state", gauge, "1 for the state that the endpoint is in.")
	for i := range configured {
		for _, state := range states {
			e.sample("relay_delivery_endpoint_state", truth(configured[i].State == state), "endpoint", configured[i].Name, "state", state)
		}
	}
	for _, m := range perEndpoint {
		e.family(m.name, m.kind, m.help)
		for i := range configured {
			e.sample(m.name, m.value(&configured[i]), "endpoint", configured[i].Name)
		}
	}
	e.family("relay_delivery_clock_skew_seconds", gauge, "How far the endpoint's clock is ahead of this machine's, by the Date of its latest answer.")
	for i := range configured {
		if skew := configured[i].ClockSkew; skew != nil {
			e.sample("relay_delivery_clock_skew_seconds", *skew, "endpoint", configured[i].Name)
		}
	}
	e.family("relay_delivery_certificate_expiry_timestamp_seconds", gauge, "When a certificate ends, Unix time: the receiver's as last seen, and client_cert.")
	for i := range configured {
		for _, c := range []struct {
			which string
			end   *time.Time
		}{{"receiver", configured[i].CertificateExpires}, {"client", configured[i].ClientCertificateExpires}} {
			if c.end != nil {
				e.sample("relay_delivery_certificate_expiry_timestamp_seconds", float64(c.end.Unix()), "endpoint", configured[i].Name, "certificate", c.which)
			}
		}
	}
	a.tallyMetrics(e, configured)
}

// tallyMetrics are those that are counted attempt by attempt.
func (a *Admin) tallyMetrics(e *exposition, configured []delivery.Status) {
	var names []string
	var tallies []delivery.Tally
	for i := range configured {
		if t, found := a.Dispatcher.Tally(configured[i].Name); found { // a reload may have taken it away just now
			names, tallies = append(names, configured[i].Name), append(tallies, t)
		}
	}
	e.family("relay_delivery_attempts_total", counter, "Attempts by result: delivered, uncharged (this machine seemed to be offline), or the class of the failure.")
	for i, t := range tallies {
		for _, result := range delivery.Results() {
			e.sample("relay_delivery_attempts_total", float64(t.Results[result]), "endpoint", names[i], "result", result)
		}
	}
	e.family("relay_delivery_resent_total", counter, "Attempts that made their POST twice, because a kept-alive connection turned out to be broken.")
	for i, t := range tallies {
		e.sample("relay_delivery_resent_total", float64(t.Resent), "endpoint", names[i])
	}
	e.family("relay_delivery_failed_total", counter, "Deliveries that became failed.")
	for i, t := range tallies {
		e.sample("relay_delivery_failed_total", float64(t.Failed), "endpoint", names[i])
	}
	for _, m := range []struct {
		name, help string
		buckets    func(*delivery.Tally) queue.Buckets
	}{
		{"relay_delivery_attempt_seconds", "Time of one attempt.", func(t *delivery.Tally) queue.Buckets { return t.Attempt }},
		{"relay_delivery_latency_seconds", "Time from accepted to delivered.", func(t *delivery.Tally) queue.Buckets { return t.Latency }},
		{"relay_delivery_queue_age_seconds", "Time from accepted to the first attempt.", func(t *delivery.Tally) queue.Buckets { return t.Age }},
	} {
		e.family(m.name, histogram, m.help)
		for i := range tallies {
			e.histogram(m.name, m.buckets(&tallies[i]), perNano, "endpoint", names[i])
		}
	}
}

func (a *Admin) processMetrics(e *exposition) {
	heap := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(heap) // unlike ReadMemStats it stops nothing
	p := readProcess()
	if a.Source != nil {
		s := a.Source()
		e.single("relay_config_last_reload_successful", gauge, "1 when the configuration file was taken the last time it was read; 0 when it was refused and what was followed before still is.", truth(s.Failed == ""))
		e.single("relay_config_last_reload_timestamp_seconds", gauge, "When the configuration file was last read to be followed, Unix time.", float64(s.Loaded.Unix()))
	}
	if a.Lines != nil {
		e.single("relay_log_dropped_lines_total", counter, "Lines of the log that were lost, since nobody read it or it could not be written.", float64(a.Lines.Dropped()))
	}
	e.single("relay_process_start_time_seconds", gauge, "When the relay was started, Unix time.", float64(a.Started.UnixMilli())/1000)
	e.single("relay_process_uptime_seconds", gauge, "For how long it has been running.", time.Since(a.Started).Seconds())
	e.single("relay_process_cpu_seconds_total", counter, "Processor time that was used.", p.cpu.Seconds())
	e.single("relay_process_resident_memory_bytes", gauge, "Memory that is in use, files that are mapped included.", float64(p.resident))
	e.single("relay_process_anonymous_memory_bytes", gauge, "Memory that is in use and that the system can't take back.", float64(p.anonymous))
	e.single("relay_process_heap_bytes", gauge, "Live and dead objects of the Go heap.", float64(heap[0].Value.Uint64()))
	e.single("relay_process_goroutines", gauge, "Goroutines.", float64(runtime.NumGoroutine()))
	e.single("relay_process_open_files", gauge, "File descriptors that are open.", float64(p.openFiles))
	e.single("relay_process_open_files_limit", gauge, "File descriptors that may be open.", float64(p.filesLimit))
}
