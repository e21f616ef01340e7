package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What others can guess is told where others can connect, be it at a passed socket that the file does not name.
func TestShortTokensAreExposedBeyondLoopback(t *testing.T) {
	const long = "a-token-of-sixteen"
	c := mustParse(t, `
[admin]
token = "x"
[[source]]
name = "platform"
path = "/events"
token = "short"
previous_token = "`+long+`"
[[source]]
name = "edge"
path = "/edge"
secret = "brief"
previous_secret = "briefer"
`)
	for _, tt := range []struct {
		intake []string
		admin  string
		want   []string
	}{
		{[]string{"127.0.0.1:8080", "unix:/run/relay"}, "[::1]:8081", nil},
		{[]string{"127.0.0.1:8080"}, "0.0.0.0:8081", []string{"admin.token"}},
		{[]string{"127.0.0.1:8080", "192.0.2.1:8080"}, "127.0.0.1:8081",
			[]string{`the token of source "platform"`, `the secret of source "edge"`, `the previous_secret of source "edge"`}},
	} {
		got := c.Exposed(tt.intake, tt.admin)
		if len(got) != len(tt.want) {
			t.Errorf("%v, %s: %q", tt.intake, tt.admin, got)
			continue
		}
		for i, line := range got {
			if !strings.HasPrefix(line, tt.want[i]+" is shorter than 16 bytes") || strings.Contains(line, "brief") {
				t.Errorf("%v, %s: %q, want %s", tt.intake, tt.admin, line, tt.want[i])
			}
		}
	}
	if warned := strings.Join(c.Warnings, "\n"); !strings.Contains(warned, "admin.token: is shorter than 16 bytes") {
		t.Errorf("the start is warned %s", warned)
	}
}

// What was never filled in is told apart from what may be a secret.
func TestWhatStandsInPlaceOfASecretIsWarnedOf(t *testing.T) {
	for value, want := range map[string]bool{
		"CHANGE_ME": true, "change-me-please-now-now": true, "{{ vault_relay_token_of_prod }}": true, "${RELAY_TOKEN_FROM_ENV}": true, "$RELAY_TOKEN_HERE": true,
		"<your token goes here>": true, "REPLACE_THIS_WITH_A_SECRET": true, "your-very-long-secret-token": true, "your-secret-goes-here": true, "INSERT_TOKEN_HERE": true,
		"%RELAY_TOKEN_OF_PROD%": true, "__RELAY_TOKEN_OF_PROD__": true, "@RELAY_TOKEN_OF_PROD@": true, "nowhere-atmosphere-sphere": false, "50%-of-a-quorum-is-25%": false, "xxxxxxxxxxxxxxxxxxxxxxxx": true, "********************": true,
		"0f1e2d3c4b5a69788796a5b4c3d2e1f0": false, "interchange-menagerie-quorum": false, "correct-horse-battery-staple": false, "s3cr3t{with}braces$and<more>": false,
	} {
		c := mustParse(t, "[admin]\ntoken = "+strconv.Quote(strings.ReplaceAll(value, " ", "_"))+"\n")
		warned := strings.Join(c.Warnings, "\n")
		if got := strings.Contains(warned, "config.toml:2: admin.token: looks like a placeholder"); got != want || strings.Contains(warned, value) {
			t.Errorf("%s: warned %q, want %v", value, warned, want)
		}
	}
}

// A secret that a file holds for everybody is none, whichever key names the file.
func TestSecretFilesThatAllCanReadAreWarnedAbout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	mustWrite(t, path, "a-secret-of-32-characters-or-more\n", 0o640)
	text := `
[admin]
token = "file:` + path + `"
[[source]]
name = "platform"
path = "/events"
token = "file:` + path + `"
secret = "file:` + path + `"
[[endpoint]]
name = "crm"
url = "http://127.0.0.1:3000/"
events = ["*"]
secret = "file:` + path + `"
headers = { X-Key = "file:` + path + `" }
`
	if warned := mustParse(t, text).Warnings; len(warned) > 0 {
		t.Errorf("of a file of mode 0640 it warns %q", warned)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	warned := strings.Join(mustParse(t, text).Warnings, "\n")
	for _, key := range []string{"admin.token", "source.platform.token", "source.platform.secret", "endpoint.crm.secret", "endpoint.crm.headers.X-Key"} {
		if !strings.Contains(warned, key+": can be read by every user of this machine: chmod 0640 "+path) {
			t.Errorf("%s is not warned about:\n%s", key, warned)
		}
	}
}
