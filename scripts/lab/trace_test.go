package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"realtorbot-relay/queue/journal"
)

const (
	firstID  = "evt_00000001_000000001"
	secondID = "evt_00000001_000000002"
	slotFile = "5</queue/data/journal/slot-00>"
	answered = `11 write(9<socket:[7]>, "HTTP/1.1 200 OK\r\n\r\n{\"id\":\"ID\",\"status\":\"accepted\"}", 99) = 99`
)

func TestAnAnswerNeedsASyncThatBeganAfterItsWrite(t *testing.T) {
	write := func(id string) string {
		return `10 pwrite64(` + slotFile + `, "\1\0{\"id\":\"` + id + `\"}", 30, 64) = 30`
	}
	answer := func(id string) string { return strings.Replace(answered, "ID", id, 1) }
	const sync = `10 fdatasync(` + slotFile + `)  = 0`
	const begun, ended = `10 fdatasync(` + slotFile + ` <unfinished ...>`, `10 <... fdatasync resumed>) = 0`
	failed := `10 fdatasync(` + slotFile + `) = -1 EIO (Input/output error) (INJECTED)`
	const submit = `10 io_submit(0x7f, 1, [{aio_data=0, aio_lio_opcode=IOCB_CMD_FDSYNC, aio_fildes=` + slotFile + `}]) = 1`
	const notYet = `11 io_getevents(0x7f, 0, 1, [], NULL) = 0`
	const done = `11 io_getevents(0x7f, 0, 1, [{data=0, obj=0xc0, res=0, res2=0}], NULL) = 1`
	tests := []struct {
		name      string
		lines     []string
		uncovered int
	}{
		{"in order", []string{write(firstID), sync, answer(firstID)}, 0},
		{"one sync for two", []string{write(firstID + " " + secondID), sync, answer(secondID), answer(firstID)}, 0},
		{"the sync in two lines", []string{write(firstID), begun, "12 write(4<pipe:[1]>, \"x\", 1) = 1", ended, answer(firstID)}, 0},
		{"no sync", []string{write(firstID), answer(firstID)}, 1},
		{"synced afterwards", []string{write(firstID), answer(firstID), sync}, 1},
		{"the sync had not ended", []string{write(firstID), begun, answer(firstID), ended}, 1},
		{"the sync had begun before the write", []string{begun, write(firstID), ended, answer(firstID)}, 1},
		{"the sync failed", []string{write(firstID), failed, answer(firstID)}, 1},
		{"the sync failed and then went well", []string{write(firstID), failed, sync, answer(firstID)}, 1},
		{"an event after a failed write of the log", []string{`10 pwrite64(7</queue/data/log/000001.seg>, "x", 1, 0) = -1 ENOSPC (No space left on device) (INJECTED)`, write(firstID), sync, answer(firstID)}, 0},
		{"an event after a failed sync", []string{failed, write(firstID), sync, answer(firstID)}, 1},
		{"the answer to what was synced before the failure", []string{write(firstID), sync, write(secondID), failed, answer(firstID)}, 0},
		{"another file was synced", []string{write(firstID), strings.Replace(sync, "slot-00", "slot-01", 1), answer(firstID)}, 1},
		{"the write was to another file", []string{strings.Replace(write(firstID), "journal", "store", 1), sync, write(firstID), answer(firstID)}, 1},
		{"submitted and ended", []string{write(firstID), submit, notYet, done, answer(firstID)}, 0},
		{"submitted, the end in two lines", []string{write(firstID), submit, `10 io_getevents(0x7f, 0, 1,  <unfinished ...>`, "12 write(4<pipe:[1]>, \"x\", 1) = 1", `10 <... io_getevents resumed>[{data=0, obj=0xc0, res=0, res2=0}], NULL) = 1`, answer(firstID)}, 0},
		{"submitted only", []string{write(firstID), submit, notYet, answer(firstID), done}, 1},
		{"submitted before the write", []string{submit, write(firstID), done, answer(firstID)}, 1},
		{"submitted for another file", []string{write(firstID), strings.Replace(submit, "slot-00", "slot-01", 1), done, answer(firstID)}, 1},
		{"submitted, and failed", []string{write(firstID), submit, strings.Replace(done, "res=0", "res=-5", 1), answer(firstID)}, 1},
		{"submitted, and failed before", []string{submit, strings.Replace(done, "res=0", "res=-5", 1), write(firstID), submit, done, answer(firstID)}, 1},
		{"submitted, and nobody could ask", []string{write(firstID), submit, `10 io_getevents(0x7f, 0, 1, 0xc0, NULL) = -1 EIO (Input/output error) (INJECTED)`, answer(firstID)}, 1},
		{"refused, then plain", []string{write(firstID), `10 io_submit(0x7f, 1, [{aio_lio_opcode=IOCB_CMD_FDSYNC, aio_fildes=` + slotFile + `}]) = -1 ENOSYS (Function not implemented) (INJECTED)`, sync, answer(firstID)}, 0},
		{"a sync of the event before", []string{write(firstID), sync, answer(firstID), write(secondID), answer(secondID)}, 1},
	}
	for _, test := range tests {
		got, err := judgeTrace(strings.NewReader(strings.Join(test.lines, "\n") + "\n"))
		if err != nil || got.Uncovered != test.uncovered {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	if got, err := judgeTrace(strings.NewReader(sync + "\n" + answer(firstID) + "\n")); err != nil || got.Unseen != 1 {
		t.Errorf("without the write: %+v, %v", got, err)
	}
	const title = `10 pwrite64(` + slotFile + `, "RBJOURN2\1\0", 4096, 0) = 4096`
	const save, saved = `12 pwrite64(7</queue/data/log/000001.seg>, "x", 1, 0) = 1`, `12 fdatasync(7</queue/data/log/000001.seg>) = 0`
	lives := []struct {
		name         string
		lines        []string
		bare, reused int
	}{
		{"a header and a sync", []string{title, sync, write(firstID), sync, write(secondID), sync}, 0, 0},
		{"a header without one", []string{title, write(firstID), sync, write(secondID), sync}, 1, 0},
		{"the sync began before the header", []string{begun, title, ended, write(firstID)}, 1, 0},
		{"used again behind a save", []string{write(firstID), sync, save, saved, title, title}, 0, 0},
		{"used again without one", []string{write(firstID), sync, title, title}, 0, 1},
		{"used again behind a save of what came before", []string{save, write(firstID), sync, saved, title}, 0, 1},
		{"used again before the save was synced", []string{write(firstID), sync, save, title, saved}, 0, 1},
		{"used for the first time", []string{`10 pwrite64(` + slotFile + `, "\0\0\0\0\0\0\0\0\0\0", 4096, 4096) = 4096`, sync, title, sync, write(firstID)}, 0, 0},
		{"another slot is used again", []string{write(firstID), sync, strings.Replace(title, "slot-00", "slot-01", 1)}, 0, 0},
	}
	for _, test := range lives {
		got, err := judgeTrace(strings.NewReader(strings.Join(test.lines, "\n") + "\n"))
		if err != nil || got.Bare != test.bare || got.Reused != test.reused {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	whole := []byte(strings.Join([]string{write(firstID), sync, answer(firstID), sync}, "\n") + "\n")
	if got, err := judgeTrace(strings.NewReader(string(dropOneSync(whole)))); err != nil || got.Uncovered != 1 {
		t.Errorf("with one sync taken out: %+v, %v", got, err)
	}
	whole = []byte(strings.Join([]string{write(firstID), submit, done, answer(firstID), submit, done}, "\n") + "\n")
	if got, err := judgeTrace(strings.NewReader(string(dropOneSync(whole)))); err != nil || got.Uncovered != 1 {
		t.Errorf("with one submitted sync taken out: %+v, %v", got, err)
	}
	if _, err := judgeTrace(strings.NewReader("strace: no such program\n")); err == nil {
		t.Error("what is no trace was judged")
	}
}

// The ids of events are found in a record of the journal also when it is packed, however strace writes its bytes.
func TestATraceShowsTheEventsOfAPackedRecord(t *testing.T) {
	var want []string
	payload := make([]byte, journal.Header, 64<<10)
	for i := range 256 {
		want = append(want, fmt.Sprintf("evt_00000001_%09d", i))
		payload = append(append(payload, byte(i), '\\', '"', '\n', '7'), fmt.Sprintf(`{"id":"%s","type":"lead.created"}`, want[i])...)
	}
	dir := t.TempDir()
	j, _, _, err := journal.Open(journal.Options{Dir: dir, SlotSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(payload, 1, 2, 0); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"slot-00", "slot-01"} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		raw = raw[4096:] // behind the header
		if journal.PayloadOf(raw) == nil {
			continue
		}
		var text strings.Builder
		for i, b := range raw[:len(payload)] {
			switch {
			case b == '"' || b == '\\':
				text.WriteString("\\" + string(rune(b)))
			case b == '\n':
				text.WriteString(`\n`)
			case ' ' <= b && b <= '~':
				text.WriteByte(b)
			case raw[i+1] >= '0' && raw[i+1] <= '9':
				fmt.Fprintf(&text, `\%03o`, b)
			default:
				fmt.Fprintf(&text, `\%o`, b)
			}
		}
		if n := strings.Count(text.String(), "evt_"); n >= len(want) {
			t.Fatalf("the record is not packed: it has %d ids", n)
		}
		if got := idsOf(slotFile + `, "` + text.String() + `", 8192, 4096) = 8192`); !slices.Equal(got, want) {
			t.Errorf("found %d ids, want %d", len(got), len(want))
		}
		return
	}
	t.Error("no slot has the record")
}
