package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
)

const attackAdminToken = "an-admin-token-that-the-attackers-lack"

// asking is a request to the admin listener.
func asking(method, path, headers, body string) string {
	length := ""
	if body != "" {
		length = fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s%s\r\n%s", method, path, headers, length, body)
}

// adminCases read and operate without the token, or with it where a page of somebody else's would. Those with a status of 200
// are the controls.
func adminCases() []attackCase {
	const bearer = "Authorization: Bearer "
	const token = bearer + attackAdminToken + "\r\n"
	cases := []attackCase{
		{"control: the token", asking("GET", "/stats", token, ""), 200}, {"control: health", asking("GET", "/health", "", ""), 200},
		{"control: an act", asking("POST", "/endpoints/crm/pause", token, ""), 200},
		{"a longer token", asking("GET", "/stats", bearer+attackAdminToken+"x\r\n", ""), 401},
		{"an empty token", asking("GET", "/stats", bearer+"\r\n", ""), 401},
		{"basic", asking("GET", "/stats", "Authorization: Basic "+attackAdminToken+"\r\n", ""), 401},
		{"the token as a cookie", asking("GET", "/stats", "Cookie: session="+attackAdminToken+"\r\n", ""), 401},
		{"the token in the query", asking("GET", "/stats?token="+attackAdminToken, "", ""), 401},
		{"a page's origin", asking("POST", "/endpoints/crm/resume", token+"Origin: http://evil.example\r\n", ""), 403},
		{"two hosts", asking("GET", "/stats", token+"Host: rebound.example\r\n", ""), 400},
		{"an unknown question", asking("POST", "/reload?dryrun=1", token, ""), 400},
		{"a body where none belongs", asking("POST", "/endpoints/crm/resume", token, "{}"), 400},
		{"an act by GET", asking("GET", "/endpoints/crm/resume", token, ""), 405},
		{"length and chunks", asking("POST", "/reload", token+"Transfer-Encoding: chunked\r\n", "{}"), 400},
		{"a bare LF", "GET /stats HTTP/1.1\nHost: localhost\n" + token + "\n", 400},
	}
	for _, path := range []string{"/stats", "/metrics", "/config", "/events", "/endpoints", "/failed", "/history", "/live", "/stream", "/backup"} {
		cases = append(cases, attackCase{"no token: " + path, asking("GET", path, "", ""), 401})
	}
	for _, path := range []string{"/reload", "/endpoints/crm/pause", "/endpoints/crm/resume", "/endpoints/crm/replay", "/endpoints/crm/test"} {
		cases = append(cases, attackCase{"no token: " + path, asking("POST", path, "", ""), 401})
	}
	return cases
}

// besiegeAdmin tries every way of reading and operating a relay of its own without leave. The endpoint that a control paused
// is paused at the end: nothing resumed it.
func besiegeAdmin(ctx context.Context, s *site) (cases int, failed error) {
	relay, err := s.newRelay("operated", []endpoint{{name: "crm", url: "http://127.0.0.1:9/", events: []string{"*"}}})
	if err != nil {
		return 0, err
	}
	config, err := os.ReadFile(relay.config)
	if err != nil {
		return 0, err
	}
	config = bytes.Replace(config, []byte("[admin]\n"), fmt.Appendf(nil, "[admin]\ntoken = %q\n", attackAdminToken), 1)
	if err := os.WriteFile(relay.config, config, 0o600); err != nil {
		return 0, err
	}
	if _, err := relay.start(ctx); err != nil {
		return 0, err
	}
	defer relay.proc.kill()
	all := adminCases()
	// Which also shows that wrong tokens keep the right one out from nobody.
	all = append(all, attackCase{"control: the token again", asking("GET", "/stats", "Authorization: Bearer "+attackAdminToken+"\r\n", ""), 200})
	for _, c := range all {
		got := tell(ctx, relay.admin, c.request)
		if got != c.status && !(c.status == 401 && got == 429) { // wrong tokens wait longer each time
			failed = errors.Join(failed, fmt.Errorf("admin, %s: answered %d, not %d", c.name, got, c.status))
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+relay.admin+"/endpoints/crm", nil)
	if err != nil {
		return len(all), err
	}
	request.Header.Set("Authorization", "Bearer "+attackAdminToken)
	answer, err := relay.client.Do(request)
	if err != nil {
		return len(all), errors.Join(failed, err)
	}
	defer answer.Body.Close()
	var now struct{ State string }
	if err := json.NewDecoder(answer.Body).Decode(&now); err != nil || now.State != "paused" {
		failed = errors.Join(failed, fmt.Errorf("admin: the endpoint that was paused is %q (%v)", now.State, err))
	}
	return len(all), failed
}
