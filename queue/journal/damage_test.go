package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A crash may cut the last record short at any byte: the records before it are there, and what is written next is, too.
func TestATornLastRecordHarmsNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filled(t, dir, 40, 40, 5000)
	whole := mustRead(t, name)
	const from, to = 3 * page, 3*page + Header + 5000
	for cut := from; cut < to; cut += 1 + (cut-from)*(to-1-cut)/20000 { // most of them near its ends
		raw := slices.Clone(whole)
		clear(raw[cut:])
		if raw[to-1] == whole[to-1] && cut == to-1 {
			raw[to-1] ^= 1
		}
		mustPut(t, name, raw)
		told := 0
		if cut >= from+8 { // the last byte of the salt may be zero, so from there on it may be known by its mark
			_, damages := reopened(t, quick(dir))
			if told = len(damages); told > 1 || told == 1 && (!damages[0].Torn || damages[0].Grave) || cut >= from+16 && told != 1 {
				t.Fatalf("cut at %d damages are %+v", cut, damages)
			}
		}
		mustBe(t, fmt.Sprint("cut at ", cut), quick(dir), "[1 4]", told)
		j, _, _ := mustOpen(t, quick(dir))
		mustAppend(t, j, 7, 0, cut%60)
		mustClose(t, j)
		mustBe(t, fmt.Sprint("cut and written on at ", cut), quick(dir), "[1 4 7]", 0)
	}
}

// A damaged record with others behind it was acknowledged: it is reported, and the others are kept.
func TestAFlippedBitInARecordIsToldAndThoseBehindItAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filled(t, dir, 40, 4100, 40)
	whole := mustRead(t, name)
	for _, at := range append(upTo(Header+20), Header+4099) {
		raw := slices.Clone(whole)
		raw[2*page+at] ^= 0x10
		mustPut(t, name, raw)
		told := mustBe(t, fmt.Sprintf("with byte %d flipped", at), testOptions(dir), "[1 7]", 1)
		if told[0].Torn || told[0].Grave || told[0].File != name || !strings.Contains(told[0].What, fmt.Sprint("record at byte ", 2*page)) {
			t.Fatalf("with byte %d flipped it tells %+v", at, told[0])
		}
	}
}

// quick opens a journal that need not survive a power cut.
func quick(dir string) Options {
	o := testOptions(dir)
	o.sync, o.syncDir = func(*os.File) error { return nil }, func(string) error { return nil }
	return o
}

func upTo(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

// Of two damaged records at the end only the last may be left from a crash.
func TestTwoBrokenRecordsAtTheEndAreNoCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filled(t, dir, 40, 40, 40)
	for _, first := range []int{Header, 0} { // in its payload, in its mark
		raw := mustRead(t, name)
		raw[2*page+first] ^= 1
		raw[3*page+Header] ^= 1
		broken := slices.Clone(raw)
		mustPut(t, name, broken)
		told := mustBe(t, fmt.Sprint("broken at ", first), testOptions(dir), "[1]", 2)
		if told[0].Torn || !told[1].Torn || !strings.Contains(told[0].What, fmt.Sprint("byte ", 2*page)) {
			t.Errorf("it tells %+v", told)
		}
		raw[2*page+first] ^= 1
		raw[3*page+Header] ^= 1
		mustPut(t, name, raw)
	}
}

// What the header says is there three times: in the header, on the slot's last page, and in the first record.
func TestALostHeaderCostsNoRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filled(t, dir, 40, 40)
	whole := mustRead(t, name)
	back := len(whole) - page
	for at := range slotHeader {
		raw := slices.Clone(whole)
		raw[at] ^= 4
		mustPut(t, name, raw)
		told := mustBe(t, fmt.Sprintf("header, byte %d", at), testOptions(dir), "[1 4]", 1)
		if !told[0].Grave || !strings.Contains(told[0].What, "header of") {
			t.Fatalf("it tells %+v", told)
		}
		raw[back+at] ^= 4
		mustPut(t, name, raw)
		mustBe(t, "and the last page", testOptions(dir), "[1 4]", 1)
		copy(raw[back:], whole[back:])
		raw[page+Header] ^= 4
		mustPut(t, name, raw)
		mustBe(t, "and the first record", testOptions(dir), "[4]", 2)
		copy(raw, whole[:page])
		copy(raw[page:], whole[page:2*page])
		raw[back+at] ^= 4
		mustPut(t, name, raw)
		mustBe(t, "the last page alone", testOptions(dir), "[1 4]", 0)
	}
	raw := slices.Clone(whole)
	clear(raw[:page])
	mustPut(t, name, raw)
	mustBe(t, "zeros for a header", testOptions(dir), "[1 4]", 1)
	// All three: its records are lost, which is told, and its generation is not used again.
	raw[0], raw[back], raw[page+Header] = 1, 1, raw[page+Header]^1
	mustPut(t, name, raw)
	j, records, damages := mustOpen(t, testOptions(dir))
	if len(records) != 0 || len(damages) != 1 || !damages[0].Grave || j.Generation() != 1 {
		t.Errorf("with nothing left of it: %d records, damages %+v, generation %d", len(records), damages, j.Generation())
	}
	mustAppend(t, j, 7, 0, 40)
	if j.Generation() != 2 {
		t.Errorf("then a life has generation %d, want 2", j.Generation())
	}
}

