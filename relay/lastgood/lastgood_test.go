package lastgood

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
)

func TestWhatIsSavedIsReadAgain(t *testing.T) {
	queue := t.TempDir()
	file := filepath.Join(queue, "included", "versions")
	if versions, err := Read(queue); err != nil || len(versions) != 0 {
		t.Fatalf("of a new queue: %v, %v", versions, err)
	}
	s := New(queue)
	if err := s.Save(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(file)); err == nil {
		t.Error("a relay that includes nothing has made the directory")
	}
	var versions []config.Version
	for i := range 300 {
		versions = append(versions, config.Version{Path: fmt.Sprintf("e.d/%d.toml", i), Text: strings.Repeat("x\n", i)})
	}
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	check := func() {
		t.Helper()
		if err := s.Save(versions); err != nil {
			t.Fatal(err)
		}
		got, err := Read(queue)
		byPath := map[string]string{}
		for _, v := range got {
			byPath[v.Path] = v.Text
		}
		want := map[string]string{}
		for _, v := range versions {
			want[v.Path] = v.Text
		}
		if err != nil || len(got) != len(versions) || !reflect.DeepEqual(byPath, want) {
			t.Fatalf("read %d versions, %v; want %d", len(got), err, len(versions))
		}
	}
	check()
	for path, mode := range map[string]os.FileMode{filepath.Dir(file): 0o700 | os.ModeDir, file: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s is %v, %v", path, info.Mode(), err)
		}
	}
	before := size()
	versions[7].Text = "changed\n"
	check()
	if grown := size() - before; grown <= 0 || grown > 500 {
		t.Errorf("one change adds %d bytes", grown)
	}
	versions = append(versions[:20], versions[30:]...)
	check()
	versions = append(versions, config.Version{Path: "e.d/25.toml", Text: "again"}) // which was gone
	check()
	for i := range 2000 {
		versions[9].Text = strings.Repeat("y", i)
		if err := s.Save(versions); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if size() > 2*before+2*slack {
		t.Errorf("after 2,000 changes of one version %d bytes, at first %d", size(), before)
	}
	// A crash left half a record: what was before it is there, and the next save writes all anew.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{string(text[:len(text)-3]), string(text) + "{\"path\":\"e.d/7.toml\",\"bytes\":900}\nshort", string(text) + "\x00\x00\x00\n"} {
		if err := os.WriteFile(file, []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(queue); err != nil || len(got) < len(versions)-1 {
			t.Errorf("with a torn end %d versions, %v", len(got), err)
		}
		s = New(queue)
		check()
	}
}
