package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tree writes files below a directory, by their names; one without text is deleted.
func tree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if text == "" {
			_ = os.Remove(path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

func one(name string, more ...string) string {
	return fmt.Sprintf("[[endpoint]]\nname = %q\nurl = \"https://%s.example/\"\nsecret = \"0123456789abcdef\"\nevents = [\"test\"]\n%s\n", name, name, strings.Join(more, "\n"))
}

func aSource(name string) string {
	return fmt.Sprintf("[[source]]\nname = %q\npath = \"/%s\"\ntoken = \"0123456789abcdef\"\n", name, name)
}

// names are the endpoints of a configuration, with their hosts.
func names(c *Config) string {
	return strings.Join(each(c.Endpoints, func(e Endpoint) string {
		host := strings.TrimSuffix(strings.TrimPrefix(e.URL.Reveal(), "https://"), ".example/")
		return e.Name + ifSet(host != e.Name, "="+host)
	}), " ")
}

func brokenLines(c *Config, dir string) string {
	var lines []string
	for _, b := range c.Included.BrokenFiles() {
		lines = append(lines, b.Lines()...)
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), dir+"/", "")
}

const including1 = "include = [\"e.d/*.toml\"]\n"

// Every fault of every file is told at once, by file, line and key.
func TestAllFaultsOfAllIncludedFilesAreTold(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{
		"config.toml":     including1 + "[admin]\nlisten = 7\n" + one("main") + aSource("platform"),
		"e.d/a.toml":      one("a") + one("b", "timeout = \"1\"", "colour = 1"),
		"e.d/b.toml":      "[delivery]\nrate = 1\ncolour = 1\n" + one("c"),
		"e.d/c.toml":      one("d") + "]",
		"e.d/d.toml":      one("a"),
		"e.d/e.toml":      "# nothing\n",
		"e.d/f.toml":      one("main"),
		"e.d/g.toml":      "[[source]]\nname = \"g\"\npath = \"/g\"\n",
		"e.d/h.toml":      aSource("h") + strings.Replace(aSource("h2"), "/h2", "/platform", 1),
		"e.d/i.toml":      one("i", "on_failed = \"a\""),
		"e.d/j.toml":      one("j", "client_cert = \"/absent\"", "headers = { A = \"file:/absent\" }"),
		"e.d/.hidden":     "]",
		"e.d/.x.toml":     "]",
		"e.d/readme.txt":  "]",
		"e.d/good.toml":   one("good", "on_failed = \"main\"") + aSource("good"),
		"e.d/k.toml/file": "x",
	})
	_, err := Load(filepath.Join(dir, "config.toml"))
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	want := `config.toml:3: admin.listen: must be a text in quotes, not 7
e.d/a.toml:12: endpoint.b.timeout: has no unit: write "1s"
e.d/a.toml:13: endpoint.b.colour: unknown key; known here: name,`
	got := strings.ReplaceAll(err.Error(), dir+"/", "")
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", got, want)
	}
	for _, line := range []string{
		"e.d/b.toml:1: delivery: belongs into the main file: an included one holds [[endpoint]] and [[source]] and nothing else",
		"e.d/c.toml:7: is not valid TOML: ",
		"e.d/e.toml: holds no [[endpoint]] and no [[source]]: write one, or delete the file",
		`e.d/f.toml:2: endpoint.main.name: "main" is the name of another at config.toml:5: choose one that is free`,
		`e.d/g.toml:1: source.g: has neither token nor secret, and an included file opens the intake to nobody without a credential: set one`,
		`e.d/h.toml:7: source.h2.path: "/platform" is the path of a source at config.toml:12: choose one that is free`,
		`e.d/i.toml:6: endpoint.i.on_failed: names no endpoint: "a"`,
		`e.d/j.toml:6: endpoint.j.client_cert: needs client_key beside it: set both or neither`,
		`e.d/j.toml:6: endpoint.j.client_cert: file "/absent": no such file or directory`,
		`e.d/j.toml:7: endpoint.j.headers.A: file "/absent": no such file or directory`,
		"e.d/k.toml: is not a regular file",
	} {
		if !strings.Contains(strings.ReplaceAll(err.Error(), dir+"/", ""), line) {
			t.Errorf("is not told: %s\nbut\n%s", line, strings.ReplaceAll(err.Error(), dir+"/", ""))
		}
	}
	for _, f := range faults {
		if strings.Contains(f.File, "good") || strings.Contains(f.File, "hidden") || strings.Contains(f.File, ".x") {
			t.Errorf("told: %s", f)
		}
	}
	// d.toml has the name of a.toml, which is broken and serves nothing: beside the broken one it is no fault.
	if strings.Contains(got, "e.d/d.toml") {
		t.Errorf("d.toml is told:\n%s", got)
	}
}

