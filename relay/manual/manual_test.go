package manual

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
)

func TestEveryPageIsListedWithItsTitle(t *testing.T) {
	files, err := filepath.Glob("pages/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	list := Pages()
	if len(list) != len(files) {
		t.Errorf("%d pages are listed, and there are %d files", len(list), len(files))
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		text, ok := Page(p.Name)
		if !ok || !strings.HasPrefix(text, "# "+p.Title+"\n") || len(p.Title) < 10 {
			t.Errorf("page %q has the title %q: %.40q", p.Name, p.Title, text)
		}
		if !strings.Contains(string(readme), "(relay/manual/pages/"+p.Name+".md)") {
			t.Errorf("README does not lead to page %q", p.Name)
		}
	}
	for _, name := range []string{"", "nothing", "../manual", "schedules.md"} {
		if text, ok := Page(name); ok {
			t.Errorf("there is a page %q: %.40q", name, text)
		}
	}
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

// The configuration that stands behind the proxies of the manual is one.
func TestTheConfigurationBehindAProxyIsTaken(t *testing.T) {
	text, _ := Page("proxies")
	_, block, ok := strings.Cut(text, "```toml\n")
	if block, _, _ = strings.Cut(block, "```"); !ok {
		t.Fatal("there is none")
	}
	secrets := func(string) (string, error) { return "a-token-of-some-length", nil }
	if _, err := config.Parse("c.toml", []byte(block), secrets); err != nil {
		t.Error(err)
	}
}
