package endtoend

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// badConfig has many faults. Behind each stands the key that the fault names.
const badConfig = `[server]
listen = "8080"                # server.listen
max_body = "17MiB"             # server.max_body
colour = "red"                 # server.colour
[admin]
token = 7                      # admin.token
[queue]
retention = "soon"             # queue.retention
[[source]]
name = "edge"
path = "/events"
secret = "SECRET"
scheme = "standard"
[[source]]
name = "edge"                  # source[2].name
path = "/health"               # source[2].path
token = "env:NOT_SET_AT_ALL"   # source[2].token
[delivery]
timeout = 10                   # delivery.timeout
[[endpoint]]
name = "crm"
url = "http://169.254.169.254/latest"  # endpoint.crm.url
events = ["lead.create"]       # endpoint.crm.events[1]
secret = "SECRET"
concurrency = 0                # endpoint.crm.concurrency
`

func TestABadConfigurationNamesEveryFaultAndExitsWithTwo(t *testing.T) {
	t.Parallel()
	config := strings.ReplaceAll(badConfig, "SECRET", newSecret())
	var want []string
	for i, line := range strings.Split(config, "\n") {
		if _, key, ok := strings.Cut(line, "# "); ok {
			want = append(want, "config.toml:"+strconv.Itoa(i+1)+": "+key+": ")
		}
	}
	for i, line := range strings.Split(config, "\n") {
		if strings.HasPrefix(line, "secret") && i < 20 {
			want = append(want, "config.toml:"+strconv.Itoa(i+1)+": source.edge.secret: ") // no whsec_, as "standard" needs
		}
	}
	for _, args := range [][]string{{"-config", "config.toml"}, {"serve", "-config", "config.toml"}, {"check", "-config", "config.toml"}} {
		dir := t.TempDir()
		writeConfig(t, dir, config)
		code, stdout, stderr := end(t, command(dir, args...))
		if args[0] != "check" {
			stderr = messages(t, stderr)
		}
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		if code != 2 || stdout != "" || len(lines) != len(want) {
			t.Errorf("%q: exit code %d and %d lines, want 2 and %d:\n%s%s", args, code, len(lines), len(want), stdout, stderr)
		}
		for _, prefix := range want {
			if !strings.Contains("\n"+stderr, "\n"+prefix) {
				t.Errorf("%q: no line begins with %q", args, prefix)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
			t.Errorf("%q: the queue's directory was made: %v", args, err)
		}
	}
}

// messages are those of a log's lines, each with the level error.
func messages(t *testing.T, log string) (text string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var l struct{ Level, Message string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Level != "error" {
			t.Errorf("a line of the log is %q: %v", line, err)
		}
		text += l.Message + "\n"
	}
	return text
}

// TestFaultsAreInTheFormOfTheLog: of a file whose log is for eyes too.
func TestFaultsAreInTheFormOfTheLog(t *testing.T) {
	t.Parallel()
	for format, begins := range map[string]string{"json": `{"message":"config.toml:`, "auto": `{"message":"config.toml:`, "console": ""} {
		dir := t.TempDir()
		writeConfig(t, dir, "colour = 1\n[log]\nformat = \""+format+"\"\n")
		code, _, stderr := end(t, command(dir, "-config", "config.toml"))
		if code != 2 || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, begins) || strings.HasPrefix(stderr, "{") != (begins != "") {
			t.Errorf("format %q: exit code %d, %q", format, code, stderr)
		}
	}
}

func TestBadUsageExitsWithTwo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"deliver"}, `there is no command "deliver"`},
		{[]string{"serve", "-config", ""}, "-config is empty"},
		{[]string{"check", "-config="}, "-config is empty"},
		{[]string{"pause"}, "ENDPOINT is missing"},
		{[]string{"pause", "crm", "other"}, "1 arguments too many"},
		{[]string{"failed", "crm", "-colour", "red"}, "flag provided but not defined: -colour"},
		{[]string{"status", "-config", "none.toml"}, `read configuration "none.toml"`},
		{[]string{"serve", "-colour"}, "-colour"},
		{[]string{"-config"}, "-config"},
		{[]string{"check", "-config", "config.toml", "more"}, `unexpected argument "more"`},
		{[]string{"serve", "-config", "missing.toml"}, `read configuration \"missing.toml\": no such file or directory`},
		{[]string{"serve", "-config", "."}, `read configuration \".\": is a directory`},
		{[]string{"listen", "-addr", "nowhere"}, "nowhere"},
		{[]string{"send"}, "-type"},
		{[]string{"verify"}, "-secret"},
	} {
		code, stdout, stderr := end(t, command(t.TempDir(), c.args...))
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q; want 2 and %q", c.args, code, stdout, stderr, c.says)
		}
	}
}

func TestCommandsThatGoWellExitWithZero(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := newSecret()
	writeConfig(t, dir, preamble+endpoint("crm", "https://example.com/hooks?key="+secret, `secret = "`+secret+`"`))
	for arguments, says := range map[string]string{
		"check -config config.toml": "endpoint crm\n",
		"version":                   "realtorbot-relay ",
		"--version":                 "realtorbot-relay ",
		"":                          "Usage: realtorbot-relay",
		"replay -h":                 "Usage: realtorbot-relay replay [FLAG…] ENDPOINT [ID…]",
		"-h":                        "Usage: realtorbot-relay",
		"serve -h":                  "Usage: realtorbot-relay serve",
	} {
		code, stdout, stderr := end(t, command(dir, strings.Fields(arguments)...))
		if code != 0 || !strings.Contains(stdout, says) || stderr != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q; want %q", arguments, code, stdout, stderr, says)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("the queue's directory was made: %v", err)
	}
}

