package endtoend

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"realtorbot-relay/sign"
)

// site is a machine with a relay as scripts/install leaves it, but for where its files are and which addresses it has in
// place of 127.0.0.1:8080 and 127.0.0.1:8081. The commands of the manual are run there as they stand.
type site struct {
	*relay
	etc, state        string
	intakeAt, adminAt string
	edited            string   // what the operator writes with sudoedit
	token             string   // of the source, in the environment as RELAY_TOKEN
	instead           []string // texts of the page, each with what is put in their place
}

var sites atomic.Int64

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{relay: &relay{process: &process{t: t}}, etc: filepath.Join(dir, "etc"), state: filepath.Join(dir, "state"),
		intakeAt: ownAddress(t), adminAt: ownAddress(t)}
	for _, dir := range []string{s.etc, s.state} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// ownAddress is a free port at a loopback address of its own: nobody else takes it between now and its use.
func ownAddress(t *testing.T) string {
	t.Helper()
	n, pid := sites.Add(1), os.Getpid()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 64+pid>>8&63, pid&255, n))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// config is the beginning of its configuration, with its own addresses.
func (s *site) config() string {
	return strings.NewReplacer("127.0.0.1:0\"\n[admin]", s.intakeAt+"\"\n[admin]", "127.0.0.1:0\"\n[queue]", s.adminAt+"\"\n[queue]").Replace(preamble)
}

func (s *site) begin() {
	s.t.Helper()
	s.relay = &relay{process: launch(s.t, command(s.state, "-config", filepath.Join(s.etc, "config.toml"))), dir: s.etc}
	s.awaitServing()
}

// serve does what systemd was asked to.
func (s *site) serve(t *testing.T, asked string) {
	t.Helper()
	switch asked {
	case "":
	case "reload realtorbot-relay":
		const done = `"message":"configuration reloaded"`
		before := s.stderr.count(done)
		s.signal(syscall.SIGHUP)
		eventually(t, "the configuration is reloaded", func() bool { return s.stderr.count(done) > before })
	case "disable --now realtorbot-relay":
		s.stop()
	case "restart realtorbot-relay":
		s.stop()
		s.begin()
	case "enable --now realtorbot-relay":
		s.begin()
	default:
		t.Fatalf("systemd is asked for %q", asked)
	}
}

func mustPrint(t *testing.T, printed []string, texts ...string) {
	t.Helper()
	all := strings.Join(printed, "\n")
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("the commands do not print %q:\n%s", text, all)
		}
	}
}

func TestRunbookAnEndpointWasDownForAnHour(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	status.Store(503)
	crm := receive(t, func(w http.ResponseWriter, _ *http.Request, _ attempt) { w.WriteHeader(int(status.Load())) })
	s := newSite(t)
	writeConfig(t, s.etc, s.config()+endpoint("crm", crm.url, "retry = []", "concurrency = 1"))
	s.begin()
	for i := range 8 {
		s.post(event(fmt.Sprintf("evt_%d", i)))
	}
	s.awaitEndpoint("crm", "is down", func(ep endpointStats) bool { return ep.State == "down" && ep.Failed >= 5 })
	status.Store(200)
	printed := s.follow(t, commands(t, "runbook", "An endpoint was down for an hour")[0], t.TempDir())
	mustPrint(t, printed, `"state": "down"`, `"delivered": true`, "503 Service Unavailable", `"dry_run": true`)
	s.awaitEndpoint("crm", "has delivered all", func(ep endpointStats) bool { return ep.Delivered == 8 && ep.Failed == 0 && ep.Pending == 0 })
}

func TestRunbookACustomerSaysAnEventNeverCame(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500, 200))
	s := newSite(t)
	writeConfig(t, s.etc, s.config()+endpoint("crm", crm.url, "retry = []"))
	s.begin()
	s.post(event("evt_abc123"))
	s.awaitState("evt_abc123", "crm", "failed")
	printed := s.follow(t, commands(t, "runbook", "A customer says an event never came")[0], t.TempDir())
	mustPrint(t, printed, `"state": "failed"`, `"status": 500`, "delivery failed for good")
	if a := crm.await(2)[1]; a.id != "evt_abc123" || a.header.Get("X-RealtorBot-Replay") == "" {
		t.Errorf("then came %+v", a)
	}
}

func TestRunbookRotateASecret(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	old, fresh := newSecret(), newSecret()
	s := newSite(t)
	config := s.config() + endpoint("crm", crm.url, `secret = "`+old+`"`)
	writeConfig(t, s.etc, config)
	s.begin()
	s.edited = strings.Replace(config, `secret = "`+old, `previous_secret = "`+old+"\"\nsecret = \""+fresh, 1)
	printed := s.follow(t, commands(t, "runbook", "Rotate a secret")[0], t.TempDir())
	mustPrint(t, printed, "endpoint crm changed (secret, previous_secret)", `"check": "accepts_signed"`)
	s.post(event("evt_1"))
	s.awaitState("evt_1", "crm", "delivered")
	for _, a := range crm.all() {
		if a.id == "evt_1" && sign.VerifyRealtorBot(a.header.Get("X-RealtorBot-Signature"), []byte(a.body), sign.NewSecret(fresh)) != nil {
			t.Error("the new secret does not sign")
		}
	}
}

func TestRunbookTheDiskIsFilling(t *testing.T) {
	t.Parallel()
	crm, old := receive(t, codes(500, 200)), receive(t, well)
	s := newSite(t)
	config := s.config() + endpoint("crm", crm.url, "retry = []")
	writeConfig(t, s.etc, config+endpoint("old-crm", old.url))
	s.begin()
	s.turn("POST", "/endpoints/old-crm/pause")
	s.post(event("evt_1"))
	s.awaitState("evt_1", "crm", "failed")
	s.turn("POST", "/endpoints/crm/pause")
	s.post(event("evt_2"))
	s.reload(config)
	s.edited = strings.Replace(config, "[queue]", "[queue]\nretention = \"1h\"", 1)
	printed := s.follow(t, commands(t, "runbook", "The disk is filling")[0], t.TempDir())
	mustPrint(t, printed, "disk room", `"state": "orphaned"`)
	s.awaitState("evt_2", "crm", "delivered")
	if ep := s.endpoint("old-crm"); ep.Name != "" {
		t.Errorf("the orphan is still there: %+v", ep)
	}
	if ep := s.endpoint("crm"); ep.Failed != 0 {
		t.Errorf("failed deliveries are still there: %+v", ep)
	}
}

func TestRunbookMoveToAnotherMachine(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	from, to, home := newSite(t), newSite(t), t.TempDir()
	writeConfig(t, from.etc, from.config()+endpoint("crm", crm.url))
	from.begin()
	from.turn("POST", "/endpoints/crm/pause")
	from.post(event("evt_1"))
	blocks := commands(t, "runbook", "Move to another machine")
	from.follow(t, blocks[0], home)

	to.intakeAt, to.adminAt = from.intakeAt, from.adminAt // as the configuration has it
	printed := to.follow(t, blocks[1], home)
	mustPrint(t, printed, "ok    backup", "whole", "1 deliveries pending", "endpoint      crm: 1 pending", "restored into", "no relay answers at", `"status": "degraded"`)
	to.awaitLog("the queue was restored from a backup of ")
	to.turn("POST", "/endpoints/crm/resume")
	if a := crm.await(1)[0]; a.id != "evt_1" {
		t.Errorf("then came %+v", a)
	}
}
