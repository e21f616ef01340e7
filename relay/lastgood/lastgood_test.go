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
		if got, err := Read(queue); err == nil || len(got) < len(versions)-1 {
			t.Errorf("with a torn end %d versions, %v", len(got), err)
		}
		s = New(queue)
		check()
	}
}

// Of what is damaged in the middle the rest is read, and no older version of what is not whole.
func TestDamageCostsTheVersionThatItHit(t *testing.T) {
	queue := t.TempDir()
	file := filepath.Join(queue, "included", "versions")
	s := New(queue)
	save := func(versions ...config.Version) {
		t.Helper()
		if err := s.Save(versions); err != nil {
			t.Fatal(err)
		}
	}
	save(config.Version{Path: "a", Text: "older"}, config.Version{Path: "b", Text: "bbbb"})
	save(config.Version{Path: "a", Text: "newer"}, config.Version{Path: "b", Text: "bbbb"})
	save(config.Version{Path: "a", Text: "newer"}, config.Version{Path: "b", Text: "bbbb"}, config.Version{Path: "c", Text: "cccc"})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "\nnewer\n", "\nnewes\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(queue)
	if want := []config.Version{{Path: "b", Text: "bbbb"}, {Path: "c", Text: "cccc"}}; !reflect.DeepEqual(got, want) || err == nil || !strings.Contains(err.Error(), `a version of "a" is passed over`) {
		t.Errorf("read %v, %v", got, err)
	}
	s = New(queue)
	save(config.Version{Path: "b", Text: "bbbb"})
	if got, err := Read(queue); len(got) != 1 || err != nil {
		t.Errorf("after the next save %v, %v", got, err)
	}
}

// What can't be kept is an error, and is kept once it can be.
func TestWhatCouldNotBeKeptIsKeptLater(t *testing.T) {
	queue := t.TempDir()
	directory := filepath.Join(queue, "included")
	if err := os.WriteFile(directory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, versions := New(queue), []config.Version{{Path: "a", Text: "text"}}
	if err := s.Save(versions); err == nil {
		t.Error("it is kept in a file that is no directory")
	}
	if err := os.Remove(directory); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(versions); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(queue); err != nil || !reflect.DeepEqual(got, versions) {
		t.Errorf("read %v, %v", got, err)
	}
}
