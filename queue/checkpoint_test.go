package queue

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"realtorbot-relay/queue/codec"
)

// The loss of a whole slot is noticed, also when the journal changed to it just now and nothing was saved since.
func TestASlotThatIsLostIsMissedFromItsFirstAnswer(t *testing.T) {
	b := openBench(t, nil)
	set := NewLaneSet(b.lane("crm").ID())
	b.append(set, "evt")
	b.saveAll()
	b.hold()
	before := b.writer.journalGeneration.Load()
	for i := 0; b.writer.journalGeneration.Load() == before; i++ { // the writer is held: what it wrote last names the slot of before
		noise := make([]byte, 64<<10) // what packs well would not fill a slot before the writer is waited for
		_, _ = rand.Read(noise)
		ev := Event{ID: fmt.Append(nil, "evt_", i), Type: []byte("test"), Body: noise, Lanes: set}
		if err := b.Append("platform", []Event{ev}, make([]Receipt, 1)); err != nil {
			t.Fatal(err)
		}
	}
	// As the process would leave it if it died now, with the slot in use all zeros.
	after := &bench{t: t, opts: b.opts}
	after.opts.Dir = filepath.Join(t.TempDir(), "data")
	if err := copyTree(after.opts.Dir, b.opts.Dir); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(filepath.Join(b.opts.Dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	var newest os.FileInfo // of the slots, the one that was written to last
	for _, e := range list {
		if info, err := e.Info(); err == nil && (newest == nil || info.ModTime().After(newest.ModTime())) {
			newest = info
		}
	}
	name := filepath.Join(after.opts.Dir, journalName, newest.Name())
	mustPut(t, name, make([]byte, len(mustRead(t, name))))
	after.opts.Notice = func(line string) { t.Log(line) }
	after.open()
	defer after.Close()
	if after.Stats().Damaged == 0 {
		t.Error("nobody misses it")
	}
}

// The layout before this one had no first segment: in its place there would be a time of retention.
func TestACheckpointOfAnotherLayoutIsPassedOver(t *testing.T) {
	t.Parallel()
	for magic, want := range map[string]uint64{checkpointMagic: 7, "RBMARK02": 0} {
		dir := t.TempDir()
		h := checkpoint{applied: 7, end: 9, firstSegment: 1, firstEvent: 1}
		raw := h.append(nil)
		copy(raw, magic)
		binary.LittleEndian.PutUint32(raw[checkpointCopy-4:], codec.Sum(raw[:checkpointCopy-4]))
		if err := os.WriteFile(filepath.Join(dir, checkpointName), append(raw, make([]byte, checkpointCopy)...), 0o600); err != nil {
			t.Fatal(err)
		}
		m, got, err := openCheckpoint(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.applied != want {
			t.Errorf("a checkpoint that begins with %q says entry %d, want %d", magic, got.applied, want)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}
}
