package log

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// copyOf is what a pinned segment writes and reports.
func copyOf(t *testing.T, s *PinnedSegment) (raw []byte, told []string) {
	t.Helper()
	var out bytes.Buffer
	if err := s.WriteTo(&out, func(what string) { told = append(told, what) }); err != nil {
		t.Fatal(err)
	}
	if int64(out.Len()) != s.Size {
		t.Errorf("%s is %d bytes, wrote %d", s.Name, s.Size, out.Len())
	}
	return out.Bytes(), told
}

func TestHeldSegmentsAreAsTheyWereWhateverBecomesOfThem(t *testing.T) {
	x := newTester(t)
	x.fill(800)
	h := x.l.Pin()
	want := map[string][]byte{}
	for _, s := range h.Segments() {
		raw, err := os.ReadFile(x.o.Dir + "/" + s.Name)
		if err != nil {
			t.Fatal(err)
		}
		want[s.Name] = raw[:s.Size]
	}
	if len(want) < 3 {
		t.Fatalf("only %d segments", len(want))
	}
	if err := x.l.Strip(x.l.Segments()[1].Number); err != nil {
		t.Fatal(err)
	}
	if err := x.l.Remove(); err != nil {
		t.Fatal(err)
	}
	if more, err := x.l.Shorten(); err != nil || !more || x.l.PinnedBytes() == 0 {
		t.Fatalf("what is held is shortened: %v, %v, %d bytes", more, err, x.l.PinnedBytes())
	}
	x.fill(400) // the open one goes on, and is sealed
	for _, s := range h.Segments() {
		if raw, told := copyOf(t, &s); !bytes.Equal(raw, want[s.Name]) || told != nil {
			t.Errorf("%s is another, and tells %q", s.Name, told)
		}
	}
	h.Release()
	h.Release()
	for more := true; more; {
		var err error
		if more, err = x.l.Shorten(); err != nil {
			t.Fatal(err)
		}
	}
	if n := x.l.PinnedBytes(); n != 0 || x.l.pins.Load() != 0 {
		t.Errorf("%d bytes are held back after the end", n)
	}
}

// What can't be read is reported, once each, and everything around it is written as it is.
func TestAHeldSegmentTellsWhatCantBeRead(t *testing.T) {
	for what, test := range map[string]struct {
		harm  func(x *tester, path string) // of the first segment, which is stripped or not
		strip bool
		tells string
	}{
		"a bit of a block":    {func(x *tester, path string) { flip(x.t, path, headerSize+blockHeader+5) }, false, fmt.Sprintf("the block at byte %d can't be read, with events 1 to ", headerSize)},
		"a header of a block": {func(x *tester, path string) { flip(x.t, path, headerSize+9) }, false, fmt.Sprintf("the block at byte %d can't be read, with events 1 to ", headerSize)},
		"a page of ids":       {func(x *tester, path string) { flip(x.t, path, headerSize+100) }, true, fmt.Sprintf("a page of ids at byte %d can't be read", headerSize)},
		"its end": {func(x *tester, path string) {
			if err := os.Truncate(path, headerSize+200); err != nil {
				x.t.Fatal(err)
			}
		}, true, "can't be read: EOF"},
	} {
		t.Run(what, func(t *testing.T) {
			x := newTester(t)
			x.fill(800)
			if test.strip {
				if err := x.l.Strip(1); err != nil {
					t.Fatal(err)
				}
			}
			h := x.l.Pin()
			defer h.Release()
			s := h.Segments()[0]
			before, _ := copyOf(t, &s)
			test.harm(x, x.o.Dir+"/"+s.Name)
			after, told := copyOf(t, &s)
			if len(told) == 0 || !strings.Contains(strings.Join(told, "\n"), s.Name+": ") || !strings.Contains(strings.Join(told, "\n"), test.tells) {
				t.Errorf("it tells %q", told)
			}
			if what != "its end" && (len(told) != 1 || !bytes.Equal(before[headerSize+200:], after[headerSize+200:])) {
				t.Errorf("it tells %q, or what is behind is another", told)
			}
		})
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[at] ^= 1
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(raw[at:at+1], int64(at)); err != nil {
		t.Fatal(err)
	}
}
