package endtoend

import (
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/manual"
)

// commandFlags asks the binary for its commands and for the flags of each.
func commandFlags(t *testing.T) map[string][]string {
	t.Helper()
	_, usage, _ := end(t, command(t.TempDir(), "-h"))
	flags := map[string][]string{}
	for _, name := range regexp.MustCompile(`(?m)^  ([a-z]+) `).FindAllStringSubmatch(usage, -1) {
		flags[name[1]] = nil
		if name[1] == "version" || name[1] == "schema" { // they have none
			continue
		}
		code, help, _ := end(t, command(t.TempDir(), name[1], "-h"))
		for _, f := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(help, -1) {
			flags[name[1]] = append(flags[name[1]], f[1])
		}
		if code != 0 || len(flags[name[1]]) == 0 {
			t.Fatalf("%s -h: exit %d, no flag found in:\n%s", name[1], code, help)
		}
	}
	if len(flags) < 6 {
		t.Fatalf("found only the commands %v in:\n%s", flags, usage)
	}
	return flags
}

// The man page and each shell's completion know the commands and flags that there are, and no others.
func TestManPageAndCompletionsSayWhatTheBinaryDoes(t *testing.T) {
	t.Parallel()
	want := commandFlags(t)
	shellFlags := map[string]*regexp.Regexp{
		"completion.bash": regexp.MustCompile(`-([a-z-]+)`),
		"completion.zsh":  regexp.MustCompile(`['"]-([a-z-]+)\[`),
		"completion.fish": regexp.MustCompile(`-o ([a-z-]+)`),
	}
	for name, flag := range shellFlags {
		text := readFile(t, name)
		for command, flags := range want {
			var part string
			switch name {
			case "completion.bash":
				part = between(text, `(?m)^    (?:[a-z]+ \| )*`+command+`(?: \| [a-z]+)*\) words="`, `"`)
			case "completion.zsh":
				part = between(text, `(?m)^(?:[a-z]+ \| )*`+command+`(?: \| [a-z]+)*\)[ \n]+_arguments`, `;;`)
				part = strings.ReplaceAll(part, "$config", between(text, `local config=`, `\n`))
			case "completion.fish":
				if part = between(text, `seen_subcommand_from (?:[a-z]+ )*`+command+`(?: [a-z]+)*"`, `(?:set -l on|\z)`); command == "serve" || command == "check" || command == "route" {
					part, _, _ = strings.Cut(part, "\n")
				}
			}
			sameFlags(t, name+" for "+command, flag.FindAllStringSubmatch(part, -1), flags)
			if !regexp.MustCompile(`\b` + command + `\b`).MatchString(text) {
				t.Errorf("%s doesn't know the command %s", name, command)
			}
		}
	}

	page := strings.ReplaceAll(readFile(t, "realtorbot-relay.1"), `\-`, "-")
	documented := between(page, `(?m)^\.SH COMMANDS`, `\n\.SH`)
	var commands []string
	for _, name := range regexp.MustCompile(`(?m)^\.B ([a-z]+)$`).FindAllStringSubmatch(documented, -1) {
		commands = append(commands, name[1])
	}
	known := slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(want)), "help")))
	if slices.Sort(commands); fmt.Sprint(commands) != fmt.Sprint(known) {
		t.Errorf("the man page has the commands %v, want %v", commands, known)
	}
	for _, name := range []string{"completion.bash", "completion.zsh", "completion.fish", "realtorbot-relay.1"} {
		text := readFile(t, name)
		for _, page := range manual.Names() {
			if !regexp.MustCompile(`\b` + page + `\b`).MatchString(text) {
				t.Errorf("%s doesn't know the page %s of the manual", name, page)
			}
		}
	}
	for command, flags := range want {
		if flags == nil {
			continue
		}
		part := between(page, `(?m)^\.SS (?:[a-z]+, )*`+command+`(?:, [a-z]+)*$`, `\n\.S[SH]`)
		sameFlags(t, "the man page for "+command, regexp.MustCompile(`(?m)^\.BI? -([a-z-]+)`).FindAllStringSubmatch(part, -1), flags)
	}
}

