package queue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The record of a lane is from a later entry than the one that can't be read.
func TestCountsAreThoseOfWhatIsThere(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	set := NewLaneSet(crm.ID())
	for i := range 6 {
		b.append(set, fmt.Sprint("first_", i))
	}
	for range 3 {
		crm.Failed(b.take(crm), broken(1), "answered 500")
		crm.Retry(b.take(crm), broken(1), time.Now().Add(time.Hour))
	}
	if err := b.writer.awaitSave(b.Queue); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		b.append(set, fmt.Sprint("later_", i))
	}
	crm.Failed(b.take(crm), broken(1), "answered 500")
	crm.Retry(b.take(crm), broken(1), time.Now().Add(time.Hour))
	if err := b.writer.awaitSave(b.Queue); err != nil {
		t.Fatal(err)
	}
	var at int64
	after := b.crash(func(dir string) {
		segment := filepath.Join(dir, logName, "0000000001.seg")
		raw := mustRead(t, segment)
		text := bytes.Index(raw, []byte("first_0"))
		if text < 0 {
			t.Fatal("the events are not where they should be")
		}
		raw[text] ^= 1
		at = int64(text)
		if err := errors.Join(os.WriteFile(segment, raw, 0o600), os.RemoveAll(filepath.Join(dir, storeName))); err != nil {
			t.Fatal(err)
		}
	})
	lane := after.lane("crm")
	if s := lane.Stats(); s.Failed != 1 || s.Retrying != 1 {
		t.Errorf("with the block of byte %d unreadable there are %d failed and %d retrying, want 1 and 1; told %q", at, s.Failed, s.Retrying, after.said)
	}
	if !strings.Contains(fmt.Sprint(after.said), "3 failed deliveries are lost") {
		t.Errorf("it is not told: %q", after.said)
	}
}
