package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	badger "github.com/dgraph-io/badger/v4"

	"realtorbot-relay/queue/codec"
)

func TestTheSumsAreAFunctionOfTheRecordsAlone(t *testing.T) {
	t.Parallel()
	a, b := newShelf(t, nil), newShelf(t, nil)
	a.fill(0, 400)
	keys := slices.SortedFunc(maps.Keys(a.truth), Key.Compare)
	rand.New(rand.NewSource(1)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for chunk := range slices.Chunk(keys, 100) {
		batch := b.Batch()
		for _, key := range chunk {
			b.must(batch.SetNew(key, []byte(a.truth[key])))
		}
		b.must(batch.Commit(b.Applied()))
	}
	_, of := a.Sums()
	_, other := b.Sums()
	if of != other {
		t.Errorf("the same records have sums %v and %v", of, other)
	}
	raw := of.Append(nil)
	d := codec.Decoder{Buf: raw}
	if back := ReadSums(&d); back != of || !d.OK() || len(d.Buf) != 0 {
		t.Errorf("the sums come back as %v, %v", back, d)
	}
	for n := range raw {
		if d := (codec.Decoder{Buf: raw[:n]}); ReadSums(&d) == of && d.OK() {
			t.Errorf("%d bytes of %d are enough", n, len(raw))
		}
	}
}

func TestSumsOfTheLogAreComparedWith(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	sh.fill(0, 100)
	applied, sums := sh.Sums()
	sums[Retry.index()].add(12345)
	next := sh.state
	next.sums = sums
	sh.must(sh.commit(nil, next))
	if list, err := sh.Check(); err != nil || len(list) != 1 || list[0].Kind != Retry || list[0].Want.Count != list[0].Found.Count+1 {
		t.Errorf("the check says %v, %v", list, err)
	}
	if sh.Applied() != applied {
		t.Errorf("the store is at %d, was at %d", sh.Applied(), applied)
	}
	sh.must(sh.Close(testLimit))
	if _, err := openUnforked(sh.o); !errors.Is(err, codec.ErrDamaged) || !strings.Contains(err.Error(), "retries") {
		t.Errorf("the next start says %v", err)
	}
}

func TestARecordThatIsNotThereIsToldAndStaysTold(t *testing.T) {
	t.Parallel()
	for _, k := range []Kind{Place, Failed} {
		sh := newShelf(t, nil)
		sh.fill(0, 50)
		b := sh.Batch()
		absent, other := keyOf(k, 777), keyOf(k, 778)
		sh.must(b.Delete(absent))
		sh.must(b.Set(other, []byte("x")))
		sh.must(b.Set(other, []byte("y")))
		sh.must(b.Commit(100))
		if !slices.Equal(b.Missing(), []Key{absent}) { // the other one is new
			t.Errorf("%v are missing", b.Missing())
		}
		if cause := sh.Cause(); !errors.Is(cause, codec.ErrDamaged) {
			t.Errorf("the store is suspect for %v", cause)
		}
	}
	sh := newShelf(t, nil)
	sh.fill(0, 50)
	b := sh.Batch()
	for _, k := range []Kind{Lane, Retry, Replay, Carried} {
		sh.must(b.Delete(keyOf(k, 777)))
	}
	if b.Len() != 0 || len(b.Missing()) != 0 || sh.Cause() != nil {
		t.Errorf("%d writes, %v missing, %v", b.Len(), b.Missing(), sh.Cause())
	}
}

// raw writes behind the back of the sums.
func (sh *shelf) raw(fn func(*badger.Txn) error) {
	sh.t.Helper()
	txn := sh.db.NewTransactionAt(newest, true)
	defer txn.Discard()
	sh.must(fn(txn))
	sh.must(txn.CommitAt(sh.version, nil))
}

func TestARecordDroppedBehindTheSumsIsFound(t *testing.T) {
	t.Parallel()
	for _, k := range Kinds {
		for _, how := range []string{"deleted", "changed"} {
			t.Run(fmt.Sprint(k, " ", how), func(t *testing.T) {
				sh := newShelf(t, nil)
				sh.fill(0, 200)
				victim := keyOf(k, 100)
				sh.raw(func(txn *badger.Txn) error {
					if how == "deleted" {
						return txn.Delete(victim.append(nil))
					}
					return txn.Set(victim.append(nil), []byte("other"))
				})
				count := sh.state.sums.Of(k).Count
				want := Mismatch{Kind: k, Want: Sum{Count: count}, Found: Sum{Count: count}}
				if how == "deleted" {
					want.Found.Count--
				}
				list, err := sh.Check()
				if err != nil || len(list) != 1 || list[0].Kind != k || list[0].Want.Count != count || list[0].Found.Count != want.Found.Count {
					t.Fatalf("the check says %v, %v", list, err)
				}
				select {
				case <-sh.Suspect():
				default:
					t.Error("the store is not suspect")
				}
				if value, err := sh.Get(victim); k.hashed() && !errors.Is(err, codec.ErrDamaged) {
					t.Errorf("it is read as %q, %v", value, err)
				}
				// What is written from then on does not hide it.
				b := sh.Batch()
				sh.must(b.SetNew(keyOf(k, 5000), []byte("x")))
				sh.must(b.Commit(1000))
				if list, err := sh.Check(k); err != nil || len(list) != 1 {
					t.Errorf("the second check says %v, %v", list, err)
				}
				sh.must(sh.Close(testLimit))
				again, err := openUnforked(sh.o)
				if k.checkedAtOpen() {
					if !errors.Is(err, codec.ErrDamaged) || !strings.Contains(err.Error(), k.String()) {
						t.Errorf("the next start says %v", err)
					}
					return
				}
				sh.must(err)
				sh.Store = again
				if list, err := sh.Check(); err != nil || len(list) != 1 || list[0].Kind != k {
					t.Errorf("the check of the next start says %v, %v", list, err)
				}
			})
		}
	}
}

// The position and the sums are of one transaction with the records; a store that lost them says so.
func TestAnOlderPositionIsFound(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	sh.fill(0, 200)
	older := sh.state
	sh.fill(200, 200)
	sh.raw(func(txn *badger.Txn) error { return txn.Set(stateKey, older.append(nil)) })
	list, err := sh.Check()
	if err != nil || len(list) != 1 || list[0].Kind != State {
		t.Errorf("the check says %v, %v", list, err)
	}
	sh.must(sh.Close(testLimit))
	if _, err := openUnforked(sh.o); !errors.Is(err, codec.ErrDamaged) {
		t.Errorf("the next start says %v", err)
	}
	for _, harm := range []func(*badger.Txn) error{
		func(txn *badger.Txn) error { return txn.Delete(stateKey) },
		func(txn *badger.Txn) error { return txn.Set(stateKey, older.append(nil)[1:]) },
	} {
		sh := newShelf(t, nil)
		sh.fill(0, 200)
		sh.raw(harm)
		if list, err := sh.Check(Lane); err != nil || len(list) != 1 || list[0].Kind != State {
			t.Errorf("the check says %v, %v", list, err)
		}
		sh.must(sh.Close(testLimit))
		if _, err := openUnforked(sh.o); !errors.Is(err, codec.ErrDamaged) || !strings.Contains(err.Error(), "position") {
			t.Errorf("the next start says %v", err)
		}
	}
}

// Checks run while a writer writes and readers read, and none of them takes what is under way for damage.
func TestCheckingBesideWritesFindsNothing(t *testing.T) {
	t.Parallel()
	sh := newShelf(t, nil)
	sh.fill(0, 500)
	stop := make(chan struct{})
	done := make(chan error, 2)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if list, err := sh.Check(); err != nil || len(list) > 0 {
				done <- fmt.Errorf("the check says %v, %w", list, err)
				return
			}
			sh.Merged()
		}
	}()
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			for _, k := range Kinds {
				if _, err := sh.Get(keyOf(k, i%2000)); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	for from := 500; from < 2000; from += 25 {
		sh.fill(from, 25)
	}
	b := sh.Batch()
	for round := range 300 {
		for n := range 20 {
			sh.must(b.Set(LaneKey(uint32(n)), fmt.Append(nil, round, n)))
			sh.truth[LaneKey(uint32(n))] = fmt.Sprint(round, n)
		}
		sh.must(b.Commit(sh.Applied()))
		b = sh.Batch()
	}
	close(stop)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	sh.mustHold()
	if len(sh.pins) != 0 {
		t.Errorf("%v stay pinned", sh.pins)
	}
}
