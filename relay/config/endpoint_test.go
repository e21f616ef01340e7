package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"realtorbot-relay/sign"
)

func TestSubscriptions(t *testing.T) {
	for _, test := range []struct {
		events    []string
		eventType string
		want      bool
	}{
		{[]string{"lead.created"}, "lead.created", true},
		{[]string{"lead.created"}, "lead.created.late", false},
		{[]string{"lead.*"}, "lead.created", true},
		{[]string{"lead.*"}, "lead.a.b", true},
		{[]string{"lead.*"}, "lead", false},
		{[]string{"lead.*"}, "lead.", false},
		{[]string{"lead.*"}, "leads.created", false},
		{[]string{"bot.*", "test"}, "test", true},
		{[]string{"*"}, "anything-well-formed", true},
		{[]string{"*"}, "relay.disk.low", false},
		{[]string{"*"}, "relays.sold", true},
		{[]string{"*", "relay.disk.low"}, "relay.disk.low", true},
		{[]string{"relay.*"}, "relay.disk.low", true},
		{[]string{"relay.*"}, "lead.created", false},
		{nil, "test", false},
	} {
		e := Endpoint{Events: test.events}
		if got := e.Subscribes(test.eventType); got != test.want {
			t.Errorf("%q, %q: got %v", test.events, test.eventType, got)
		}
	}
}

func TestSubscribesAllocatesNothing(t *testing.T) {
	e := Endpoint{Events: []string{"lead.created", "appointment.*", "relay.*", "*"}}
	if n := testing.AllocsPerRun(100, func() { e.Subscribes("email.opened") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCatalogueIsEighteenTypesAndTest(t *testing.T) {
	types := Types()
	if len(types) != 19 || !slices.Contains(types, "test") || !slices.Contains(types, "appointment.rescheduled") {
		t.Errorf("got %v", types)
	}
	types[0] = "changed"
	if Types()[0] == "changed" {
		t.Error("a caller can change the catalogue")
	}
	for _, eventType := range slices.Concat(Types(), alerts) {
		if !IsType(eventType) {
			t.Errorf("%q is no type", eventType)
		}
	}
}

func TestATypeHasTheFormThatDesignGivesIt(t *testing.T) {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:/"
	pattern := regexp.MustCompile(typePattern)
	for c := range 256 {
		for _, text := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c)}), string([]byte{byte(c)}) + "a"} {
			want := strings.IndexByte(allowed, byte(c)) >= 0
			if IsType(text) != want || IsType([]byte(text)) != want || pattern.MatchString(text) != want {
				t.Errorf("%q: taken %v, and by the schema %v", text, IsType(text), pattern.MatchString(text))
			}
		}
	}
	groups := regexp.MustCompile(typePattern + "|" + groupPattern)
	for text, want := range map[string]bool{
		"": false, strings.Repeat("a", 128): true, strings.Repeat("a", 129): false, "*": true, "a.*": true, ".*": false, "a*": false, "*.a": false,
		"a.*.b": false, "urn:x/y.*": true, strings.Repeat("a", 126) + ".*": true, strings.Repeat("a", 127) + ".*": false,
	} {
		if IsTypePattern(text) != want || text != "*" && groups.MatchString(text) != want {
			t.Errorf("pattern %q: taken %v, and by the schema %v", text, IsTypePattern(text), groups.MatchString(text))
		}
	}
}

func TestCustomTypesMayHaveCapitalsColonsAndSlashes(t *testing.T) {
	c := mustParse(t, `
[events]
custom = ["Tour.Booked", "urn:tour/x.ended"]
[[endpoint]]
name = "a"
url = "http://localhost/"
secret = "0123456789abcdef"
events = ["Tour.*", "urn:tour/x.*"]
`)
	for eventType, want := range map[string]bool{"Tour.Booked": true, "tour.booked": false, "urn:tour/x.ended": true, "urn:tour/xy": false, "urn:tour": false} {
		if c.Endpoints[0].Subscribes(eventType) != want {
			t.Errorf("%s: subscribed %v", eventType, !want)
		}
	}
}

func TestEndpointOverridesOnlyWhatItNames(t *testing.T) {
	c := mustParse(t, `
[delivery]
timeout = "3s"
retry = ["2s"]
success = [200, 202]
rate = 2.5
[[endpoint]]
name = "a"
url = "http://localhost/"
events = ["test"]
timeout = "7s"
retry = []
[[endpoint]]
name = "b"
url = "http://localhost/"
events = ["test"]
success = "2xx"
max_age = "7d"
enabled = false
`)
	want := Delivery{Timeout: 7 * time.Second, Retry: []time.Duration{}, Concurrency: 16, Rate: 2.5,
		Success: SuccessCodes(202, 200), MaxAge: 72 * time.Hour, Lag: 10 * time.Minute, Numbers: NumbersExact, ProxyLookup: LookupHere}
	if got := c.Endpoints[0].Delivery; !reflect.DeepEqual(got, want) {
		t.Errorf("a: got %+v, want %+v", got, want)
	}
	want = Delivery{Timeout: 3 * time.Second, Retry: []time.Duration{2 * time.Second}, Concurrency: 16, Rate: 2.5,
		MaxAge: 168 * time.Hour, Lag: 10 * time.Minute, Numbers: NumbersExact, ProxyLookup: LookupHere}
	if got := c.Endpoints[1].Delivery; !reflect.DeepEqual(got, want) {
		t.Errorf("b: got %+v, want %+v", got, want)
	}
	if !c.Endpoints[0].Enabled || c.Endpoints[1].Enabled {
		t.Error("enabled is not what the file says")
	}
}

