package endtoend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/manual"
)

// rowsOf are the rows of a chapter of the manual's page "names", by each name in their first cell.
func rowsOf(chapter string) map[string]string {
	page, _ := manual.Page("names")
	_, rest, _ := strings.Cut(page, "\n## "+chapter+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	rows := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \| (.*) \|$`).FindAllStringSubmatch(text, -1) {
		for _, name := range inCode.FindAllStringSubmatch(row[1], -1) {
			rows[name[1]] = row[2]
		}
	}
	return rows
}

var inCode = regexp.MustCompile("`([^`]+)`")

// used are the names that the relays of all tests have said, each with a text that has it.
type used struct {
	mu                    sync.Mutex
	fields, codes, faults map[string]string // fields of answers and codes of their errors; values that break a rule of the page
	asked                 map[string]int
}

func newUsed() *used {
	return &used{fields: map[string]string{}, codes: map[string]string{}, faults: map[string]string{}, asked: map[string]int{}}
}

var names = newUsed()

// mostAnswers are looked through for one request: some tests ask the same all the time.
const mostAnswers = 50

var (
	anyTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d`)
	ourTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	// What is in these is not named by the relay: it is of events and of the configuration, or by class.
	others = []string{"data", "config", "classes", "headers"}
)

// note notes the names in an answer to a request.
func (u *used) note(request string, answer []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var value any
	if u.asked[request]++; u.asked[request] > mostAnswers || json.Unmarshal(answer, &value) != nil {
		return
	}
	u.noteLocked(value, request)
}

func (u *used) noteLocked(value any, from string) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			u.noteLocked(element, from)
		}
	case map[string]any:
		for name, member := range value {
			u.fields[name] = from
			switch member := member.(type) {
			case string:
				isTime := strings.HasSuffix(name, "_at") || name == "since" || name == "until"
				if anyTime.MatchString(member) != isTime && name != "timestamp" || isTime && !ourTime.MatchString(member) {
					u.faults[name] = name + ": " + member
				}
				if name == "code" {
					u.codes[member] = from
				}
			case map[string]any:
				if !slices.Contains(others, name) && (name != "event" || member["data"] == nil) {
					u.noteLocked(member, from)
				}
			case []any:
				u.noteLocked(member, from)
			case float64:
				if strings.HasSuffix(name, "_at") || member < 0 && !slices.Contains([]string{"clock_skew_seconds", "days_left"}, name) {
					u.faults[name] = fmt.Sprint(name, ": ", member)
				}
			}
		}
	}
}

// verdict is an error when a name is not on the manual's page, or a value is not what its name says.
func (u *used) verdict(logs []*transcript) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var faults []error
	for _, fault := range u.faults {
		faults = append(faults, errors.New("a value that its name does not say: "+fault))
	}
	missing := func(chapter string, said map[string]string) {
		rows := rowsOf(chapter)
		for _, name := range slices.Sorted(maps.Keys(said)) {
			if rows[name] == "" {
				faults = append(faults, fmt.Errorf("the manual's page names has no %q in its chapter %q; it is in %s", name, chapter, said[name]))
			}
		}
	}
	lines := map[string]string{}
	for _, log := range logs {
		for line := range strings.Lines(log.String()) {
			var members map[string]any
			if json.Unmarshal([]byte(line), &members) != nil || members["level"] == nil {
				continue
			}
			for name := range members {
				lines[name] = line
			}
		}
	}
	missing("Fields of answers", u.fields)
	missing("Codes of errors", u.codes)
	missing("Fields of the log", lines)
	return errors.Join(faults...)
}

// sources calls a function with the text of every file of the program.
func sources(t *testing.T, do func(path, text string)) {
	t.Helper()
	for _, root := range []string{"../../relay", "../../queue", "../../main.go"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			do(strings.TrimPrefix(path, "../../"), string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// same fails on a name that one has and the other has not.
func same(t *testing.T, chapter string, used map[string]string) {
	t.Helper()
	rows := rowsOf(chapter)
	if len(rows) < 3 || len(used) < 3 {
		t.Errorf("%s: %d names on the page, %d are used: the test shows nothing", chapter, len(rows), len(used))
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if _, ok := rows[name]; !ok {
			t.Errorf("%s: the manual's page names has no %q; it is in %s", chapter, name, used[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if _, ok := used[name]; !ok {
			t.Errorf("%s: the manual's page names has %q, which nothing uses", chapter, name)
		}
	}
}

// Every name that the program's text has for an answer, an error or the log is on the page, and no other.
func TestThePageOfNamesHasThoseOfTheProgram(t *testing.T) {
	t.Parallel()
	field := regexp.MustCompile(`json:"([a-z][a-z0-9_]*)|[{,]\\?"([a-z_]+)\\?":`)
	literal, member, asked := regexp.MustCompile(`map\[string\]any\{([^}]*)\}`), regexp.MustCompile(`"([a-z_]+)":`), regexp.MustCompile(`\{"([a-z_]+)", &`)
	code := regexp.MustCompile(`(?:Error(?:At)?\(ctx, \d+, |refuse\(\d+, |\bcode: |Code = |\\?"code\\?":|SourceFull += )"([a-z_]+)"|return "((?:invalid|too)_[a-z]+)"`)
	logged := regexp.MustCompile(`\.(?:Str|Int|Int64|Uint64|Bool|Dur|Time|Float64|Strs|Any|Stringer|Bytes)\("([A-Za-z_]+)"`)
	fields, requests, codes := map[string]string{}, map[string]string{}, map[string]string{}
	lines := map[string]string{"level": "zerolog", "message": "zerolog", "time": "zerolog", "error": "zerolog"}
	sources(t, func(path, text string) {
		room := filepath.Dir(path)
		if slices.Contains([]string{"relay/admin", "relay/delivery", "relay/alert", "relay/answer", "relay/ingest", "relay/canonical"}, room) || path == "relay/config/diff.go" {
			for _, m := range field.FindAllStringSubmatch(text, -1) {
				fields[m[1]+m[2]] = path
			}
			for _, l := range literal.FindAllStringSubmatch(text, -1) {
				for _, m := range member.FindAllStringSubmatch(l[1], -1) {
					fields[m[1]] = path
				}
			}
			for _, m := range asked.FindAllStringSubmatch(text, -1) {
				requests[m[1]] = path
			}
			for _, m := range code.FindAllStringSubmatch(text, -1) {
				codes[m[1]+m[2]] = path
			}
		}
		if room != "relay/try" {
			for _, m := range logged.FindAllStringSubmatch(text, -1) {
				lines[m[1]] = path
			}
		}
	})
	requests["token"] = fields["token"] // of POST /session, which its error shows
	delete(fields, "token")
	same(t, "Codes of errors", codes)
	same(t, "Fields of the log", lines)
	same(t, "Fields of answers", fields)
	same(t, "Fields of requests", requests)
}

// The keys of the configuration, the commands and the alerts are those of the program's tables.
func TestThePageOfNamesHasThoseOfTheTables(t *testing.T) {
	t.Parallel()
	var known struct {
		Properties map[string]struct {
			Type       string
			Properties map[string]any
			Items      struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(config.Schema(), &known); err != nil {
		t.Fatal(err)
	}
	rows := rowsOf("Keys of the configuration")
	for name, section := range known.Properties {
		header, keys := "["+name+"]", section.Properties
		if section.Type == "array" {
			header, keys = "[["+name+"]]", section.Items.Properties
		}
		shared := known.Properties["delivery"].Properties
		if name == "endpoint" { // an endpoint has those of [delivery], too, which the page says once
			keys = maps.Clone(keys)
			maps.DeleteFunc(keys, func(key string, _ any) bool { return shared[key] != nil })
		}
		sameNames(t, header, rows[header], slices.Collect(maps.Keys(keys)))
		delete(rows, header)
	}
	if len(rows) > 0 {
		t.Errorf("the page has sections that are none: %v", rows)
	}

	commands := rowsOf("Commands")
	for name, flags := range commandFlags(t) {
		for i := range flags {
			flags[i] = "-" + flags[i]
		}
		sameNames(t, name, commands[name], flags)
		delete(commands, name)
	}
	if delete(commands, "help"); len(commands) > 0 {
		t.Errorf("the page has commands that are none: %v", commands)
	}

	raised, ends := map[string]string{}, rowsOf("Alerts")
	for begin, end := range ends {
		raised[begin] = ""
		for _, name := range inCode.FindAllStringSubmatch(end, -1) {
			raised[name[1]] = ""
		}
	}
	if got, want := slices.Sorted(maps.Keys(raised)), slices.Sorted(slices.Values(config.Alerts())); !slices.Equal(got, want) {
		t.Errorf("the page has the alerts %v, want %v", got, want)
	}
}

// sameNames fails unless a cell has the wanted names in code.
func sameNames(t *testing.T, what, cell string, want []string) {
	t.Helper()
	got := []string{}
	for _, name := range inCode.FindAllStringSubmatch(cell, -1) {
		got = append(got, name[1])
	}
	slices.Sort(got)
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("%s: the page names %v, want %v", what, got, want)
	}
}

// A relay that has been through much says all of its metrics, with the type and the words that the page has for them.
func TestThePageOfNamesHasTheMetricsOfARelay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := startIn(t, dir, preamble+endpoint("crm", receive(t, well).url))
	r.post(event("evt_1"))
	r.awaitState("evt_1", "crm", "delivered")
	said := map[string]string{}
	for line := range strings.Lines(r.admin.ask(t, "GET", "/metrics", "").body) {
		switch words := strings.SplitN(strings.TrimSpace(line), " ", 4); {
		case words[1] == "HELP":
			said[words[2]] = words[3]
		case words[1] == "TYPE":
			said[words[2]] = words[3] + " | " + said[words[2]]
		}
	}
	said["relay_ingest_certificate_expiry_timestamp_seconds"] = "gauge | When the intake's certificate ends, Unix time." // with tls_cert
	same(t, "Metrics", said)
	for name, row := range rowsOf("Metrics") {
		if said[name] != "" && said[name] != row {
			t.Errorf("the page has for %s: %s; the relay says: %s", name, row, said[name])
		}
		unit := regexp.MustCompile(`_(seconds|bytes|total|info|status|state|successful|writable|events|deliveries|in_flight|files|fds|goroutines)$`)
		if !unit.MatchString(strings.TrimSuffix(name, "_total")) && !strings.HasSuffix(name, "_total") || strings.Contains(row, "counter") != strings.HasSuffix(name, "_total") {
			t.Errorf("%s does not end in its unit", name)
		}
	}
}

// A relay is taken through what it can answer. What it and all others of these tests say is held against the page when they are
// over: here is the control, and what only the page shows.
func TestThePageOfNamesHasWhatARelaySays(t *testing.T) {
	t.Parallel()
	control := newUsed()
	control.note("GET /", []byte(`{"event_at":7,"error":{"code":"surprise"},"data":{"theirs":1},"list":[{"started":"2026-01-31T03:00:00Z"}],"ended_at":"2026-01-31T03:00:00Z"}`))
	wrong := &transcript{}
	fmt.Fprintln(wrong, `{"level":"info","message":"x","novelty":1}`)
	err := fmt.Sprint(control.verdict([]*transcript{wrong}))
	for _, name := range []string{`"event_at"`, `"surprise"`, `"list"`, `"started"`, `"novelty"`, "event_at: 7", "started: 2026", "ended_at: 2026"} {
		if !strings.Contains(err, name) {
			t.Errorf("the check does not find %s in %s", name, err)
		}
	}
	if strings.Contains(err, `has no "theirs"`) {
		t.Errorf("the check finds what is an event's own: %s", err)
	}

	r := start(t, preamble+endpoint("crm", receive(t, codes(200, 400)).url, "retry = []")+endpoint("dead", receive(t, well).url))
	r.post(event("evt_1"))
	r.awaitState("evt_1", "crm", "delivered")
	for _, id := range []string{"evt_2", "evt_3"} {
		r.post(event(id))
		r.awaitTold(id, "crm", "failed")
	}
	for _, ask := range [][3]string{
		{"GET", "/health"}, {"GET", "/stats"}, {"GET", "/events?limit=1"}, {"GET", "/events/evt_2"}, {"GET", "/endpoints"}, {"GET", "/endpoints/crm"},
		{"GET", "/endpoints/crm/failed?limit=1"}, {"GET", "/history"}, {"GET", "/config"}, {"GET", "/session"}, {"GET", "/events?none=1"},
		{"GET", "/events/none"}, {"GET", "/stream?type=,"}, {"PUT", "/health"}, {"POST", "/endpoints/crm/test?conformance=1"}, {"POST", "/reload?dry_run=1"},
		{"POST", "/endpoints/crm/replay", `{"failed":true,"dry_run":true}`}, {"POST", "/endpoints/crm/replay", `{"failed":true,"since":"1h"}`},
		{"GET", "/endpoints/crm/replays"}, {"POST", "/endpoints/dead/pause"}, {"POST", "/endpoints/dead/resume"}, {"DELETE", "/endpoints/crm/failed"},
	} {
		if a := r.admin.ask(t, ask[0], ask[1], ask[2], "Content-Type", "application/json"); a.status == 0 {
			t.Errorf("%s %s: %v", ask[0], ask[1], a.err)
		}
	}
	// What the page listens to: each event of it is JSON in one line.
	request, _ := http.NewRequest("GET", "http://127.0.0.1/live", nil)
	response, rErr := r.admin.client.Do(request)
	if rErr != nil {
		t.Fatal(rErr)
	}
	defer response.Body.Close()
	live := 0
	for lines := bufio.NewScanner(response.Body); live < 2 && lines.Scan(); {
		if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); ok {
			names.note("GET /live", data)
			live++
		}
	}
	if live < 2 {
		t.Error("/live says nothing")
	}
	names.mu.Lock()
	defer names.mu.Unlock()
	for _, name := range []string{"taken_at", "began_at", "accepted_at", "disk_free_bytes", "settled", "checks", "replays", "next"} {
		if names.fields[name] == "" {
			t.Errorf("no answer had %q: the walk shows less than it should", name)
		}
	}
}
