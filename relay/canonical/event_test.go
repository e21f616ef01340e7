package canonical

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const leadCreated = `{"id":"evt_abc123","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"leadId":"lead_xyz789","firstName":"John","lastName":"Doe","email":"john@example.com","phone":"+1234567890","source":"website_form","score":75}}`

var testStamp = Stamp{
	Now:   time.Date(2024, 1, 15, 11, 30, 0, 123_999_999, time.FixedZone("", 3600)),
	NewID: func(dst []byte) []byte { return append(dst, "evt_new"...) },
}

// one reads a text that is one event, as the object of a body and a line of NDJSON are read.
func one(p *Parser, text []byte, s Stamp) (Event, error) {
	e, ok := Event{}, p.start(text)
	if ok {
		e, ok = p.alone(s)
	}
	if !ok {
		return Event{}, p.invalid(-1, 0)
	}
	return e, nil
}

func TestWhatAClientLeavesOutIsPutInWhereTheFormatHasIt(t *testing.T) {
	const stamped = `"timestamp":"2024-01-15T10:30:00.123Z"`
	cases := []struct{ name, in, want, id string }{
		{"nothing", leadCreated, leadCreated, "evt_abc123"},
		{"both", `{"type":"a","data":{}}`, `{"id":"evt_new","type":"a",` + stamped + `,"data":{}}`, "evt_new"},
		{"id", `{"timestamp":"2024-01-15T10:30:00Z","data":{},"type":"a"}`, `{"id":"evt_new","timestamp":"2024-01-15T10:30:00Z","data":{},"type":"a"}`, "evt_new"},
		{"timestamp", `{"data":{},"type":"a","id":"e-1"}`, `{"data":{},"type":"a",` + stamped + `,"id":"e-1"}`, "e-1"},
		{"behind indices", `{"type":"a","7":[{"id":1}],"data":{},"0":{}}`, `{"0":{},"7":[{"id":1}],"id":"evt_new","type":"a",` + stamped + `,"data":{}}`, "evt_new"},
		{"within data only", `{"type":"a","data":{"id":"x","timestamp":"y"}}`, `{"id":"evt_new","type":"a",` + stamped + `,"data":{"id":"x","timestamp":"y"}}`, "evt_new"},
		{"escaped", `{"\u0069d":"\u0065_1","type":"\u0061","timestamp":"2024-01-15T10:30:00\u005a","data":{}}`, `{"id":"e_1","type":"a","timestamp":"2024-01-15T10:30:00Z","data":{}}`, "e_1"},
		{"others are kept", `{"x":null,"id":"e","type":"a","data":{},"ID":1,"timestamp":"2024-01-15T10:30:00Z"}`, `{"x":null,"id":"e","type":"a","data":{},"ID":1,"timestamp":"2024-01-15T10:30:00Z"}`, "e"},
		{"order with indices", `{"type":"a","id":"e","data":{},"timestamp":"2024-01-15T10:30:00Z","5":5}`, `{"5":5,"type":"a","id":"e","data":{},"timestamp":"2024-01-15T10:30:00Z"}`, "e"},
	}
	var p Parser
	for _, tc := range cases {
		e, err := one(&p, []byte(tc.in), testStamp)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		wantType := "a"
		if tc.in == leadCreated {
			wantType = "lead.created"
		}
		if string(e.Body) != tc.want || string(e.ID) != tc.id || string(e.Type) != wantType {
			t.Errorf("%s: became %s, id %s, type %s\nwant %s, id %s, type %s", tc.name, e.Body, e.ID, e.Type, tc.want, tc.id, wantType)
		}
	}
}

