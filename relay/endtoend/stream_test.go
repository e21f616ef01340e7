package endtoend

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// A developer's listen -from gets every event, signed with its own secret, across a restart of the relay, and the
// endpoints get theirs all the same.
func TestListenFromARelayForwardsEveryEvent(t *testing.T) {
	t.Parallel()
	token, secret := newSecret(), newSecret()
	crm, developer := receive(t, well), receive(t, well)
	r := start(t, strings.Replace(preamble, "[admin]", fmt.Sprintf("[admin]\ntoken = %q", token), 1)+endpoint("crm", crm.url))
	var admin atomic.Pointer[string] // where the relay's admin listener is, which changes with each start
	admin.Store(&r.admin.address)
	front := passOn(t, &admin)
	r.post(event("evt_before"))
	cmd := command(t.TempDir(), "listen", "-from", "http://"+front, "-all", "-token", "env:ADMIN_TOKEN",
		"-types", "lead.*", "-forward", developer.url, "-secret", "env:SECRET")
	cmd.Env = append(cmd.Environ(), "ADMIN_TOKEN="+token, "SECRET="+secret)
	listen := launch(t, cmd)
	// A relay that can't be reached at first ends listen: it must have been there before the relay is killed.
	eventually(t, "what was kept before is forwarded", func() bool { return len(developer.counts()) == 1 })
	want := map[string]int{"evt_before": 1}
	for i := range 20 {
		id := fmt.Sprintf("evt_%d", i)
		want[id] = 1
		r.post(event(id))
		r.post(fmt.Sprintf(`{"id":"other_%d","type":"bot.created","data":{}}`, i))
		if i == 10 {
			r.kill()
			r = r.again()
			admin.Store(&r.admin.address)
		}
	}
	eventually(t, "every event is forwarded", func() bool { return len(developer.counts()) >= len(want) })
	if got := developer.counts(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("forwarded %v, want %v", got, want)
	}
	for _, a := range developer.all() {
		if wanted := realtorBot(secret, a.body); a.header.Get("X-RealtorBot-Signature") != wanted {
			t.Errorf("event %s is signed %q, want %q", a.header.Get("webhook-id"), a.header.Get("X-RealtorBot-Signature"), wanted)
		}
	}
	eventually(t, "the endpoint has all", func() bool { return len(crm.counts()) == 41 })
	if text := listen.stdout.String(); !strings.Contains(text, "→ 200 OK") || !strings.Contains(text, "the relay is gone") {
		t.Errorf("listen shows:\n%s", tail(listen.stdout))
	}
	listen.stop()
}

// passOn accepts connections and carries each to where the pointer says.
func passOn(t *testing.T, to *atomic.Pointer[string]) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp", *to.Load())
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, near) }()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
	return ln.Addr().String()
}
