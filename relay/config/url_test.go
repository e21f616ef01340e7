package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Of a URL that is a credential only the host is shown, wherever the configuration is.
func TestURLsThatAreCredentialsAreShownToTheirHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "url")
	mustWrite(t, path, "https://chat.internal.example/hooks/abc?room=7\n", 0o600)
	t.Setenv("RELAY_TEST_URL", "https://crm.example.com/landing")
	for written, want := range map[string]string{
		"env:RELAY_TEST_URL": "https://crm.example.com/********",
		"file:" + path:       "https://chat.internal.example/********",
		"https://hooks.slack.com/services/T000/B000/Xyz":                               "https://hooks.slack.com/********",
		"https://discord.com/api/webhooks/1234567890123/a1b2C3d4E5f6G7h8I9/slack":      "https://discord.com/********",
		"https://hooks.zapier.com/hooks/catch/123456/abcdef1/":                         "https://hooks.zapier.com/********",
		"https://hook.eu1.make.com/abcdefghijklmnopqrstuvwxyzabcdef":                   "https://hook.eu1.make.com/********",
		"https://n8n.example.com:5678/webhook/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0?a=": "https://n8n.example.com:5678/********",
		// Whose paths are names.
		"https://crm.example.com/webhooks/realtorbot?key=hidden": "https://crm.example.com/webhooks/realtorbot?********",
		"https://hooks.example.com/":                             "https://hooks.example.com/",
		"https://crm.example.com/v2/tenants/42/appointments":     "https://crm.example.com/v2/tenants/42/appointments",
	} {
		c := mustParse(t, "[[endpoint]]\nname = \"crm\"\nurl = \""+written+"\"\nevents = [\"*\"]\nsecret = \"0f1e2d3c4b5a69788796a5b4c3d2e1f0\"\n")
		e := &c.Endpoints[0]
		if got := masked(t, e)["url"]; got != want {
			t.Errorf("%s is shown as %s, want %s", written, got, want)
		}
		if leads := e.URL.Reveal(); !strings.HasPrefix(written, "https:") == (leads == written) {
			t.Errorf("%s leads to %s", written, leads)
		}
		if !strings.Contains(c.Describe(), "  to       "+want+"\n") {
			t.Errorf("%s is described as\n%s", written, c.Describe())
		}
		bare, _ := json.Marshal([]any{e.URL})
		shown := fmt.Sprintf("%v %+v %#v %s %s", e, *e, e.URL, e.Masked(), bare)
		if _, behind, _ := strings.Cut(strings.TrimPrefix(e.URL.Reveal(), "https://"), "/"); strings.Contains(want, "/***") && strings.Contains(shown, behind) {
			t.Errorf("%s is printed as %s", written, shown)
		}
	}
	if err := os.WriteFile(path, []byte("ftp://hidden"), 0o600); err != nil {
		t.Fatal(err)
	}
	for written, want := range map[string]string{
		"file:" + path:          "config.toml:3: endpoint.crm.url: must be a URL like",
		"env:RELAY_TEST_NO_URL": `config.toml:3: endpoint.crm.url: environment variable "RELAY_TEST_NO_URL" is not set`,
		"":                      "config.toml:3: endpoint.crm.url: is missing: write url =",
	} {
		_, err := Parse("config.toml", []byte("[[endpoint]]\nname = \"crm\"\nurl = \""+written+"\"\nevents = [\"*\"]\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", written, err)
		}
	}
}
