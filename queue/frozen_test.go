package queue

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var freeze = flag.Bool("freeze", false, "make testdata/format-2 anew: only when a queue that was packed before can't be what it was for")

// frozenAt is when the golden queue was packed, Unix milliseconds of its clock.
const frozenAt = scenarioStart + int64(10*scenarioRetention/1e6)

// Each later version reads a queue of format 2 as it was written. The golden one has some of everything, in the log, in the
// journal alone, carried, and as letters, and the process that wrote it was killed at its end.
func TestAQueueOfFormat2IsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	if *freeze {
		freezeQueue(t)
	}
	want, err := os.ReadFile("testdata/format-2.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := newScenario(t, 1)
	p.clock.Store(frozenAt)
	unpackFrozen(t, p.opts.Dir)
	p.must(p.open())
	if got := p.told(); got != string(want) {
		t.Errorf("it is not what it was:\n%s", differs(string(want), got))
	}
	if n := p.Stats().Damaged; n != 0 {
		t.Errorf("%d are damaged: %q", n, p.said)
	}
	// It goes on as any other.
	p.mustAppend(20, "new")
	for _, l := range p.Lanes() {
		for d, _ := l.Take(); d != nil; d, _ = l.Take() {
			l.Delivered(d, ok(1))
		}
	}
	p.must(p.writer.awaitSave(p.Queue))
	before := p.told()
	p.must(p.Close())
	p.must(p.open())
	if got := p.told(); got != before {
		t.Errorf("opened again it is not what it was:\n%s", differs(before, got))
	}
	p.must(p.Close())
}

// told is everything that a queue can be asked, as text.
func (p *scenario) told() string {
	p.t.Helper()
	var out strings.Builder
	s := p.Stats()
	fmt.Fprintf(&out, "%d events\n", s.Events)
	for _, l := range p.Lanes() {
		s, h := l.Stats(), l.Health()
		fmt.Fprintf(&out, "lane %s: %d pending, %d retrying, %d failed, %d delivered, paused %q, unserved %v; last error %q, %d failures\n",
			l.Name(), s.Pending, s.Retrying, s.Failed, s.Delivered, s.Paused, !s.Unserved.IsZero(), h.LastError, h.Failures)
		for _, r := range l.Replays() {
			fmt.Fprintf(&out, "  replay %s: %s, failed %v, %d taken up, %d delivered, %d failed, %d retrying\n", r.ID, r.State, r.Spec.Failed, r.TakenUp, r.Delivered, r.Failed, r.Retrying)
		}
	}
	for seq := uint64(1); seq < p.End(); seq++ {
		ev, found, err := p.find(seq)
		p.must(err)
		if !found {
			fmt.Fprintf(&out, "event %d is gone\n", seq)
			continue
		}
		fmt.Fprintf(&out, "event %d: %s, %s of %s, %d bytes, accepted at %d\n", seq, ev.ID, ev.Type, ev.Source, len(ev.Body), ev.At)
		if !bytes.Equal(ev.Body, scenarioBody(string(ev.ID))) {
			fmt.Fprintf(&out, "  its body is another\n")
		}
		var deliveries []DeliveryStory
		stories, err := p.Stories(ev.ID, 10)
		p.must(err)
		for i := range stories {
			if stories[i].Seq == seq {
				deliveries = stories[i].Deliveries
			}
		}
		for _, d := range deliveries {
			fmt.Fprintf(&out, "  %s: %s", d.Lane, d.State)
			for _, a := range d.Attempts {
				fmt.Fprintf(&out, "; %d %s %q", a.Status, a.Class, a.Error)
			}
			if d.Failure != nil {
				fmt.Fprintf(&out, "; failed for %q, %d attempts", d.Failure.Reason, d.Failure.Attempts)
			}
			if d.Letter != nil {
				fmt.Fprintf(&out, "; a letter of %s", d.Letter.Lane)
			}
			fmt.Fprintln(&out)
		}
	}
	return out.String()
}

// differs lists the lines that only one of two texts has.
func differs(a, b string) string {
	var out strings.Builder
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(x), len(y)) {
		var l, r string
		if i < len(x) {
			l = x[i]
		}
		if i < len(y) {
			r = y[i]
		}
		if l != r {
			fmt.Fprintf(&out, "- %s\n+ %s\n", l, r)
		}
	}
	return out.String()
}

func unpackFrozen(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open("testdata/format-2.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(zip); ; {
		head, err := in.Next()
		if err == io.EOF {
			return
		}
		path := filepath.Join(dir, filepath.FromSlash(head.Name))
		var raw []byte
		if err == nil {
			raw, err = io.ReadAll(in)
		}
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, raw, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func freezeQueue(t *testing.T) {
	p := newScenario(t, 2)
	p.begin()
	crm := p.mustLane("crm")
	dead := p.mustLane("dead")
	crm.SetHealth(Health{Failures: 3, Failing: p.opts.Now(), LastError: "answered 500", LastErrorAt: p.opts.Now()})
	crm.OweLetters(true, func() {})
	p.mustAppend(1, "big")
	p.mustAppend(6, "evt")
	for range 4 {
		d, _ := crm.Take()
		crm.Failed(d, broken(1), "answered 500")
	}
	p.mustSave()
	for more := true; more; {
		var err error
		if more, err = crm.PostLetters(dead, everyEvent); errors.Is(err, ErrUnsaved) {
			p.mustSave()
			more = true
		} else {
			p.must(err)
		}
	}
	p.mustSave()
	p.clock.Store(frozenAt)
	dir := filepath.Join(t.TempDir(), "data")
	p.must(p.update(func() error { return p.log.Seal() }))
	p.mustAppend(5, "evt")
	p.work(crm, 3)
	p.mustSave()
	p.mustAppend(5, "evt")
	p.must(p.update(func() error { return copyTree(dir, p.opts.Dir) })) // the last five are in the journal alone
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	out := tar.NewWriter(zip)
	var names []string
	p.must(filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	slices.Sort(names)
	for _, path := range names {
		raw, err := os.ReadFile(path)
		p.must(err)
		name, err := filepath.Rel(dir, path)
		p.must(err)
		p.must(out.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o600, Size: int64(len(raw))}))
		_, err = out.Write(raw)
		p.must(err)
	}
	p.must(errors.Join(out.Close(), zip.Close()))
	p.must(p.Close())
	p.must(os.WriteFile("testdata/format-2.tar.gz", packed.Bytes(), 0o644))
	p.opts.Dir = dir
	p.must(p.open())
	p.must(os.WriteFile("testdata/format-2.txt", []byte(p.told()), 0o644))
	p.must(p.Close())
}
