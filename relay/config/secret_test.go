package config

import (
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
		"<your token goes here>": true, "REPLACE_THIS_WITH_A_SECRET": true, "your-very-long-secret-token": true, "xxxxxxxxxxxxxxxxxxxxxxxx": true, "********************": true,
		"0f1e2d3c4b5a69788796a5b4c3d2e1f0": false, "interchange-menagerie-quorum": false, "correct-horse-battery-staple": false, "s3cr3t{with}braces$and<more>": false,
	} {
		c := mustParse(t, "[admin]\ntoken = "+strconv.Quote(strings.ReplaceAll(value, " ", "_"))+"\n")
		warned := strings.Join(c.Warnings, "\n")
		if got := strings.Contains(warned, "config.toml:2: admin.token: looks like what somebody was to put a secret in place of"); got != want || strings.Contains(warned, value) {
			t.Errorf("%s: warned %q, want %v", value, warned, want)
		}
	}
}