// A relay goes on with the last good version of what is broken, and with nothing else.
func TestABrokenIncludedFileCostsItsOwnEndpointsOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	main := including1 + one("main")
	tree(t, dir, map[string]string{"config.toml": main, "e.d/a.toml": one("a"), "e.d/b.toml": one("b"), "e.d/c.toml": one("c")})
	nothing := func(Queue) []Version { return nil }
	running, err := LoadServed(path, nothing)
	if err != nil || names(running) != "main a b c" || len(running.Included.BrokenFiles()) > 0 {
		t.Fatalf("%v: %v", err, names(running))
	}
	steps := []struct {
		what   string
		files  map[string]string
		serves string
		broken string
	}{
		{"a comma, a change and a new one", map[string]string{"e.d/a.toml": one("a") + ",", "e.d/b.toml": strings.Replace(one("b"), "b.ex", "moved.ex", 1), "e.d/d.toml": one("d")},
			"main a b=moved c d", "e.d/a.toml:7: is not valid TOML: expected '.' or '=', but got ',' instead; its last good version is served"},
		{"a new one that is broken, another that goes", map[string]string{"e.d/e.toml": "]", "e.d/c.toml": ""},
			"main a b=moved d", "e.d/a.toml:7: is not valid TOML: expected '.' or '=', but got ',' instead; its last good version is served\n" +
				"e.d/e.toml:1: is not valid TOML: expected '.' or '=', but got ']' instead; nothing of this file is served, since there is no good version of it"},
		{"mended", map[string]string{"e.d/a.toml": one("a2"), "e.d/e.toml": one("e")}, "main a2 b=moved d e", ""},
		{"a name that another serves, from a file before it", map[string]string{"e.d/0.toml": strings.Replace(one("e"), "e.ex", "thief.ex", 1)}, "main a2 b=moved d e",
			`e.d/0.toml:2: endpoint.e.name: "e" is the name of another at e.d/e.toml:2: choose one that is free; nothing of this file is served, since there is no good version of it`},
		{"names that change places", map[string]string{"e.d/0.toml": "", "e.d/d.toml": strings.Replace(one("e"), "e.ex", "d.ex", 1), "e.d/e.toml": strings.Replace(one("d"), "d.ex", "e.ex", 1)},
			"main a2 b=moved e=d d=e", ""},
		{"a name that a broken one served", map[string]string{"e.d/d.toml": "]", "e.d/f.toml": one("e")}, "main a2 b=moved e=d d=e",
			"e.d/d.toml:1: is not valid TOML: expected '.' or '=', but got ']' instead; its last good version is served\n" +
				`e.d/f.toml:2: endpoint.e.name: "e" is the name of another at e.d/d.toml:2: choose one that is free; nothing of this file is served, since there is no good version of it`},
		{"the main file takes a name", map[string]string{"config.toml": main + one("b"), "e.d/f.toml": "", "e.d/d.toml": one("d2")}, "main b a2 d2 d=e",
			`e.d/b.toml:2: endpoint.b.name: "b" is the name of another at config.toml:9: choose one that is free; nothing of this file is served, since there is no good version of it` + "\n" +
				"e.d/b.toml: endpoint.b.name: the last good version can't be served either: \"b\" is the name of another at config.toml:9: choose one that is free; nothing of this file is served, since there is no good version of it"},
		{"and gives it back; the defaults change", map[string]string{"config.toml": main + "[delivery]\ntimeout = \"3s\"\n"}, "main a2 b=moved d2 d=e", ""},
		{"a directory that can't be read", map[string]string{"config.toml": strings.Replace(main, `"]`, `", "f.d/*"]`, 1), "f.d/x": one("x"), "e.d/b.toml": ""}, "main a2 d2 d=e x", ""},
	}
	for _, step := range steps {
		tree(t, dir, step.files)
		now, err := Reload(path, running, false)
		if err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if got := names(now); got != step.serves {
			t.Errorf("%s: serves %s, want %s", step.what, got, step.serves)
		}
		if got := brokenLines(now, dir); got != step.broken {
			t.Errorf("%s: told\n%s\nwant\n%s", step.what, got, step.broken)
		}
		if _, err := Reload(path, running, true); (err != nil) != (step.broken != "") {
			t.Errorf("%s: strict: %v", step.what, err)
		}
		if _, err := Load(path); (err != nil) != (step.broken != "") && !strings.Contains(step.what, "thief") {
			t.Errorf("%s: check: %v", step.what, err)
		}
		// A start that knows what was served before serves the same.
		kept := running.Included.Versions()
		again, err := LoadServed(path, func(Queue) []Version { return kept })
		if err != nil || names(again) != step.serves || brokenLines(again, dir) != step.broken {
			t.Errorf("%s: a start serves %s, %v\n%s", step.what, names(again), err, brokenLines(again, dir))
		}
		for _, ep := range now.Endpoints {
			if want := ifElse(strings.Contains(step.what, "defaults"), 3*time.Second, 10*time.Second); ep.Delivery.Timeout != want {
				t.Errorf("%s: %s has a timeout of %s", step.what, ep.Name, ep.Delivery.Timeout)
			}
		}
		running = now
	}
	if err := os.RemoveAll(filepath.Join(dir, "f.d")); err != nil {
		t.Fatal(err)
	}
	now, err := Reload(path, running, false)
	if err != nil || names(now) != names(running) || len(now.Included.BrokenFiles()) != 1 {
		t.Errorf("without its directory x goes: %s, %v", names(now), err)
	}
	// What can't be served stays kept, for a start after it was mended.
	if got := len(now.Included.Versions()); got != 4 {
		t.Errorf("%d versions are kept", got)
	}
	changes := Diff(running, now)
	if len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
}

