package queue

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// old is what lies beside a packed queue of format 1, as far as a takeover can be checked against it.
type old struct {
	Next   uint64
	Events int64
	Clock  int64
	Frames []struct{ Events []oldEvent }
	Kept   []oldEvent
	IDs    []struct {
		ID  string
		Seq uint64
		At  int64
	}
	Lanes                     []struct{ Name, Paused string }
	Retries, Failed, Attempts []oldDelivery
	Replays                   []struct{ Lane uint32 }
}

type oldDelivery struct {
	Lane uint32
	Seq  uint64
}

type oldEvent struct {
	Seq          uint64
	ID           string
	Body, Length uint32 // CRC-32C, bytes
}

// unpackOld puts a packed queue of format 1 into a directory of its own.
func unpackOld(t *testing.T, name string) (dir string, what old) {
	t.Helper()
	from := filepath.Join("format1", "testdata", name)
	unzip := func(path string) io.Reader {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		zip, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		return zip
	}
	if err := json.NewDecoder(unzip(from + ".json.gz")).Decode(&what); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "data")
	for in := tar.NewReader(unzip(from + ".tar.gz")); ; {
		head, err := in.Next()
		if err == io.EOF {
			return dir, what
		}
		path := filepath.Join(dir, filepath.FromSlash(head.Name))
		var raw []byte
		if err == nil {
			raw, err = io.ReadAll(in)
		}
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700)); err == nil {
			err = os.WriteFile(path, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// mustBeTaken compares a queue that was taken over with what it was.
func mustBeTaken(t *testing.T, when string, q *Queue, want *old) {
	t.Helper()
	complain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s: %s", when, fmt.Sprintf(format, args...))
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	needed := map[uint64]bool{}
	for _, one := range slices.Concat(want.Retries, want.Failed) {
		needed[one.Seq] = true
	}
	var events []oldEvent
	for _, one := range want.Kept {
		if needed[one.Seq] { // the others were about to go
			events = append(events, one)
		}
	}
	for _, f := range want.Frames {
		events = append(events, f.Events...)
	}
	for _, one := range events {
		ev, found, err := q.find(one.Seq)
		if err != nil || !found || string(ev.ID) != one.ID || crc32.Checksum(ev.Body, table) != one.Body {
			complain("event %d, %s: found %v, as %s: %v", one.Seq, one.ID, found, ev.ID, err)
		}
	}
	if n := q.Stats().Events; n != int64(len(events)) || q.End() != want.Next {
		complain("%d events up to %d, want %d up to %d", n, q.End(), len(events), want.Next)
	}
	for _, one := range want.IDs {
		if !q.withinWindow(one.At, q.now()) {
			continue
		}
		receipts := make([]Receipt, 1)
		if err := q.Append("x", []Event{{ID: []byte(one.ID), Type: []byte("x"), Body: []byte("{}")}}, receipts); err != nil || !receipts[0].Duplicate || receipts[0].Seq != one.Seq {
			complain("the id %s is answered %+v, %v, want event %d", one.ID, receipts[0], err, one.Seq)
		}
	}
	for _, l := range want.Lanes {
		if lane := q.Find(l.Name); lane == nil || lane.Stats().Paused != l.Paused {
			complain("lane %s is there: %v, want it paused %q", l.Name, lane != nil, l.Paused)
		}
	}
	_, sums := q.index.store.Sums()
	for kind, n := range map[store.Kind]int{
		store.Lane: len(want.Lanes) + 1, store.Retry: len(want.Retries), store.Failed: len(want.Failed), store.Replay: len(want.Replays),
	} {
		if sums.Of(kind).Count != uint64(n) {
			complain("%d %v, want %d", sums.Of(kind).Count, kind, n)
		}
	}
	told := 0
	if err := q.log.Blocks(log.Entries, 0, func(p log.Place, _ *log.Info) error {
		b, err := q.log.Read(p)
		if err == nil {
			err = countAttempts(b, &told)
		}
		return err
	}); err != nil || told != len(want.Attempts) {
		complain("%d attempts, %v, want %d", told, err, len(want.Attempts))
	}
	if n := q.Stats().Damaged; n != 0 {
		complain("%d things are damaged", n)
	}
}

func countAttempts(b *log.Block, n *int) error {
	return b.Unpack(func(h entry.Header, raw []byte) error {
		if h.Kind != entry.KindProgress {
			return nil
		}
		p, err := entry.ParseProgress(h, raw)
		if err == nil {
			*n += len(p.Attempts)
		}
		return err
	})
}

// takeOptions are those of a queue that is taken over at the time of its clock.
func takeOptions(dir string, want *old) Options {
	return Options{
		Dir: dir, DedupWindow: time.Hour, Retention: time.Hour, FailedRetention: 1000 * time.Hour, ballast: 64 << 10, slotSize: 256 << 10,
		Now: func() time.Time { return time.UnixMilli(want.Clock) },
	}
}

// oldFiles are the old files, with size and time of the last change.
func oldFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err == nil && entry.IsDir() && name == takeoverName {
			return fs.SkipDir
		}
		if err != nil {
			return err
		}
		if !entry.IsDir() && name != "lock" && name != "FORMAT.new" && name != ballastFile {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				files[name] = fmt.Sprint(info.Size(), info.ModTime())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestATakeoverHasAllThatTheOldQueueHad(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"everything", "pieces", "cut", "ten-thousand", "released"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, want := unpackOld(t, name)
			q, err := openUnforked(takeOptions(dir, &want))
			if err != nil {
				t.Fatal(err)
			}
			mustBeTaken(t, "taken over", q, &want)
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			if q, err = openUnforked(takeOptions(dir, &want)); err != nil {
				t.Fatal(err)
			}
			mustBeTaken(t, "opened again", q, &want)
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Each step of a takeover fails, or is the last one before a death: the next start begins anew or goes on, and until FORMAT
// is renamed the old files are as they were.
func TestATakeoverThatIsCutShortLosesNothing(t *testing.T) {
	t.Parallel()
	type visit struct {
		place string
		made  bool
		n     int // of this place
	}
	// play takes a queue over, with something at one visit, and returns the visits.
	play := func(t *testing.T, at visit, how error) (visits []visit, dir string, want old, err error) {
		dir, want = unpackOld(t, "everything")
		before := oldFiles(t, dir)
		died := ""
		var mu sync.Mutex
		seen := map[visit]int{}
		opts := takeOptions(dir, &want)
		opts.fault = func(place string, made bool) error {
			mu.Lock()
			defer mu.Unlock()
			one := visit{place: place, made: made}
			seen[one]++
			one.n = seen[one]
			visits = append(visits, one)
			if strings.HasPrefix(string(mustRead(t, filepath.Join(dir, "FORMAT"))), "realtorbot-relay queue, format 1,") {
				if now := oldFiles(t, dir); !maps.Equal(now, before) {
					t.Errorf("at %+v the old files are %v, and were %v", one, now, before)
				}
			}
			if one != at {
				return nil
			}
			if how == nil {
				died = filepath.Join(t.TempDir(), "data")
				if err := copyTree(died, dir); err != nil {
					t.Error(err)
				}
			}
			return how
		}
		q, err := openUnforked(opts)
		if err == nil {
			err = q.Close()
		}
		if died != "" {
			dir, err = died, errDied
		}
		return visits, dir, want, err
	}
	visits, _, _, err := play(t, visit{}, syscall.EIO)
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]int{}
	for _, one := range visits {
		last[one.place] = max(last[one.place], one.n)
	}
	for _, place := range []string{placeTakeoverClear, placeTakeoverMake, placeTakeoverSync, placeTakeoverOld, placeTakeoverName, placeTakeoverEnd, log.PlaceBlocks, log.PlaceSync, placeCheckpoint} {
		if last[place] == 0 {
			t.Errorf("a takeover does not come to %q", place)
		}
	}
	for _, at := range visits {
		if strings.HasPrefix(at.place, "read of") {
			continue // what can't be read is damage, and told
		}
		for _, how := range []error{nil, syscall.EIO, syscall.ENOSPC} {
			if *faultsFlag != "all" && (at.n > 1 && at.place != placeTakeoverOld && at.place != placeTakeoverName || how != nil && (at.made || how == syscall.ENOSPC)) {
				continue // much as another one
			}
			t.Run(fmt.Sprintf("%s %d, made %v, %v", at.place, at.n, at.made, how), func(t *testing.T) {
				t.Parallel()
				_, dir, want, _ := play(t, at, how)
				q, err := openUnforked(takeOptions(dir, &want))
				if err != nil {
					t.Fatal(err)
				}
				mustBeTaken(t, "the next start", q, &want)
				if there(filepath.Join(dir, takeoverName)) {
					t.Error("what was written for the takeover is left over")
				}
				if err := q.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

var errDied = errors.New("the process died")

// After FORMAT is renamed, a takeover has a log and no store yet. That is no damage, and none is reported, at whichever step
// the start before it died.
func TestAStoreThatATakeoverHasNotMadeYetIsNoDamage(t *testing.T) {
	t.Parallel()
	for what, leave := range map[string]func(dir, taken string) error{
		"before the log has its place": func(dir, taken string) error {
			return errors.Join(os.Rename(filepath.Join(dir, logName), filepath.Join(taken, logName)), os.Remove(filepath.Join(dir, checkpointName)))
		},
		"before the store is made":  func(dir, _ string) error { return os.RemoveAll(filepath.Join(dir, storeName)) },
		"before it is the last one": func(string, string) error { return nil },
	} {
		b := openBench(t, nil)
		all := ids(0, 20)
		b.append(NewLaneSet(b.lane("crm").ID()), all...)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		taken := filepath.Join(b.opts.Dir, takeoverName)
		if err := errors.Join(os.Mkdir(taken, 0o700), leave(b.opts.Dir, taken)); err != nil {
			t.Fatal(err)
		}
		b.open()
		if n := b.lane("crm").Stats().Pending; n != 20 || b.Stats().Damaged > 0 || b.saw("damaged") || there(taken) {
			t.Errorf("%s: %d are pending, %d damaged, %q; the folder is there: %v", what, n, b.Stats().Damaged, b.said, there(taken))
		}
		if err := errors.Join(b.Close(), os.RemoveAll(filepath.Join(b.opts.Dir, storeName))); err != nil {
			t.Fatal(err)
		}
		b.open()
		if !b.saw("store was damaged: it is missing") || b.Stats().Damaged != 1 {
			t.Errorf("%s: when it is lost later, it says %q", what, b.said)
		}
	}
}
