package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/jsonschema-go/jsonschema"
)

// validator is the schema as a JSON Schema library, which is none of ours, understands it.
func validator(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	var parsed jsonschema.Schema
	if err := json.Unmarshal(Schema(), &parsed); err != nil {
		t.Fatal(err)
	}
	resolved, err := parsed.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// instance is a TOML text as JSON has it: dates, and numbers that are none, are texts.
func instance(t *testing.T, text string) any {
	t.Helper()
	var values map[string]any
	if _, err := toml.Decode(text, &values); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return asJSON(values)
}

func asJSON(value any) any {
	switch value := value.(type) {
	case map[string]any:
		members := map[string]any{}
		for name, member := range value {
			members[name] = asJSON(member)
		}
		return members
	case int64:
		return float64(value)
	case float64:
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return fmt.Sprint(value)
		}
	case time.Time:
		return value.String()
	}
	if values, ok := list(value); ok {
		for i := range values {
			values[i] = asJSON(values[i])
		}
		return values
	}
	return value
}

func TestSchemaAdmitsWhatIsAccepted(t *testing.T) {
	schema := validator(t)
	tls, _, _ := secure(t)
	example := string(mustRead(t, examplePath))
	before, source, _ := strings.Cut(example, "\n# [[source]]\n")
	source, after, _ := strings.Cut(source, "\n\n")
	uncommented := before + "\n[[source]]\n" + strings.ReplaceAll("\n"+source, "\n# ", "\n") + "\n\n" + after
	for name, text := range map[string]string{
		"nothing": "", "the example": example, "its source": uncommented, "files": tls,
		"described.toml": string(mustRead(t, "testdata/described.toml")), "odd.toml": string(mustRead(t, "testdata/odd.toml")),
	} {
		if _, err := Parse(name, []byte(text), func(string) (string, error) { return "0123456789abcdef", nil }); err != nil {
			t.Errorf("%s: the reader says %v", name, err)
		}
		if err := schema.Validate(instance(t, text)); err != nil {
			t.Errorf("%s: the schema says %v", name, err)
		}
	}
}

// beyond are the bad configurations whose faults no schema sees: between keys, in files, in the environment, or no TOML at all.
var beyond = []string{"endpoint-tls", "one-listener", "open-intake", "open-source", "same-listener", "secrets", "tls-half", "tls-missing", "tls-wrong",
	"trusted_proxies_missing", "twice", "unix-allow"}

func TestSchemaRefusesWhatIsBadByItself(t *testing.T) {
	schema := validator(t)
	paths, _ := filepath.Glob("testdata/bad/*.toml")
	refused := 0
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".toml")
		var values map[string]any
		if _, err := toml.Decode(string(mustRead(t, path)), &values); err != nil {
			continue
		}
		err := schema.Validate(asJSON(values))
		if want := !slices.Contains(beyond, name); (err != nil) != want {
			t.Errorf("%s: the schema says %v, want a refusal: %v", name, err, want)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("only %d are refused", refused)
	}
}

// relational are the faults of a value that the schema need not know: they are between keys, or in files and the environment.
var relational = regexp.MustCompile(`no such file|beside (it|secret)|names no endpoint|names a file|checks nothing|asks for certificates|does nothing|is not set|` +
	`is everybody|must be 0B, for no limit, or from|must be whsec_|is missing, and|matches no type|is no type|is no address to connect to|names the endpoint itself|can be read in two ways|` +
	`must be (from|more than) .*not "([-+].*|.*\..*|.*[a-z][0-9].*)"|` + // several parts, a sign or a fraction
	`must (have|name) |must end in a port|must be unix:|must be host:port|must be an address or a network|is set by the relay|must be a URL|must be like`)

