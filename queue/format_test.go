package queue

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A store of each released format lies in testdata, packed: later versions must open it and find everything. When the
// format changes, its number goes up, makeStoreOfThisFormat stays as it is or grows, and
//
//	go test ./queue -run TestStoresOfReleasedFormatsOpen -pack
//
// packs one of the new format beside the old ones, which are never packed anew.
var pack = flag.Bool("pack", false, "pack a store of this format into testdata, unless there is one")

const packedAt = 1_767_225_600_000 // when the packed stores were made, by their clocks

func packedName(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("format-%d.tar.gz", version))
}

// packedOptions open a packed store at the moment when it was made.
func packedOptions(o *Options) {
	var clock atomic.Int64
	clock.Store(packedAt)
	o.Now = func() time.Time { return time.UnixMilli(clock.Load()) }
	o.saveEvery = time.Hour
}

// makeStoreOfThisFormat makes a store that has some of everything.
func makeStoreOfThisFormat(b *bench) {
	crm, mail := b.lane("crm"), b.lane("mail")
	b.lane("gone")
	b.append(NewLaneSet(crm.ID(), mail.ID()), ids(0, 10)...)
	for _, id := range ids(0, 10)[:3] {
		crm.Delivered(mustTake(b.t, crm, id), &Attempt{Number: 1, At: b.opts.Now(), Status: 200, Excerpt: []byte("fine")})
	}
	crm.Failed(mustTake(b.t, crm, "evt_3"), &Attempt{Number: 1, At: b.opts.Now(), Status: 500, Class: "status"}, "answered 500")
	crm.Retry(mustTake(b.t, crm, "evt_4"), &Attempt{Number: 1, At: b.opts.Now(), Status: 503, Class: "status"}, b.opts.Now().Add(time.Minute))
	if err := mail.Pause("paused by the operator"); err != nil {
		b.t.Fatal(err)
	}
	b.saveAll()
	b.reopen()                                     // all that lies in tables now
	b.append(NewLaneSet(crm.ID()), ids(10, 12)...) // the journal alone has these
}

func TestStoresOfReleasedFormatsOpen(t *testing.T) {
	if _, err := os.Stat(packedName(formatVersion)); *pack && err != nil {
		b := openBench(t, packedOptions)
		makeStoreOfThisFormat(b)
		if err := packStore(packedName(formatVersion), b); err != nil {
			t.Fatal(err)
		}
	}
	for version := 1; version <= formatVersion; version++ {
		t.Run(fmt.Sprint("format ", version), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			mustUnpack(t, packedName(version), dir)
			b := openBench(t, func(o *Options) {
				packedOptions(o)
				o.Dir = dir
			})
			if n := b.Stats().Damaged; n != 0 || len(b.said) > 0 {
				t.Errorf("%d things are damaged: %q", n, b.said)
			}
			crm, mail := b.lane("crm"), b.lane("mail")
			if s := crm.Stats(); s.Delivered != 3 || s.Failed != 1 || s.Retrying != 1 || s.Pending != 7 {
				t.Errorf("crm has %+v", s)
			}
			if due := crm.Outlook().Due; due.UnixMilli() != packedAt+time.Minute.Milliseconds() {
				t.Errorf("the retry is due at %v", due)
			}
			if s := mail.Stats(); s.Pending != 10 || s.Paused != "paused by the operator" {
				t.Errorf("mail has %+v", s)
			}
			for i, id := range ids(0, 12) {
				if r := b.append("", id); !r[0].Duplicate || r[0].Seq != uint64(i+1) {
					t.Errorf("%s again is answered %+v", id, r)
				}
			}
			_, stories, found, err := b.Story([]byte("evt_3"))
			if err != nil || !found || stories[0].State != GivenUp || stories[0].Failure.Reason != "answered 500" || len(stories[0].Attempts) != 1 {
				t.Errorf("the story of evt_3 is %+v, %v, %v", stories, found, err)
			}
			for _, id := range ids(5, 12) {
				crm.Delivered(mustTake(t, crm, id), ok(1))
			}
			mustBeEmpty(t, crm)
		})
	}
}

// packStore packs a copy of the queue's directory, as a crash would leave it, without what only holds space.
func packStore(path string, b *bench) error {
	dir := filepath.Join(b.t.TempDir(), "copy")
	if err := b.update(func(*batch) error { return copyTree(dir, b.opts.Dir) }); err != nil {
		return err
	}
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	out := tar.NewWriter(zip)
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == ballastFile || entry.Name() == "lock" || entry.Name() == "LOCK" {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil || strings.HasSuffix(name, logSuffix) && len(raw) == 0 {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, dir+"/"), Mode: 0o600, Size: int64(len(raw))}); err != nil {
			return err
		}
		_, err = out.Write(raw)
		return err
	})
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

func mustUnpack(t *testing.T, path, dir string) {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(mustRead(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(zip); ; {
		head, err := in.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(head.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		mustPut(t, name, raw)
	}
}