// A secret that went goes on as it was while the relay runs.
func TestASecretOfAnIncludedFileFollowsItsFile(t *testing.T) {
	dir := t.TempDir()
	path, key := filepath.Join(dir, "config.toml"), filepath.Join(dir, "key")
	tree(t, dir, map[string]string{"config.toml": including1, "key": "0123456789abcdef0", "e.d/a.toml": "[[endpoint]]\nname = \"a\"\nurl = \"https://a.example/\"\nevents = [\"test\"]\nsecret = \"file:" + key + "\"\n"})
	running, err := LoadServed(path, func(Queue) []Version { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ text, secret string }{{"0123456789abcdef1", "0123456789abcdef1"}, {"", "0123456789abcdef1"}, {"0123456789abcdef2", "0123456789abcdef2"}} {
		tree(t, dir, map[string]string{"key": step.text})
		if running, err = Reload(path, running, false); err != nil || len(running.Endpoints) != 1 || running.Endpoints[0].Secret.Reveal() != step.secret {
			t.Errorf("with %q: %+v, %v", step.text, running.Endpoints, err)
		}
		if got := len(running.Included.BrokenFiles()); (got == 1) != (step.text == "") {
			t.Errorf("with %q: %d broken", step.text, got)
		}
	}
	tree(t, dir, map[string]string{"key": ""})
	kept := running.Included.Versions()
	cold, err := LoadServed(path, func(Queue) []Version { return kept })
	if err != nil || len(cold.Endpoints) != 0 || len(cold.Included.BrokenFiles()) != 1 || !reflect.DeepEqual(cold.Included.Versions(), kept) {
		t.Errorf("a start without the secret: %v, %+v", err, cold)
	}
	if _, absent, err := LoadOutside(path); err != nil || len(absent) != 1 {
		t.Errorf("from outside: %v, %v", absent, err)
	}
}

func TestAPatternHasWildcardsInItsLastStepAlone(t *testing.T) {
	for pattern, good := range map[string]bool{
		"*.toml": true, "a/b/[a-c]*.toml": true, "/etc/x/*": true, "a.toml": true, "../x/?": true,
		"*/a.toml": false, "a/": false, "": false, "a/[": false, "file:/x": false,
	} {
		if reason := checkPattern(pattern); (reason == "") != good {
			t.Errorf("%q: %q", pattern, reason)
		}
	}
}

// A file that is being written is read once it is whole.
func TestAnIncludedFileThatIsBeingWrittenIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"config.toml": including1, "e.d/a.toml": one("a")})
	pauses := 0
	c, err := reload(filepath.Join(dir, "config.toml"), reading{pause: func() {
		if pauses++; pauses == 2 || pauses == 3 {
			mustWrite(t, filepath.Join(dir, "e.d/a.toml"), strings.Repeat(one("a"), 1)+ifSet(pauses == 3, one("b")), 0o600)
		}
	}})
	if err != nil || names(c) != "a b" {
		t.Errorf("%v, %s", err, names(c))
	}
}

