package main

import (
	"strings"
	"testing"
)

const (
	firstID  = "evt_00000001_000000001"
	secondID = "evt_00000001_000000002"
	journal  = "5</queue/data/journal/slot-00>"
	answered = `11 write(9<socket:[7]>, "HTTP/1.1 200 OK\r\n\r\n{\"id\":\"ID\",\"status\":\"accepted\"}", 99) = 99`
)

func TestAnAnswerNeedsASyncThatBeganAfterItsWrite(t *testing.T) {
	write := func(id string) string {
		return `10 pwrite64(` + journal + `, "\1\0{\"id\":\"` + id + `\"}", 30, 64) = 30`
	}
	answer := func(id string) string { return strings.Replace(answered, "ID", id, 1) }
	const sync = `10 fdatasync(` + journal + `)  = 0`
	const begun, ended = `10 fdatasync(` + journal + ` <unfinished ...>`, `10 <... fdatasync resumed>) = 0`
	failed := `10 fdatasync(` + journal + `) = -1 EIO (Input/output error) (INJECTED)`
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
		{"an event after a failed sync", []string{failed, write(firstID), sync, answer(firstID)}, 1},
		{"the answer to what was synced before the failure", []string{write(firstID), sync, write(secondID), failed, answer(firstID)}, 0},
		{"another file was synced", []string{write(firstID), strings.Replace(sync, "slot-00", "slot-01", 1), answer(firstID)}, 1},
		{"the write was to another file", []string{strings.Replace(write(firstID), "journal", "store", 1), sync, write(firstID), answer(firstID)}, 1},
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
	whole := []byte(strings.Join([]string{write(firstID), sync, answer(firstID), sync}, "\n") + "\n")
	if got, err := judgeTrace(strings.NewReader(string(dropOneSync(whole)))); err != nil || got.Uncovered != 1 {
		t.Errorf("with one sync taken out: %+v, %v", got, err)
	}
	if _, err := judgeTrace(strings.NewReader("strace: no such program\n")); err == nil {
		t.Error("what is no trace was judged")
	}
}
