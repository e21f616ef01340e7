package queue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/journal"
)

// What only a newer version can read was acknowledged all the same: a start that left it out would lose it, and its numbers would be given
// to other entries.
func TestAnUnknownEntryInTheJournalStopsTheStart(t *testing.T) {
	b := openBench(t, nil)
	lane := b.lane("crm")
	b.append(NewLaneSet(lane.ID()), "a", "b")
	next := b.nextEntry.Load()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	next += 10 // behind what the end has saved
	j, _, _, err := journal.Open(journal.Options{Dir: filepath.Join(b.opts.Dir, journalName), SlotSize: b.opts.slotSize, MaxSlots: 6})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, journal.Header+loggedSize)
	p := entry.Progress{Lane: lane.id}
	at := len(buf)
	buf = p.Append(buf, next, 1)
	buf[at] = 99
	if err := errors.Join(j.Append(buf, next, next+1, 0), j.Close()); err != nil {
		t.Fatal(err)
	}
	before := filesIn(t, filepath.Join(b.opts.Dir, journalName))
	q, err := openUnforked(b.opts)
	if err == nil {
		_ = q.Close()
		t.Fatal("a queue with an entry of an unknown kind was opened")
	}
	if !errors.Is(err, entry.ErrUnknown) || !strings.Contains(err.Error(), "kind 99") {
		t.Fatal(err)
	}
	for name, text := range filesIn(t, filepath.Join(b.opts.Dir, journalName)) {
		if before[name] != text {
			t.Errorf("%s was changed", name)
		}
	}
}

func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = string(raw)
	}
	return all
}