func TestWarningsOfThousandsOfFilesAreCounted(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"config.toml": including1}
	for i := range 200 {
		files[fmt.Sprintf("e.d/%d.toml", i)] = strings.Replace(one(fmt.Sprintf("e%d", i)), "secret = \"0123456789abcdef\"\n", "", 1)
	}
	tree(t, dir, files)
	c, err := LoadServed(filepath.Join(dir, "config.toml"), func(Queue) []Version { return nil })
	if err != nil || len(c.Warnings) != mostWarnings+1 || !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "100 more warnings") }) {
		t.Errorf("%v, %d warnings", err, len(c.Warnings))
	}
	if c, _, err := LoadOutside(filepath.Join(dir, "config.toml")); err != nil || len(c.Warnings) != 200 {
		t.Errorf("check: %v, %d warnings", err, len(c.Warnings))
	}
}

// Whatever lies in the directory costs itself alone.
func TestWhatIsNoFileOfTextCostsItselfAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	tree(t, dir, map[string]string{
		"config.toml":   "include = [\"e.d/*.toml\", \"./e.d//*.toml\", \"" + dir + "/e.d/*.toml\", \"*.toml\", \"f.d/*\"]\n" + one("main"),
		"e.d/good.toml": one("good"), "e.d/latin.toml": one("x\xe9"), "e.d/nul.toml": one("y") + "\x00", "e.d/large.toml": one("large") + strings.Repeat("#\n", MaxFile/2),
		"e.d/line\nbreak.toml": one("line"), "e.d/\xff.toml": one("ff"), "target": one("linked"), "f.d/gone": one("gone"),
	})
	for _, err := range []error{
		syscall.Mkfifo(filepath.Join(dir, "e.d/pipe.toml"), 0o600),
		os.Symlink("../target", filepath.Join(dir, "e.d/link.toml")),
		os.Symlink("nowhere", filepath.Join(dir, "e.d/dangling.toml")),
		os.Symlink("round.toml", filepath.Join(dir, "e.d/round.toml")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := LoadServed(path, func(Queue) []Version { return nil })
	if err != nil || names(c) != "main good linked gone" {
		t.Fatalf("serves %v, %v", names(c), err)
	}
	told := brokenLines(c, dir)
	for _, line := range []string{
		"config.toml: is the main file itself: write an include that does not match it; ",
		"e.d/latin.toml", "e.d/nul.toml",
		"e.d/large.toml: is larger than a configuration can be (1MiB); ",
		`e.d/line\nbreak.toml": its name has characters that are not text: rename it; `,
		`e.d/\xff.toml": its name has characters that are not text: rename it; `,
		"e.d/pipe.toml: is not a regular file; ",
		"e.d/dangling.toml: can't be read: no such file or directory; ",
		"e.d/round.toml: can't be read: too many levels of symbolic links; ",
	} {
		if !strings.Contains(told, line) {
			t.Errorf("is not told: %s", line)
		}
	}
	if n := strings.Count(told, "\n") + 1; n != 9 {
		t.Errorf("%d lines are told:\n%s", n, told)
	}
	// The directory becomes something that is none: what was served out of it goes on, also after a start.
	if err := os.Rename(filepath.Join(dir, "f.d"), filepath.Join(dir, "f.was")); err != nil {
		t.Fatal(err)
	}
	tree(t, dir, map[string]string{"f.d": "a file"})
	if now, err := Reload(path, c, false); err != nil || names(now) != "main good linked gone" {
		t.Errorf("serves %v, %v", names(now), err)
	}
	if now, err := LoadServed(path, func(Queue) []Version { return c.Included.Versions() }); err != nil || names(now) != "main good linked gone" {
		t.Errorf("a start serves %v, %v", names(now), err)
	}
	if now, err := LoadServed(path, func(Queue) []Version { return nil }); err != nil || !strings.Contains(brokenLines(now, dir), "config.toml:1: include[5]: directory \"f.d\": not a directory; nothing") {
		t.Errorf("a directory that can't be read is not told: %v\n%s", err, brokenLines(now, dir))
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("check says %v", err)
	}
}

// Two files that change names, one that is renamed, and one that is deleted are what they are, and not broken.
func TestFilesThatAreRenamedKeepTheirEndpoints(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	tree(t, dir, map[string]string{"config.toml": including1 + one("main"), "e.d/a.toml": one("a"), "e.d/b.toml": one("b"), "e.d/c.toml": one("c")})
	running, err := LoadServed(path, func(Queue) []Version { return nil })
	if err != nil {
		t.Fatal(err)
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, "e.d", from), filepath.Join(dir, "e.d", to)); err != nil {
			t.Fatal(err)
		}
	}
	serves := func(what, want string, versions int) {
		t.Helper()
		now, err := Reload(path, running, false)
		if err != nil || names(now) != want || len(now.Included.BrokenFiles()) > 0 || len(now.Included.Versions()) != versions {
			t.Errorf("%s: serves %s, %v, %s", what, names(now), err, brokenLines(now, dir))
		}
		running = now
	}
	move("a.toml", "x")
	move("b.toml", "a.toml")
	move("x", "b.toml")
	serves("two that change names", "main b a c", 3)
	move("c.toml", "0.toml")
	serves("one that is renamed", "main c b a", 3)
	tree(t, dir, map[string]string{"e.d/0.toml": "]"})
	if running, err = Reload(path, running, false); err != nil || names(running) != "main c b a" {
		t.Errorf("broken: serves %s, %v", names(running), err)
	}
	tree(t, dir, map[string]string{"e.d/0.toml": ""})
	serves("a broken one that is deleted", "main b a", 2)
	tree(t, dir, map[string]string{"e.d/0.toml": "]"})
	if running, err = Reload(path, running, false); err != nil || names(running) != "main b a" || len(running.Included.BrokenFiles()) != 1 {
		t.Errorf("broken where one was deleted: serves %s, %v", names(running), err)
	}
}

