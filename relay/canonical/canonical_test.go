package canonical

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"realtorbot-relay/relay/config"
)

// canonicalForm runs canon over one text that may be any JSON value.
func canonicalForm(text []byte) ([]byte, fault, bool) {
	var c canon
	c.read(text)
	ok := c.alone()
	return c.out, c.fault, ok
}

func TestCanonicalFormIsJavaScripts(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"space goes", " {\t\"a\" :\r\n[ 1 , 2 ] , \"b\" : { } , \"c\":[ ] } \n", `{"a":[1,2],"b":{},"c":[]}`},
		{"words", `[true,false,null]`, `[true,false,null]`},
		{"scalar", ` "x" `, `"x"`},
		{"short escapes", `"\"\\\/\b\f\n\r\t"`, `"\"\\/\b\f\n\r\t"`},
		{"escapes of what needs none", `"\u0041\u00e9\u00E9\u002f\u007f"`, "\"Aéé/\x7f\""},
		{"escapes of what needs one", `"\u0022\u005C\u0008\u000c\u000A\u000d\u0009"`, `"\"\\\b\f\n\r\t"`},
		{"control characters", `"\u0000\u000b\u001F"`, `"\u0000\u000b\u001f"`},
		{"line separators stay raw", `"\u2028\u2029"`, "\"\u2028\u2029\""},
		{"surrogate pairs", `"\ud83c\udfe0 \uD800\uDC00\udbff\uDFFF"`, "\"🏠 \U00010000\U0010FFFF\""},
		{"halves of surrogate pairs", `"\uD83D" `, `"\ud83d"`},
		{"halves beside others", `"a\udc00\uD800\ud800\ud83c\udfe0\uDFFFx\ud800\n"`, `"a\udc00\ud800\ud800🏠\udfffx\ud800\n"`},
		{"a half as a name", `{"\uDABC":1,"a":2,"\udabd":3}`, `{"\udabc":1,"a":2,"\udabd":3}`},
		{"raw astral", `"🏠"`, `"🏠"`},
		{"noncharacters", `"\ufffe\uffff` + "\uFEFF\uFFFD" + `"`, "\"\uFFFE\uFFFF\uFEFF\uFFFD\""},
		{"escape after a long plain run", `"0123456789abcdefghé\n0123456789é"`, `"0123456789abcdefghé\n0123456789é"`},
		{"indices first", `{"b":1,"2":2,"a":3,"10":4,"0":5}`, `{"0":5,"2":2,"10":4,"b":1,"a":3}`},
		{"indices behind others in order", `{"a":1,"1":[2,{"z":0,"5":0}]}`, `{"1":[2,{"5":0,"z":0}],"a":1}`},
		{"limits of indices", `{"4294967295":1,"a":2,"4294967294":3,"99999999999":4}`, `{"4294967294":3,"4294967295":1,"a":2,"99999999999":4}`},
		{"not indices", `{"01":1,"-1":2,"1.0":3," 1":4,"":5,"1e3":6,"0":7}`, `{"0":7,"01":1,"-1":2,"1.0":3," 1":4,"":5,"1e3":6}`},
		{"escaped index", `{"a":1,"\u0031":2}`, `{"1":2,"a":1}`},
		{"names of no meaning here", `{"__proto__":{"x":1},"constructor":2,"toJSON":3}`, `{"__proto__":{"x":1},"constructor":2,"toJSON":3}`},
		{"same name in two objects", `{"a":{"a":1},"b":[{"a":2},{"a":3}]}`, `{"a":{"a":1},"b":[{"a":2},{"a":3}]}`},
		{"deepest", nested(maxDepth), nested(maxDepth)},
	}
	for _, tc := range cases {
		got, f, ok := canonicalForm([]byte(tc.in))
		if !ok || string(got) != tc.want {
			t.Errorf("%s: %s became %s (%s), want %s", tc.name, tc.in, got, f.text(0), tc.want)
		}
	}
}

