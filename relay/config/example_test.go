package config

import (
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const examplePath = "../../config.example.toml"

// exampleKey is a key of the example: under which header, whether it is in a comment, and its value as written.
type exampleKey struct {
	section, key, value string
	commented           bool
}

var (
	exampleHeader = regexp.MustCompile(`^(# )?\[+([a-z]+)\]+`)
	exampleEntry  = regexp.MustCompile(`^(# )?([a-z_]+) = ("[^"]*"|\[[^\]]*\]|\{[^}]*\}|[a-z0-9.]+)`)
)

func exampleKeys(t *testing.T) (keys []exampleKey) {
	t.Helper()
	section, commentedSection := "", false
	for line := range strings.Lines(string(mustRead(t, examplePath))) {
		if m := exampleHeader.FindStringSubmatch(line); m != nil {
			section, commentedSection = m[2], m[1] != ""
		} else if m := exampleEntry.FindStringSubmatch(line); m != nil {
			if commentedSection && m[1] == "" {
				t.Errorf("%s.%s stands under a table that is in a comment", section, m[2])
			}
			keys = append(keys, exampleKey{section, m[2], m[3], m[1] != ""})
		}
	}
	return keys
}

func TestExampleRunsWithoutWarning(t *testing.T) {
	c, err := Load(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if len(c.Endpoints) != 1 || c.Endpoints[0].Secret.Reveal() != exampleSecret {
		t.Errorf("the example's endpoint is not the signed one that README's Try it uses: %+v", c.Endpoints)
	}
	if strings.Count(string(mustRead(t, examplePath)), exampleSecret) != 2 {
		t.Error("the example's secret is not where the key and the command beside it are")
	}
}

// What stands in the sections of the example is what a file without them has.
func TestExampleShowsTheDefaults(t *testing.T) {
	got, err := Load(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Path, want.Sum = examplePath, got.Sum
	want.Sources = []Source{defaultSource()}
	e := defaultEndpoint(want.Delivery)
	// Which are the operator's own, without a default.
	e.Name, e.URL, e.Events, e.Secret = got.Endpoints[0].Name, got.Endpoints[0].URL, got.Endpoints[0].Events, got.Endpoints[0].Secret
	want.Endpoints = []Endpoint{e}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// A default in a comment is compared too: uncommented it changes nothing. Its own value for the shared [delivery]
// keeps the comparison from passing because the key was ignored.
func TestExampleCommentsShowTheDefaults(t *testing.T) {
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	mustWriteTLSPair(t, authorities, filepath.Join(t.TempDir(), "key.pem"))
	compared := 0
	for _, key := range exampleKeys(t) {
		if key.section != "endpoint" || !key.commented {
			continue
		}
		c := mustParse(t, `[delivery]
timeout = "1s"
retry = []
concurrency = 1
rate = 1
rate_bytes = "1KiB"
on_failed = "other"
success = [299]
max_age = "1m"
lag = "1s"
disable_after = "1h"
jitter = "1s"
numbers = "javascript"
proxy = "http://proxy.internal:3128"
proxy_lookup = "proxy"
ca_file = "`+authorities+`"
[[endpoint]]
name = "other"
url = "https://example.com/"
events = ["test"]
[[endpoint]]
name = "crm"
url = "https://example.com/"
events = ["test"]
`+key.key+" = "+key.value)
		field := func(d Delivery) any {
			value := reflect.ValueOf(d)
			for i := range value.NumField() {
				if snake(value.Type().Field(i).Name) == key.key {
					return value.Field(i).Interface()
				}
			}
			t.Fatalf("%s is no key of a delivery", key.key)
			return nil
		}
		if got, want := field(c.Endpoints[1].Delivery), field(defaults().Delivery); !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %s in a comment means %v, the default is %v", key.key, key.value, got, want)
		}
		compared++
	}
	if want := len(sectionOf("delivery").keys); compared != want {
		t.Errorf("compared %d keys, want %d", compared, want)
	}
}

func TestExampleSourceWorksWhenUncommented(t *testing.T) {
	text := "[[source]]\n"
	scheme := ""
	for _, key := range exampleKeys(t) {
		if key.section == "source" {
			text += key.key + " = " + key.value + "\n"
			if key.key == "scheme" {
				scheme = strings.Trim(key.value, `"`)
			}
		}
	}
	resolve := func(reference string) (string, error) { return "resolved-" + reference, nil }
	c, err := Parse("config.toml", []byte(text), resolve)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	s := c.Sources[0]
	if s.Token.Reveal() != "resolved-env:RELAY_TOKEN" || s.Secret.Reveal() != "resolved-cred:realtorbot" ||
		s.Path != defaultSource().Path {
		t.Errorf("got %+v with %s and %s", s, s.Token.Reveal(), s.Secret.Reveal())
	}
	// The scheme that is shown is the one that a secret has without it.
	c, err = Parse("config.toml", []byte("[[source]]\nname = \"a\"\npath = \"/a\"\nsecret = \"cred:a\""), resolve)
	if err != nil || c.Sources[0].Scheme != scheme {
		t.Errorf("the default scheme is not %q: %v", scheme, err)
	}
}
