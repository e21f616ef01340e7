package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// post appends events of a source that may have so many bytes, 0 for any number.
func (b *bench) post(most int64, source string, set LaneSet, ids ...string) ([]Receipt, error) {
	events := make([]Event, len(ids))
	for i, id := range ids {
		events[i] = Event{ID: []byte(id), Type: []byte("lead.created"), Body: body(id), Lanes: set}
	}
	receipts := make([]Receipt, len(ids))
	return receipts, b.AppendWithin(most, source, events, receipts)
}

// Many requests at once, some of them with events that are known: what is kept never goes beyond the bound, by none of them, and whoever is within
// it is not touched.
func TestASourceHasNoMoreThanItsShareHoweverManyPostAtOnce(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	set := NewLaneSet(b.lane("crm").ID())
	most := 100 * int64(len(body("evt_0_00")))
	if _, err := b.post(most, "flood", set, "evt_0_00"); err != nil {
		t.Fatal(err)
	}
	var posting sync.WaitGroup
	var accepted, full atomic.Int64
	for who := range 8 {
		posting.Go(func() {
			for n := range 60 {
				ids := []string{fmt.Sprintf("evt_%d_%02d", who, n), "evt_0_00", fmt.Sprintf("evt_%d_%02d", who, n)}
				receipts, err := b.post(most, "flood", set, ids[:1+n%3]...)
				switch {
				case errors.Is(err, ErrSourceFull):
					full.Add(1)
				case err != nil:
					t.Error(err)
					return
				default:
					for _, r := range receipts {
						if !r.Duplicate {
							accepted.Add(1)
						}
					}
				}
				if _, kept := b.Usage("flood"); kept > most {
					t.Errorf("%d bytes are kept, of %d at most", kept, most)
				}
				if _, err := b.post(0, "platform", set, fmt.Sprintf("other_%d_%d", who, n)); err != nil {
					t.Errorf("another source: %v", err)
				}
			}
		})
	}
	posting.Wait()
	for n := 0; ; n++ { // those who were refused for others' sake leave some room
		if _, err := b.post(most, "flood", set, fmt.Sprintf("evt_x_%02d", n)); errors.Is(err, ErrSourceFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		accepted.Add(1)
	}
	events, kept := b.Usage("flood")
	if events != 100 || accepted.Load() != 99 || kept != most || full.Load() < 300 {
		t.Errorf("%d events and %d bytes are kept, %d were accepted and %d requests refused", events, kept, accepted.Load(), full.Load())
	}
	if receipts, err := b.post(most, "flood", set, "evt_0_00"); err != nil || !receipts[0].Duplicate {
		t.Errorf("a repeat, which needs no room: %v, %v", receipts, err)
	}
	alone := []string{"evt_0_00"}
	for n := range 100 {
		alone = append(alone, fmt.Sprintf("alone_%02d", n))
	}
	if _, err := b.post(most, "flood", set, alone...); !errors.Is(err, ErrSourceFull) {
		t.Errorf("a hundred new events of a request, for which there is room when others are gone: %v", err)
	}
	if _, err := b.post(most, "flood", set, append(alone, "alone_100")...); !errors.Is(err, ErrAboveShare) {
		t.Errorf("one more, for which there never is room: %v", err)
	}
	if events, _ := b.Usage("platform"); events != 480 {
		t.Errorf("%d events of the other source are kept, want 480", events)
	}
	if len(b.reservations.bytes) != 0 {
		t.Errorf("nobody is under way, and that has %v", b.reservations.bytes)
	}
	if _, err := b.post(0, "flood", set, "unbounded"); err != nil {
		t.Errorf("without a bound: %v", err)
	}
}

// What is kept is known after a start, wherever it is by then, and its room comes back with the segment.
func TestTheRoomOfASourceComesBackWithItsEventsAndAStartKnowsIt(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm := b.lane("crm")
	set := NewLaneSet(crm.ID())
	most := 20 * int64(len(body("evt_00")))
	// takes says how many more events it takes, and posts them.
	n := 0
	takes := func() (more int) {
		t.Helper()
		for ; ; more++ {
			id := fmt.Sprintf("evt_%02d", n)
			_, err := b.post(most, "flood", set, id)
			if errors.Is(err, ErrSourceFull) {
				return more
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
			d := mustTake(t, crm, id)
			if n%7 == 0 {
				crm.Failed(d, broken(1), "answered 500") // it will be carried
			} else {
				crm.Delivered(d, ok(1))
			}
		}
	}
	if more := takes(); more != 20 {
		t.Fatalf("it took %d, not 20", more)
	}
	b.reopen() // most of them are in the journal alone
	crm = b.lane("crm")
	if more := takes(); more != 0 {
		t.Fatalf("behind a start it took %d more", more)
	}
	b.saveAll()
	b.reopen()
	crm = b.lane("crm")
	if events, kept := b.Usage("flood"); events != 20 || kept != most {
		t.Fatalf("%d events with %d bytes are kept", events, kept)
	}
	for range 4 {
		clock.Add(2 * time.Hour.Milliseconds())
		b.tidy()
		b.saveAll()
	}
	if events, _ := b.Usage("flood"); events != 2 { // the failed ones
		t.Fatalf("%d events are kept", events)
	}
	b.reopen()
	crm = b.lane("crm")
	if more := takes(); more != 18 {
		t.Fatalf("it took %d more, want 18", more)
	}
}

// A letter is written by the relay itself: whatever fails, its source may post as much as before. The same is so after a start, and of
// a segment whose footer is made again.
func TestALetterTakesNothingOfItsSourcesShare(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	const n = 30
	for _, id := range ids(0, n) {
		if _, err := b.post(0, "flood", NewLaneSet(crm.ID()), id); err != nil {
			t.Fatal(err)
		}
		crm.Failed(mustTake(t, crm, id), broken(1), "answered 500")
	}
	events, bytes := b.Usage("flood")
	look := func(when string, b *bench) {
		t.Helper()
		if e, s := b.Usage("flood"); e != n || s != bytes {
			t.Errorf("%s %d events with %d bytes are kept, want %d with %d", when, e, s, n, bytes)
		}
	}
	if events != n {
		t.Fatalf("%d events are kept", events)
	}
	b.postAll(crm, dead)
	if got := dead.Stats().Pending; got != n {
		t.Fatalf("%d letters", got)
	}
	look("when they are made", b)
	if got := b.Stats().Accepted; got != n {
		t.Errorf("%d events are accepted, want %d", got, n)
	}
	look("of the journal", b.crash(nil))
	b.saveAll()
	look("of the open segment", b.crash(nil))
	if err := b.update(b.log.Seal); err != nil {
		t.Fatal(err)
	}
	look("when it is sealed", b)
	look("of a footer", b.crash(nil))
	look("of a footer that is made again", b.crash(func(dir string) {
		names, err := filepath.Glob(filepath.Join(dir, logName, "*.seg"))
		if err != nil || len(names) < 2 {
			t.Fatal(names, err)
		}
		info, err := os.Stat(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(names[0], info.Size()-10); err != nil {
			t.Fatal(err)
		}
	}))
}
