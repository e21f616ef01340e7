package admin

import (
	"maps"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/rfc3339"
)

const perNano = 1e-9

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
	e.family("relay_alert_raised_total")
	raised := a.Raised()
	for _, kind := range config.Alerts() {
		e.sample("relay_alert_raised_total", float64(raised[kind]), "type", kind)
	}
	a.processMetrics(e)
	e.answer(ctx)
}

func (a *Admin) healthMetrics(e *exposition, now string) {
	e.family("relay_build_info")
	e.sample("relay_build_info", 1, "version", a.Version)
	e.family("relay_health_status")
	for _, status := range []string{"ok", "degraded", "failing"} {
		e.sample("relay_health_status", truth(status == now), "status", status)
	}
}

func diskMetrics(e *exposition, free, needed int64) {
	if free >= 0 {
		e.single("relay_queue_disk_free_bytes", float64(free))
	}
	e.single("relay_queue_min_free_bytes", float64(needed))
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (a *Admin) ingestMetrics(e *exposition) {
	tallies := a.Intake.Tallies()
	e.family("relay_ingest_events_total")
	for _, t := range tallies {
		e.sample("relay_ingest_events_total", float64(t.Events), "source", t.Source)
	}
	e.family("relay_ingest_duplicates_total")
	for _, t := range tallies {
		e.sample("relay_ingest_duplicates_total", float64(t.Duplicates), "source", t.Source)
	}
	if a.Certificate != nil {
		ends, _ := a.Certificate()
		e.single("relay_ingest_certificate_expiry_timestamp_seconds", float64(ends.Unix()))
	}
	e.family("relay_ingest_requests_unavailable_total")
	for _, t := range tallies {
		for _, reason := range slices.Sorted(maps.Keys(t.Refused)) {
			e.sample("relay_ingest_requests_unavailable_total", float64(t.Refused[reason]), "source", t.Source, "reason", reason)
		}
	}
	e.family("relay_ingest_queued_bytes")
	for _, t := range tallies {
		e.sample("relay_ingest_queued_bytes", float64(t.QueuedBytes), "source", t.Source)
	}
	e.family("relay_ingest_max_queued_bytes")
	for _, t := range tallies {
		if t.MaxQueued > 0 {
			e.sample("relay_ingest_max_queued_bytes", float64(t.MaxQueued), "source", t.Source)
		}
	}
	e.family("relay_ingest_requests_total")
	for _, t := range tallies {
		for _, status := range slices.Sorted(maps.Keys(t.Requests)) {
			e.sample("relay_ingest_requests_total", float64(t.Requests[status]), "source", t.Source, "status", status)
		}
	}
}

func (a *Admin) connectionMetrics(e *exposition) {
	const name = "relay_answer_connections_refused_total"
	e.family(name)
	for _, listener := range slices.Sorted(maps.Keys(a.Refused)) {
		counts := a.Refused[listener].Counts()
		for _, reason := range slices.Sorted(maps.Keys(counts)) {
			e.sample(name, float64(counts[reason]), "listener", listener, "reason", reason)
		}
	}
}

func queueMetrics(e *exposition, q queue.Stats) {
	e.single("relay_queue_events", float64(q.Events))
	e.single("relay_queue_events_bytes", float64(q.Bytes))
	e.single("relay_queue_store_bytes", float64(q.StoreBytes))
	e.single("relay_queue_journal_bytes", float64(q.JournalBytes))
	e.single("relay_queue_unserved_bytes", float64(q.Unserved))
	e.single("relay_queue_expired_total", float64(q.Expired))
	e.single("relay_queue_damaged_total", float64(q.Damaged))
	e.single("relay_queue_writable", truth(q.Err == nil))
	e.family("relay_queue_commit_events")
	e.histogram("relay_queue_commit_events", q.CommitEvents, 1)
	e.family("relay_queue_commit_duration_seconds")
	e.histogram("relay_queue_commit_duration_seconds", q.CommitTimes, perNano)
}

// perEndpoint are the metrics with one sample for each endpoint.
var perEndpoint = []struct {
	name  string
	value func(*delivery.Status) float64
}{
	{"relay_delivery_pending_deliveries", func(s *delivery.Status) float64 { return float64(s.Pending) }},
	{"relay_delivery_retrying_deliveries", func(s *delivery.Status) float64 { return float64(s.Retrying) }},
	{"relay_delivery_failed_deliveries", func(s *delivery.Status) float64 { return float64(s.Failed) }},
	{"relay_delivery_delivered_total", func(s *delivery.Status) float64 { return float64(s.Delivered) }},
	{"relay_delivery_attempts_in_flight", func(s *delivery.Status) float64 { return float64(s.InFlight) }},
	{"relay_delivery_lag_seconds", func(s *delivery.Status) float64 { return s.LagSeconds }},
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
	e.family("relay_delivery_orphaned_deliveries")
	for _, state := range []string{"pending", "retrying", "failed"} {
		e.sample("relay_delivery_orphaned_deliveries", float64(orphans[state]), "state", state)
	}
	configured := slices.DeleteFunc(slices.Clone(statuses), func(s delivery.Status) bool { return s.State == delivery.StateOrphaned })
	e.family("relay_delivery_endpoint_state")
	for i := range configured {
		for _, state := range states {
			e.sample("relay_delivery_endpoint_state", truth(configured[i].State == state), "endpoint", configured[i].Name, "state", state)
		}
	}
	for _, m := range perEndpoint {
		e.family(m.name)
		for i := range configured {
			e.sample(m.name, m.value(&configured[i]), "endpoint", configured[i].Name)
		}
	}
	e.family("relay_delivery_clock_skew_seconds")
	for i := range configured {
		if skew := configured[i].ClockSkew; skew != nil {
			e.sample("relay_delivery_clock_skew_seconds", *skew, "endpoint", configured[i].Name)
		}
	}
	e.family("relay_delivery_certificate_expiry_timestamp_seconds")
	for i := range configured {
		for _, c := range []struct {
			which string
			end   rfc3339.Time
		}{{"receiver", configured[i].CertificateExpires}, {"client", configured[i].ClientCertificateExpires}} {
			if !c.end.IsZero() {
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
	e.family("relay_delivery_attempts_total")
	for i, t := range tallies {
		for _, result := range delivery.Results() {
			e.sample("relay_delivery_attempts_total", float64(t.Results[result]), "endpoint", names[i], "result", result)
		}
	}
	e.family("relay_delivery_resent_total")
	for i, t := range tallies {
		e.sample("relay_delivery_resent_total", float64(t.Resent), "endpoint", names[i])
	}
	e.family("relay_delivery_failed_total")
	for i, t := range tallies {
		e.sample("relay_delivery_failed_total", float64(t.Failed), "endpoint", names[i])
	}
	for _, m := range []struct {
		name    string
		buckets func(*delivery.Tally) queue.Buckets
	}{
		{"relay_delivery_attempt_duration_seconds", func(t *delivery.Tally) queue.Buckets { return t.Attempt }},
		{"relay_delivery_duration_seconds", func(t *delivery.Tally) queue.Buckets { return t.Latency }},
		{"relay_delivery_queue_duration_seconds", func(t *delivery.Tally) queue.Buckets { return t.Age }},
	} {
		e.family(m.name)
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
		e.single("relay_config_broken_files", float64(len(s.Broken)))
		e.single("relay_config_last_reload_successful", truth(s.Failed == ""))
		e.single("relay_config_last_reload_timestamp_seconds", float64(s.Loaded.Unix()))
	}
	if a.Lines != nil {
		e.single("relay_log_dropped_lines_total", float64(a.Lines.Dropped()))
	}
	e.single("process_start_time_seconds", float64(a.Started.UnixMilli())/1000)
	e.single("go_goroutines", float64(runtime.NumGoroutine()))
	e.single("go_memstats_heap_alloc_bytes", float64(heap[0].Value.Uint64()))
	for _, m := range []struct {
		name  string
		value float64
	}{
		{"process_cpu_seconds_total", p.cpu.Seconds()},
		{"process_resident_memory_bytes", float64(p.resident)},
		{"process_resident_memory_anon_bytes", float64(p.anonymous)},
		{"process_open_fds", float64(p.openFiles)},
		{"process_max_fds", float64(p.filesLimit)},
	} {
		if m.value > 0 { // 0: it can't be told
			e.single(m.name, m.value)
		}
	}
}