// A generation that the caller knows was in use is not used again either.
func TestSkippedGenerationsAreNotUsed(t *testing.T) {
	t.Parallel()
	j, _, _ := mustOpen(t, testOptions(t.TempDir()))
	j.SkipGenerations(7)
	mustAppend(t, j, 1, 0, 40)
	j.SkipGenerations(3)
	if j.Generation() != 8 {
		t.Errorf("generation %d, want 8", j.Generation())
	}
}

func TestAShortenedSlotIsToldAndItsRestIsKept(t *testing.T) {
	t.Parallel()
	for _, left := range []int64{0, 100, page, page + 30, 2 * page, 2*page + 20, 3*page + 100, 4 * page, slotSize - page, slotSize - 1} {
		dir := t.TempDir()
		name := filled(t, dir, 40, 40, 40)
		if err := os.Truncate(name, left); err != nil {
			t.Fatal(err)
		}
		j, records, damages := mustOpen(t, testOptions(dir))
		want := min(max(0, int((left-page)/page)), 3)
		if left == 3*page+100 {
			want = 3 // what is cut off of it is zeros
		}
		if left == 2*page+20 {
			want = 1
		}
		grave := slices.ContainsFunc(damages, func(d Damage) bool { return d.Grave && strings.Contains(d.What, "shorter") })
		if len(records) != want || grave != (left > 0) {
			t.Errorf("cut at %d: %d records, want %d; damages %+v", left, len(records), want, damages)
		}
		// It is a slot like any other after that.
		next := uint64(100)
		for range 20 {
			next = mustAppend(t, j, next, next, 3000, 9000)
		}
		if info, err := os.Stat(name); err != nil || info.Size() != slotSize {
			t.Errorf("cut at %d it has %d bytes in the end; %v", left, info.Size(), err)
		}
		mustClose(t, j)
		got, damages := reopened(t, testOptions(dir))
		if len(got) == 0 || got[len(got)-1] != next-3 || len(damages) > 0 {
			t.Errorf("cut at %d and used again: %v, %+v", left, got, damages)
		}
	}
}

// Slots of another size, of an earlier or a later version, are no damage.
func TestSlotsOfAnotherSizeAreNoDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filled(t, dir, 40, 9000)
	for _, pages := range []int64{16, 4, 8} {
		o := testOptions(dir)
		o.SlotSize = pages * page
		mustBe(t, fmt.Sprint(pages, " pages"), o, "[1 4]", 0)
	}
}

// A copy of a slot, and an older copy of it, cost nothing and are reported.
func TestADoubledSlot(t *testing.T) {
	t.Parallel()
	for _, older := range []bool{false, true} {
		for _, to := range []string{"slot-", "slot-99"} { // in front of the one it is a copy of, and behind
			dir := t.TempDir()
			j, _, _ := mustOpen(t, testOptions(dir))
			mustAppend(t, j, 1, 0, 21000, 40)
			name := j.active.Load().file.Name()
			raw := mustRead(t, name)
			mustAppend(t, j, 7, 0, 40)
			mustClose(t, j)
			if !older {
				raw = mustRead(t, name)
			}
			mustPut(t, filepath.Join(dir, to), raw)
			told := mustBe(t, to, testOptions(dir), "[1 4 7]", 1)
			if told[0].Grave || !strings.Contains(told[0].What, "copies of one slot") {
				t.Errorf("%s: it tells %+v", to, told)
			}
			j, _, _ = mustOpen(t, testOptions(dir))
			mustAppend(t, j, 10, 0, 40)
			mustClose(t, j)
			mustBe(t, to+", written on", testOptions(dir), "[1 4 7 10]", 1)
		}
	}
}

