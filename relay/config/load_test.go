package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Each testdata/bad/NAME.toml has everything that is wrong with it in NAME.want, line by line.
func TestBadConfigurationsTellEveryFault(t *testing.T) {
	t.Setenv("RELAY_TEST_EMPTY", "")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	paths, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("find bad configurations: %v, %d found", err, len(paths))
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			text := mustRead(t, path)
			want := mustRead(t, strings.TrimSuffix(path, ".toml")+".want")
			c, err := Parse(name, text, nil)
			if c != nil {
				t.Fatalf("a bad configuration was accepted: %+v", c)
			}
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("the error is no Faults: %v", err)
			}
			if got := err.Error() + "\n"; got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustWrite(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("config.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEmptyFileIsTheDefaultsOnLoopback(t *testing.T) {
	c := mustParse(t, "")
	if !reflect.DeepEqual(c.Sources, []Source{defaultSource()}) {
		t.Errorf("sources %+v", c.Sources)
	}
	if len(c.Warnings) != 1 || c.Warnings[0] != "config.toml: endpoint: there is none: events are accepted and delivered to nobody" {
		t.Errorf("warnings %q", c.Warnings)
	}
}

func TestUnreadableFileIsAnErrorOfOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent.toml")
	_, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if want := `read configuration "` + path + `": no such file or directory`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if _, err := Load(t.TempDir()); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("of a directory: %v", err)
	}
}

func TestFileOfTheWrongSizeIsRefused(t *testing.T) {
	_, err := Parse("config.toml", []byte(strings.Repeat("#", MaxFile+1)), nil)
	if err == nil || err.Error() != "config.toml: is larger than a configuration can be (1MiB)" {
		t.Errorf("got %v", err)
	}
}

func TestReadableFileWithSecretsInItIsWarnedAbout(t *testing.T) {
	t.Setenv("RELAY_TEST_TOKEN", "0123456789abcdef")
	endpoint := "[[endpoint]]\nname = \"crm\"\nurl = \"http://localhost/\"\nevents = [\"test\"]\nsecret = "
	for _, test := range []struct {
		name, secret string
		mode         os.FileMode
		warned       bool
	}{
		{"a secret for all to read", `"0123456789abcdef"`, 0o644, true},
		{"a secret for the group", `"0123456789abcdef"`, 0o640, false},
		{"a reference for all to read", `"env:RELAY_TEST_TOKEN"`, 0o644, false},
		{"the example's secret", `"` + exampleSecret + `"`, 0o644, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.toml")
			mustWrite(t, path, endpoint+test.secret, test.mode)
			c, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(strings.Join(c.Warnings, "\n"), "every user"); got != test.warned {
				t.Errorf("warned %v, want %v: %q", got, test.warned, c.Warnings)
			}
		})
	}
}

func TestWarningsNameWhatIsOdd(t *testing.T) {
	text := string(mustRead(t, "testdata/odd.toml"))
	c := mustParse(t, text)
	if got, want := strings.Join(c.Warnings, "\n")+"\n", string(mustRead(t, "testdata/odd.want")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Whatever stands in the file, no fault, warning or description may repeat a secret of it.
func TestNoSecretIsShown(t *testing.T) {
	const secret = "Zq7canary"
	good := "[admin]\ntoken = \"" + secret + "\"\n" +
		"[[source]]\nname = \"s\"\npath = \"/s\"\ntoken = \"" + secret + "\"\nsecret = \"" + secret + "\"\n" +
		"previous_token = \"" + secret + "\"\nprevious_secret = \"" + secret + "\"\n" +
		"[[endpoint]]\nname = \"e\"\nurl = \"http://localhost/?key=" + secret + "\"\nevents = [\"test\"]\n" +
		"secret = \"" + secret + "\"\nprevious_secret = \"" + secret + "\"\nheaders = { Authorization = \"" + secret + "\" }\n"
	c := mustParse(t, good)
	if shown := c.Describe() + strings.Join(c.Warnings, "\n"); strings.Contains(shown, secret) {
		t.Errorf("shown:\n%s", shown)
	}
	for _, bad := range []string{
		"[admin]\ntoken = " + secret,
		"[admin]\ntoken = \"" + secret,
		"[admin]\ntoken = '" + secret + "\n",
		"[admin]\ntoken = 12" + secret,
		"[admin]\ntoken = 1.2" + secret,
		"[admin]\ntoken = \"" + secret + " \"",
		"[admin]\ntoken = [\"" + secret + "\"]",
		"[admin]\ntoken = \"\\q" + secret + "\"",
		"[admin]\ntoken = \"a\" " + secret,
		"[[endpoint]]\nurl = \"http://" + secret + "@localhost/\"",
		"[[endpoint]]\nurl = \"http://user:" + secret + "#@localhost/\"",
		"[[endpoint]]\nurl = \"http://localhost:" + secret + "/\"",
		"[[endpoint]]\nurl = \"http://localhost/%zz?" + secret + "\"",
		"[[endpoint]]\nurl = \"gopher://localhost/" + secret + "\"",
		"[[source]]\nsecret = \"x\"\nprevious_secret = \"" + secret + "\"\nscheme = \"standard\"",
		"[[endpoint]]\nsecret = \"" + secret + "\"\nsignatures = [\"standard\"]",
		"[[endpoint]]\nheaders = { Authorization = \"" + secret + "\\n\" }",
		"[[endpoint]]\nheaders = { Authorization = " + secret + " }",
		"[[endpoint]]\nheaders = { Authorization = [\"" + secret + "\"] }",
	} {
		_, err := Parse("config.toml", []byte(bad), nil)
		if err == nil {
			t.Errorf("accepted:\n%s", bad)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s\nshows it:\n%s", bad, err)
		}
	}
}

// FuzzParse: whatever the bytes, there is a Config or there are Faults of one line each.
func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("testdata/bad/*.toml")
	for _, path := range append(paths, "testdata/odd.toml", "../../config.example.toml") {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	noSecrets := func(reference string) (string, error) { return "", errEmpty }
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("config.toml", text, noSecrets)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if err == nil {
			_ = c.Describe()
			return
		}
		var faults Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("the error is no Faults: %v", err)
		}
		for _, fault := range faults {
			if strings.ContainsAny(fault.String(), "\n\r") {
				t.Errorf("a fault of several lines: %q", fault)
			}
		}
	})
}

