package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A secret of every kind, from every place that it can be read from, on every way out that there is.
func TestNoSecretOfAnyKindIsLetOut(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	dir := shortDir(t)
	fromEnv, fromFile, fromCredential, admin, token := newSecret(), newSecret(), newSecret(), newSecret(), newSecret()
	for name, secret := range map[string]string{"file": fromFile, "platform": fromCredential} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := strings.Replace(preamble, "[queue]", "token = \""+admin+"\"\n[log]\nlevel = \"debug\"\n[queue]", 1) + `
[[source]]
name = "platform"
path = "/events"
token = "` + token + `"
previous_token = "env:PREVIOUS_TOKEN"
secret = "file:` + filepath.Join(dir, "file") + `"
previous_secret = "cred:platform"
[[source]]
name = "standard"
path = "/standard"
secret = "` + newStandardSecret() + `"
previous_secret = "` + newStandardSecret() + `"
scheme = "standard"
` + endpoint("crm", crm.url+"?key="+newSecret(), `secret = "`+newStandardSecret()+`"`, `previous_secret = "`+newStandardSecret()+`"`,
		`signatures = ["realtorbot", "standard"]`, `headers = { Authorization = "Bearer `+newSecret()+`", X-Key = "`+newSecret()+`" }`) +
		endpoint("gone", "http://127.0.0.1:9/"+"?key="+newSecret(), `secret = "`+newSecret()+`"`, `retry = ["100ms"]`) +
		endpoint("hooked", "env:HOOK_URL", `secret = "`+newSecret()+`"`) +
		endpoint("chat", crm.url+"/services/"+newSecret(), `format = "slack"`) +
		endpoint("proxied", "http://proxied.example/?key="+newSecret(), `secret = "`+newSecret()+`"`, `retry = ["100ms"]`,
			`proxy = "http://relay:`+newSecret()+`@127.0.0.1:9"`, `proxy_lookup = "proxy"`)
	env := []string{"PREVIOUS_TOKEN=" + fromEnv, "HOOK_URL=" + crm.url + "/in/" + newSecret(), "CREDENTIALS_DIRECTORY=" + dir}
	r := startIn(t, dir, config, env...)

	body := event("evt_1")
	for _, presented := range []string{token, fromEnv, token + "x", "Basic " + token} {
		for _, secret := range []string{fromFile, fromCredential, fromFile + "x"} {
			r.offer(body, "Authorization", "Bearer "+presented, "X-RealtorBot-Signature", realtorBot(secret, body))
			r.offer(secret, "Authorization", "Bearer "+presented, "X-RealtorBot-Signature", realtorBot(secret, secret)) // as a body that is no JSON
		}
	}
	r.intake.ask(t, "POST", "/events?token="+token, body, "Content-Type", "application/json")
	crm.await(3)
	as := []string{"Authorization", "Bearer " + admin}
	r.admin.ask(t, "GET", "/stats", "", "Authorization", "Bearer "+admin+"x")
	eventually(t, "the others have failed", func() bool {
		return strings.Count(r.admin.ask(t, "GET", "/events/evt_1", "", as...).body, `"failed"`) >= 2
	})
	for _, path := range []string{"GET /stats", "GET /health", "GET /metrics", "GET /endpoints", "GET /endpoints/crm", "GET /endpoints/proxied", "GET /endpoints/hooked", "GET /config",
		"GET /events", "GET /events/evt_1", "POST /endpoints/crm/test", "POST /endpoints/gone/test", "POST /endpoints/hooked/test", "POST /endpoints/chat/test", "POST /endpoints/proxied/test",
		"POST /endpoints/crm/pause", "POST /reload", "POST /reload?dry_run=1", "GET /", "GET /" + admin} {
		method, path, _ := strings.Cut(path, " ")
		r.admin.ask(t, method, path, "", as...)
	}
	for _, args := range [][]string{{"check", "-config", "config.toml"}, {"check", "-config", "bad.toml"}, {"-config", "bad.toml"}} {
		bad := strings.Replace(config, "[[source]]", "[[source]]\ncolour = \""+token+"\"\ncolor = "+admin, 1) + "\nsecret = \"" + newSecret() + "\"\n"
		if err := os.WriteFile(filepath.Join(dir, "bad.toml"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := command(dir, args...)
		cmd.Env = append(os.Environ(), env...)
		if code, _, stderr := end(t, cmd); (code == 0) == (args[len(args)-1] == "bad.toml") {
			t.Errorf("%q: exit code %d\n%s", args, code, stderr)
		}
	}
	r.stop()
	// That they are seen nowhere is the witness's to say, when all is over; here, where one of them was.
	if err := seen.verdict(); err != nil {
		t.Error(err)
	}
}
