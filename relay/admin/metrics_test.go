package admin

import (
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
)

// scrape reads /metrics as Prometheus does, strictly: each sample belongs to the family that was opened last, none is
// there twice, and buckets grow up to their count. The samples are by name and labels.
func (o *harness) scrape() (samples map[string]float64, families map[string]bool) {
	o.t.Helper()
	answer, err := http.Get(o.url + "/metrics")
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		o.t.Fatalf("answered %d %s, %v", answer.StatusCode, answer.Header.Get("Content-Type"), err)
	}
	samples, families = map[string]float64{}, map[string]bool{}
	family, kind, help := "", "", ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			help, _, _ = strings.Cut(rest, " ")
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			family, kind, _ = strings.Cut(rest, " ")
			if families[family] || help != family {
				o.t.Errorf("family %q is there twice, or without its help", family)
			}
			families[family] = true
			continue
		}
		m := regexp.MustCompile(`^([a-z_]+)(\{[a-z]+="[^"\\]*"(?:,[a-z]+="[^"\\]*")*\})? (\S+)$`).FindStringSubmatch(line)
		if m == nil {
			o.t.Fatalf("no sample: %q", line)
		}
		isOwn := m[1] == family && kind != histogram
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			isOwn = isOwn || kind == histogram && m[1] == family+suffix
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if _, twice := samples[m[1]+m[2]]; !isOwn || err != nil || twice || kind == counter != strings.HasSuffix(family, "_total") {
			o.t.Errorf("%q under family %q, a %s", line, family, kind)
		}
		samples[m[1]+m[2]] = value
	}
	for name, value := range samples {
		if head, ok := strings.CutSuffix(name, `le="+Inf"}`); ok {
			count := strings.TrimSuffix(strings.Replace(head, "_bucket{", "_count{", 1), ",") + "}"
			count = strings.TrimSuffix(count, "{}")
			if samples[count] != value {
				o.t.Errorf("%s is %v and %s %v", name, value, count, samples[count])
			}
		}
	}
	return samples, families
}

