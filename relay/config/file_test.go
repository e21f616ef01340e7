package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// secure is a configuration with every key about TLS that an endpoint has; certificate and key are its files.
func secure(t *testing.T) (text, certificate, key string) {
	t.Helper()
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	mustWriteTLSPair(t, certificate, key)
	return fmt.Sprintf(`[delivery]
ca_file = %q
[[endpoint]]
name = "crm"
url = "https://example.com/"
events = ["test"]
secret = "0123456789abcdef"
client_cert = %q
client_key = %q
server_name = "crm.internal"
[[endpoint]]
name = "other"
url = "https://example.com/"
events = ["test"]
secret = "0123456789abcdef"
ca_file = ""
`, certificate, certificate, key), certificate, key
}

func TestFilesOfAnEndpointAreRead(t *testing.T) {
	text, certificate, key := secure(t)
	c := mustParse(t, text)
	e := c.Endpoints[0]
	for path, file := range map[string]File{certificate: e.ClientCert, key: e.ClientKey} {
		if file.String() != path || string(file.Content()) != string(mustRead(t, path)) || file.IsZero() {
			t.Errorf("%s: got %s with %q", path, file, file.Content())
		}
	}
	if e.Delivery.CAFile.String() != certificate || e.ServerName != "crm.internal" || !c.Endpoints[1].Delivery.CAFile.IsZero() {
		t.Errorf("got %+v", c.Endpoints)
	}
	if shown := fmt.Sprintf("%+v %#v %s", e, e, c.Describe()); strings.Contains(shown, "PRIVATE") {
		t.Errorf("shows a key: %s", shown)
	}
	want := fmt.Sprintf("  TLS      trusts the authorities of %q alone, expects the name crm.internal, shows the certificate of %q\n", certificate, certificate)
	if !strings.Contains(c.Describe(), want) {
		t.Errorf("%q is not in\n%s", want, c.Describe())
	}
	// The certificate is one of an hour.
	if warnings := strings.Join(c.Warnings, "\n"); !strings.Contains(warnings, "endpoint.crm.client_cert: expires on ") || len(c.Warnings) != 1 {
		t.Errorf("warnings: %s", warnings)
	}
	if same := mustParse(t, text); !reflect.DeepEqual(same, c) {
		t.Error("the same files make another configuration")
	}
	mustWriteTLSPair(t, certificate, key)
	if renewed := mustParse(t, text); reflect.DeepEqual(renewed.Endpoints[0], e) {
		t.Error("renewed files make the same configuration")
	}
	mustWrite(t, key, string(mustRead(t, key)), 0o644)
	if warnings := strings.Join(mustParse(t, text).Warnings, "\n"); !strings.Contains(warnings, "client_key: can be read by every user") {
		t.Errorf("a key for all to read: %s", warnings)
	}
}

func TestClientKeyMayBeASecret(t *testing.T) {
	text, _, key := secure(t)
	t.Setenv("RELAY_TEST_KEY", string(mustRead(t, key)))
	text = strings.Replace(text, fmt.Sprintf("client_key = %q", key), `client_key = "env:RELAY_TEST_KEY"`, 1)
	if e := mustParse(t, text).Endpoints[0]; string(e.ClientKey.Content()) != string(mustRead(t, key)) || e.ClientKey.String() != "env:RELAY_TEST_KEY" {
		t.Errorf("got %s", e.ClientKey)
	}
}

// masked is what is shown of an endpoint, by its keys.
func masked(t *testing.T, e *Endpoint) map[string]any {
	t.Helper()
	var keys map[string]any
	if err := json.Unmarshal(e.Masked(), &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

// What can be configured is shown, in the spelling of the file: what is no secret makes the same endpoint again.
func TestMaskedHasEveryKey(t *testing.T) {
	text, certificate, key := secure(t)
	text = strings.Replace(text, "[delivery]", "[delivery]\nproxy = \"http://joe:Zq7canary@proxy.internal:3128\"", 1)
	e := mustParse(t, text).Endpoints[0]
	keys := masked(t, &e)
	for _, k := range sectionOf("endpoint").keys {
		if _, ok := keys[k.name]; !ok && k.name != "name" {
			t.Errorf("%s is not shown in %s", k.name, e.Masked())
		}
	}
	for name, want := range map[string]any{
		"proxy": "http://********@proxy.internal:3128", "ca_file": certificate, "client_cert": certificate, "client_key": key, "server_name": "crm.internal",
		"secret": "********", "timeout": "10s", "rate_bytes": "0B", "success": "2xx", "concurrency": 16.0, "enabled": true,
	} {
		if keys[name] != want {
			t.Errorf("%s is shown as %q, want %q", name, keys[name], want)
		}
	}
	if got := fmt.Sprint(keys["retry"], keys["signatures"], keys["headers"]); got != "[1s 5s 30s 5m] [realtorbot] map[]" {
		t.Errorf("lists are shown as %s", got)
	}
	if shown := string(e.Masked()); strings.Contains(shown, "Zq7canary") || strings.Contains(shown, "PRIVATE") || !strings.HasPrefix(shown, `{"url":"https://example.com/","events":["test"],`) {
		t.Errorf("shows a secret, or the keys in another order than the file's: %s", shown)
	}
}
