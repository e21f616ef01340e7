package admin

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// A family is the metrics of one name. Its unit ends the name: seconds, bytes, or what is counted.
type family struct{ name, kind, help string }

// families are all metrics. What is not here can't be written.
var families = []family{
	{"relay_alert_raised_total", counter, "Alerts that the relay raised as events, by type."},
	{"relay_answer_connections_refused_total", counter, "Connections that got no place: address (its address has as many as one may have), full, pace (its address begins too many a second, on which it asks nothing), or proxy (a trusted one began it without the PROXY protocol)."},
	{"relay_build_info", gauge, "Always 1; the label says which version runs."},
	{"relay_config_broken_files", gauge, "Included files that are not followed: their last good versions are, where there are any."},
	{"relay_config_last_reload_successful", gauge, "1 when the configuration file was taken the last time it was read; 0 when it was refused and what was followed before still is."},
	{"relay_config_last_reload_timestamp_seconds", gauge, "When the configuration file was last read to be followed, Unix time."},
	{"relay_delivery_attempt_duration_seconds", histogram, "Time of one attempt."},
	{"relay_delivery_attempts_in_flight", gauge, "Attempts under way."},
	{"relay_delivery_attempts_total", counter, "Attempts by result: delivered, uncharged (this machine seemed to be offline), or the class of the failure."},
	{"relay_delivery_certificate_expiry_timestamp_seconds", gauge, "When a certificate ends, Unix time: the receiver's as last seen, and client_cert."},
	{"relay_delivery_clock_skew_seconds", gauge, "How far the endpoint's clock is ahead of this machine's, by the Date of its latest answer."},
	{"relay_delivery_delivered_total", counter, "Deliveries that went well, ever."},
	{"relay_delivery_duration_seconds", histogram, "Time from accepted to delivered."},
	{"relay_delivery_endpoint_state", gauge, "1 for the state that the endpoint is in."},
	{"relay_delivery_failed_deliveries", gauge, "Failed deliveries that are kept."},
	{"relay_delivery_failed_total", counter, "Deliveries that became failed."},
	{"relay_delivery_lag_seconds", gauge, "Age of the oldest pending delivery; 0 without one."},
	{"relay_delivery_orphaned_deliveries", gauge, "Deliveries left of endpoints that are not configured any more."},
	{"relay_delivery_pending_deliveries", gauge, "Deliveries whose first attempt is ahead."},
	{"relay_delivery_queue_duration_seconds", histogram, "Time from accepted to the first attempt."},
	{"relay_delivery_resent_total", counter, "Attempts that made their POST twice, because a kept-alive connection turned out to be broken."},
	{"relay_delivery_retrying_deliveries", gauge, "Deliveries that failed and will be attempted again."},
	{"relay_health_status", gauge, "1 for how the relay is now: ok, degraded (something needs a look) or failing (events are refused)."},
	{"relay_ingest_certificate_expiry_timestamp_seconds", gauge, "When the intake's certificate ends, Unix time."},
	{"relay_ingest_duplicates_total", counter, "Events whose id was known already: answered 200 and delivered to nobody."},
	{"relay_ingest_events_total", counter, "Events that were stored."},
	{"relay_ingest_max_queued_bytes", gauge, "How many may be kept (max_queued); none without a limit."},
	{"relay_ingest_queued_bytes", gauge, "Bytes of the bodies of a source's events that are kept, delivered or not."},
	{"relay_ingest_requests_total", counter, "Requests to the path of a source, by the status of the answer."},
	{"relay_ingest_requests_unavailable_total", counter, "Requests answered 503: disk (low), overloaded, stopping, reloaded (meanwhile), failed (a write), or source_full (its max_queued)."},
	{"relay_log_dropped_lines_total", counter, "Lines of the log that were lost, since nobody read it or it could not be written."},
	{"relay_queue_commit_duration_seconds", histogram, "Time of one commit, sync included."},
	{"relay_queue_commit_events", histogram, "Events that one commit, one write and one sync, took together."},
	{"relay_queue_damaged_total", counter, "Events or records that could not be read from disk and were set aside."},
	{"relay_queue_disk_free_bytes", gauge, "Free bytes where queue.dir is; none when they can't be told."},
	{"relay_queue_events", gauge, "Events that are kept, delivered or not."},
	{"relay_queue_events_bytes", gauge, "Bytes of the bodies of the events that are kept."},
	{"relay_queue_expired_total", counter, "Deliveries of disabled and orphaned endpoints that became failed for having been held too long."},
	{"relay_queue_journal_bytes", gauge, "Bytes of the journal's files."},
	{"relay_queue_min_free_bytes", gauge, "Free bytes below which events are refused (queue.min_free)."},
	{"relay_queue_store_bytes", gauge, "Bytes of the store's files."},
	{"relay_queue_unserved_bytes", gauge, "Bytes that are kept for disabled and orphaned endpoints alone (queue.unserved_bytes bounds them)."},
	{"relay_queue_writable", gauge, "1 while the queue can write; 0 after a write failed, until the relay is started again."},
	{"go_goroutines", gauge, "Goroutines."},
	{"go_memstats_heap_alloc_bytes", gauge, "Live and dead objects of the Go heap."},
	{"process_cpu_seconds_total", counter, "Processor time that was used."},
	{"process_max_fds", gauge, "File descriptors that may be open."},
	{"process_open_fds", gauge, "File descriptors that are open."},
	{"process_resident_memory_anon_bytes", gauge, "Memory that is in use and that the system can't take back."},
	{"process_resident_memory_bytes", gauge, "Memory that is in use, files that are mapped included."},
	{"process_start_time_seconds", gauge, "When the relay was started, Unix time."},
}

// familyOf finds a metric by its name; nil when there is none.
func familyOf(name string) *family {
	for i := range families {
		if families[i].name == name {
			return &families[i]
		}
	}
	return nil
}
