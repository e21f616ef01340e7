package admin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
)

// Health and the metrics tell of included files that are broken, and of one that was changed since it was read.
func TestIncludedFilesThatAreNotFollowedAreTold(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config.toml", "include = [\"*.t\"]\n")
	write("a.t", "]")
	path := filepath.Join(dir, "config.toml")
	cfg, err := config.LoadServed(path, func(config.Queue) []config.Version { return nil })
	if err != nil {
		t.Fatal(err)
	}
	f := NewConfigFile(path)
	f.Follow(cfg)
	o := openHarness(t, "")
	o.Source = f.State
	told := func() string {
		_, body := o.ask("GET", "/health")
		return body
	}
	if text := told(); !strings.Contains(text, "an included file is not followed: "+filepath.Join(dir, "a.t")+":1: is not valid TOML") || strings.Contains(text, "was changed") {
		t.Errorf("health says %s", text)
	}
	if samples, _ := o.scrape(); samples["relay_config_broken_files"] != 1 {
		t.Errorf("the metrics don't count it")
	}
	write("b.t", "]")
	f.Follow(cfg) // else it is looked for a second later
	if text := told(); !strings.Contains(text, "the included file "+filepath.Join(dir, "b.t")+" was changed, added or deleted") {
		t.Errorf("health says %s", text)
	}
}