// An older copy in the place of a slot brings back what was, and hides what came since; numbers show that.
func TestASlotOfAnOlderCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, _ := mustOpen(t, testOptions(dir))
	mustAppend(t, j, 1, 0, 20000, 20000)
	old, name := mustRead(t, j.slots[0].file.Name()), j.slots[0].file.Name()
	mustAppend(t, j, 7, 4, 20000) // it has a new life
	used := j.Generation()
	mustClose(t, j)
	mustBe(t, "before", testOptions(dir), "[4 7]", 0)
	mustPut(t, name, old)
	j, records, damages := mustOpen(t, testOptions(dir))
	if len(records) != 2 || records[0].First != 1 || len(damages) > 0 || j.Generation() >= used {
		t.Errorf("%d records, damages %+v, generation %d, was %d", len(records), damages, j.Generation(), used)
	}
	j.SkipGenerations(used)
	mustAppend(t, j, 10, 4, 20000)
	if j.Generation() != used+1 {
		t.Errorf("generation %d after %d", j.Generation(), used)
	}
}

// Of two records with the same number the one of the newest incarnation counts, and the damage is reported when they differ.
func TestOfTwoRecordsWithOneNumberTheNewestCounts(t *testing.T) {
	t.Parallel()
	for _, differ := range []bool{false, true} {
		dir := t.TempDir()
		j, _, _ := mustOpen(t, testOptions(dir))
		mustAppend(t, j, 1, 0, 100, 200)
		size := 200
		if differ {
			size = 300
		}
		j.active.Store(nil) // the next begins a life
		mustAppend(t, j, 4, 0, size, 100)
		mustClose(t, j)
		_, records, damages := mustOpen(t, testOptions(dir))
		if len(records) != 3 || len(records[1].Payload) != size {
			t.Fatalf("%d records, the second has %d bytes", len(records), len(records[1].Payload))
		}
		if told := len(damages) == 1 && damages[0].Grave && strings.Contains(damages[0].What, "differ"); told != differ || len(damages) > 1 {
			t.Errorf("they differ: %v, damages %+v", differ, damages)
		}
	}
}

// What the disk can't read is damage: the rest is read, the process lives, and nothing is written to the slot any more.
func TestAReadThatFailsIsDamage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what   string
		from   int64 // pages that can't be read
		to     int64
		firsts string
	}{
		{"a page of a record", 2, 3, "[1 7 10]"},
		{"the last record", 4, 5, "[1 4 10]"}, // 7 has pages 3 and 4
		{"what is behind", 6, 8, "[1 4 7 10]"},
		{"the header", 0, 1, "[1 4 7 10]"},
		{"header and first record", 0, 2, "[4 7 10]"},
		{"all of it", 0, 8, "[10]"},
	} {
		dir := t.TempDir()
		name := filled(t, dir, 40, 40, 5000)
		j, _, _ := mustOpen(t, testOptions(dir))
		mustAppend(t, j, 10, 0, 20000)
		mustClose(t, j)
		o := testOptions(dir)
		o.ReadFault = func(file string, at, n int64) error {
			if file == name && at < test.to*page && at+n > test.from*page {
				return unix.EIO
			}
			return nil
		}
		before := mustRead(t, name)
		j, records, damages := mustOpen(t, o)
		var firsts []uint64
		for _, r := range records {
			firsts = append(firsts, r.First)
		}
		if fmt.Sprint(firsts) != test.firsts {
			t.Errorf("%s: records begin with %v, want %s", test.what, firsts, test.firsts)
		}
		told := damages[0]
		if told.File != name || !told.Grave || !strings.Contains(told.What, "can't be read: input/output error") ||
			!strings.Contains(told.What, fmt.Sprintf("%d KiB of", (test.to-test.from)*4)) {
			t.Errorf("%s: it tells %+v", test.what, damages)
		}
		used := j.Generation()
		next := uint64(13)
		for range 30 {
			next = mustAppend(t, j, next, next, 9000, 9000)
		}
		if !bytes.Equal(mustRead(t, name), before) {
			t.Errorf("%s: the slot was written to", test.what)
		}
		if used < 2 {
			t.Errorf("%s: generation %d", test.what, used)
		}
		mustClose(t, j)
	}
}

