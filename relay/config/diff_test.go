package config

import (
	"slices"
	"strings"
	"testing"
)

func TestDiffNamesWhatAReloadChanges(t *testing.T) {
	base := `
[server]
listen = "127.0.0.1:8080"
[queue]
retention = "1h"
[delivery]
timeout = "5s"
[[source]]
name = "platform"
path = "/events"
token = "0123456789abcdef"
[[endpoint]]
name = "crm"
url = "http://localhost/"
events = ["test"]
secret = "0123456789abcdef"
[[endpoint]]
name = "mail"
url = "http://localhost/"
events = ["test"]
timeout = "7s"
`
	for name, tt := range map[string]struct {
		old, with string // a replacement in the file
		want      []string
	}{
		"nothing":       {"", "", nil},
		"a comment":     {`[queue]`, "[queue] # the log", nil},
		"a section":     {`retention = "1h"`, `retention = "2h"`, []string{"queue changed (retention), needs a restart"}},
		"a secret":      {`secret = "0123456789abcdef"`, `secret = "fedcba9876543210"`, []string{"endpoint crm changed (secret)"}},
		"two keys":      {"timeout = \"7s\"", "timeout = \"8s\"\nenabled = false", []string{"endpoint mail changed (enabled, timeout)"}},
		"the delivery":  {`timeout = "5s"`, `timeout = "6s"`, []string{"endpoint crm changed (timeout)"}},
		"a renaming":    {`name = "mail"`, `name = "post"`, []string{"endpoint mail removed", "endpoint post added"}},
		"a source":      {`token = "0123456789abcdef"`, `token = "fedcba9876543210"`, []string{"source platform changed (token)"}},
		"custom events": {`[delivery]`, "[events]\ncustom = [\"tour.booked\"]\n[delivery]", []string{"events changed (custom)"}},
	} {
		before, after := mustParse(t, base), mustParse(t, strings.Replace(base, tt.old, tt.with, 1))
		var got []string
		for _, change := range Diff(before, after) {
			got = append(got, change.String())
			if text := change.String(); strings.Contains(text, "0123456789") || strings.Contains(text, "fedcba") {
				t.Errorf("%s: a secret is shown: %s", name, text)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
