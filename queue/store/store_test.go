package store

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const testLimit = 30 * time.Second

// openUnforked opens a store while no child is on its way from fork to exec: until then a child has every file that its
// parent had, and with it Badger's lock of a store that was closed meanwhile.
func openUnforked(o Options) (*Store, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return Open(o)
}

// shelf is a store in a test, and what should be in it.
type shelf struct {
	*Store
	t     testing.TB
	o     Options
	truth map[Key]string
}

func newShelf(t testing.TB, change func(*Options)) *shelf {
	t.Helper()
	sh := &shelf{t: t, o: Options{Dir: filepath.Join(t.TempDir(), "store"), MemTable: 1 << 20}, truth: map[Key]string{}}
	if change != nil {
		change(&sh.o)
	}
	sh.open()
	t.Cleanup(func() { _ = sh.Store.Close(testLimit) })
	return sh
}

func (sh *shelf) must(err error) {
	sh.t.Helper()
	if err != nil {
		sh.t.Fatal(err)
	}
}

func (sh *shelf) open() {
	sh.t.Helper()
	s, err := openUnforked(sh.o)
	sh.must(err)
	sh.Store = s
}

func (sh *shelf) reopen() {
	sh.t.Helper()
	sh.must(sh.Close(testLimit))
	sh.open()
}

// keyOf makes the nth key of a kind.
func keyOf(k Kind, n int) Key {
	switch k {
	case Place:
		return PlaceKey(uint64(n) * 100)
	case Carried:
		return CarriedKey(uint64(n))
	case Lane:
		return LaneKey(uint32(n))
	}
	return Key{Kind: k, Lane: uint32(n % 7), Number: uint64(n)}
}

// fill writes n records of each kind, some of them twice, deletes some, and so on as a queue would.
func (sh *shelf) fill(from, n int) {
	sh.t.Helper()
	b := sh.Batch()
	flush := func() {
		sh.must(b.Commit(sh.Applied() + 1))
		if len(b.Missing()) > 0 {
			sh.t.Fatalf("%v are missing", b.Missing())
		}
		b = sh.Batch()
	}
	for i := from; i < from+n; i++ {
		for _, k := range Kinds {
			if !b.Fits(3, 3*64) {
				flush()
			}
			key := keyOf(k, i)
			value := fmt.Sprintf("%d of the %s, %s", i, k, strings.Repeat("x", i%40))
			sh.must(b.SetNew(key, []byte(value)))
			sh.truth[key] = value
			if i%5 == 4 {
				if i%10 == 9 {
					flush()
				}
				key, value = keyOf(k, i-2), fmt.Sprint("again ", i)
				sh.must(b.Set(key, []byte(value)))
				sh.truth[key] = value
				key = keyOf(k, i-3)
				sh.must(b.Delete(key))
				delete(sh.truth, key)
			}
		}
	}
	flush()
}

// mustHold compares all that is in the store with what should be.
func (sh *shelf) mustHold() {
	sh.t.Helper()
	found := map[Key]string{}
	for _, k := range Kinds {
		last := Key{}
		sh.must(sh.Scan(First(k), Last(k), func(key Key, value []byte) (bool, error) {
			if len(found) > 0 && last.Kind == k && last.Compare(key) >= 0 {
				sh.t.Errorf("%v comes behind %v", key, last)
			}
			last = key
			found[key] = string(value)
			return true, nil
		}))
	}
	if !maps.Equal(found, sh.truth) {
		sh.t.Errorf("%d records are in the store, want %d", len(found), len(sh.truth))
	}
	if list, err := sh.Check(); err != nil || len(list) > 0 {
		sh.t.Errorf("the check says %v, %v", list, err)
	}
}

func TestRecordsComeBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	sh.fill(0, 1200)
	sh.mustHold()
	if err := sh.Opened(); err != nil {
		t.Fatal(err)
	}
	applied, sums := sh.Sums()
	sh.reopen()
	if again, was := sh.Sums(); again != applied || was != sums || applied == 0 {
		t.Errorf("opened again the store is at %d with %v, was at %d with %v", again, was, applied, sums)
	}
	sh.mustHold()
	sh.fill(1200, 300)
	sh.mustHold()
	for key, value := range sh.truth {
		if got, err := sh.Get(key); err != nil || string(got) != value {
			t.Fatalf("%v is %q, %v", key, got, err)
		}
		break
	}
	for _, k := range Kinds {
		if got, err := sh.Get(keyOf(k, 1<<20)); err != nil || got != nil {
			t.Errorf("a record that never was is %q, %v", got, err)
		}
	}
}