// What stands in the file is what bash offers: a command that the function does not recognise has the flags of another.
func TestBashOffersTheFlagsOfTheCommandThatIsTyped(t *testing.T) {
	t.Parallel()
	want := commandFlags(t)
	want["help"] = manual.Names()
	for name, flags := range want {
		typed := "-"
		if name == "help" {
			typed = ""
		}
		cmd := exec.Command("bash", "-c", `. "$1"; COMP_WORDS=(realtorbot-relay "$2" "$3"); COMP_CWORD=2; _realtorbot_relay; printf '%s\n' "${COMPREPLY[@]}"`,
			"bash", "../../scripts/package/completion.bash", name, typed)
		said, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var got [][]string
		for _, word := range strings.Fields(string(said)) {
			got = append(got, []string{"", strings.TrimPrefix(word, "-")})
		}
		sameFlags(t, "what bash offers for "+name, got, flags)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../scripts/package/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// between is the text from behind the first match of from to the next match of to.
func between(text, from, to string) string {
	begin := regexp.MustCompile(from).FindStringIndex(text)
	if begin == nil {
		return ""
	}
	rest := text[begin[1]:]
	if stop := regexp.MustCompile(to).FindStringIndex(rest); stop != nil {
		rest = rest[:stop[0]]
	}
	return rest
}

func sameFlags(t *testing.T, where string, found [][]string, want []string) {
	t.Helper()
	got := map[string]bool{}
	for _, f := range found {
		got[f[1]] = true
	}
	names := slices.Sorted(maps.Keys(got))
	want = slices.Sorted(slices.Values(want))
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("%s: flags %v, want %v", where, names, want)
	}
}

// The manual lists every module that is in the binary, with what it is for, and no other.
func TestManualListsWhatIsLinked(t *testing.T) {
	t.Parallel()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var linked []string
	for _, module := range info.Deps {
		linked = append(linked, strings.TrimPrefix(module.Path, "github.com/"))
	}
	page, _ := manual.Page("inside")
	_, list, _ := strings.Cut(page, "\n## What is linked\n")
	list, _, _ = strings.Cut(list, "\n## ")
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\| (`+"`[^|]*`"+`) \| [^|]{5,} \|$`).FindAllStringSubmatch(list, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			listed = append(listed, name[1])
		}
	}
	slices.Sort(linked)
	slices.Sort(listed)
	if len(linked) < 10 || !slices.Equal(linked, listed) {
		t.Errorf("linked are\n%q\nthe manual lists\n%q", linked, listed)
	}
}

// What editors check a configuration with is all that schema prints.
func TestSchemaPrintsOneJSONObject(t *testing.T) {
	t.Parallel()
	code, text, said := end(t, command(t.TempDir(), "schema"))
	if code != 0 || said != "" || text != string(config.Schema()) {
		t.Errorf("exit %d, %d bytes, %q", code, len(text), said)
	}
	if code, text, said = end(t, command(t.TempDir(), "schema", "-help")); code != 0 || said != "" || !strings.Contains(text, "#:schema ./config.schema.json") {
		t.Errorf("-help: exit %d, %s%s", code, text, said)
	}
	if code, text, said = end(t, command(t.TempDir(), "schema", "config.toml")); code != 2 || text != "" || !strings.Contains(said, `unexpected argument "config.toml"`) {
		t.Errorf("with an argument: exit %d, %s, %s", code, text, said)
	}
}

// The pages of the manual are in the binary, and who asks for one that is not is told which there are.
func TestHelpHasThePagesOfTheManual(t *testing.T) {
	t.Parallel()
	_, usage, _ := end(t, command(t.TempDir(), "help"))
	code, _, list := end(t, command(t.TempDir(), "help", "nothing"))
	if code != 2 {
		t.Errorf("help nothing: exit %d", code)
	}
	for line := range strings.Lines(usage) {
		if strings.HasSuffix(line, " \n") || len([]rune(line)) > 110 {
			t.Errorf("help has the line %q", line)
		}
	}
	for _, name := range manual.Names() {
		code, text, _ := end(t, command(t.TempDir(), "help", name))
		if want, _ := manual.Text(name, 80, false); code != 0 || text != want {
			t.Errorf("help %s: exit %d, %.60q", name, code, text)
		}
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(usage) {
			t.Errorf("help does not name the page %s", name)
		}
		if title := strings.Join(strings.Fields(manual.Title(name)), " "); !strings.Contains(strings.Join(strings.Fields(list), " "), name+" "+title) {
			t.Errorf("help nothing does not list %s as %q: %s", name, title, list)
		}
	}
}

// In a terminal a page is as wide as that, and what is bold is bold.
func TestHelpIsAsWideAsTheTerminal(t *testing.T) {
	t.Parallel()
	terminal, device := openTerminal(t)
	for _, columns := range []int{60, 90, 300} {
		if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: uint16(columns)}); err != nil {
			t.Fatal(err)
		}
		want, _ := manual.Text("damage", min(columns, 120), true)
		shown := make(chan string)
		go func() {
			var text strings.Builder
			piece := make([]byte, 4096)
			for strings.Count(text.String(), "\n") < strings.Count(want, "\n") {
				n, err := terminal.Read(piece)
				text.Write(piece[:n])
				if err != nil {
					break
				}
			}
			shown <- strings.ReplaceAll(text.String(), "\r\n", "\n")
		}()
		cmd := command(t.TempDir(), "help", "damage")
		if code := launchTo(t, cmd, device).exit(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		if got := <-shown; got != want || !strings.Contains(got, "\x1b[1m") {
			t.Errorf("in %d columns:\n%s", columns, got)
		}
	}
}
