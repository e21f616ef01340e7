package format1

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The packed queues were written by the last version that wrote format 1, each by a process that was killed at its end:
//
//	everything    some of all there is: retention, kept events, retries, failed deliveries, replays, a pause, a lane given up
//	pieces        bodies that lie in several pieces
//	cut           a save that was cut short between two of its transactions
//	ten-thousand  10,000 events, some of them in tables of several levels
//	released      the one that version 1 was released with
var packed = []string{"everything", "pieces", "cut", "ten-thousand", "released"}

// unpacked puts a packed queue into a directory of its own.
func unpacked(t testing.TB, name string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	for _, f := range filesOf(t, name) {
		path := filepath.Join(dir, f.name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, f.raw, 0o600)
		}
		if err == nil {
			err = os.Truncate(path, f.size)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// packedFile is a file of a packed queue, without the zeros at its end.
type packedFile struct {
	name string
	raw  []byte
	size int64
}

var files = map[string][]packedFile{} // by queue, once unpacked

func filesOf(t testing.TB, name string) []packedFile {
	t.Helper()
	if files[name] != nil {
		return files[name]
	}
	in := tar.NewReader(bytes.NewReader(mustUnzip(t, "testdata/"+name+".tar.gz")))
	for {
		head, err := in.Next()
		if err == io.EOF {
			return files[name]
		}
		var raw []byte
		if err == nil {
			raw, err = io.ReadAll(in)
		}
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.Clone(bytes.TrimRight(raw, "\x00"))
		files[name] = append(files[name], packedFile{filepath.FromSlash(head.Name), raw, head.Size})
	}
}

func mustUnzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// opened reads a queue and gathers the notices.
func opened(t testing.TB, dir string) (r *Reader, said *[]string) {
	t.Helper()
	said = new([]string)
	r, err := Open(dir, func(line string) { *said = append(*said, line) })
	if err != nil {
		t.Fatal(err)
	}
	return r, said
}

func TestAllThatAQueueHoldsIsRead(t *testing.T) {
	for _, name := range packed {
		t.Run(name, func(t *testing.T) {
			r, said := opened(t, unpacked(t, name))
			if n := r.Size(); n < 4<<10 || n > 64<<20 {
				t.Errorf("a size of %d", n)
			}
			got, err := readAll(r)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, got, mustContent(t, name))
			if len(*said) > 0 {
				t.Errorf("told %q", *said)
			}
			if s, err := r.State(); err != nil || s.Damaged != 0 || s.Missing != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// mustEqual compares two contents field by field.
func mustEqual(t *testing.T, got, want content) {
	t.Helper()
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		name, g, w := g.Type().Field(i).Name, g.Field(i), w.Field(i)
		if g.Kind() != reflect.Slice {
			if !g.Equal(w) {
				t.Errorf("%s: %v, want %v", name, g, w)
			}
			continue
		}
		if g.Len() != w.Len() {
			t.Errorf("%d %s, want %d", g.Len(), name, w.Len())
		}
		wrong := 0
		for n := range min(g.Len(), w.Len()) {
			if !reflect.DeepEqual(g.Index(n).Interface(), w.Index(n).Interface()) {
				if wrong++; wrong < 3 {
					t.Errorf("%s %d: %+v, want %+v", name, n, g.Index(n), w.Index(n))
				}
			}
		}
	}
}

func TestAStoreWhoseMendingWasCutShortBetweenTwoRenamesIsRead(t *testing.T) {
	dir := unpacked(t, "everything")
	store := filepath.Join(dir, "store")
	if err := os.Rename(store, store+".mended"); err != nil {
		t.Fatal(err)
	}
	r, said := opened(t, dir)
	got, err := readAll(r)
	if err != nil || len(*said) > 0 {
		t.Errorf("%v, told %q", err, *said)
	}
	mustEqual(t, got, mustContent(t, "everything"))
}

func TestAFunctionsErrorEndsTheReading(t *testing.T) {
	enough := errors.New("enough")
	r, _ := opened(t, unpacked(t, "everything"))
	calls := 0
	stop := func() error { calls++; return enough }
	for i, err := range []error{
		r.Frames(func(*Frame) error { return stop() }),
		r.Retained(func(Event) error { return stop() }),
		r.IDs(func([]byte, uint64, int64) error { return stop() }),
		r.Lanes(func(Lane) error { return stop() }),
		r.Retries(func(uint32, uint64, int64, int, uint64) error { return stop() }),
		r.Failed(func(uint32, Failure) error { return stop() }),
		r.Replays(func(uint32, uint64, []byte) error { return stop() }),
		r.Attempts(func(uint32, uint64, Attempt) error { return stop() }),
	} {
		if !errors.Is(err, enough) || calls != 8 {
			t.Errorf("method %d: %v, %d calls", i, err, calls)
		}
	}
	got, err := readAll(r) // the next time all is read
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, got, mustContent(t, "everything"))
}

func TestReadingChangesNothingInTheDirectory(t *testing.T) {
	for _, name := range packed {
		dir := unpacked(t, name)
		before := tree(t, dir)
		r, _ := opened(t, dir)
		if _, err := readAll(r); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if after := tree(t, dir); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: the directory is another", name)
		}
	}
}

// tree has all files of a directory with their bytes and times.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files[path] = info.ModTime().String() + info.Mode().String()
		if !entry.IsDir() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[path] += string(raw)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestWhatIsNoQueueOfFormat1IsAnError(t *testing.T) {
	for _, text := range []string{"realtorbot-relay queue, format 2\n", "realtorbot-relay queue, format 2, memtable 4194304\n", "", "something else"} {
		dir := unpacked(t, "released")
		if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, func(string) {}); err == nil || !strings.Contains(err.Error(), "not format 1") {
			t.Errorf("FORMAT %q: %v", text, err)
		}
	}
	if _, err := Open(t.TempDir(), func(string) {}); err == nil {
		t.Error("an empty directory is no error")
	}
}