func TestSeekAndBeforeStayInTheirRange(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	b := sh.Batch()
	for _, key := range []Key{PlaceKey(9), PlaceKey(19), RetryKey(1, 5), RetryKey(2, 7), RetryKey(2, math.MaxUint64), RetryKey(3, 0), LaneKey(4), FailedKey(1, 1)} {
		sh.must(b.SetNew(key, []byte{}))
	}
	sh.must(b.Commit(1))
	for _, test := range []struct {
		from, to, want Key
		found          bool
	}{
		{PlaceKey(10), Last(Place), PlaceKey(19), true},
		{PlaceKey(9), Last(Place), PlaceKey(9), true},
		{PlaceKey(20), Last(Place), Key{}, false},
		{RetryKey(2, 0), RetryKey(2, math.MaxUint64), RetryKey(2, 7), true},
		{RetryKey(2, 8), RetryKey(2, 100), Key{}, false},
		{RetryKey(1, 6), RetryKey(1, math.MaxUint64), Key{}, false},
		{First(Retry), Last(Retry), RetryKey(1, 5), true},
		{LaneKey(0), Last(Lane), LaneKey(4), true},
		{First(Replay), Last(Replay), Key{}, false},
	} {
		key, value, found, err := sh.Seek(test.from, test.to)
		if key != test.want || found != test.found || err != nil || found != (value != nil) {
			t.Errorf("seek from %v to %v finds %v, %v, %v", test.from, test.to, key, found, err)
		}
	}
	for _, test := range []struct {
		from, at, want Key
		found          bool
	}{
		{First(Place), PlaceKey(18), PlaceKey(9), true},
		{First(Place), PlaceKey(19), PlaceKey(19), true},
		{First(Place), PlaceKey(8), Key{}, false},
		{First(Place), Last(Place), PlaceKey(19), true},
		{RetryKey(2, 0), RetryKey(2, math.MaxUint64), RetryKey(2, math.MaxUint64), true},
		{RetryKey(2, 8), RetryKey(2, 1<<40), Key{}, false},
		{First(Retry), RetryKey(2, 6), RetryKey(1, 5), true},
	} {
		key, found, err := sh.Before(test.from, test.at)
		if key != test.want || found != test.found || err != nil {
			t.Errorf("the last from %v to %v is %v, %v, %v", test.from, test.at, key, found, err)
		}
	}
	boom := errors.New("boom")
	if err := sh.Scan(First(Lane), Last(Lane), func(Key, []byte) (bool, error) { return true, boom }); !errors.Is(err, boom) {
		t.Errorf("the caller's error comes back as %v", err)
	}
	func() {
		defer func() {
			if what := recover(); what != "mine" {
				t.Errorf("the caller's panic comes back as %v", what)
			}
		}()
		_ = sh.Scan(First(Lane), Last(Lane), func(Key, []byte) (bool, error) { panic("mine") })
	}()
	if sh.Cause() != nil {
		t.Errorf("the caller's mistakes make the store suspect: %v", sh.Cause())
	}
}

func TestKeysAreOrderedAsTheirBytesAre(t *testing.T) {
	t.Parallel()
	var keys []Key
	numbers := []uint64{0, 1, 255, 256, math.MaxUint32, 1 << 40, math.MaxUint64}
	for _, k := range Kinds {
		for _, lane := range []uint32{0, 1, 256, math.MaxUint32} {
			for _, n := range numbers {
				key := Key{Kind: k}
				if k.hasLane() {
					key.Lane = lane
				}
				if k.hasNumber() {
					key.Number = n
				}
				keys = append(keys, key)
			}
		}
	}
	for _, a := range keys {
		if back, ok := parse(a.append(nil)); !ok || back != a {
			t.Errorf("%v comes back as %v", a, back)
		}
		if next, more := a.next(); more != (a != Last(a.Kind)) || more && (next.Compare(a) <= 0 || !slices.IsSorted([]string{string(a.append(nil)), string(next.append(nil))})) {
			t.Errorf("behind %v comes %v, %v", a, next, more)
		}
		for _, b := range keys {
			if a.Compare(b) != strings.Compare(string(a.append(nil)), string(b.append(nil))) {
				t.Errorf("%v and %v are not ordered as their bytes are", a, b)
			}
		}
	}
	for _, raw := range []string{"", "m", "x12345678", "e1234567", "e123456789", "l123", "r1234", "r1234123456789"} {
		if key, ok := parse([]byte(raw)); ok {
			t.Errorf("%q is taken for %v", raw, key)
		}
	}
}