func TestWhoLooksFromOutsideNeedsNoSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	text := "[admin]\ntoken = \"env:NO_SUCH_VARIABLE\"\n[[endpoint]]\nname = \"crm\"\nurl = \"https://example.com/\"\nevents = [\"*\"]\n" +
		"secret = \"cred:crm\"\nsignatures = [\"standard\"]\nheaders = { X-Key = \"file:/nowhere/key\" }\nproxy = \"env:NO_SUCH_VARIABLE\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var faults Faults
	if _, err := Load(path); !errors.As(err, &faults) || len(faults) != 4 {
		t.Errorf("the relay itself: %v", err)
	}
	c, absent, err := LoadOutside(path)
	if err != nil || len(absent) != 4 || len(c.Endpoints) != 1 || !c.Endpoints[0].Secret.IsZero() {
		t.Errorf("from outside: %v, absent %v", err, absent)
	}
	if err := os.WriteFile(path, []byte(text+"colour = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = LoadOutside(path); !errors.As(err, &faults) || len(faults) != 1 {
		t.Errorf("what is wrong all the same: %v", err)
	}
}

func TestTheShareOfASourceHasRoomForARequest(t *testing.T) {
	const source = "[[source]]\nname = \"crm\"\npath = \"/crm\"\nmax_queued = "
	for text, want := range map[string]int64{`"0B"`: 0, `"1MiB"`: 1 << 20, `"20GiB"`: 20 << 30} {
		c := mustParse(t, source+text)
		if got := c.Sources[0].MaxQueued; got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
		if told := strings.Contains(c.Describe(), "of its events kept"); told != (want > 0) {
			t.Errorf("%s is described by %s", text, c.Describe())
		}
	}
	for text, says := range map[string]string{
		source + `"1023KiB"`: `source.crm.max_queued: must be 0B, for no limit, or from 1MiB on, not "1023KiB"`,
		"[server]\nmax_body = \"8MiB\"\n" + source + `"4MiB"`: "or from 8MiB on",
		source + `1`: "must be a size in quotes",
	} {
		if _, err := Parse("f.toml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

// A file is emptied and written by two system calls: between them, nothing of it would be a valid configuration.
func TestAFileThatIsBeingWrittenIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	const text = "[[endpoint]]\nname = \"crm\"\nurl = \"http://127.0.0.1:3000/\"\nevents = [\"*\"]\n"
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	write("")
	if c, err := Load(path); err != nil || len(c.Endpoints) != 0 {
		t.Fatalf("the control, which does not wait: %v, %v", c, err)
	}
	pauses := 0
	c, err := reload(path, reading{pause: func() {
		if pauses++; pauses <= 2 { // its beginning, and then all of it
			write(text[:pauses*len(text)/2])
		}
	}})
	if err != nil || len(c.Endpoints) != 1 || pauses != 3 {
		t.Errorf("%+v, %v, after %d pauses", c, err, pauses)
	}
	if _, err := reload(path, reading{pause: func() { write(text + strings.Repeat("\n", pauses)); pauses++ }}); err == nil || !strings.Contains(err.Error(), "it is being written") {
		t.Errorf("a file that is written all the time: %v", err)
	}
}

// The library names the line behind the one on which a name in brackets has no end.
func TestATOMLErrorNamesTheLineThatIsWrong(t *testing.T) {
	for text, want := range map[string]int{
		"[log]\n[server\nlisten = \"x\"\n": 2, "[log]\n[[endpoint]\nname = \"a\"\n": 2, "[log]\nlevel = \"info\n[server]\n": 2, "[log]\nlevel = \n": 2,
		"[log]\nlevel\nformat = \"json\"\n": 2, "[log]\r\n[server\r\nlisten = 1\r\n": 2, "[events]\ncustom = [\"a.b\",\n  c]\n": 3, "[log": 1,
	} {
		var faults Faults
		if _, err := Parse("c.toml", []byte(text), nil); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Line != want {
			t.Errorf("%q: %v, want line %d", text, err, want)
		}
	}
}
