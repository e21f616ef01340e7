package format1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// openBadger opens a store as the relay did, but with small tables.
func openBadger(t *testing.T, dir string, compactors int) *badger.DB {
	t.Helper()
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithLogger(nil).WithDetectConflicts(false).WithCompression(options.None).
		WithMemTableSize(1 << 20).WithValueThreshold(150 << 10).WithValueLogFileSize(1 << 20).WithBaseTableSize(1 << 17).WithBaseLevelSize(1 << 18).WithNumMemtables(1).
		WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(4).WithNumCompactors(compactors))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// mustWrite makes one commit; nil values delete.
func mustWrite(t *testing.T, db *badger.DB, version uint64, writes map[string][]byte) {
	t.Helper()
	txn := db.NewTransactionAt(math.MaxUint64, true)
	for key, value := range writes {
		var err error
		if value == nil {
			err = txn.Delete([]byte(key))
		} else {
			err = txn.SetEntry(badger.NewEntry([]byte(key), value))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := txn.CommitAt(version, nil); err != nil {
		t.Fatal(err)
	}
	db.SetDiscardTs(version)
}

func TestAStoreReadsAsBadgerReadsIt(t *testing.T) {
	dir := t.TempDir()
	db := openBadger(t, dir, 2)
	r := rand.New(rand.NewSource(1))
	version := uint64(0)
	for round := range 3 {
		for range 120 {
			writes := map[string][]byte{}
			for range 40 {
				key := []byte{"eilk"[r.Intn(4)]}
				key = binary.BigEndian.AppendUint32(key, uint32(r.Intn(3000)))
				if r.Intn(5) == 0 {
					writes[string(key)] = nil
					continue
				}
				value := make([]byte, r.Intn(300))
				if len(writes) == 0 && r.Intn(5) == 0 {
					value = make([]byte, 100<<10)
				}
				r.Read(value)
				writes[string(key)] = value
			}
			version++
			mustWrite(t, db, version, writes)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = openBadger(t, dir, []int{2, 2, 0}[round]) // nothing is merged while it is copied
	}
	version++
	mustWrite(t, db, version, map[string][]byte{"e\x00\x00\x00\x01": []byte("in the log"), "e\x00\x00\x00\x02": nil})
	copied := filepath.Join(t.TempDir(), "store") // while Badger has it open, as a kill leaves it
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s, err := openStore(copied, func(what string) { t.Error(what) })
	if err != nil {
		t.Fatal(err)
	}
	if len(s.tables) < 5 || s.newest != version {
		t.Errorf("%d tables, version %d, want some and %d", len(s.tables), s.newest, version)
	}
	txn := db.NewTransactionAt(math.MaxUint64, false)
	defer func() {
		txn.Discard()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, prefix := range []string{"e", "i", "l", "k", "x", "e\x00\x00\x00\x01", "e\x00\x00\x00\x02"} {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
		m := s.scan([]byte(prefix))
		n := 0
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				t.Fatal(err)
			}
			e := m.next()
			if e == nil || !bytes.Equal(e.key, it.Item().Key()) || !bytes.Equal(e.value, value) || e.version != it.Item().Version() {
				t.Fatalf("%q: key %d is %+v, want %x", prefix, n, e, it.Item().Key())
			}
			n++
		}
		if e := m.next(); e != nil {
			t.Errorf("%q: %x follows the last key", prefix, e.key)
		}
		if n == 0 && prefix != "x" && !strings.HasSuffix(prefix, "\x02") {
			t.Errorf("%q: no keys", prefix)
		}
		m.close()
		it.Close()
	}
}

// storeOf makes a queue of format 1 whose store has the given records.
func storeOf(t *testing.T, writes map[string][]byte, more ...map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte("realtorbot-relay queue, format 1, memtable 1048576\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := openBadger(t, filepath.Join(dir, "store"), 0)
	for i, writes := range append([]map[string][]byte{writes}, more...) {
		mustWrite(t, db, uint64(i+1), writes)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

var (
	laneCRM  = "\x01\x03crm\x05\x04\x02\x02\x00\x00\x00"    // cursor 5; passed 2, delivered 1, retrying 1
	retryDue = "\x01\x80\x01\x01"                           // due at 64, one attempt
	failedAt = "\x01\x80\x01\x01\xf4\x03\x06status\x04gone" // at 64, one attempt, status 500
	position = "\x01\x0a\x00\x00\x03\x00"                   // event 10 is the next, lane 3
)

func key(kind byte, lane uint32, seq uint64) string {
	return string(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte{kind}, lane), seq))
}

func TestWhatIsLeftOfALaneThatWasGivenUpIsPassedOver(t *testing.T) {
	dir := storeOf(t,
		map[string][]byte{"ma": []byte(position), "l\x00\x00\x00\x01": []byte(laneCRM), "l\x00\x00\x00\x02": []byte(laneCRM), key('r', 1, 3): []byte(retryDue), key('r', 2, 3): []byte(retryDue)},
		map[string][]byte{"l\x00\x00\x00\x02": nil},
	)
	r, said := opened(t, dir)
	c, err := readAll(r)
	if err != nil || len(c.Lanes) != 1 || c.Lanes[0].ID != 1 || len(c.Retries) != 1 || c.Retries[0].Lane != 1 || c.NextLane != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	if len(*said) > 0 {
		t.Errorf("told %q", *said)
	}
}

func TestDeliveriesOfALaneWhoseRecordIsLostAreKept(t *testing.T) {
	dir := storeOf(t, map[string][]byte{"ma": []byte(position), key('r', 1, 3): []byte(retryDue), key('f', 1, 4): []byte(failedAt), pieceKey('e', 9, 0): blockOf(frameOf(1, 9))})
	r, said := opened(t, dir)
	c, err := readAll(r)
	if err != nil || len(c.Lanes) != 1 || len(c.Retries) != 1 || len(c.Failed) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if l := c.Lanes[0]; !l.Lost || l.Name != "lost-1" || l.Retrying != 1 || l.Failed != 1 || l.Cursor != 10 || l.Matched != 0 {
		t.Errorf("%+v", l)
	}
	if len(*said) != 2 || !strings.Contains((*said)[1], "9 events are for it") || !strings.Contains((*said)[0], `go on as "lost-1"`) {
		t.Errorf("told %q", *said)
	}
}

func TestCommitsThatAreMissingBetweenTwoLogsAreTold(t *testing.T) {
	dir := storeOf(t, map[string][]byte{"ma": []byte(position)}, map[string][]byte{"l\x00\x00\x00\x01": []byte(laneCRM)})
	for n, version := range []uint64{3, 5} {
		other := t.TempDir()
		db := openBadger(t, other, 0)
		mustWrite(t, db, version, map[string][]byte{"ievt_1": {1, byte(version)}})
		raw, err := os.ReadFile(filepath.Join(other, "00001.mem"))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "store", fmt.Sprintf("%05d.mem", n+7)), raw, 0o600)
		}
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	r, said := opened(t, dir)
	c, err := readAll(r)
	if err != nil || len(c.Lanes) != 1 || len(c.IDs) != 1 || c.IDs[0].At != 5000 {
		t.Errorf("%+v, %v", c, err)
	}
	if len(*said) != 1 || (*said)[0] != `store: log "00008.mem": 1 commits are missing before number 5` {
		t.Errorf("told %q", *said)
	}
}

func TestADeliveryOfWhichTwoStatesAreFoundHasFailed(t *testing.T) {
	dir := storeOf(t, map[string][]byte{
		"ma": []byte(position), "l\x00\x00\x00\x01": []byte(laneCRM),
		key('r', 1, 3): []byte(retryDue), key('f', 1, 3): []byte(failedAt), key('r', 1, 7): []byte(retryDue), key('f', 1, 8): []byte(failedAt),
	})
	r, _ := opened(t, dir)
	c, err := readAll(r)
	if err != nil || len(c.Lanes) != 1 || len(c.Retries) != 1 || len(c.Failed) != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	// The retry and the failure above the cursor are newer than the lane's record: they are not pending any more.
	if l := c.Lanes[0]; l.Retrying != 1 || l.Failed != 2 || fmt.Sprint(l.Settled) != "[7 8]" {
		t.Errorf("%+v", l)
	}
	if f := c.Failed[0]; f.Reason != "gone" || f.Class != "status" || f.Status != 500 || f.At != 64 {
		t.Errorf("%+v", c.Failed[0])
	}
}

func TestNoNumberThatALaneKnowsIsGivenOutAgain(t *testing.T) {
	dir := storeOf(t, map[string][]byte{"l\x00\x00\x00\x01": []byte(laneCRM), key('f', 1, 41): []byte(failedAt)}) // no position, no journal
	r, said := opened(t, dir)
	if s, err := r.State(); err != nil || s.Next != 42 || s.Missing != 41 || s.Damaged != 2 {
		t.Errorf("%+v, told %q", s, *said)
	}
}