func TestMetricsCountWhatHappened(t *testing.T) {
	o := openHarness(t, "")
	before, _ := o.scrape()
	o.accept("evt_1", "evt_2")
	o.until("settled", func(s delivery.Status) bool { return s.Delivered == 2 && s.Pending == 0 })
	o.status.Store(500)
	o.accept("evt_3")
	o.until("through", func(s delivery.Status) bool { return s.Failed == 1 && s.InFlight == 0 })
	after, _ := o.scrape()
	for name, want := range map[string]float64{
		`relay_delivery_attempts_total{endpoint="crm",result="delivered"}`: 2,
		`relay_delivery_attempts_total{endpoint="crm",result="status"}`:    1,
		`relay_delivery_attempts_total{endpoint="crm",result="tls"}`:       0,
		`relay_delivery_delivered_total{endpoint="crm"}`:                   2,
		`relay_delivery_failed_total{endpoint="crm"}`:                      1,
		`relay_delivery_resent_total{endpoint="crm"}`:                      0,
		`relay_delivery_failed_deliveries{endpoint="crm"}`:                 1,
		`relay_delivery_attempt_duration_seconds_count{endpoint="crm"}`:    3,
		`relay_delivery_duration_seconds_count{endpoint="crm"}`:            2,
		`relay_delivery_queue_duration_seconds_count{endpoint="crm"}`:      3,
		`relay_delivery_endpoint_state{endpoint="crm",state="up"}`:         1,
		`relay_delivery_endpoint_state{endpoint="crm",state="down"}`:       0,
		`relay_ingest_requests_total{source="default",status="503"}`:       0,
		`relay_queue_commit_events_sum`:                                    3,
		`relay_health_status{status="ok"}`:                                 1,
		`relay_build_info{version="1.2.3"}`:                                1,
	} {
		if got, ok := after[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{"process_cpu_seconds_total", "process_resident_memory_anon_bytes", "go_goroutines",
		"process_open_fds", "relay_queue_disk_free_bytes", `relay_delivery_attempt_duration_seconds_sum{endpoint="crm"}`} {
		if after[name] <= 0 {
			t.Errorf("%s is %v", name, after[name])
		}
	}
	delete(after, `relay_delivery_clock_skew_seconds{endpoint="crm"}`) // which shows with the first answer
	if len(before) != len(after) {
		t.Errorf("there were %d series and are %d: all should be there from the start", len(before), len(after))
	}
}

func TestMetricsOutliveAReloadAndNeedTheToken(t *testing.T) {
	o := openHarness(t, "")
	o.accept("evt_1")
	o.until("settled", func(s delivery.Status) bool { return s.Delivered == 1 && s.InFlight == 0 })
	changed := o.crm
	changed.Delivery.Concurrency++
	if err := o.Dispatcher.Apply([]config.Endpoint{changed}); err != nil {
		t.Fatal(err)
	}
	after, _ := o.scrape()
	if n := after[`relay_delivery_attempts_total{endpoint="crm",result="delivered"}`]; n != 1 {
		t.Errorf("after a reload %v attempts are counted", n)
	}
	if status, _ := openHarness(t, testToken).ask("GET", "/metrics"); status != 401 {
		t.Errorf("without the token answered %d", status)
	}
}

// What the shipped rules and the dashboard ask for is there.
func TestShippedMonitoringNamesMetricsThatExist(t *testing.T) {
	o := openHarness(t, "")
	o.accept("evt_1")
	o.until("settled", func(s delivery.Status) bool { return s.Delivered == 1 })
	exist := map[string]bool{"relay_ingest_certificate_expiry_timestamp_seconds": true} // with TLS
	samples, families := o.scrape()
	for family := range families {
		exist[family] = true // also one that has no sample yet
	}
	for name := range samples {
		name, _, _ = strings.Cut(name, "{")
		exist[name] = true
	}
	for _, file := range []string{"alerts.yml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join("../../scripts/monitoring", file))
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`\brelay_[a-z_]+`).FindAllString(string(text), -1)
		if len(names) < 10 {
			t.Errorf("%s names %d metrics: are they found?", file, len(names))
		}
		for _, name := range names {
			if !exist[name] {
				t.Errorf("%s asks for %s, which is not there", file, name)
			}
		}
	}
}

// TestMetricsComeInTheFormThatWasAskedFor: as Prometheus asks, which likes OpenMetrics best, as curl does, and compressed.
func TestMetricsComeInTheFormThatWasAskedFor(t *testing.T) {
	o := openHarness(t, "")
	get := func(accept, encoding string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest("GET", o.url+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		r.Header.Set("Accept-Encoding", encoding)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body := io.Reader(answer.Body)
		if answer.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(body)
		if err != nil || answer.StatusCode != 200 {
			t.Fatalf("answered %d, %v", answer.StatusCode, err)
		}
		return answer, string(text)
	}
	for accept, open := range map[string]bool{
		"": false, "*/*": false, "text/plain": false,
		"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2": true,
		"application/openmetrics-text;q=0.2, text/plain;q=0.3": false, "application/openmetrics-text; q=0": false,
	} {
		answer, text := get(accept, "identity")
		if is := strings.HasPrefix(answer.Header.Get("Content-Type"), "application/openmetrics-text; version=1.0.0"); is != open || strings.HasSuffix(text, "\n# EOF\n") != open {
			t.Errorf("asked for %q it is %s and ends in %q", accept, answer.Header.Get("Content-Type"), text[len(text)-20:])
		}
		want := "# TYPE relay_queue_damaged_total counter\nrelay_queue_damaged_total 0\n"
		if open {
			want = "# TYPE relay_queue_damaged counter\nrelay_queue_damaged_total 0\n"
		}
		if !strings.Contains(text, want) {
			t.Errorf("asked for %q it lacks %q", accept, want)
		}
	}
	for encoding, zipped := range map[string]bool{"gzip": true, "deflate, gzip;q=0.5": true, "identity": false, "gzip;q=0": false} {
		answer, text := get("", encoding)
		if (answer.Header.Get("Content-Encoding") == "gzip") != zipped || !strings.Contains(text, "relay_build_info") {
			t.Errorf("asked for %q it has the encoding %q", encoding, answer.Header.Get("Content-Encoding"))
		}
	}
}
