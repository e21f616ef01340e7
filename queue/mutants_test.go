package queue

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"realtorbot-relay/queue/store"

	badger "github.com/dgraph-io/badger/v4"
)

// A store that drops a record, as Badger may, and a queue that lies: both must be found out.

// drop deletes the first record of a kind whose name begins so from Badger, behind the back of the store, as a merge may do
// it. Only the writer may be at work on it.
func drop(s *store.Store, kind store.Kind, name ...byte) error {
	of := reflect.ValueOf(s).Elem()
	db := *(**badger.DB)(unsafe.Pointer(of.FieldByName("db").UnsafeAddr()))
	version := of.FieldByName("version").Uint()
	txn := db.NewTransactionAt(^uint64(0), true)
	defer txn.Discard()
	var victim []byte
	at := txn.NewIterator(badger.IteratorOptions{Prefix: append([]byte{byte(kind)}, name...)})
	for at.Rewind(); at.Valid() && victim == nil; at.Next() {
		victim = at.Item().KeyCopy(nil)
	}
	at.Close()
	if victim == nil {
		return fmt.Errorf("the store has no %v", kind)
	}
	if err := txn.Delete(victim); err != nil {
		return err
	}
	return txn.CommitAt(version, nil)
}

// dropOne does the same with the record of a lane that a key names.
func dropOne(s *store.Store, key store.Key) error {
	return drop(s, key.Kind, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, key.Lane), key.Number)...)
}

func (p *scenario) saidMended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(strings.Join(p.said, "\n"), "made again from the log")
}

// lookMended judges a queue whose store was made again, and delivers all.
func (p *scenario) lookMended() {
	p.t.Helper()
	p.look("mended")
	p.repeat("mended")
	p.end()
	p.look("delivered")
}

func TestARecordThatTheStoreDropsIsFoundAtAStartAndMended(t *testing.T) {
	t.Parallel()
	for _, kind := range store.Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			p := newScenario(t, 1)
			defer func() { p.must(p.Close()) }()
			p.begin()
			p.mustSave()
			dir := filepath.Join(t.TempDir(), "data")
			p.must(p.update(func() error {
				if err := drop(p.index.store, kind); err != nil {
					return err
				}
				return copyTree(dir, p.opts.Dir)
			}))
			p.must(p.Close())
			p.opts.Dir = dir
			p.must(p.open())
			await(t, "the store to be made again", p.saidMended)
			await(t, "it to be settled", func() bool { return !p.writer.storeSuspected.Load() })
			p.lookMended()
		})
	}
}

func TestARecordThatTheStoreDropsWhileItRunsIsFoundAndMended(t *testing.T) {
	t.Parallel()
	for _, kind := range store.Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			p := newScenario(t, 1)
			defer func() { p.must(p.Close()) }()
			p.begin()
			p.mustSave()
			await(t, "the start's comparison", func() bool { return !p.writer.checkRunning.Load() })
			p.must(p.update(func() error {
				if err := drop(p.index.store, kind); err != nil {
					return err
				}
				p.writer.checkKinds(p.Queue, []store.Kind{kind}, 0) // as after a merge
				return nil
			}))
			for n := 0; !p.saidMended(); n++ { // it serves meanwhile
				p.mustAppend(1, "evt")
				if n == 20_000 {
					t.Fatal("nobody noticed")
				}
			}
			await(t, "it to be settled", func() bool { return !p.writer.storeSuspected.Load() })
			p.mustSave()
			p.lookMended()
		})
	}
}