func TestEventIsRefusedWithItsReason(t *testing.T) {
	long := strings.Repeat("a", 129)
	longID := strings.Repeat("a", maxID+1)
	cases := []struct {
		in, want string
		notJSON  bool
	}{
		{`[]`, "an event must be an object", false},
		{`"x"`, "an event must be an object", false},
		{`null`, "an event must be an object", false},
		{`nul`, "unexpected end at byte 3", true},
		{``, "unexpected end at byte 0", true},
		{`{"type":"a","data":{}`, "unexpected end at byte 21", true},
		{`{"type":"a","data":{}}x`, "unexpected character at byte 22", true},
		{`{"type":"a","data":{},"type":"b"}`, "duplicate member name at byte 22", false},
		{`{}`, "type is missing", false},
		{`{"id":"","type":"a","data":{}}`, badID, false},
		{`{"id":null,"type":"a","data":{}}`, badID, false},
		{`{"id":7,"type":"a","data":{}}`, badID, false},
		{`{"id":"a b","type":"a","data":{}}`, badID, false},
		{`{"id":"a\u0020b","type":"a","data":{}}`, badID, false},
		{`{"id":"a\u007f","type":"a","data":{}}`, badID, false},
		{`{"id":"a\\\n","type":"a","data":{}}`, badID, false},
		{`{"id":"\ud800","type":"a","data":{}}`, badID, false},
		{`{"id":["a"],"type":"a","data":{}}`, badID, false},
		{`{"id":"` + strings.Repeat(`\"`, maxID+1) + `","type":"a","data":{}}`, badID, false},
		{`{"id":"é","type":"a","data":{}}`, badID, false},
		{`{"id":"a\n","type":"a","data":{}}`, badID, false},
		{`{"id":"` + longID + `","type":"a","data":{}}`, badID, false},
		{`{"data":{}}`, "type is missing", false},
		{`{"type":null,"data":{}}`, badType, false},
		{`{"type":"","data":{}}`, badType, false},
		{`{"type":"lead*","data":{}}`, badType, false},
		{`{"type":"lead\\created","data":{}}`, badType, false},
		{`{"type":"a b","data":{}}`, badType, false},
		{`{"type":["a"],"data":{}}`, badType, false},
		{`{"type":"` + long + `","data":{}}`, badType, false},
		{`{"type":"a","timestamp":null,"data":{}}`, badTimestamp, false},
		{`{"type":"a","timestamp":1705314600,"data":{}}`, badTimestamp, false},
		{`{"type":"a"}`, "data is missing", false},
		{`{"type":"a","data":null}`, "data must be an object", false},
		{`{"type":"a","data":[]}`, "data must be an object", false},
		{`{"type":"a","data":"{}"}`, "data must be an object", false},
	}
	var p Parser
	for _, tc := range cases {
		e, err := one(&p, []byte(tc.in), testStamp)
		var inv *Invalid
		if !errors.As(err, &inv) {
			t.Errorf("%s: became %s (%v)", tc.in, e.Body, err)
		} else if *inv != (Invalid{Index: -1, Reason: tc.want, NotJSON: tc.notJSON}) {
			t.Errorf("%s: refused as %+v, want %q (not JSON: %v)", tc.in, *inv, tc.want, tc.notJSON)
		}
	}
	if _, err := one(&p, []byte(`{"id":"`+longID[:maxID]+`","type":"`+long[:128]+`","data":{}}`), testStamp); err != nil {
		t.Errorf("the longest id and type: %v", err)
	}
}

