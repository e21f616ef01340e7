package config

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files that follow from the table of keys")

// written fails if a file isn't what follows from the table of keys, or, with -update, makes it so.
func written(t *testing.T, path, want string) {
	t.Helper()
	if got := string(mustRead(t, path)); got == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what follows from the table of keys: go test ./relay/config -run Written -update", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

const exampleHead = `#:schema ./config.schema.json
# Realtor Bot Relay. Every key with its default; it runs as it is:  go run . -config config.example.toml
#
# Lines that begin with "# key =" show a default that is rarely changed, or a table to be uncommented as a whole.
# Durations are texts: "250ms", "10s", "5m", "72h", "7d". Sizes are texts too: "512KiB", "1MiB", "2GiB".
# Any secret may be "env:NAME", "file:/path" or "cred:name" (a systemd credential) in place of the value itself.
# Check a changed file before a reload or a restart:  realtorbot-relay check -config FILE
# Editors complete and check the keys by the schema that the first line names, once it stands there:
#   realtorbot-relay schema > config.schema.json
`

// What the comment of a section or a key says in the example beyond what it says elsewhere.
var exampleAbout = map[string]string{
	"source":          " As here, where it is in comments.",
	"endpoint":        " This one is what `go run . listen -secret example-secret-change-me` stands in for.",
	"endpoint.secret": ". This one everybody knows: write your own, for instance of `openssl rand -hex 32`",
}

func TestExampleIsWritten(t *testing.T) {
	var b strings.Builder
	b.WriteString(exampleHead)
	for _, s := range sections {
		line := "\n"
		comment(&b, line, s.about+exampleAbout[s.name])
		commented := ""
		if s.name == "source" {
			commented = "# "
		}
		header := "[" + s.name + "]"
		if s.list {
			header = "[" + header + "]"
		}
		if s.name != "" {
			fmt.Fprintf(&b, "%s%s\n", commented, header)
		}
		told := false
		for _, k := range s.keys {
			value := k.example
			if value == nil {
				value = k.normal
			}
			switch {
			case !k.shared:
				comment(&b, commented, k.exampleText()+exampleAbout[s.name+"."+k.name])
				fmt.Fprintf(&b, "%s%s = %s\n", commented, k.name, tomlText(value))
			default:
				if !told {
					told = true
					comment(&b, "", "from here on: as in [delivery], for this endpoint alone")
				}
				fmt.Fprintf(&b, "# %s = %s\n", k.name, tomlText(value))
			}
		}
	}
	written(t, examplePath, b.String())
}

const manualPath = "../manual/pages/configure.md"

// The manual's chapter of keys: for each section a table of its keys, with their defaults, bounds and meanings.
func TestManualIsWritten(t *testing.T) {
	page := string(mustRead(t, manualPath))
	before, rest, ok := strings.Cut(page, "\n## The keys\n")
	_, after, whole := strings.Cut(rest, "\n## ")
	if !ok || !whole {
		t.Fatal("the page has no chapter of keys")
	}
	var b strings.Builder
	b.WriteString(before + "\n## The keys\n\nDurations are texts (`\"10s\"`, `\"7d\"`), and so are sizes (`\"1MiB\"`). A **secret** may be\n" +
		"written as `\"env:NAME\"`, `\"file:/path\"` or `\"cred:name\"` (a systemd credential) in place of the value itself.\n")
	for _, s := range sections {
		header := "[" + s.name + "]"
		if s.list {
			header = "[" + header + "]"
		}
		if b.WriteString("\n"); s.name != "" {
			fmt.Fprintf(&b, "`%s`: ", header)
		}
		fmt.Fprintf(&b, "%s%s%s\n\n| key, with its default | what it means |\n| --- | --- |\n", s.about,
			ifSet(s.restart, " A change needs a restart."), ifSet(s.name == "endpoint", " Any key of `[delivery]` may stand here, too."))
		for _, k := range s.keys {
			if k.shared {
				continue
			}
			setting := k.name
			if k.normal != nil {
				setting += " = " + tomlText(k.normal)
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", setting, inCode.ReplaceAllString(k.exampleText(), "`$0`")+
				ifSet(k.kind.secret, "; a **secret**")+ifSet(k.needed != "", "; required"))
		}
	}
	written(t, manualPath, b.String()+"\n## "+after)
}

// inCode are the pieces of a key's text that are TOML or JSON.
var inCode = regexp.MustCompile(`\{ "?[A-Za-z.]+"? = [^ ]+ \}|\{"[^"]*":…\}|[a-z]+ = \[\]|\[[^\]]*\]|"[^"]*"|[a-z.]+_[a-z_]*`)

// exampleText leaves out how a secret may be named, which is said once for all.
func (k *key) exampleText() string {
	open := *k
	open.kind.secret = false
	return open.text()
}

// comment writes a text in lines of at most 120 columns.
func comment(b *strings.Builder, before, text string) {
	line := before + "#"
	for _, word := range strings.Fields(text) {
		if len([]rune(line))+1+len([]rune(word)) > 120 {
			b.WriteString(line + "\n")
			line = strings.TrimPrefix(before, "\n") + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// tomlText is a value as the file has it.
func tomlText(value any) string {
	switch value := value.(type) {
	case string:
		return strconv.Quote(value)
	case []any:
		return "[" + strings.Join(each(value, tomlText), ", ") + "]"
	case map[string]any:
		return "{}"
	}
	return fmt.Sprint(value)
}