// What has the name of a slot and is none is reported, and everything else is read.
func TestWhatIsNoSlotIsTold(t *testing.T) {
	t.Parallel()
	for what, make := range map[string]func(name string) error{
		"a directory":     func(name string) error { return os.Mkdir(name, 0o700) },
		"a pipe":          func(name string) error { return unix.Mkfifo(name, 0o600) },
		"a device":        func(name string) error { return os.Symlink("/dev/null", name) },
		"a link to none":  func(name string) error { return os.Symlink("/nowhere/at/all", name) },
		"no bytes":        func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"memory":          func(name string) error { return os.Symlink("/proc/self/mem", name) },
		"anything":        func(name string) error { return os.WriteFile(name, []byte("anything"), 0o600) },
		"much of nothing": func(name string) error { return os.WriteFile(name, bytes.Repeat([]byte("x"), 3*slotSize), 0o600) },
	} {
		dir := t.TempDir()
		filled(t, dir, 40, 20000, 20000)
		if err := make(filepath.Join(dir, "slot-00.old")); err != nil {
			t.Fatal(err)
		}
		j, records, damages := mustOpen(t, testOptions(dir))
		if told := what != "no bytes"; len(records) != 3 || told != (len(damages) > 0) || told && !damages[0].Grave {
			t.Errorf("%s: %d records, damages %+v", what, len(records), damages)
		}
		next := mustAppend(t, j, 10, 0, 20000, 20000)
		mustClose(t, j)
		got, _ := reopened(t, testOptions(dir))
		if len(got) == 0 || got[len(got)-1] != next-3 {
			t.Errorf("%s: written on, records begin with %v", what, got)
		}
	}
}

// What a disk gives at a second read is not lost, and is no damage.
func TestAReadThatIsAnsweredTheSecondTimeIsNoDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filled(t, dir, 40, 40, 5000)
	o := testOptions(dir)
	reads := 0
	o.ReadFault = func(string, int64, int64) error {
		if reads++; reads%3 > 0 {
			return unix.EIO
		}
		return nil
	}
	mustBe(t, "with two of three reads failing", o, "[1 4 7]", 0)
	if reads == 0 {
		t.Error("nothing was read: this shows nothing")
	}
}

// Whatever the operator can put right without losing anything is an error of Open.
func TestOpenSaysWhatCanBePutRight(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filled(t, dir, 40)
	for _, errno := range []error{unix.ENOMEM, unix.EACCES} {
		o := testOptions(dir)
		o.ReadFault = func(string, int64, int64) error { return errno }
		if _, _, _, err := Open(o); !errors.Is(err, errno) {
			t.Errorf("open says %v", err)
		}
	}
	mustBe(t, "then", testOptions(dir), "[1]", 0)
	if _, _, _, err := Open(testOptions(filepath.Join(dir, "nothing"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open of no directory says %v", err)
	}
}

// A body does not pass for a record, even when it is the bytes of one and the record around it is damaged.
func TestARecordInsideAPayloadIsNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, _ := mustOpen(t, testOptions(dir))
	mustAppend(t, j, 1, 0, 40)
	// Somebody who knows all but the salt puts a record where a page will begin.
	forged := payload(4, 3*page) // nothing that could be packed
	for salt := range uint64(3) {
		at := int(salt)*page + page - Header
		record := buffer([]byte("forged"))
		incarnation{j.Generation(), salt}.seal(record, 100+salt, 101+salt, false)
		copy(forged[at:], record)
	}
	if err := j.Append(buffer(forged), 4, 5, 0); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, 5, 0, 40)
	name := j.active.Load().file.Name()
	mustClose(t, j)
	_, records, damages := mustOpen(t, testOptions(dir))
	if len(records) != 3 || !bytes.Equal(records[1].Payload, forged) || len(damages) > 0 {
		t.Errorf("%d records, damages %v", len(records), damages)
	}
	raw := mustRead(t, name)
	raw[2*page+Header] ^= 1
	mustPut(t, name, raw)
	if _, records, damages := mustOpen(t, testOptions(dir)); len(records) != 2 || records[1].First != 5 || len(damages) != 1 {
		t.Errorf("with a flipped bit: %+v, damages %v", records, damages)
	}
	raw = mustRead(t, name)
	clear(raw[5*page:])
	mustPut(t, name, raw)
	if _, records, damages := mustOpen(t, testOptions(dir)); len(records) != 1 || len(damages) != 1 || !damages[0].Torn {
		t.Errorf("when it was torn: %+v, damages %v", records, damages)
	}
}