// oddIDs are ids that mean something to whatever stands between the source that gave them and people who look for them.
var oddIDs = []string{
	`"`, `\`, `\\`, `\"`, `"quoted"`, `C:\new\table`, `\u0041`, "/", "a/b", "//", "a//b/../c", ".", "..", "../..", "?x=1", "#top", "%", "%2F", "%41", "100%", "a+b",
	"<script>alert(1)</script>", "&amp;", "a&b", "'", "`", "{}", "[1]", "$(id)", "-h", "--", "_1", "a,b", "a;b", "a:b", "a=b", "a|b", "*", "~", "!", "@here", "null", "0",
	strings.Repeat("x", maxID), strings.Repeat(`"`, maxID), strings.Repeat(`\`, maxID),
}

// However an id or a type is escaped, it is what a JSON parser reads, in events that stand alone and in batches; what is stored
// as the body has it in canonical form.
func TestIDsAndTypesAreWhatTheirTextMeans(t *testing.T) {
	escapedAll := func(text string) string { // each character as \uXXXX
		var b strings.Builder
		for _, c := range []byte(text) {
			fmt.Fprintf(&b, `\u%04x`, c)
		}
		return b.String()
	}
	plain := func(text string) string { return string(AppendEscaped(nil, []byte(text))) }
	const typed = "Odd.Type:a/b"
	var p Parser
	var lines, array []byte
	for _, id := range oddIDs {
		body := `{"id":"` + plain(id) + `","type":"` + typed + `","timestamp":"2024-01-15T10:30:00Z","data":{}}`
		for _, in := range []string{body, `{"\u0069d":"` + escapedAll(id) + `","type":"` + escapedAll(typed) + `","timestamp":"2024-01-15T10:30:00Z","data":{}}`} {
			e, err := one(&p, []byte(in), testStamp)
			if err != nil || string(e.ID) != id || string(e.Type) != typed || string(e.Body) != body {
				t.Errorf("%s: id %q, type %q, body %s (%v)", in, e.ID, e.Type, e.Body, err)
			}
			lines = append(append(lines, in...), '\n')
			array = append(append(array, in...), ',')
		}
	}
	array = append(append([]byte{'['}, array[:len(array)-1]...), ']')
	for name, parse := range map[string]func() ([]Event, error){
		"lines": func() ([]Event, error) { return p.Lines(lines, testStamp) },
		"array": func() ([]Event, error) { events, _, err := p.JSON(array, testStamp); return events, err },
	} {
		events, err := parse()
		if err != nil || len(events) != 2*len(oddIDs) {
			t.Fatalf("%s: %d events (%v)", name, len(events), err)
		}
		for i, e := range events {
			id := oddIDs[i/2]
			if want := `{"id":"` + plain(id) + `","type":"` + typed + `","timestamp":"2024-01-15T10:30:00Z","data":{}}`; string(e.ID) != id || string(e.Body) != want {
				t.Errorf("%s: event %d has id %q and body %s", name, i, e.ID, e.Body)
			}
		}
	}
}

// An id that the relay puts in stands in the body as a JSON parser reads it.
func TestAnIDThatIsPutInIsEscaped(t *testing.T) {
	var p Parser
	for _, id := range oddIDs {
		stamp := testStamp
		stamp.NewID = func(dst []byte) []byte { return append(dst, id...) }
		e, err := one(&p, []byte(`{"type":"a","data":{}}`), stamp)
		var said struct{ ID, Type, Timestamp string }
		if err != nil || string(e.ID) != id || json.Unmarshal(e.Body, &said) != nil || said.ID != id || said.Type != "a" || said.Timestamp == "" {
			t.Errorf("%q became %q in %s (%v)", id, e.ID, e.Body, err)
		}
	}
}

func TestTimestampIsRFC3339(t *testing.T) {
	good := []string{
		"2024-01-15T10:30:00Z", "2024-01-15t10:30:00z", "2024-01-15T10:30:00.1Z", "2024-01-15T10:30:00.123456789012Z",
		"2024-01-15T10:30:00+00:00", "2024-01-15T10:30:00-23:59", "2024-01-15T10:30:00.5+05:30", "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59Z", "2024-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2016-12-31T23:59:60Z", "2017-01-01T05:29:60+05:30",
		"2024-04-30T00:00:00-00:00",
	}
	bad := []string{
		"", "2024", "2024-01-15", "2024-01-15T10:30Z", "2024-01-15T10:30:00", "2024-01-15 10:30:00Z", "2024-01-15T10:30:00,5Z",
		"2024-01-15T10:30:00.Z", "2024-01-15T10:30:00ZZ", "2024-01-15T10:30:00 Z", "2024-01-15T10:30:00+0530", "2024-01-15T10:30:00+5:30",
		"2024-01-15T10:30:00+24:00", "2024-01-15T10:30:00+00:60", "2024-01-15T24:00:00Z", "2024-01-15T10:60:00Z", "2024-01-15T10:30:61Z",
		"2024-00-15T10:30:00Z", "2024-13-15T10:30:00Z", "2024-01-00T10:30:00Z", "2024-01-32T10:30:00Z", "2023-02-29T10:30:00Z",
		"1900-02-29T10:30:00Z", "2024-04-31T10:30:00Z", "24-01-15T10:30:00Z", "02024-01-15T10:30:00Z", "2024-1-15T10:30:00Z",
		"2024-01-15T10:30:00X", "2024-01-15T10:30:00+aa:00", "2024-01-15T10:30:00+00:0a", "２024-01-15T10:30:00Z", "2024-01-15T10:30:00.5",
	}
	for _, s := range good {
		if !isTimestamp([]byte(`"` + s + `"`)) {
			t.Errorf("%s was refused", s)
		}
	}
	for _, s := range bad {
		if isTimestamp([]byte(`"` + s + `"`)) {
			t.Errorf("%s was taken", s)
		}
	}
}

func TestBatchNamesItsFirstBadEvent(t *testing.T) {
	const ok = `{"id":"e","type":"a","timestamp":"2024-01-15T10:30:00Z","data":{}}`
	lines := func(p *Parser, b []byte) ([]Event, error) { return p.Lines(b, testStamp) }
	body := func(p *Parser, b []byte) ([]Event, error) { e, _, err := p.JSON(b, testStamp); return e, err }
	cases := []struct {
		name  string
		parse func(*Parser, []byte) ([]Event, error)
		in    string
		count int
		want  Invalid
	}{
		{"array of one", body, `[` + ok + `]`, 1, Invalid{}},
		{"array of three", body, " [ " + ok + ",\n" + ok + " , " + ok + "] ", 3, Invalid{}},
		{"empty array", body, ` [ ] `, 0, Invalid{-1, "the batch holds no event", false, false}},
		{"empty array and more", body, `[]]`, 0, Invalid{-1, "unexpected character at byte 2", true, false}},
		{"no event", body, `[` + ok + `,5]`, 0, Invalid{1, "an event must be an object", false, false}},
		{"array in an array", body, `[[` + ok + `]]`, 0, Invalid{0, "an event must be an object", false, false}},
		{"bad event", body, `[` + ok + `,` + ok + `,{"type":"a","data":7},{}]`, 0, Invalid{2, "data must be an object", false, false}},
		{"bad JSON", body, `[{"type":"a","data":{}},{"a":tru}]`, 0, Invalid{1, "unexpected text without quotes at byte 29: " + hints[bareWord], true, false}},
		{"comma too many", body, `[{"type":"a","data":{}},]`, 0, Invalid{1, "unexpected end of an object or array behind a comma at byte 24: take the comma away", true, false}},
		{"comma too few", body, `[{"type":"a","data":{}} {}]`, 0, Invalid{-1, "unexpected character at byte 24", true, false}},
		{"open array", body, `[{"type":"a","data":{}}`, 0, Invalid{-1, "unexpected end at byte 23", true, false}},
		{"more behind the array", body, `[` + ok + `]{}`, 0, Invalid{-1, fmt.Sprintf("unexpected character at byte %d", len(ok)+2), true, false}},
		{"one line", lines, ok, 1, Invalid{}},
		{"lines", lines, "\n" + ok + "\r\n \t\r\n\n" + ok + "\n" + ok + "\n\n", 3, Invalid{}},
		{"no lines", lines, "", 0, Invalid{-1, "the batch holds no event", false, false}},
		{"blank lines", lines, "\n\r\n  ", 0, Invalid{-1, "the batch holds no event", false, false}},
		{"bad line", lines, ok + "\n\n" + ok + "\n{\"type\":}\n", 0, Invalid{2, "unexpected character at byte 8 of line 4", true, false}},
		{"curly quotes in a line", lines, ok + "\n\n{“type”:\"a\"}\n", 0, Invalid{1, "unexpected curly quote at byte 1 of line 3: JSON has straight ones, \"", true, false}},
		{"lines in UTF-16", lines, "{\x00\"\x00t\x00", 0, Invalid{0, "the body is in UTF-16: send it as UTF-8", true, false}},
		{"bad event in a line", lines, ok + "\n\n{\"data\":{}}", 0, Invalid{1, "type is missing", false, false}},
		{"two on a line", lines, ok + " " + ok, 0, Invalid{0, fmt.Sprintf("unexpected character at byte %d of line 1", len(ok)+1), true, false}},
		{"event over two lines", lines, "{\"type\":\n\"a\"}", 0, Invalid{0, "unexpected end at byte 8 of line 1", true, false}},
		{"array on a line", lines, "[" + ok + "]", 0, Invalid{0, "an event must be an object", false, false}},
		{"array", body, "\r\n[" + ok + "," + ok + "]", 2, Invalid{}},
		{"one", body, " " + ok, 1, Invalid{}},
		{"bad one", body, `{"type":"a","data":0}`, 0, Invalid{-1, "data must be an object", false, false}},
		{"bad in an array", body, `[{"type":"a","data":0}]`, 0, Invalid{0, "data must be an object", false, false}},
		{"empty", body, " \n", 0, Invalid{-1, "the body is empty", true, false}},
		{"neither", body, ` "text"`, 0, Invalid{-1, "the body must be an event or an array of events", false, false}},
		{"no JSON", body, `type=a`, 0, Invalid{-1, "unexpected text without quotes at byte 0: " + hints[bareWord], true, false}},
		{"byte order mark", body, "\uFEFF" + ok, 0, Invalid{-1, "unexpected byte order mark at byte 0: send UTF-8 without one", true, false}},
	}
	var p Parser
	for _, tc := range cases {
		events, err := tc.parse(&p, []byte(tc.in))
		var inv *Invalid
		if errors.As(err, &inv) {
			if tc.count > 0 || *inv != tc.want {
				t.Errorf("%s: refused as %+v, want %+v", tc.name, *inv, tc.want)
			}
			if events != nil {
				t.Errorf("%s: refused, but with %d events", tc.name, len(events))
			}
			continue
		}
		if err != nil || len(events) != tc.count {
			t.Errorf("%s: %d events (%v), want %d, %+v", tc.name, len(events), err, tc.count, tc.want)
		}
		for i, e := range events {
			if string(e.Body) != ok || string(e.ID) != "e" || string(e.Type) != "a" {
				t.Errorf("%s: event %d is %s, id %s, type %s", tc.name, i, e.Body, e.ID, e.Type)
			}
		}
	}
}

func TestEventsOfABatchStayApartWhenTheArenaMoves(t *testing.T) {
	const n = maxEvents
	var body []byte
	for range n {
		body = append(body, `{"type":"a","data":{"n":1e20}}`+"\n"...)
	}
	count := 0
	s := Stamp{Now: testStamp.Now, NewID: func(dst []byte) []byte {
		count++
		return fmt.Appendf(dst, "evt_%d", count)
	}}
	var p Parser
	events, err := p.Lines(body, s)
	if err != nil || len(events) != n {
		t.Fatalf("%d events: %v", len(events), err)
	}
	for i, e := range events {
		_, _, _ = append(e.Body, "!!"...), append(e.ID, "!!"...), append(e.Type, "!!"...)
		id := fmt.Sprintf("evt_%d", i+1)
		want := `{"id":"` + id + `","type":"a","timestamp":"2024-01-15T10:30:00.123Z","data":{"n":100000000000000000000}}`
		if string(e.ID) != id || string(e.Type) != "a" || string(e.Body) != want {
			t.Fatalf("event %d is %s, id %s, type %s", i, e.Body, e.ID, e.Type)
		}
	}
}

func TestParserIsAsNewAfterARefusal(t *testing.T) {
	var p Parser
	for _, bad := range []string{`{"a":{"b":[{"c":1,`, `[{"type":"a","data":{}},{"x":{"y":1,"y":2}}]`, `{"type":"a","data":{"1":"\ud8000","1":2}}`} {
		if _, _, err := p.JSON([]byte(bad), testStamp); err == nil {
			t.Fatalf("%s was taken", bad)
		}
		e, err := one(&p, []byte(leadCreated), testStamp)
		if err != nil || string(e.Body) != leadCreated {
			t.Errorf("after %s: %s (%v)", bad, e.Body, err)
		}
	}
}

func TestBodyOfARequestIsNeitherKeptNorChanged(t *testing.T) {
	body := []byte(`{"z":"\u0061","1":1,"type":"a","data":{}}`)
	before := bytes.Clone(body)
	var p Parser
	e, err := one(&p, body, testStamp)
	if err != nil || !bytes.Equal(body, before) {
		t.Fatalf("the body became %s (%v)", body, err)
	}
	want := string(e.Body)
	clear(body)
	if string(e.Body) != want {
		t.Errorf("the event changed with the body: %s", e.Body)
	}
}

func TestAnEventIsReadWithoutAnAllocation(t *testing.T) {
	for _, in := range []string{leadCreated, `{"type":"a","9":1,"data":{"price":1299.990,"at":40.712775999999998,"big":12345678901234567890,"e":"\u00e9"}}`} {
		var p Parser
		body := []byte(in)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := one(&p, body, testStamp); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations for %s", n, in)
		}
	}
}

func TestInvalidSpeaksForItself(t *testing.T) {
	for _, tc := range []struct {
		inv        Invalid
		text, code string
	}{
		{Invalid{-1, "type is missing", false, false}, "type is missing", "invalid_event"},
		{Invalid{3, "data must be an object", false, false}, "event 3: data must be an object", "invalid_event"},
		{Invalid{0, "unexpected end at byte 2", true, false}, "event 0: unexpected end at byte 2", "invalid_json"},
	} {
		if got := tc.inv.Error(); got != tc.text || tc.inv.Code() != tc.code {
			t.Errorf("%+v: %q, code %q", tc.inv, got, tc.inv.Code())
		}
	}
}
