package try

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"realtorbot-relay/relay/manual"
)

const repository = "../.."

func readText(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// page is the text of a page of the manual.
func page(t *testing.T, name string) string {
	t.Helper()
	text, ok := manual.Page(name)
	if !ok {
		t.Fatalf("the manual has no page %s", name)
	}
	return text
}

// TestTheManualQuotesTheReceiversThatAreTested compares the manual's code with the files that
// TestReceiversOfTheManualVerify runs.
func TestTheManualQuotesTheReceiversThatAreTested(t *testing.T) {
	text := page(t, "receive")
	for language, name := range map[string]string{"js": "receiver.js", "go": "receiver.go", "python": "receiver.py", "php": "receiver.php"} {
		code := readText(t, "testdata", "receivers", name)
		if n := strings.Count(text, "```"+language+"\n"+code+"```\n"); n != 1 {
			t.Errorf("the manual quotes %s %d times byte for byte, want once in a block marked %s", name, n, language)
		}
	}
}

var (
	sectionLine = regexp.MustCompile(`^(?:# )?(\[+[a-z]+\]+)`)
	keyLine     = regexp.MustCompile(`^(?:# )?([a-z_]+) = (.*)`)
	keySpan     = regexp.MustCompile("`([a-z_]+) = ([^`]+)`")
)

// exampleKeys reads config.example.toml: by section and key, the values it shows, with what follows them on the line. Keys before
// all sections are those of the section "".
func exampleKeys(t *testing.T) map[string]map[string]string {
	t.Helper()
	var section string
	keys := map[string]map[string]string{section: {}}
	for line := range strings.Lines(readText(t, repository, "config.example.toml")) {
		if found := sectionLine.FindStringSubmatch(line); found != nil {
			section = found[1]
			keys[section] = map[string]string{}
		} else if found := keyLine.FindStringSubmatch(line); found != nil {
			keys[section][found[1]] = found[2]
		}
	}
	return keys
}

// TestTheManualNamesNoUnknownKey looks at the prose of README and of all pages, where a key stands without its section.
func TestTheManualNamesNoUnknownKey(t *testing.T) {
	known := map[string]bool{}
	for _, section := range exampleKeys(t) {
		for key := range section {
			known[key] = true
		}
	}
	texts := map[string]string{"README": readText(t, repository, "README.md")}
	for _, name := range manual.Names() {
		texts[name] = page(t, name)
	}
	found := 0
	for name, text := range texts {
		for _, span := range keySpan.FindAllStringSubmatch(text, -1) {
			found++
			if !known[span[1]] {
				t.Errorf("%s says %q, and config.example.toml has no such key", name, strings.Trim(span[0], "`"))
			}
		}
	}
	if found < 80 {
		t.Errorf("only %d keys were found", found)
	}
}

var logRow = regexp.MustCompile("(?m)^\\| (`[^|]+) \\|")

// TestTheManualExplainsLogLinesThatExist looks in the sources for each message of the manual's table of log lines.
func TestTheManualExplainsLogLinesThatExist(t *testing.T) {
	sources := sourceText(t)
	rows := logRow.FindAllStringSubmatch(page(t, "log"), -1)
	if len(rows) < 35 {
		t.Fatalf("the manual explains %d log lines, of which there are more", len(rows))
	}
	for _, row := range rows {
		for _, message := range strings.Split(strings.Trim(row[1], "`"), "`, `") {
			for fixed := range strings.SplitSeq(message, "…") {
				if !strings.Contains(sources, strings.TrimSpace(fixed)) {
					t.Errorf("the manual explains the log line %q, and no source has %q", message, fixed)
				}
			}
		}
	}
}

// sourceText is all Go code that the binary is made of, but for the commands of this package, which don't log.
func sourceText(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	all.WriteString(readText(t, repository, "main.go"))
	for _, room := range []string{"relay", "queue"} {
		err := filepath.WalkDir(filepath.Join(repository, room), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && entry.Name() == "try" {
				return fs.SkipDir
			}
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				all.WriteString(readText(t, path))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
