package manual

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"realtorbot-relay/relay/config"
)

func TestEveryPageIsListedWithItsTitle(t *testing.T) {
	files, err := filepath.Glob("pages/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if names := Names(); len(names) != len(files) {
		t.Errorf("%d pages are listed, and there are %d files", len(names), len(files))
	}
	index, _ := HTML("")
	inTerminal, _ := Text("", 80, false)
	for _, name := range Names() {
		text, ok := Page(name)
		if title := Title(name); !ok || !strings.HasPrefix(text, "# "+title+"\n\n") || len(title) < 10 {
			t.Errorf("page %q has the title %q: %.40q", name, title, text)
		}
		if !strings.Contains(readme(t), "(relay/manual/pages/"+name+".md)") || !strings.Contains(index, `href="`+name+`"`) || !strings.Contains(inTerminal, "  "+name+" ") {
			t.Errorf("README or a list of the pages does not lead to page %q", name)
		}
	}
	for _, name := range []string{"nothing", "../manual", "schedules.md"} {
		text, ok := Page(name)
		html, ok2 := HTML(name)
		shown, ok3 := Text(name, 80, false)
		if ok || ok2 || ok3 {
			t.Errorf("there is a page %q: %.40q %.40q %.40q", name, text, html, shown)
		}
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// README is an entrance: who wants to know more is led to a page.
func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(readme(t), "\n"); n > 220 {
		t.Errorf("README has %d lines", n)
	}
}

// Every link within README and the manual leads to a page, or a file, that is there, and to a heading of it.
func TestNoLinkIsDead(t *testing.T) {
	texts := map[string]string{"README.md": readme(t)}
	for _, name := range Names() {
		texts["relay/manual/pages/"+name+".md"], _ = Page(name)
	}
	checked := 0
	for from, text := range texts {
		for _, b := range parse(text) {
			all := append([]string{b.text}, b.items...)
			for _, row := range b.rows {
				all = append(all, row...)
			}
			if b.kind == code {
				continue
			}
			for _, s := range spans(strings.Join(all, " ")) {
				if s.target == "" || strings.HasPrefix(s.target, "http") {
					continue
				}
				checked++
				file, heading, _ := strings.Cut(s.target, "#")
				to := from
				if file != "" {
					to = filepath.Join(filepath.Dir(from), file)
				}
				if _, err := os.Stat(filepath.Join("../..", to)); err != nil {
					t.Errorf("%s links to %s, which is not there", from, s.target)
				}
				if heading != "" && !hasHeading(texts[to], heading) {
					t.Errorf("%s links to %s, and there is no such heading", from, s.target)
				}
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d links were found", checked)
	}
}

func hasHeading(text, name string) bool {
	for _, b := range parse(text) {
		if b.kind == heading && anchor(b.text) == name {
			return true
		}
	}
	return false
}

var (
	anyWord  = regexp.MustCompile(`[\pL\pN_]+`)
	linkGoal = regexp.MustCompile(`\]\([^)]*\)`)
	escape   = regexp.MustCompile("\x1b\\[[01]m")
)

// said counts the words of a text.
func said(text string) map[string]int {
	counts := map[string]int{}
	for _, w := range anyWord.FindAllString(text, -1) {
		counts[w]++
	}
	return counts
}

// Whatever the page, and however wide the terminal: all that the page says is there, and no line is longer than the terminal is wide.
func TestATerminalShowsAllOfAPage(t *testing.T) {
	for _, name := range Names() {
		page, _ := Page(name)
		fence := regexp.MustCompile("(?m)^```[a-z0-9-]*$")
		want := said(linkGoal.ReplaceAllString(fence.ReplaceAllString(page, ""), ""))
		long := map[string]bool{} // lines of code
		for _, b := range parse(page) {
			if b.kind == code {
				for line := range strings.SplitSeq(b.text, "\n") {
					long[line] = true
				}
			}
		}
		for _, width := range []int{40, 72, 80, 100, 132, 400} {
			text, _ := Text(name, width, false)
			got := said(text)
			for w, n := range want {
				if got[w] < n {
					t.Errorf("%s in %d columns has %q %d times, the page %d times", name, width, w, got[w], n)
				}
			}
			for line := range strings.Lines(text) {
				line = strings.TrimSuffix(line, "\n")
				if n := len([]rune(line)); n > width && !long[strings.TrimPrefix(line, "    ")] && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("%s in %d columns has a line of %d: %q", name, width, n, line)
				}
				if strings.HasSuffix(line, " ") && !long[strings.TrimPrefix(line, "    ")] {
					t.Errorf("%s in %d columns has a line that ends with a space: %q", name, width, line)
				}
				if strings.Contains(line, "**") || strings.Contains(line, "](") || strings.HasPrefix(line, "|") {
					if !long[strings.TrimPrefix(line, "    ")] {
						t.Errorf("%s in %d columns shows marks: %q", name, width, line)
					}
				}
			}
			if bold, _ := Text(name, width, true); bold == text || escape.ReplaceAllString(bold, "") != text {
				t.Errorf("%s in %d columns: what is bold is not the same text", name, width)
			}
		}
	}
}

// A column is wide enough to be read, or there are no columns.
func TestATableFitsItsTerminal(t *testing.T) {
	const rows = "| a | what it is |\n| --- | --- |\n| `one` | short |\n| `two` | a text that has more words than fit into the columns beside it, and all of it is broken |\n"
	show := func(text string, width int) string {
		p := &printer{width: width}
		for _, b := range parse(text) {
			p.block(b)
		}
		return p.String()
	}
	if got := show(rows, 60); got != `  a      what it is

  `+"`one`"+`  short

  `+"`two`"+`  a text that has more words than fit into the
         columns beside it, and all of it is broken
` {
		t.Errorf("columns:\n%s", got)
	}
	if got := show(strings.ReplaceAll(rows, "`two`", "`a-name-that-is-so-long-that-nothing-fits-beside-it`"), 60); got != `  a
      what it is

  `+"`one`"+`
      short

  `+"`a-name-that-is-so-long-that-nothing-fits-beside-it`"+`
      a text that has more words than fit into the columns
      beside it, and all of it is broken
` {
		t.Errorf("one below the other:\n%s", got)
	}
}

// Alert rules and messages that send somebody to a page name one that is there.
func TestWhatLeadsToThePagesFindsThem(t *testing.T) {
	rules, err := os.ReadFile("../../scripts/monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	leads := regexp.MustCompile(`/manual/([a-z]+)#([a-z0-9-]+)`).FindAllStringSubmatch(string(rules), -1)
	for _, lead := range leads {
		if text, _ := Page(lead[1]); !hasHeading(text, lead[2]) {
			t.Errorf("the rules lead to %s, which is not there", lead[0])
		}
	}
	if len(leads) < 3 {
		t.Errorf("the rules have %d", len(leads))
	}
	source, err := os.ReadFile("../doctor/disk.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`see \\"([^"\\]+)\\" in realtorbot-relay help ([a-z]+)`).FindAllStringSubmatch(string(source), -1)
	for _, name := range names {
		if text, _ := Page(name[2]); !hasHeading(text, anchor(name[1])) {
			t.Errorf("doctor leads to %q of page %s, which is not there", name[1], name[2])
		}
	}
	if len(names) < 3 {
		t.Errorf("doctor has %d", len(names))
	}
}

// The page "inside" names every room, and no file that is not there.
func TestEveryRoomIsNamed(t *testing.T) {
	text, _ := Page("inside")
	named := map[string]bool{}
	for _, path := range regexp.MustCompile("`((?:relay|queue|sign|scripts|systemd)/[^` ]*|main\\.go)`").FindAllStringSubmatch(text, -1) {
		named[path[1]] = true
		if _, err := os.Stat(filepath.Join("../..", path[1])); err != nil {
			t.Errorf("the page names %s: %v", path[1], err)
		}
	}
	var files []string
	for _, pattern := range []string{"relay/*/*.go", "relay/*/*/*.go", "queue/*/*.go", "queue/*/*/*.go"} {
		found, _ := filepath.Glob("../../" + pattern)
		files = append(files, found...)
	}
	for _, file := range files {
		if strings.Contains(file, "/testdata/") {
			continue
		}
		room, _ := filepath.Rel("../..", filepath.Dir(file))
		if !named[room+"/"] {
			t.Errorf("the page does not name %s/", room)
			named[room+"/"] = true
		}
	}
	if len(named) < 40 {
		t.Errorf("it names %d", len(named))
	}
}

// Every row has as many cells as its header: a | within a text is told from the table's.
func TestTablesAreWhole(t *testing.T) {
	for _, name := range Names() {
		text, _ := Page(name)
		for _, b := range parse(text) {
			for i, row := range b.rows {
				if i == 0 && slices.Contains(row, "") {
					t.Errorf("%s: a column without a name in %q", name, row)
				}
				if len(row) != len(b.rows[0]) {
					t.Errorf("%s: %d cells below %q: %q", name, len(row), b.rows[0], row)
				}
			}
		}
	}
}

// What a browser gets says all that the page says, has no element but these, and leads nowhere that is not there.
func TestABrowserShowsAllOfAPage(t *testing.T) {
	for _, name := range append([]string{""}, Names()...) {
		document, _ := HTML(name)
		var text strings.Builder
		var open []string
		for z := html.NewTokenizer(strings.NewReader(document)); ; {
			kind := z.Next()
			if kind == html.ErrorToken {
				if z.Err() != io.EOF {
					t.Errorf("%s: %v", name, z.Err())
				}
				break
			}
			token := z.Token()
			switch kind {
			case html.TextToken:
				text.WriteString(token.Data + " ")
			case html.StartTagToken:
				if !slices.Contains(strings.Fields("html head meta title link body header nav main div h1 h2 h3 p ul ol li table tr th td pre code a strong em"), token.Data) {
					t.Errorf("%s has the element %s", name, token.Data)
				}
				if token.Data != "meta" && token.Data != "link" {
					open = append(open, token.Data)
				}
				for _, a := range token.Attr {
					page, _, _ := strings.Cut(a.Val, "#")
					_, there := Page(page)
					if a.Key == "href" && token.Data == "a" && page != "" && !there && page != "../" && page != "./" && !strings.HasPrefix(page, "https://") && page != "http://127.0.0.1:8081/" {
						t.Errorf("%s leads to %q", name, a.Val)
					}
					if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" {
						t.Errorf("%s has the attribute %s=%q", name, a.Key, a.Val)
					}
				}
			case html.EndTagToken:
				if len(open) == 0 || open[len(open)-1] != token.Data {
					t.Fatalf("%s: %s ends, and open are %q", name, token.Data, open)
				}
				open = open[:len(open)-1]
			}
		}
		if len(open) > 0 {
			t.Errorf("%s: %q do not end", name, open)
		}
		page, _ := Page(name)
		got := said(text.String())
		for w, n := range said(linkGoal.ReplaceAllString(regexp.MustCompile("(?m)^```[a-z0-9-]*$|^[1-9]\\. ").ReplaceAllString(page, ""), "")) {
			if got[w] < n {
				t.Errorf("%s has %q %d times, the page %d times", name, w, got[w], n)
			}
		}
	}
	if document := rendered("<script>&\"'`<b>` [a](https://x/?\"><i>)"); document != "<p>&lt;script&gt;&amp;&#34;&#39;<code>&lt;b&gt;</code> <a href=\"https://x/?&#34;&gt;&lt;i&gt;\">a</a></p>\n" {
		t.Errorf("text became HTML: %s", document)
	}
}

func rendered(text string) string {
	var w strings.Builder
	for _, b := range parse(text) {
		writeBlock(&w, b)
	}
	return w.String()
}

// Schedules that the manual advises are taken as they stand there.
func TestEveryScheduleOfTheManualIsOne(t *testing.T) {
	text, _ := Page("schedules")
	schedules := regexp.MustCompile("`(\\[[^`]*\\])`").FindAllStringSubmatch(text, -1)
	if len(schedules) < 4 {
		t.Fatalf("found %q", schedules)
	}
	for _, s := range schedules {
		c, err := config.Parse("c.toml", []byte("[delivery]\nretry = "+s[1]+"\n"), nil)
		if err != nil {
			t.Errorf("%s: %v", s[1], err)
			continue
		}
		for _, w := range c.Warnings {
			if strings.Contains(w, "retry") {
				t.Errorf("%s: %s", s[1], w)
			}
		}
	}
	for _, setting := range regexp.MustCompile("`((?:max_age|jitter) = \"[^`]*\")`").FindAllStringSubmatch(text, -1) {
		if _, err := config.Parse("c.toml", []byte("[delivery]\n"+setting[1]+"\n"), nil); err != nil {
			t.Errorf("%s: %v", setting[1], err)
		}
	}
}

// Every configuration that README and the manual show is taken as it stands there.
func TestEveryConfigurationIsTaken(t *testing.T) {
	texts := map[string]string{"README": readme(t)}
	for _, name := range Names() {
		texts[name], _ = Page(name)
	}
	shown := 0
	secrets := func(named string) (string, error) {
		if strings.Contains(named, "URL") {
			return "https://hooks.example.com/services/a-key", nil
		}
		return "a-secret-of-some-length-for-tests", nil
	}
	for name, text := range texts {
		for _, block := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(text, -1) {
			shown++
			c, err := config.Parse("c.toml", []byte(block[1]), secrets)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, w := range c.Warnings {
				if !strings.Contains(w, "endpoint: there is none") { // not what the example is about
					t.Errorf("%s: %s", name, w)
				}
			}
		}
	}
	if shown < 4 {
		t.Errorf("only %d were found", shown)
	}
}
