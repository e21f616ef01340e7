package endtoend

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"realtorbot-relay/relay/manual"
	"realtorbot-relay/scripts/needed"
	"realtorbot-relay/sign"
)

// Every command that README and the manual show is run: by a test here, which takes it from the page, or where elsewhere says.

// elsewhere are the commands that are not run here, with the file that runs them and how they stand there.
var elsewhere = map[string]struct{ file, as string }{
	"sudo scripts/install":                      {"scripts/booted", "/opt/relay/scripts/install --binary"}, // it needs root and systemd
	"scripts/test":                              {".ci/run", "\nscripts/test\n"},                           // which runs this
	"scripts/check format vet tidy staticcheck": {".ci/run", "scripts/check"},
	"scripts/simulate -seeds 5":                 {"scripts/check", "scripts/simulate -seeds"},
	"scripts/simulate -mutants all":             {"scripts/check", "scripts/simulate -mutants all"},
	"scripts/simulate -seed 7 -seeds 1 -without operator,crm/12 -log": {"scripts/check", "scripts/simulate -seed 7 -seeds 1 -without operator,crm/12 -log"},
}

// page is README or a page of the manual.
func page(t *testing.T, name string) string {
	t.Helper()
	if name == "README" {
		text, err := os.ReadFile("../../README.md")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text, ok := manual.Page(name)
	if !ok {
		t.Fatalf("the manual has no page %q", name)
	}
	return text
}

var (
	chapterLine  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	commandBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")
)

// chapters are the blocks of commands of a page, by the title of the chapter that they stand in.
func chapters(text string) map[string][][]string {
	found := map[string][][]string{}
	// What begins with # in a block is no title.
	blocks := commandBlock.FindAllStringSubmatchIndex(text, -1)
	for _, at := range blocks {
		title := ""
		for _, line := range chapterLine.FindAllStringSubmatchIndex(text[:at[0]], -1) {
			title = text[line[2]:line[3]]
		}
		var block []string
		var command strings.Builder
		for line := range strings.Lines(text[at[2]:at[3]]) {
			command.WriteString(line)
			if s := strings.TrimRight(line, "\n"); strings.HasSuffix(s, `\`) || strings.HasSuffix(s, "|") {
				continue
			}
			block = append(block, strings.TrimSpace(command.String()))
			command.Reset()
		}
		found[title] = append(found[title], block)
	}
	return found
}

// followed are the commands that were run, by page.
var followed sync.Map

// commands are those of a chapter, block by block. All of them must have been followed when the test ends.
func commands(t *testing.T, name, title string) (blocks [][]string) {
	t.Helper()
	blocks = chapters(page(t, name))[title]
	if len(blocks) == 0 {
		t.Fatalf("page %s has no commands under %q", name, title)
	}
	t.Cleanup(func() {
		for _, block := range blocks {
			for _, command := range block {
				if _, ok := followed.Load(command); !ok && !t.Failed() && !t.Skipped() && elsewhere[bare(command)].file == "" {
					t.Errorf("%s, %s: this was not run: %s", name, title, command)
				}
			}
		}
	})
	return blocks
}

// bare is a command without its comment.
func bare(command string) string {
	command, _, _ = strings.Cut(command, "  #")
	return strings.TrimSpace(command)
}

// A command that is new in a page needs a test that runs it.
func TestEveryCommandOfTheManualIsRun(t *testing.T) {
	t.Parallel()
	var tests strings.Builder
	for _, file := range []string{"runbook_test.go", "commands_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	used, count := map[string]bool{}, 0
	for _, name := range append([]string{"README"}, manual.Names()...) {
		for title, blocks := range chapters(page(t, name)) {
			known := strings.Contains(tests.String(), `commands(t, "`+name+`", "`+title+`")`)
			for _, block := range blocks {
				for _, command := range block {
					count++
					if place := elsewhere[bare(command)]; place.file != "" {
						used[bare(command)] = true
					} else if !known && name != "proxies" {
						t.Errorf("%s, %s: no test runs this: %s", name, title, command)
					}
				}
			}
		}
	}
	if count < 70 {
		t.Errorf("only %d commands were found", count)
	}
	for command, place := range elsewhere {
		text, err := os.ReadFile("../../" + place.file)
		if err != nil || !strings.Contains(string(text), place.as) || !used[command] {
			t.Errorf("%s is not run by %s as %q, or no page has it (%v)", command, place.file, place.as, err)
		}
	}
	// What stands around the relay is taken from its page by a script, block by block.
	script, err := os.ReadFile("../../scripts/proxies")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range regexp.MustCompile("(?m)^```([a-z0-9-]+)$").FindAllStringSubmatch(page(t, "proxies"), -1) {
		if !strings.Contains(string(script), "block "+kind[1]) {
			t.Errorf("scripts/proxies runs no block %s", kind[1])
		}
	}
}

// Commands that stand within a text name what there is: commands of the binary, scripts, and flags of theirs.
func TestTheManualNamesNoUnknownCommandOrFlag(t *testing.T) {
	t.Parallel()
	known := commandFlags(t)
	known["help"] = nil
	ours := regexp.MustCompile("`(?:sudo )?realtorbot-relay (?:\\[serve\\] )?([^`]*)`")
	theirs := regexp.MustCompile("`(?:sudo )?((?:scripts/|\\.ci/)[a-z-]+(?:/run)?)([^`]*)`")
	flag := regexp.MustCompile(`(?:^|[ \[])--?([a-z][a-z-]*)`)
	found := 0
	for _, name := range append([]string{"README"}, manual.Names()...) {
		text := commandBlock.ReplaceAllString(page(t, name), "")
		for _, span := range ours.FindAllStringSubmatch(text, -1) {
			verb, rest, _ := strings.Cut(span[1], " ")
			if strings.HasPrefix(verb, "-") {
				verb, rest = "serve", span[1]
			}
			flags, ok := known[verb]
			found++
			if !ok {
				t.Errorf("%s: there is no command %s", name, span[0])
			}
			for _, f := range flag.FindAllStringSubmatch(rest, -1) {
				if !strings.Contains(" "+strings.Join(flags, " ")+" ", " "+f[1]+" ") {
					t.Errorf("%s: %s has no flag %s: %s", name, verb, f[1], span[0])
				}
			}
		}
		for _, span := range theirs.FindAllStringSubmatch(text, -1) {
			found++
			script, err := os.ReadFile("../../" + span[1])
			if err != nil {
				if entries, err := os.ReadDir("../../" + span[1]); err == nil && len(entries) > 0 && span[2] == "/" {
					continue // a folder
				}
				t.Errorf("%s: %s: %v", name, span[0], err)
			}
			usage, _, _ := strings.Cut(string(script), "\nset -")
			for _, f := range flag.FindAllStringSubmatch(span[2], -1) {
				if f[1] != "h" && !regexp.MustCompile(`[ \[]--?`+f[1]+`\b`).MatchString(usage) {
					t.Errorf("%s: %s: the script has no such flag", name, span[0])
				}
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d were found", found)
	}
}

// standIns are for what is the machine's: root, the editor, the service, the journal; and for go, since the binary is built.
const standIns = `
sudo() { "$@"; }
curl() { command curl --fail-with-body -sS "$@"; }
realtorbot-relay() {
	case "$1 $*" in
	*-config*) ;;
	status* | pause* | resume* | failed* | replay* | events* | reload* | backup* | test*) set -- "$@" -config "$ETC/config.toml" ;;
	esac
	$STAYS "$BINARY" "$@"
}
sudoedit() { cp "$EDITED" "$1"; }
journalctl() { cat "$JOURNAL"; }
systemctl() { echo "$@" >"$ASKED"; }
env() { [ "$1" = -C ] && (cd "$2" && "${@:3}"); }
ssh() { command ssh -G "$@" >forwards && grep '^localforward' forwards; }
go() {
	case $1 in
	run) $STAYS "$BINARY" "${@:3}" ;;
	build) cd "$CHECKOUT" && command go build -o /dev/null "${@:2}" ;;
	esac
}
set -euo pipefail
`

// prepare is a command as it stands in a page, to be run in home. Its addresses and paths are put in by follow.
func (s *site) prepare(t *testing.T, line, home string) *exec.Cmd {
	t.Helper()
	followed.Store(line, true)
	for _, program := range []string{"curl", "openssl", "ssh"} {
		if strings.Contains(line, program+" ") {
			needed.Program(t, program)
		}
	}
	log := ""
	if s.stderr != nil {
		log = s.stderr.String()
	}
	journal, edited, asked := filepath.Join(home, "journal"), filepath.Join(home, "edited"), filepath.Join(home, "asked")
	for path, text := range map[string]string{journal: log, edited: s.edited, asked: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer(append(s.instead, "/etc/realtorbot-relay", s.etc, "/var/lib/realtorbot-relay", s.state,
		"127.0.0.1:8080", s.intakeAt, "127.0.0.1:8081", s.adminAt)...).Replace(line)
	cmd := exec.Command("bash", "-c", standIns+here)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "BINARY="+binary, "EDITED="+edited, "JOURNAL="+journal, "ASKED="+asked, "CHECKOUT="+checkout, "RELAY_TOKEN="+s.token, "ETC="+s.etc, "STAYS=")
	return cmd
}

// stay begins a command that goes on until the test ends.
func (s *site) stay(t *testing.T, line, home string) *process {
	t.Helper()
	cmd := s.prepare(t, line, home)
	cmd.Env = append(cmd.Env, "STAYS=exec") // so that it is the binary that the test ends
	return launch(t, cmd)
}

// follow runs the commands of a block and returns what each printed.
func (s *site) follow(t *testing.T, block []string, home string) (printed []string) {
	t.Helper()
	for _, line := range block {
		if elsewhere[bare(line)].file != "" {
			continue
		}
		p := launch(t, s.prepare(t, line, home))
		code, out := p.exit(), p.stdout.String()
		if code != 0 && !strings.Contains(out, "is in memory") { // doctor, where temporary files are
			t.Fatalf("%s\nends with %d:\n%s%s", line, code, out, p.stderr.String())
		}
		printed = append(printed, out)
		service, err := os.ReadFile(filepath.Join(home, "asked"))
		if err != nil {
			t.Fatal(err)
		}
		s.serve(t, strings.TrimSpace(string(service)))
	}
	return printed
}

func TestWhoTriesItSeesWhatReadmeSays(t *testing.T) {
	t.Parallel()
	blocks := commands(t, "README", "Try it")
	s, home := newSite(t), t.TempDir()
	receiver := ownAddress(t)
	if err := os.WriteFile(filepath.Join(home, "config.example.toml"), []byte(strings.NewReplacer(
		"127.0.0.1:8080", s.intakeAt, "127.0.0.1:8081", s.adminAt, "127.0.0.1:3000", receiver).Replace(read(t, "../../config.example.toml"))), 0o600); err != nil {
		t.Fatal(err)
	}
	s.relay = &relay{process: s.stay(t, blocks[0][0], home), dir: home}
	s.awaitServing()
	s.instead = []string{"127.0.0.1:3000", receiver}
	shows := s.stay(t, blocks[1][0], home)
	eventually(t, "the receiver listens", func() bool { return shows.stdout.has("listening on ") })
	mustPrint(t, s.follow(t, blocks[2], home), "200 OK", `{"id":"evt_abc123","status":"accepted","endpoints":1}`)
	s.awaitState("evt_abc123", "crm", "delivered")
	if line := shows.stdout.lineWith("evt_abc123  attempt 1  "); !strings.HasSuffix(line, "  lead.created  evt_abc123  attempt 1  signed ✓ realtorbot") {
		t.Errorf("the receiver prints %q", line)
	}
	mustPrint(t, s.follow(t, blocks[2], home), `"status":"duplicate"`)
	mustPrint(t, s.follow(t, blocks[3], home), `"state": "delivered"`)
	if a := s.admin.ask(t, "GET", "/", ""); a.status != 200 || !strings.Contains(a.body, `href="manual/"`) {
		t.Errorf("the page: %d %s", a.status, a.body)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newOperated is a site whose relay runs, with endpoint crm and a source that asks for a token.
func newOperated(t *testing.T, crm *receiver, more ...string) *site {
	t.Helper()
	s := newSite(t)
	s.token = newSecret()
	writeConfig(t, s.etc, s.config()+"[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = \""+s.token+"\"\n"+endpoint("crm", crm.url, append(more, "retry = []")...))
	s.begin()
	return s
}

func (s *site) postWithToken(t *testing.T, id string) {
	t.Helper()
	if a := s.offer(event(id), "Authorization", "Bearer "+s.token); a.status != 200 {
		t.Fatalf("posting %s: %d %s %v", id, a.status, a.body, a.err)
	}
}

func TestAnInstalledRelayIsConfiguredAndStarted(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	s := newOperated(t, crm)
	s.edited = s.config() + endpoint("crm", crm.url) + endpoint("other", crm.url)
	mustPrint(t, s.follow(t, commands(t, "README", "Install")[0], t.TempDir()), `"status": "ok"`)
	if s.endpoint("other").Name == "" {
		t.Error("the configuration is not followed")
	}
	s.follow(t, commands(t, "install", "From a checkout")[0], t.TempDir())
	mustPrint(t, s.follow(t, commands(t, "configure", "Configure: what stands in the file")[0], t.TempDir()), "other")
	s.stop()
	s.follow(t, commands(t, "install", "From a package")[0], t.TempDir())
	if s.endpoint("other").Name == "" {
		t.Error("what was edited is not followed")
	}
}

func TestAnEventIsRoutedAsTheManualSays(t *testing.T) {
	t.Parallel()
	s, home := newSite(t), t.TempDir()
	const url = "http://127.0.0.1:9/webhooks"
	writeConfig(t, home, preamble+endpoint("acct-42", url, `match = { "data.accountId" = "acct_42" }`)+
		endpoint("acct-7", url, `match = { "data.accountId" = "acct_7" }`)+strings.Replace(endpoint("mail", url), `"*"`, `"email.*"`, 1))
	if err := os.WriteFile(filepath.Join(home, "event.json"), []byte(of("evt_1", `"accountId":"acct_7"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	said := s.follow(t, commands(t, "configure", "Whose events an endpoint gets")[0], home)
	if shown := "    " + strings.ReplaceAll(strings.TrimSpace(said[0]), "\n", "\n    ") + "\n"; !strings.Contains(page(t, "configure"), shown) {
		t.Errorf("the page does not show what it prints:\n%s", shown)
	}
}

func TestEventsArePostedAsTheManualSays(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	s := newOperated(t, crm)
	mustPrint(t, s.follow(t, commands(t, "README", "Post an event")[0], t.TempDir()), `{"id":"evt_1","status":"accepted","endpoints":1}`)
	mustPrint(t, s.follow(t, commands(t, "post", "Post events: what a source sends, and what it is answered")[0], t.TempDir()), `{"id":"evt_1","status":"duplicate"`)
	mustPrint(t, s.follow(t, commands(t, "post", "Several at once, and compressed")[0], t.TempDir()), `{"accepted":1,"duplicates":1,"results":[`, `{"accepted":2,"duplicates":0,"results":[`)
}

func TestARelayIsOperatedAsTheManualSays(t *testing.T) {
	t.Parallel()
	crm := receive(t, codes(500, 200))
	s, home := newOperated(t, crm), t.TempDir()
	s.postWithToken(t, "evt_1")
	s.awaitState("evt_1", "crm", "failed")
	s.postWithToken(t, "evt_2")
	s.awaitState("evt_2", "crm", "delivered")
	mustPrint(t, s.follow(t, commands(t, "operate", "The page")[0], home), "localforward 8081 ["+strings.Replace(s.adminAt, ":", "]:", 1))
	mustPrint(t, s.follow(t, commands(t, "operate", "Find events")[0], home), `"id": "evt_1"`, `"state": "failed"`)
	mustPrint(t, s.follow(t, commands(t, "operate", "Commands")[0], home), "ENDPOINT", "endpoint crm: paused", "endpoint crm: resumed", "evt_1", "1 delivery would go to crm again", "delivered: 200")
	if info, err := os.Stat(filepath.Join(home, "relay.backup")); err != nil || info.Size() == 0 {
		t.Error("there is no backup", err)
	}
	mustPrint(t, s.follow(t, commands(t, "operate", "Failed deliveries, and replays")[0], home), `"replay"`, `"dry_run": true`)
	config := read(t, filepath.Join(s.etc, "config.toml"))
	s.reload(config + endpoint("old-crm", crm.url))
	s.turn("POST", "/endpoints/old-crm/pause")
	s.postWithToken(t, "evt_3")
	s.reload(config)
	s.follow(t, commands(t, "operate", "Pause, resume, discard")[0], home)
	if ep := s.endpoint("old-crm"); ep.Name != "" {
		t.Errorf("the orphan is still there: %+v", ep)
	}
}

func TestABackupIsMadeAndRestoredAsTheManualSays(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	s, home := newOperated(t, crm), t.TempDir()
	s.turn("POST", "/endpoints/crm/pause")
	s.postWithToken(t, "evt_1")
	mustPrint(t, s.follow(t, commands(t, "backup", "Backup: copy the queue, and restore it")[0], home), "whole", "1 deliveries pending")

	// What cron does: the fields of the time are cut, \% is %, and / is where it begins.
	_, nightly, ok := strings.Cut(page(t, "backup"), "\n0 3 * * *  ")
	if nightly, _, _ = strings.Cut(nightly, "\n```"); !ok {
		t.Fatal("there is no crontab")
	}
	s.instead = []string{`\%`, "%", "/var/backups", home}
	s.follow(t, []string{nightly}, home)
	if made, _ := filepath.Glob(filepath.Join(home, "relay-[1-7].backup")); len(made) != 1 {
		t.Errorf("cron made %q", made)
	}
	s.instead = nil

	s.stop()
	if err := os.RemoveAll(filepath.Join(s.state, "data")); err != nil {
		t.Fatal(err)
	}
	mustPrint(t, s.follow(t, commands(t, "backup", "Restore")[0], home), "restored into")
	s.begin()
	s.turn("POST", "/endpoints/crm/resume")
	if a := crm.await(1)[0]; a.id != "evt_1" {
		t.Errorf("then came %+v", a)
	}
}

func TestAReceiverIsDevelopedAsTheManualSays(t *testing.T) {
	t.Parallel()
	crm := receive(t, func(w http.ResponseWriter, _ *http.Request, a attempt) {
		if sign.VerifyRealtorBot(a.header.Get("X-RealtorBot-Signature"), []byte(a.body), sign.NewSecret("S")) != nil {
			w.WriteHeader(401)
		}
	})
	own := receive(t, well)
	s, home := newOperated(t, crm, `secret = "S"`), t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "admin.token"), []byte("a-token-that-nobody-asks-for"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.instead = []string{"https://relay.example", "http://" + s.adminAt, "http://localhost:3000/webhooks/realtorbot", own.url}
	follows := s.stay(t, commands(t, "develop", "Get the events of a running relay")[0][0], home)
	asked := 0 // it takes what is accepted once it is connected
	eventually(t, "listen is connected", func() bool {
		asked++
		s.postWithToken(t, fmt.Sprint("before_", asked))
		return len(own.all()) > 0
	})
	s.instead = []string{"send -type lead.created", "send -url http://" + s.intakeAt + "/events -type lead.created"} // by default 8080
	mustPrint(t, s.follow(t, commands(t, "develop", "Send an event")[0], home), "accepted evt_", "accepted evt_7: for 1 endpoint")
	eventually(t, "listen shows it", func() bool { return follows.stdout.has("evt_7") })
	arrived := false
	for _, a := range own.all() {
		arrived = arrived || a.id == "evt_7"
		if a.header.Get("X-RealtorBot-Signature") == "" {
			t.Errorf("it is not signed: %+v", a)
		}
	}
	if !arrived {
		t.Error("evt_7 was shown and not posted")
	}

	a := crm.await(1)[0]
	for name, text := range map[string]string{"body": a.body, "signature": a.header.Get("X-RealtorBot-Signature") + "\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustPrint(t, s.follow(t, commands(t, "develop", "Find out why a signature does not match")[0], home), "matches: X-RealtorBot-Signature is right")
	mustPrint(t, s.follow(t, commands(t, "develop", "Check a receiver")[0], home), "accepts_signed", `"check": "answers_fast"`)

	at := ownAddress(t)
	s.instead = []string{"127.0.0.1:3000", at}
	shows := s.stay(t, commands(t, "develop", "See what arrives")[0][0], home)
	eventually(t, "it listens", func() bool { return shows.stdout.has("listening on ") })
	if r, err := http.Post("http://"+at, "application/json", strings.NewReader(event("evt_9"))); err != nil || r.StatusCode != 401 {
		t.Errorf("what is not signed is answered %v %v", r, err)
	}
}

func TestItIsBuiltAsTheManualSays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.follow(t, commands(t, "inside", "Build and test")[0], t.TempDir())
}