func TestSuccess(t *testing.T) {
	for _, test := range []struct {
		success Success
		text    string
		codes   map[int]bool
	}{
		{Success{}, "2xx", map[int]bool{199: false, 200: true, 299: true, 300: false, 0: false}},
		{SuccessCodes(410, 200, 200), "[200, 410]", map[int]bool{200: true, 201: false, 410: true}},
	} {
		if test.success.String() != test.text {
			t.Errorf("got %s, want %s", test.success, test.text)
		}
		for code, want := range test.codes {
			if test.success.Has(code) != want {
				t.Errorf("%s has %d: want %v", test.success, code, want)
			}
		}
	}
}

func TestSecretsAreResolved(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", directory)
	t.Setenv("RELAY_TEST_SECRET", "from env ")
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		mustWrite(t, path, text, 0o600)
		return path
	}
	plain, crlf, twice := write("plain", "from file\n"), write("crlf", "from file\r\n"), write("twice", "from file\n\n")
	empty, long := write("empty", "\n"), write("long", strings.Repeat("x", maxSecret+1))
	for _, test := range []struct{ reference, want, fault string }{
		{"env:RELAY_TEST_SECRET", "from env ", ""},
		{"file:" + plain, "from file", ""},
		{"file:" + crlf, "from file", ""},
		{"file:" + twice, "from file\n", ""},
		{"cred:plain", "from file", ""},
		{"env:", "", `environment variable "" is not set`},
		{"file:" + empty, "", fmt.Sprintf("file %q is empty", empty)},
		{"file:" + long, "", fmt.Sprintf("file %q is longer than a secret can be (64KiB)", long)},
		{"file:" + directory, "", fmt.Sprintf("file %q is not a regular file", directory)},
		{"cred:", "", `credential "" must be a name without slashes`},
		{"cred:absent", "", `credential "absent" was not given to this process: add LoadCredential=absent:/path to its unit`},
		{"vault:x", "", `must be "env:NAME", "file:/path" or "cred:name"`},
	} {
		got, err := ResolveSecret(test.reference)
		if fault := errText(err); got != test.want || fault != test.fault {
			t.Errorf("%s: got %q, %q; want %q, %q", test.reference, got, fault, test.want, test.fault)
		}
	}
}

func TestHeadersKeepTheirSpelling(t *testing.T) {
	t.Setenv("RELAY_TEST_SECRET", "Bearer x")
	c := mustParse(t, `
[[endpoint]]
name = "a"
url = "http://localhost/"
events = ["test"]
headers = { Authorization = "env:RELAY_TEST_SECRET", x-crm-key = "k" }
`)
	got := map[string]string{}
	for name, value := range c.Endpoints[0].Headers {
		got[name] = value.Reveal()
	}
	if want := map[string]string{"Authorization": "Bearer x", "x-crm-key": "k"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDescribeSaysWhatTheRelayDoes(t *testing.T) {
	c := mustParse(t, string(mustRead(t, "testdata/described.toml")))
	if got, want := c.Describe(), string(mustRead(t, "testdata/described.want")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStandardSecretsAreAccepted(t *testing.T) {
	c := mustParse(t, `
[[source]]
name = "edge"
path = "/edge"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
scheme = "standard"
[[endpoint]]
name = "a"
url = "http://localhost/"
events = ["test"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
signatures = ["realtorbot", "standard"]
`)
	for _, secret := range []sign.Secret{c.Sources[0].Secret, c.Endpoints[0].Secret} {
		if _, err := sign.ParseStandardKey(secret); err != nil {
			t.Error(err)
		}
	}
}

func TestDescribeSaysWhatIsKeptOfWhatNobodyDelivers(t *testing.T) {
	for _, test := range []struct {
		queue Queue
		want  string
	}{
		{Queue{}, "for ever"},
		{Queue{UnservedRetention: time.Hour}, "for 1h, and then becomes failed"},
		{Queue{UnservedBytes: 1 << 20}, "for ever, at most 1MiB of it, and then becomes failed"},
	} {
		if got := test.queue.unserved(); got != test.want {
			t.Errorf("%+v is kept %q, want %q", test.queue, got, test.want)
		}
	}
}

// A chat checks no signature, so that one without a secret is as it should be.
func TestOnlyAReceiverThatCouldCheckIsMissedItsSecret(t *testing.T) {
	for format, warned := range map[string]bool{FormatEvent: true, FormatSlack: false} {
		c, err := Parse("c.toml", []byte("[[endpoint]]\nname = \"chat\"\nurl = \"https://chat.example.com/\"\nevents = [\"relay.*\"]\nformat = \""+format+"\"\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Join(c.Warnings, "\n"); strings.Contains(said, "not signed") != warned {
			t.Errorf("format %s: %q", format, said)
		}
	}
}