// TestTheCheckerSeesALie is the control of the fault matrix: a queue that is not what it says must not pass.
func TestTheCheckerSeesALie(t *testing.T) {
	t.Parallel()
	first := func(q *Queue, kind store.Kind) (key store.Key, err error) {
		err = q.index.scan(store.First(kind), store.Last(kind), func(k store.Key, _ []byte) (bool, error) {
			key = k
			return false, nil
		})
		if err == nil && key == (store.Key{}) {
			err = fmt.Errorf("the store has no %v", kind)
		}
		return key, err
	}
	// The sums of the store tell the same lie.
	change := func(kind store.Kind, to func(store.Key, []byte) []byte) func(*scenario) error {
		return func(p *scenario) error {
			key, err := first(p.Queue, kind)
			if err != nil {
				return err
			}
			a := newApplier(p.index.store)
			value, err := p.index.get(key)
			if err != nil {
				return err
			}
			if value = to(key, value); value == nil {
				err = a.batch.Delete(key)
			} else {
				err = a.batch.Set(key, value)
			}
			if err != nil {
				return err
			}
			return a.finish()
		}
	}
	gone := func(store.Key, []byte) []byte { return nil }
	lane := func(with func(*laneRecord)) func(store.Key, []byte) []byte {
		return func(_ store.Key, value []byte) []byte {
			r, err := parseLane(value)
			if err != nil {
				t.Error(err)
			}
			with(&r)
			return r.append(nil)
		}
	}
	some := func(p *scenario) (id string) { return p.ledger.ids()[len(p.ledger.acked)-1] }
	for _, test := range []struct {
		name, want string
		lie        func(*scenario) error
	}{
		{"nothing", "", func(*scenario) error { return nil }},
		{"a retry is gone", "retrying", change(store.Retry, gone)},
		{"a failed delivery is gone", "failed deliveries, and the log makes", change(store.Failed, gone)},
		{"a replay is gone", "replays, and the log makes", change(store.Replay, gone)},
		{"a carried event is gone", "is missing", change(store.Carried, gone)},
		{"a place is gone", "places of blocks are missing", change(store.Place, gone)},
		{"a lane is gone", "wanted true, there false", change(store.Lane, gone)},
		{"a cursor is ahead", "may be [{pending", change(store.Lane, lane(func(r *laneRecord) { r.cursor += 5; r.settled = nil }))},
		{"a cursor is behind the end", "is behind the end of the log", change(store.Lane, lane(func(r *laneRecord) { r.cursor = 9999 }))},
		{"a lane is paused that nobody paused", "it is paused", change(store.Lane, lane(func(r *laneRecord) { r.paused = "by somebody" }))},
		{"retries are miscounted", "are counted and", change(store.Lane, lane(func(r *laneRecord) { r.retrying++ }))},
		{"events are miscounted", "events are carried", func(p *scenario) error { p.writer.retain.carriedEvents++; return nil }},
		{"a lane is unserved that is served", "it is unserved since", change(store.Lane, lane(func(r *laneRecord) { r.unserved = 1 }))},
		{"what is held for nobody is miscounted", "unserved lanes hold", func(p *scenario) error {
			err := p.writer.retain.run(p.Queue)
			p.writer.retain.unserved.all++
			return err
		}},
		{"an acknowledged event never came", "was acknowledged and is missing", func(p *scenario) error {
			p.ledger.acknowledge("ghost", acked{p.End() + 1, p.now(), []string{"crm"}})
			return nil
		}},
		{"an acknowledged event is another one", "is now", func(p *scenario) error {
			p.ledger.acknowledge("ghost", acked{p.ledger.acked[some(p)].seq, p.now(), []string{"crm"}})
			return nil
		}},
		{"an event came that nobody sent", "was never sent", func(p *scenario) error { delete(p.ledger.tried, some(p)); return nil }},
		{"a refused event came", "was refused and is there", func(p *scenario) error { p.ledger.refused[some(p)] = true; return nil }},
		{"a pause that was answered is gone", "it is paused", func(p *scenario) error { p.ledger.paused["mail"] = []string{"at night"}; return nil }},
		{"a lane that was discarded is there", "wanted false, there true", func(p *scenario) error { p.ledger.discard("old"); return nil }},
		{"a delivery that was saved is forgotten", "may be [{delivered", func(p *scenario) error {
			key := "mail " + some(p)
			p.ledger.deliveries[key] = append(p.ledger.deliveries[key], was(Delivered))
			p.ledger.saved[key] = len(p.ledger.deliveries[key]) - 1
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newScenario(t, 1)
			defer func() { _ = p.Close() }()
			p.begin()
			p.mustSave()
			await(t, "the start's comparison", func() bool { return !p.writer.checkRunning.Load() })
			p.must(p.update(func() error { return test.lie(p) }))
			said := strings.Join(check(p.Queue, p.ledger, p.now()), "\n")
			if test.want == "" && said != "" || !strings.Contains(said, test.want) {
				t.Errorf("the checker says %q, want %q", said, test.want)
			}
		})
	}
}

func was(state string) change { return change{state: state} }