// Each key is given values of every kind, and those at its bounds and beyond them: what the reader accepts the schema admits, and
// what the reader refuses for itself the schema refuses. What is set is described.
func TestSchemaAndReaderAgreeOnEveryKey(t *testing.T) {
	schema := validator(t)
	pool := []string{
		`""`, `"x"`, `"X y"`, `"*"`, `"2xx"`, `"/events/2"`, `"/Zz/09_.~-"`, `"/health"`, `"//a"`, `"/../a"`, `"lead.created"`, `"env:RELAY_TEST_UNSET"`, `"https://example.com/"`,
		`"socks5://127.0.0.1:1080"`, `"127.0.0.1:9090"`, `"unix:/run/x.sock"`, `"1h30m"`, `"1.5s"`, `"7d12h"`, `"+5s"`, `"0"`, `"5"`, `"-1s"`, `"3651d"`, `"1 s"`, `"1 MiB"`,
		`"1M"`, `"1TiB"`, `"007MiB"`, `"00100ms"`, "-1", "0", "1", "16", "200", "199", "499", "500", "0.5", "-0.5", "1e9", "true", "false", "[]", `[""]`, `["x"]`, `["X"]`,
		`["*"]`, `["lead.*"]`, `["lead.created", "lead.created"]`, `["relay.*"]`, `["relay.tour"]`, `["realtorbot", "standard"]`, `["10.0.0.0/8"]`, `["::1", "::1"]`, `["1s", "2m"]`,
		`["0s"]`, `["25h"]`, `["1s"` + strings.Repeat(`, "1s"`, 20) + `]`, "[200, 204]", "[500]", `["200"]`, "[1]", "{}", `{ X-A = "b" }`, `{ X-A = "" }`, "{ X-A = 1 }", `{ "X A" = "b" }`, "[{}]",
	}
	for _, s := range sections {
		for _, k := range s.keys {
			for _, choice := range regexp.MustCompile(`[a-z]+`).FindAllString(k.kind.bounds, -1) {
				pool = append(pool, strconv.Quote(choice))
			}
			inside, outside := edges(k.kind.bounds)
			pool = append(append(pool, inside...), outside...)
		}
	}
	slices.Sort(pool)
	pool = slices.Compact(pool)
	compared, refused := 0, 0
	for _, s := range sections {
		if text := given(s, "no_such_key", "1"); schema.Validate(instance(t, text)) == nil {
			t.Errorf("%s\nis admitted by the schema", text)
		}
		if text := "[[" + s.name + "]]\n"; s.list && schema.Validate(instance(t, text)) == nil {
			t.Errorf("%s\nis admitted by the schema, without what it needs", text)
		}
		for _, k := range s.keys {
			plain := mustParse(t, given(s, "", ""))
			said := map[string]error{} // what the reader says of the key with each value
			for i, value := range pool {
				if k.shared && i%8 != 0 {
					continue // its row is that of [delivery], which is given them all
				}
				text := given(s, k.name, value)
				c, err := Parse("c.toml", []byte(text), nil)
				admitted := schema.Validate(instance(t, text))
				if err == nil && admitted != nil {
					t.Errorf("%s\nis accepted, and the schema says %v", text, admitted)
				}
				if err == nil && len(Diff(plain, c)) > 0 && c.Describe() == plain.Describe() {
					t.Errorf("%s\nis not described by\n%s", text, c.Describe())
				}
				var faults Faults
				errors.As(err, &faults)
				faults = slices.DeleteFunc(faults, func(f Fault) bool { return relational.MatchString(f.Text) || !strings.Contains(f.Key+".", "."+k.name) })
				if len(faults) > 0 && admitted == nil {
					t.Errorf("%s\nis refused: %v; the schema admits it", text, faults)
				}
				if compared++; admitted != nil {
					refused++
				}
				said[value] = err
			}
			if k.shared {
				continue
			}
			inside, outside := edges(k.kind.bounds)
			for _, value := range inside {
				if err := said[value]; err != nil && !strings.Contains(err.Error(), "(server.max_body)") {
					t.Errorf("%s.%s = %s is in its bounds, %s, and refused: %v", s.name, k.name, value, k.kind.bounds, err)
				}
			}
			for _, value := range outside {
				if said[value] == nil {
					t.Errorf("%s.%s = %s is out of its bounds, %s, and accepted", s.name, k.name, value, k.kind.bounds)
				}
			}
		}
	}
	if compared < 5000 || refused < compared/2 {
		t.Errorf("compared %d values, of which %d were refused", compared, refused)
	}
}