// A batch that takes what Room allows is one transaction, at the very border too.
func TestABatchFitsOrSaysSo(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 40, 900, 60 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			sh := newShelf(t, nil)
			b := sh.Batch()
			value := make([]byte, size)
			n := 0
			for ; b.Fits(1, size); n++ {
				sh.must(b.SetNew(FailedKey(1, uint64(n)), value))
			}
			before := *b
			for _, err := range []error{b.SetNew(FailedKey(2, 0), value), b.Set(LaneKey(1), value)} {
				if !errors.Is(err, ErrTooLarge) {
					t.Errorf("one more is answered %v", err)
				}
			}
			if b.Len() != before.Len() || b.bytes != before.bytes {
				t.Error("what was refused is in the batch")
			}
			sh.must(b.Set(FailedKey(1, 0), value[:size/2])) // a record of the batch may be written again
			sh.must(b.Commit(7))
			sh.reopen()
			if _, sums := sh.Sums(); sums.Of(Failed).Count != uint64(n) || n < 2 {
				t.Errorf("%d records are there, want %d", sums.Of(Failed).Count, n)
			}
			if list, err := sh.Check(); len(list) > 0 || err != nil {
				t.Errorf("the check says %v, %v", list, err)
			}
		})
	}
	sh := newShelf(t, nil)
	for _, size := range []int64{maxValue(sh.memTable), 2 << 20} {
		if err := sh.Batch().SetNew(LaneKey(1), make([]byte, size)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a value of %d bytes is answered %v", size, err)
		}
	}
	if err := sh.Batch().Set(Key{Kind: State}, nil); err == nil {
		t.Error("the store's own record can be written")
	}
}

func TestAFreshStoreIsSealedAndTakesItsName(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, func(o *Options) { o.Dir += ".new"; o.Fresh = true })
	sh.fill(0, 1200)
	dir := strings.TrimSuffix(sh.o.Dir, ".new")
	if err := Install(sh.o.Dir, dir, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("a name for a store that is open is answered %v", err)
	}
	sh.must(sh.Seal(testLimit))
	if err := sh.Batch().Commit(1 << 20); !errors.Is(err, ErrClosed) {
		t.Errorf("a commit behind the seal is answered %v", err)
	}
	sh.must(Install(sh.o.Dir, dir, nil))
	sh.o.Dir, sh.o.Fresh = dir, false
	sh.open()
	sh.mustHold()
	if err := sh.Seal(testLimit); err == nil {
		t.Error("a store that is not fresh can be sealed")
	}
	aside := filepath.Join(filepath.Dir(dir), "aside", "store-1")
	if err := SetAside(dir, aside, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("setting aside a store that is open is answered %v", err)
	}
	sh.must(sh.Close(testLimit))
	sh.must(SetAside(dir, aside, nil))
	sh.o.Fresh = true
	sh.o.Dir = aside
	if _, err := openUnforked(sh.o); err == nil {
		t.Error("a fresh store is made over another")
	}
	if err := SetAside(dir, aside, nil); err == nil {
		t.Error("a store that is set aside is written over")
	}
	if _, err := os.Stat(guardPath(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the guard is still there: %v", err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	sh.fill(0, 10)
	sh.must(sh.Close(testLimit))
	sh.must(sh.Close(testLimit))
	_, get := sh.Get(LaneKey(1))
	_, check := sh.Check()
	for _, err := range []error{get, check, sh.Scan(First(Lane), Last(Lane), nil), sh.Batch().Commit(99), sh.Batch().Delete(PlaceKey(100))} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("it is answered %v", err)
		}
	}
	if kinds, _ := sh.Merged(); kinds != nil {
		t.Errorf("%v were merged", kinds)
	}
	if sh.Cause() != nil {
		t.Errorf("it is suspect: %v", sh.Cause())
	}
}