// checkRefusedStart starts a relay that must end with exit code 1 and one line of error that matches.
func checkRefusedStart(t *testing.T, dir, config, line string) {
	t.Helper()
	writeConfig(t, dir, config)
	code, stdout, stderr := end(t, command(dir, "-config", "config.toml"))
	if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !regexp.MustCompile(line+`.*"level":"error"`).MatchString(stderr) {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 1 and one line that matches %s", code, stdout, stderr, line)
	}
}

// quiet is an endpoint that draws no warning.
func quiet() string {
	return endpoint("crm", "http://127.0.0.1:9/webhooks", `secret = "`+newSecret()+`"`)
}

func TestATakenPortIsOneLineAndExitsWithOne(t *testing.T) {
	t.Parallel()
	first := start(t, preamble+quiet())
	intake := "[server]\nlisten = \"" + first.intake.address + "\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
	checkRefusedStart(t, t.TempDir(), intake+quiet(), `server\.listen.*`+regexp.QuoteMeta(first.intake.address)+`.*taken`)
	admin := "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"" + first.admin.address + "\"\n"
	checkRefusedStart(t, t.TempDir(), admin+quiet(), `admin\.listen.*`+regexp.QuoteMeta(first.admin.address)+`.*taken`)
	first.post(event("evt_1"))
}

func TestADirectoryThatCantBeUsedIsOneLineAndExitsWithOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	checkRefusedStart(t, dir, strings.Replace(preamble, "[queue]", "[queue]\ndir = \"file/data\"", 1)+quiet(), `open queue.*file/data.*not a directory`)
	checkRefusedStart(t, dir, strings.Replace(preamble, "[queue]", "[queue]\ndir = \"file\"", 1)+quiet(), `open queue.*file.*not a directory`)
}

func TestADirectoryInUseIsRefusedAndItsOwnerUnharmed(t *testing.T) {
	t.Parallel()
	crm := receive(t, well)
	first := start(t, preamble+endpoint("crm", crm.url))
	first.post(event("evt_1"))
	other := strings.Replace(preamble, "[queue]", "[queue]\ndir = \""+filepath.Join(first.dir, "data")+"\"", 1) + quiet()
	checkRefusedStart(t, t.TempDir(), other, `open queue.*in use by another process`)
	first.post(event("evt_2"))
	crm.await(2)
	first.awaitEndpoint("crm", "has delivered both", func(ep endpointStats) bool { return ep.Delivered == 2 })
	first.stop()
	if a := first.again().post(event("evt_2")); !strings.Contains(a.body, "duplicate") {
		t.Errorf("after all that the event is answered %s", a.body)
	}
}

func TestANewerFormatIsRefusedAndNotTouched(t *testing.T) {
	t.Parallel()
	config := preamble + quiet()
	r := start(t, config)
	r.post(event("evt_1"))
	r.stop()
	format := filepath.Join(r.dir, "data", "FORMAT")
	text, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	newer := regexp.MustCompile(`format \d+`).ReplaceAllString(string(text), "format 2000")
	if err := os.WriteFile(format, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, filepath.Join(r.dir, "data"))
	checkRefusedStart(t, r.dir, config, `open queue.*newer version.*format 2000`)
	after := contents(t, filepath.Join(r.dir, "data"))
	for path := range before {
		if after[path] != before[path] {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("there were %d files, and are %d", len(before), len(after))
	}
	if err := os.WriteFile(format, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := r.again().post(event("evt_1")); !strings.Contains(a.body, "duplicate") {
		t.Errorf("with the file as it was the event is answered %s", a.body)
	}
}

// contents are the files below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestADirectoryOfSomebodyElseIsSaidInASentence: the start is that of another user, as a service's is after somebody has
// once started the relay as root.
func TestADirectoryOfSomebodyElseIsSaidInASentence(t *testing.T) {
	t.Parallel()
	dir, mine := t.TempDir(), filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // root's own directory is somebody else's
		writeConfig(t, dir, strings.Replace(preamble, "min_free", "dir = \"/etc/none\"\nmin_free", 1)+quiet())
		code, _, stderr := end(t, command(dir, "-config", "config.toml"))
		if code != 1 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit code %d, %s", code, stderr)
		}
		return
	}
	writeConfig(t, dir, strings.Replace(preamble, "min_free", "dir = \""+mine+"\"\nmin_free", 1)+quiet())
	for _, path := range []string{dir, filepath.Dir(dir), filepath.Dir(mine), filepath.Dir(filepath.Dir(mine))} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "config.toml"), 0o644); err != nil {
		t.Fatal(err)
	}
	shared := filepath.Join(shortDir(t), "relay") // the binary's directory is root's alone
	text, err := os.ReadFile(binary)
	if err == nil {
		err = errors.Join(os.Chmod(filepath.Dir(shared), 0o755), os.WriteFile(shared, text, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shared, "-config", "config.toml")
	cmd.Dir = dir
	p := launchAs(t, cmd, 12345)
	if code := p.exit(); code != 1 || p.stderr.count("\n") != 2 || !p.stderr.has("belongs to root (uid 0), and this relay runs as uid 12345: chown -R 12345") {
		t.Errorf("exit code %d, stderr %s", code, p.stderr)
	}
}