// A log of a start or a reload bears the fault of each of thousands of files.
func TestLinesOfBrokenFilesAreBounded(t *testing.T) {
	in := &Included{}
	for i := range 1000 {
		in.Broken = append(in.Broken, Broken{File: "x", Faults: Faults{{File: "x", Line: i, Text: "is bad"}}})
	}
	if lines := in.BrokenLines(); len(lines) != mostLines+1 || !strings.HasPrefix(lines[mostLines], "900 more included files are broken") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// What was changed since the files were read is named, and what only was written again is not.
func TestIncludedFilesThatWereChangedAreNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	tree(t, dir, map[string]string{"config.toml": "include = [\"e.d/*.toml\", \"*.toml\"]\n" + one("main"), "e.d/a.toml": one("a"), "e.d/b.toml": "]", "e.d/large.toml": strings.Repeat("#", MaxFile+1)})
	if err := os.Mkdir(filepath.Join(dir, "e.d/d.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := LoadServed(path, func(Queue) []Version { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ name, text, changed string }{
		{"e.d/a.toml", one("a"), ""}, // the same text
		{"e.d/b.toml", "]", ""},
		{"e.d/.c.toml", "]", ""},
		{"e.d/c.txt", "]", ""},
		{"e.d/a.toml", one("a2"), "e.d/a.toml"},
		{"e.d/a.toml", one("a"), ""},
		{"e.d/b.toml", one("b"), "e.d/b.toml"}, // mended, and not reloaded
		{"e.d/b.toml", "]", ""},
		{"e.d/c.toml", one("c"), "e.d/c.toml"},
		{"e.d/c.toml", "", ""},
		{"e.d/a.toml", "", "e.d/a.toml"},
	} {
		tree(t, dir, map[string]string{step.name: step.text})
		for range 2 {
			if got := c.Watch().Changed(); strings.TrimPrefix(got, dir+"/") != step.changed {
				t.Errorf("%s with %.20q: %q was changed", step.name, step.text, got)
			}
		}
	}
	now, err := Reload(path, c, false)
	if err != nil || now.Watch().Changed() != "" {
		t.Errorf("after a reload: %v, %q", err, now.Watch().Changed())
	}
	if err := os.Rename(filepath.Join(dir, "e.d"), filepath.Join(dir, "was")); err != nil {
		t.Fatal(err)
	}
	if got := now.Watch().Changed(); got != "" {
		t.Errorf("without the directory %q", got)
	}
}

// Each customer's file takes the name of the next one's, and one is broken: it goes on with its name, and so all do, one after the other.
func TestNamesThatGoRoundStopAtABrokenFile(t *testing.T) {
	dir := t.TempDir()
	path, many := filepath.Join(dir, "config.toml"), 1000
	files := map[string]string{"config.toml": including1}
	for i := range many {
		files[fmt.Sprintf("e.d/%04d.toml", i)] = one(fmt.Sprintf("e%d", i))
	}
	tree(t, dir, files)
	c, err := LoadServed(path, func(Queue) []Version { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range many {
		files[fmt.Sprintf("e.d/%04d.toml", i)] = one(fmt.Sprintf("e%d", (i+1)%many))
	}
	tree(t, dir, files)
	if now, err := Reload(path, c, false); err != nil || len(now.Included.BrokenFiles()) > 0 || !strings.HasPrefix(names(now), "e1 e2 ") {
		t.Errorf("names that go round: %v, %d broken", err, len(now.Included.BrokenFiles()))
	}
	tree(t, dir, map[string]string{"e.d/0000.toml": "]"})
	now, err := Reload(path, c, false)
	if err != nil || names(now) != names(c) || len(now.Included.BrokenFiles()) != many {
		t.Errorf("with a broken one: %v, %d broken", err, len(now.Included.BrokenFiles()))
	}
	for _, b := range now.Included.BrokenFiles() {
		if len(b.Faults) != 1 || !b.Served {
			t.Fatalf("%s has %v", b.File, b.Faults)
		}
	}
}