// given is a configuration with one key set, beside what its section needs.
func given(s section, key, value string) string {
	header, needs := "["+s.name+"]\n", map[string]string{}
	switch s.name {
	case "heartbeat":
		needs = map[string]string{"url": `"https://example.com/"`}
	case "source":
		needs = map[string]string{"name": `"a"`, "path": `"/a"`}
	case "endpoint":
		needs = map[string]string{"name": `"a"`, "url": `"https://example.com/"`, "events": `["test"]`}
	}
	if s.list {
		header = "[" + header[:len(header)-1] + "]\n"
	}
	if s.name == "" {
		header = ""
	}
	if key == "proxy_lookup" {
		needs["proxy"] = `"http://127.0.0.1:3128"`
	}
	if key != "" {
		needs[key] = value
	}
	for name, value := range needs {
		header += name + " = " + value + "\n"
	}
	return header
}

// edges are the values at the bounds that a key's documentation names, and those one step beyond them.
func edges(bounds string) (inside, outside []string) {
	m := regexp.MustCompile(`^(?:at least |at most )?([0-9]+)([a-zA-Z]*)(?: to ([0-9]+)([a-zA-Z]*))?$`).FindStringSubmatch(bounds)
	if m == nil {
		return nil, nil
	}
	value := func(number int, unit string) string {
		if unit == "" {
			return strconv.Itoa(number)
		}
		return strconv.Quote(strconv.Itoa(number) + unit)
	}
	bound := func(text, unit string, step int) {
		number, _ := strconv.Atoi(text)
		inside = append(inside, value(number, unit))
		outside = append(outside, value(number+step, unit))
	}
	bound(m[1], m[2], ifElse(strings.HasPrefix(bounds, "at most"), 1, -1))
	if m[3] != "" {
		bound(m[3], m[4], 1)
	}
	return inside, outside
}

// Editors insert defaults and show texts: each key has both, but for those that have no default.
func TestSchemaHasEveryKey(t *testing.T) {
	var parsed map[string]any
	if err := json.Unmarshal(Schema(), &parsed); err != nil {
		t.Fatal(err)
	}
	for _, s := range sections {
		property := parsed
		if s.name != "" {
			property = parsed["properties"].(map[string]any)[s.name].(map[string]any)
		}
		if s.list {
			property = property["items"].(map[string]any)
		}
		keys := property["properties"].(map[string]any)
		if s.name == "" {
			keys = map[string]any{"include": keys["include"]} // beside the sections
		}
		if len(keys) != len(s.keys) {
			t.Errorf("[%s] has %d keys in the schema and %d in the table", s.name, len(keys), len(s.keys))
		}
		for _, k := range s.keys {
			shown, _ := keys[k.name].(map[string]any)
			if text, _ := shown["description"].(string); len(text) < 5 || !strings.Contains(text, k.about) {
				t.Errorf("%s.%s is described by %q", s.name, k.name, text)
			}
			if _, ok := shown["default"]; ok != (k.normal != nil) {
				t.Errorf("%s.%s: has a default: %v", s.name, k.name, ok)
			}
		}
	}
}

// Every whole number of a range matches its pattern, and no other does.
func TestNumbersMatchesARangeAndNothingElse(t *testing.T) {
	for _, r := range [][2]int64{{0, 0}, {0, 9}, {1, 1}, {1, 10}, {7, 123}, {10, 99}, {99, 1024}, {100, 4096}, {512, 5000}, {1000, 1001}} {
		pattern := regexp.MustCompile("^(" + numbers(r[0], r[1]) + ")$")
		for n := range int64(6000) {
			if got, want := pattern.MatchString(strconv.FormatInt(n, 10)), r[0] <= n && n <= r[1]; got != want {
				t.Fatalf("%d to %d: %s matches %d: %v", r[0], r[1], pattern, n, got)
			}
		}
	}
	// A bound that is too long for a pattern is none.
	for _, low := range []int64{0, 1, 1025, 1_500_000, 150_000_000} {
		pattern := regexp.MustCompile("^(" + numbers(low, longest.Nanoseconds()) + ")$")
		for _, n := range []int64{low, low + 1, 10*low + 7, 99_999_999, 123_456_789, 1_234_567_890_123, math.MaxInt64} {
			if !pattern.MatchString(strconv.FormatInt(max(n, low), 10)) {
				t.Errorf("from %d: %s does not match %d", low, pattern, max(n, low))
			}
		}
		if low > 0 && pattern.MatchString(strconv.FormatInt(low-1, 10)) {
			t.Errorf("from %d: %s matches %d", low, pattern, low-1)
		}
	}
}
