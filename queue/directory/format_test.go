package directory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var format = Format{Version: Current.Version, Draft: Current.Draft, MemTable: 8 << 20}

func TestTheFormatIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	path := tempDir(t)
	d := mustClaim(t, path)
	if f, err := d.ReadFormat(); err != nil || f != (Format{}) {
		t.Errorf("of a new queue it is %+v, %v", f, err)
	}
	for _, f := range []Format{{Version: 1, MemTable: 64 << 20}, format} {
		must(t, d.WriteFormat(f))
		if got, err := d.ReadFormat(); err != nil || got != f {
			t.Errorf("%+v is read as %+v, %v", f, got, err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(path, "FORMAT"))
	if must(t, err); string(raw) != "realtorbot-relay queue, format 2, memtable 8388608\n" {
		t.Errorf("the file reads %q", raw)
	}
	if names, err := os.ReadDir(path); err != nil || len(names) != 2 {
		t.Errorf("beside lock and FORMAT there is something: %v, %v", names, err)
	}
}

func TestWhoCanReadAFormat(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"realtorbot-relay queue, format 1, memtable 8388608\n":                 "",
		"realtorbot-relay queue, format 1, memtable 8388608":                   "",
		"realtorbot-relay queue, format 2, memtable 8388608\n":                 "",
		"realtorbot-relay queue, format 99, memtable 8388608\n":                "written by a newer version of the relay (format 99, this one knows format 2)",
		"realtorbot-relay queue, format 3 draft 7, who knows\n":                "written by a newer version of the relay (format 3 draft 7,",
		"realtorbot-relay queue, format 2 with keys, memtable 8388608\n":       "written by a newer version of the relay (format 2 with keys, this one knows format 2)",
		"realtorbot-relay queue, format 2 with keys and x, memtable 8388608\n": "written by a newer version of the relay (format 2 with keys and x,",
		"realtorbot-relay queue, format 2 with , memtable 8388608\n":           "which no version of the relay writes",
		"realtorbot-relay queue, format 2 with \x00, memtable 8388608\n":       "which no version of the relay writes",
		"realtorbot-relay queue, format 2 with keys\n":                         "which no version of the relay writes",
		"realtorbot-relay queue, format 1 with keys, memtable 8388608\n":       "which no version of the relay writes",
		"realtorbot-relay queue, format 2 draft 1, memtable 8388608\n":         "written by an unfinished version of the relay (format 2 draft 1, this one knows format 2)",
		"realtorbot-relay queue, format 2 draft 2, memtable 8388608\n":         "written by an unfinished version of the relay (format 2 draft 2,",
		"realtorbot-relay queue, format 2 draft 12, anything\n":                "written by an unfinished version",
		"realtorbot-relay queue, format 2 draft 0, memtable 8388608\n":         "which no version of the relay writes",
		"realtorbot-relay queue, format 2 draft x, memtable 8388608\n":         "which no version of the relay writes",
		"realtorbot-relay queue, format 1 draft 2, memtable 8388608\n":         "which no version of the relay writes",
		"realtorbot-relay queue, format 0, memtable 8388608\n":                 "which no version of the relay writes",
		"realtorbot-relay queue, format -2, memtable 8388608\n":                "which no version of the relay writes",
		"realtorbot-relay queue, format 1, memtable 8388608 more\n":            "which no version of the relay writes",
		"realtorbot-relay queue, format 1, memtable 5\n":                       "which no version of the relay writes",
		"realtorbot-relay queue, format 1, memtable 99999999999\n":             "which no version of the relay writes",
		"realtorbot-relay queue, format 1\n":                                   "which no version of the relay writes",
		"realtorbot-relay queue, fo":                                           "which no version of the relay writes",
		"":                                                                     "which no version of the relay writes",
		strings.Repeat("\x00", 58):                                             "which no version of the relay writes",
	} {
		path := tempDir(t)
		d := mustClaim(t, path)
		must(t, os.WriteFile(filepath.Join(path, "FORMAT"), []byte(text), 0o600))
		f, err := d.ReadFormat()
		if says == "" && (err != nil || f.MemTable != 8<<20) || says != "" && (err == nil || !strings.Contains(err.Error(), says) || f != (Format{})) {
			t.Errorf("%q is read as %+v, %v", text, f, err)
		}
	}
}

// What a queue is in, without its format, is not taken for a new queue.
func TestAQueueWithoutFormatIsNotOpened(t *testing.T) {
	t.Parallel()
	for _, room := range []string{"store", "log", "journal"} {
		path := tempDir(t)
		d := mustClaim(t, path)
		must(t, os.Mkdir(filepath.Join(path, room), 0o700))
		if f, err := d.ReadFormat(); err != nil || f.Version != 0 {
			t.Errorf("with an empty %s: %+v, %v", room, f, err)
		}
		must(t, os.WriteFile(filepath.Join(path, room, "file"), nil, 0o600))
		if _, err := d.ReadFormat(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the directory has a %s but no file \"FORMAT\"", room)) {
			t.Errorf("with a %s it says %v", room, err)
		}
	}
	path := tempDir(t)
	d := mustClaim(t, path)
	must(t, os.Mkdir(filepath.Join(path, "FORMAT"), 0o700))
	if _, err := d.ReadFormat(); err == nil {
		t.Error("a directory is read as the file")
	}
}

// Whatever goes wrong while the file is written: the one that was there is there, or the new one.
func TestTheFormatIsWrittenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	sick := errors.New("sick")
	for _, place := range []string{PlaceFormat, PlaceFormatName} {
		for _, made := range []bool{false, true} {
			for _, old := range []Format{{}, {Version: 1, MemTable: 64 << 20}} {
				path := tempDir(t)
				d := mustClaim(t, path)
				if old.Version > 0 {
					must(t, d.WriteFormat(old))
				}
				d.fault = func(at string, was bool) error {
					if at == place && was == made {
						return sick
					}
					return nil
				}
				if err := d.WriteFormat(format); !errors.Is(err, sick) {
					t.Errorf("%s: it says %v", place, err)
				}
				want := old
				if place == PlaceFormatName && made {
					want = format
				}
				if got, err := d.ReadFormat(); err != nil || got != want {
					t.Errorf("%s, made %v: then it is %+v, %v; want %+v", place, made, got, err, want)
				}
				d.fault = nil
				must(t, d.WriteFormat(format))
				if got, err := d.ReadFormat(); err != nil || got != format {
					t.Errorf("%s: written again it is %+v, %v", place, got, err)
				}
			}
		}
	}
}