func TestRefusalNamesReasonAndByte(t *testing.T) {
	const bare = ": names and texts stand in double quotes, and the only words of JSON are true, false and null"
	cases := []struct {
		in, want string
		notJSON  bool
	}{
		{``, "unexpected end at byte 0", true},
		{`  `, "unexpected end at byte 2", true},
		{`{`, "unexpected end at byte 1", true},
		{`{"a"`, "unexpected end at byte 4", true},
		{`{"a":`, "unexpected end at byte 5", true},
		{`{"a":1`, "unexpected end at byte 6", true},
		{`{"a":1,`, "unexpected end at byte 7", true},
		{`{"a":1,}`, "unexpected end of an object or array behind a comma at byte 7: take the comma away", true},
		{`{,}`, "unexpected character at byte 1", true},
		{`{a:1}`, "unexpected text without quotes at byte 1" + bare, true},
		{`{"a" 1}`, "unexpected character at byte 5", true},
		{"[1 , ]", "unexpected end of an object or array behind a comma at byte 5: take the comma away", true},
		{`}`, "unexpected character at byte 0", true},
		{`[}`, "unexpected character at byte 1", true},
		{`{"a":1]`, "unexpected character at byte 6", true},
		{`[1 2]`, "unexpected character at byte 3", true},
		{`[`, "unexpected end at byte 1", true},
		{`{} {}`, "unexpected character at byte 3", true},
		{"1\x00", "unexpected character at byte 1", true},
		{"\v1", "unexpected character at byte 0", true},
		{"\u00a01", "unexpected character that nobody sees at byte 0: delete it", true},
		{"{\"a\":\u200b1}", "unexpected character that nobody sees at byte 5: delete it", true},
		{"1\u2028", "unexpected character that nobody sees at byte 1: delete it", true},
		{"\U0001f600", "unexpected character at byte 0", true},
		{"\uFEFF{}", "unexpected byte order mark at byte 0: send UTF-8 without one", true},
		{"{\uFEFF}", "unexpected character that nobody sees at byte 1: delete it", true},
		{"\xff\xfe{\x00}\x00", "the body is in UTF-16: send it as UTF-8", true},
		{"\xfe\xff\x00{\x00}", "the body is in UTF-16: send it as UTF-8", true},
		{"{\x00}\x00", "the body is in UTF-16: send it as UTF-8", true},
		{"\x00{\x00}", "the body is in UTF-16: send it as UTF-8", true},
		{"\"\x00\x12\x04\"\x00", "unescaped control character in a string at byte 1: write it as an escape, such as \\n", true},
		{"{\x00\"\x00\x12\x04\"\x00:\x00", "the body is in UTF-16: send it as UTF-8", true},
		{"[\x00\"\x00\x12\x04\"\x00]\x00", "the body is in UTF-16: send it as UTF-8", true},
		{"\"\x00a\x00\"\x00", "the body is in UTF-16: send it as UTF-8", true},
		{`“a”`, "unexpected curly quote at byte 0: JSON has straight ones, \"", true},
		{`{“a”: 1}`, "unexpected curly quote at byte 1: JSON has straight ones, \"", true},
		{`{"a": ‘b’}`, "unexpected curly quote at byte 6: JSON has straight ones, \"", true},
		{`{"a": «b»}`, "unexpected curly quote at byte 6: JSON has straight ones, \"", true},
		{"{`a`:1}", "unexpected quote that is not a double one at byte 1: JSON has double ones, \"", true},
		{`// a`, "unexpected comment at byte 0: JSON has none", true},
		{`{"a":1 /* a */}`, "unexpected comment at byte 7: JSON has none", true},
		{`/`, "unexpected character at byte 0", true},
		{`{"a":b}`, "unexpected text without quotes at byte 5" + bare, true},
		{`[1,None]`, "unexpected text without quotes at byte 3" + bare, true},
		{`[1 x]`, "unexpected character at byte 3", true},
		{`ключ`, "unexpected text without quotes at byte 0" + bare, true},
		{`tru`, "unexpected end at byte 3", true},
		{` trUe`, "unexpected text without quotes at byte 1" + bare, true},
		{`nullx`, "unexpected character at byte 4", true},
		{`NaN`, "unexpected text without quotes at byte 0" + bare, true},
		{`'a'`, "unexpected quote that is not a double one at byte 0: JSON has double ones, \"", true},
		{`"a`, "unexpected end at byte 2", true},
		{`"a\`, "unexpected end at byte 3", true},
		{"\"a\nb\"", "unescaped control character in a string at byte 2: write it as an escape, such as \\n", true},
		{"\"0123456789\x1f\"", "unescaped control character in a string at byte 11: write it as an escape, such as \\n", true},
		{"\"\\n\x00\"", "unescaped control character in a string at byte 3: write it as an escape, such as \\n", true},
		{`"\x41"`, "invalid escape in a string at byte 1: a backslash is written \\\\", true},
		{`"\u12"`, "invalid escape in a string at byte 1: a backslash is written \\\\", true},
		{`"\u12g4"`, "invalid escape in a string at byte 1: a backslash is written \\\\", true},
		{`"\ud800\u12"`, "invalid escape in a string at byte 7: a backslash is written \\\\", true},
		{"\"ab\xff\"", "invalid UTF-8 at byte 3: send the body as UTF-8", true},
		{"\"\\n\xc3\"", "invalid UTF-8 at byte 3: send the body as UTF-8", true},
		{"\"\xed\xa0\x80\"", "invalid UTF-8 at byte 1: send the body as UTF-8", true},
		{"\"\xc0\x80\"", "invalid UTF-8 at byte 1: send the body as UTF-8", true},
		{"\"\xf4\x90\x80\x80\"", "invalid UTF-8 at byte 1: send the body as UTF-8", true},
		{`{"a":1,"b":2,"a":3}`, "duplicate member name at byte 13", false},
		{`{"\ud83d":1,"\uD83D":3}`, "duplicate member name at byte 12", false},
		{`{"a":1,"\u0061":3}`, "duplicate member name at byte 7", false},
		{`{"7":1,"x":0,"\u0037":3}`, "duplicate member name at byte 13", false},
		{`{"":1,"":1}`, "duplicate member name at byte 6", false},
		{`[{"é":{"a":1,"a":2}}]`, "duplicate member name at byte 14", false},
		{nested(maxDepth + 1), "objects and arrays nested deeper than 128 at byte 128", false},
		{strings.Repeat(`{"a":`, 100_000), "objects and arrays nested deeper than 128 at byte 640", false},
		{`-`, "unexpected end at byte 1", true},
		{`+1`, "unexpected character at byte 0", true},
		{`.5`, "unexpected character at byte 0", true},
		{`1.`, "unexpected end at byte 2", true},
		{`1.e5`, "unexpected character at byte 2", true},
		{`01`, "unexpected character at byte 1", true},
		{`-01`, "unexpected character at byte 2", true},
		{`1e`, "unexpected end at byte 2", true},
		{`1e+`, "unexpected end at byte 3", true},
		{`1e1.5`, "unexpected character at byte 3", true},
		{`--1`, "unexpected character at byte 1", true},
		{`0x10`, "unexpected character at byte 1", true},
		{`-Infinity`, "unexpected character at byte 1", true},
	}
	for _, tc := range cases {
		out, f, ok := canonicalForm([]byte(tc.in))
		if ok {
			t.Errorf("%.60q was taken, as %.60s", tc.in, out)
		} else if got := f.text(0); got != tc.want || f.notJSON != tc.notJSON {
			t.Errorf("%.60q: refused for %q (not JSON: %v), want %q (%v)", tc.in, got, f.notJSON, tc.want, tc.notJSON)
		}
	}
}

// An object of n members; those of the odd places have integer-like names, in falling order.
func manyMembers(n int) []byte {
	b := []byte{'{'}
	for i := range n {
		if i%2 == 0 {
			b = fmt.Appendf(b, `"name%d":%d,`, i, i)
		} else {
			b = fmt.Appendf(b, `"%d":%d,`, n-i, i)
		}
	}
	b[len(b)-1] = '}'
	return b
}

func TestManyMembersAreNotQuadratic(t *testing.T) {
	text := manyMembers(100_000)
	began := processorTime(t)
	out, f, ok := canonicalForm(text)
	took := processorTime(t) - began
	if !ok || len(out) != len(text) || !bytes.HasPrefix(out, []byte(`{"1":99999,"3":99997,`)) {
		t.Fatalf("100,000 members became %d bytes of %d, %.40s… (%s)", len(out), len(text), out, f.text(0))
	}
	// Comparing each with each takes 5,000,000,000 comparisons; what we do takes about 20 ms.
	if took > 6*time.Second { // with the race detector on a busy machine
		t.Errorf("100,000 members took %v of processor time", took)
	}
}

// Whatever a body is full of, a mebibyte costs about the same.
func TestNoBodyIsMuchWork(t *testing.T) {
	mantissa, exponent, _ := strings.Cut(halfWay(12345678901), "e")
	full := func(piece string) string { return "[" + strings.Repeat(piece+",", (1<<20-2)/(len(piece)+1)) + "0]" }
	for name, text := range map[string]string{
		"subnormals": full("5e-324"), "long subnormals": full("1.2345678901234567891e-310"), "half-way": full("4503599627370497.5"),
		"all digits": full(mantissa + "e" + exponent), "out of order": full(`{"b":"filling","1":0}`),
		"nested":             full(strings.Repeat(`{"a":`, 100) + "0" + strings.Repeat(`,"0":"more filling"}`, 100)),
		"nested around much": strings.Repeat(`{"a":`, 127) + full("0") + strings.Repeat(`,"0":0}`, 127),
		"names":              `{"":` + full(`{"n":{"o":"filling"}}`) + "}", "surrogates": full(`"\ud83d\udc00\ud83d"`), "controls": full(`"\u0000"`),
	} {
		began := processorTime(t)
		_, f, ok := canonicalForm([]byte(text))
		took := processorTime(t) - began
		if !ok {
			t.Errorf("%s: %s", name, f.text(0))
		}
		t.Logf("%s: %v for %d KiB", name, took, len(text)>>10)
		if took > 1800*time.Millisecond { // subnormals took 2.1 s, and ten times that with the race detector
			t.Errorf("%s: %d KiB took %v of processor time", name, len(text)>>10, took)
		}
	}
}

// A repeated name is refused where it stands, before what follows is read.
func TestADuplicateIsRefusedAtTheFirst(t *testing.T) {
	text := `{"":0,` + strings.Repeat(`"":0,`, 200_000) + `"a":0}`
	var c canon
	c.read([]byte(text))
	if c.alone() || c.fault.reason != duplicateName || c.fault.at != 6 || cap(c.members) > fewMembers {
		t.Errorf("%s, with room for %d members", c.fault.text(0), cap(c.members))
	}
}

// processorTime is what this process has used, whatever else the machine has to do.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func TestDuplicateAmongManyMembersIsFound(t *testing.T) {
	for _, n := range []int{fewMembers - 1, fewMembers, fewMembers + 1, 1000} {
		for _, again := range []string{"name0", "1", fmt.Sprintf("name%d", (n-1)/2*2)} {
			text := manyMembers(n)
			if n%2 == 1 && again == "1" {
				again = "2"
			}
			at := len(text)
			text = append(text[:at-1], `,"`+again+`":0}`...)
			_, f, ok := canonicalForm(text)
			if ok || f.reason != duplicateName || f.at != at {
				t.Errorf("%q twice among %d members: taken %v, fault %q, want the one at byte %d", again, n, ok, f.text(0), at)
			}
		}
	}
}

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		leadCreated,
		`[` + leadCreated + `,{"type":"test","data":{}}]`,
		leadCreated + "\r\n\n" + `{"type":"test","data":{"n":[1e400,-0,1.50,12345678901234567890]}}`,
		` { "b" : "\u0061\ud83c\udfe0\/" , "1" : null , "type":"a.b", "data":{"0":{},"a":[]} } `,
		`{"id":"\u0022\\/\/%2F..","type":"A:b/c","data":{}}`, `[{"id":"\"","type":"a","data":{}},{"id":"b","type":"a","data":{}}]`,
		`{"type":"t","data":{"a":1,"a":2}}`, "\xef\xbb\xbf{}", `"\ud800"`, "[1e-7,0.1e22]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if out, _, ok := canonicalForm(body); ok {
			if !json.Valid(body) || !json.Valid(out) {
				t.Fatalf("%q was taken as %q; valid by encoding/json: %v, %v", body, out, json.Valid(body), json.Valid(out))
			}
			again, f, ok := canonicalForm(out)
			if !ok || !bytes.Equal(again, out) {
				t.Fatalf("%q became %q and that %q (%s)", body, out, again, f.text(0))
			}
		}
		var p, q Parser
		one, oneErr := one(&p, body, testStamp)
		events, single, err := q.JSON(body, testStamp)
		if single && ((oneErr == nil) != (err == nil) || err == nil && !bytes.Equal(one.Body, events[0].Body)) {
			t.Fatalf("%q: one gave %q (%v), JSON %q (%v)", body, one.Body, oneErr, events, err)
		}
		checkEvents(t, body, events)
		events, _ = q.Lines(body, testStamp)
		checkEvents(t, body, events)
	})
}

// checkEvents checks that each event parses to itself, with the same id and type.
func checkEvents(t *testing.T, body []byte, events []Event) {
	var p Parser
	for _, e := range events {
		again, err := one(&p, e.Body, Stamp{})
		if err != nil || !bytes.Equal(again.Body, e.Body) || !bytes.Equal(again.ID, e.ID) || !bytes.Equal(again.Type, e.Type) {
			t.Fatalf("%q gave %s and that %s (%v)", body, e, again, err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(e.Body, &members); err != nil {
			t.Fatalf("%q gave %s, which encoding/json refuses: %v", body, e, err)
		}
		var id, kind string
		if json.Unmarshal(members["id"], &id) != nil || json.Unmarshal(members["type"], &kind) != nil || id != string(e.ID) || kind != string(e.Type) || !IsID(e.ID) || !config.IsType(kind) {
			t.Fatalf("%q gave %s, in which encoding/json finds id %s and type %s", body, e, id, kind)
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	pretty := new(bytes.Buffer)
	if err := json.Indent(pretty, []byte(leadCreated), "", "  "); err != nil {
		b.Fatal(err)
	}
	for _, bm := range []struct{ name, body string }{
		{"compact", leadCreated},
		{"pretty", pretty.String()},
		{"stamped", `{"type":"lead.created","data":{"leadId":"lead_xyz789","firstName":"John","lastName":"Doe","email":"john@example.com","phone":"+1234567890","source":"website_form","score":75}}`},
		{"text", `{"id":"evt_1","type":"email.received","timestamp":"2024-01-15T10:30:00Z","data":{"text":"` + strings.Repeat("Guten Tag, wir möchten das Haus sehen. ", 50) + `"}}`},
		{"coordinates", `{"id":"evt_1","type":"test","timestamp":"2024-01-15T10:30:00Z","data":{"at":[` + strings.Repeat("40.712775999999998,-74.0060,", 20) + `0]}}`},
		{"members", `{"id":"evt_1","type":"test","timestamp":"2024-01-15T10:30:00Z","data":` + string(manyMembers(99_000)) + `}`},
		{"reorderings", `{"id":"evt_1","type":"test","timestamp":"2024-01-15T10:30:00Z","data":` + strings.Repeat(`{"a":`, 126) +
			`"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat(`,"0":0}`, 126) + `}`},
		{"longIntegers", `{"id":"evt_1","type":"test","timestamp":"2024-01-15T10:30:00Z","data":{"n":[` + strings.Repeat("1"+strings.Repeat("0", 307)+",", 100) + `0]}}`},
	} {
		b.Run(bm.name, func(b *testing.B) {
			var p Parser
			body := []byte(bm.body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := one(&p, body, testStamp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
