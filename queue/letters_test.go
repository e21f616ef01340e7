package queue

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"realtorbot-relay/queue/log"
)

// postAll has all letters made that a lane owes.
func (b *bench) postAll(from, to *Lane) {
	b.t.Helper()
	for {
		more, err := from.PostLetters(to, everyEvent)
		if errors.Is(err, ErrUnsaved) {
			b.saveAll()
			continue
		}
		if err != nil {
			b.t.Fatal(err)
		}
		if !more {
			return
		}
	}
}

// letters has a lane deliver all that is pending for it, and says what that was: "id lane class reason", of the accepted ones
// the id alone.
func (b *bench) letters(l *Lane) (list []string) {
	b.t.Helper()
	for l.Stats().Pending > 0 {
		d := b.take(l)
		told := string(d.Event.ID)
		if letter := LetterOf(&d.Event); letter != nil {
			told += fmt.Sprintf(" %s %s %s", letter.Lane, letter.Class, letter.Reason)
		}
		if string(d.Event.Body) != string(body(string(d.Event.ID))) {
			b.t.Errorf("%s has the body %q", told, d.Event.Body)
		}
		list = append(list, told)
		l.Delivered(d, ok(1))
	}
	return list
}

func deadLetters(b *bench) (crm, dead *Lane) {
	crm, dead = b.lane("crm"), b.lane("dead")
	crm.OweLetters(true, func() {})
	return crm, dead
}

func TestWhatFailsIsCopiedToAnotherLaneWithWhoAndWhy(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	b.append(NewLaneSet(crm.ID()), "a", "b", "c")
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	crm.Delivered(mustTake(t, crm, "b"), ok(1))
	crm.GiveUp(mustTake(t, crm, "c"), classExpired, "held too long")
	b.postAll(crm, dead)
	want := []string{"a crm " + broken(1).Class + " answered 500", "c crm expired held too long"}
	if got := b.letters(dead); !slices.Equal(got, want) {
		t.Errorf("the lane was given %q, want %q", got, want)
	}
	b.postAll(crm, dead)
	if n := dead.Stats().Pending; n != 0 {
		t.Errorf("%d letters were made again", n)
	}
	if failed := crm.Stats().Failed; failed != 2 {
		t.Errorf("%d deliveries are failed where they failed, want 2", failed)
	}
	if r := b.append(NewLaneSet(crm.ID()), "a")[0]; !r.Duplicate {
		t.Error("the id of an event with a letter is accepted again")
	}
}

// Of what is not an endpoint's own nothing is handed on; a call ends all the same after as many as it makes letters.
func TestNoLetterIsMadeOfWhatIsNotAnEndpointsOwn(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	all := names("evt_", 0, 3*lettersPerPost)
	b.append(NewLaneSet(crm.ID()), all...)
	for _, id := range all {
		crm.Failed(mustTake(t, crm, id), broken(1), "answered 500")
	}
	b.saveAll()
	looked := 0
	own := func(ev *Stored) bool {
		looked++
		return string(ev.ID) == all[0] || string(ev.ID) == all[len(all)-1]
	}
	for more := true; more; {
		before := looked
		var err error
		if more, err = crm.PostLetters(dead, own); err != nil && !errors.Is(err, ErrUnsaved) {
			t.Fatal(err)
		}
		if looked-before > lettersPerPost {
			t.Fatalf("one call looks at %d events, want at most %d", looked-before, lettersPerPost)
		}
		b.saveAll()
	}
	var got []string
	for dead.Stats().Pending > 0 {
		d := b.take(dead)
		got = append(got, string(d.Event.ID))
		dead.Delivered(d, ok(1))
	}
	if want := []string{all[0], all[len(all)-1]}; !slices.Equal(got, want) || looked != len(all) {
		t.Errorf("letters were made of %q, want %q; %d events were looked at, want each once", got, want, looked)
	}
}

func TestALetterIsNoReasonToKnowAnIDForLonger(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.DedupWindow, o.Retention = time.Minute, 100*time.Hour })
	crm, dead := deadLetters(b)
	first := b.append(NewLaneSet(crm.ID()), "a")[0]
	clock.Add(50_000)
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	b.postAll(crm, dead)
	clock.Add(20_000)
	second := b.append(NewLaneSet(crm.ID()), "a")[0]
	if second.Duplicate || second.Seq == first.Seq {
		t.Fatalf("after its window the id is answered %+v", second)
	}
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 501")
	clock.Add(1000)
	b.postAll(crm, dead)
	for range 2 { // in the open segment, then in a sealed one
		list, err := b.Stories([]byte("a"), 10)
		if err != nil || len(list) != 2 || list[0].Seq != second.Seq || list[1].Seq != first.Seq {
			t.Fatalf("the story has %+v, %v", list, err)
		}
		for i, reason := range []string{"answered 501", "answered 500"} {
			d := list[i].Deliveries
			if len(d) != 2 || d[0].Lane != "crm" || d[1].Lane != "dead" || d[1].Letter == nil || d[1].Letter.Lane != "crm" || d[1].Letter.Reason != reason {
				t.Errorf("the deliveries are %+v, want those to crm and of its letter (%s)", d, reason)
			}
		}
		if err := b.update(b.log.Seal); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALetterThatFailsGoesNowhereFurtherAndIsReplayedWhereItFailed(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	third := b.lane("third")
	dead.OweLetters(true, func() {})
	b.append(NewLaneSet(crm.ID()), "a")
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	b.postAll(crm, dead)
	dead.Failed(b.take(dead), broken(1), "answered 502")
	b.postAll(dead, third)
	if n := third.Stats().Pending; n != 0 {
		t.Errorf("a letter that failed was copied on: %d", n)
	}
	b.saveAll()
	for lane, seq := range map[*Lane]bool{crm: false, dead: true} {
		s, err := b.Standings(lane, []string{"a"})
		if err != nil || s[0].State != Failed {
			t.Fatalf("the event stands at %s as %+v, %v", lane.Name(), s, err)
		}
		ev, _, err := b.find(s[0].Seq)
		if err != nil || (ev.Letter != nil) != seq {
			t.Errorf("at %s event %d is meant, a letter: %v, %v", lane.Name(), s[0].Seq, ev.Letter != nil, err)
		}
	}
	b.startReplay(dead, ReplaySpec{Failed: true})
	b.replayAll(dead, func(d *Delivery) {
		if letter := LetterOf(&d.Event); letter == nil || letter.Lane != "crm" || letter.Reason != "answered 500" {
			t.Errorf("the replay attempts %+v", letter)
		}
		dead.Delivered(d, ok(1))
	})
}

// Wherever the process dies between a failure and its letter, the letter is there or made after the start.
func TestALetterThatIsOwedOutlivesACrash(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	b.append(NewLaneSet(crm.ID()), "a", "b")
	look := func(when string, after *bench, want ...string) {
		t.Helper()
		crm, dead := deadLetters(after)
		after.postAll(crm, dead)
		var got []string
		for _, told := range after.letters(dead) {
			got = append(got, told[:1])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: letters of %q, want %q", when, got, want)
		}
		after.postAll(crm, dead)
		after.saveAll()
		if n := dead.Stats().Pending; n != 0 {
			t.Errorf("%s: %d letters are made again after the first", when, n)
		}
	}
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	crm.Failed(mustTake(t, crm, "b"), broken(1), "answered 500")
	b.saveAll()
	look("failed, no letter", b.crash(nil), "a", "b")
	look("failed, no letter, the store lost", b.crash(func(dir string) { mustRemove(t, filepath.Join(dir, "store")) }), "a", "b")
	seqs, _, err := crm.lettersOwed()
	if err != nil || len(seqs) != 2 {
		t.Fatal(seqs, err)
	}
	f, owed, saved, err := crm.letterOwed(seqs[0])
	if !owed || !saved || err != nil {
		t.Fatal(f, owed, saved, err)
	}
	letter := Letter{Seq: seqs[0], At: f.At.UnixMilli(), Lane: "crm", Class: "status", Reason: "answered 500"}
	copied := Event{ID: []byte("a"), Type: []byte("lead.created"), Body: body("a"), Lanes: NewLaneSet(dead.ID()), Letter: letter.Append(nil)}
	if err := b.Append("platform", []Event{copied}, make([]Receipt, 1)); err != nil {
		t.Fatal(err)
	}
	look("one letter made and not noted", b.crash(nil), "a", "b")
	if posted, err := crm.post(dead, everyEvent, seqs, true); posted != 2 || err != nil {
		t.Fatal(posted, err)
	}
	look("all made and not noted", b.crash(nil), "a", "b")
	b.saveAll()
	look("all made and noted", b.crash(nil), "a", "b")
}

func TestMoreLettersThanAreRememberedAreMadeAllTheSame(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	const n = maxOwed + 1500
	for from := 0; from < n; from += 500 {
		b.append(NewLaneSet(crm.ID()), ids(from, min(from+500, n))...)
	}
	for range n {
		crm.Failed(b.take(crm), broken(1), "answered 500")
	}
	b.postAll(crm, dead)
	got := b.letters(dead)
	slices.Sort(got)
	if distinct := len(slices.Compact(got)); distinct != n || len(got) != n {
		t.Errorf("%d letters of %d events were made, want %d", len(got), distinct, n)
	}
}

func TestWhatIsGivenUpForWantOfAnEndpointIsCopiedToo(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.UnservedRetention = time.Hour })
	crm, dead := deadLetters(b)
	b.append(NewLaneSet(crm.ID()), "a", "b")
	crm.Retry(mustTake(t, crm, "a"), broken(1), b.opts.Now().Add(time.Minute))
	b.SetServed([]string{"dead"})
	clock.Add(2 * time.Hour.Milliseconds())
	b.saveAll()
	b.tidy()
	b.postAll(crm, dead)
	var got []string
	for _, told := range b.letters(dead) {
		got = append(got, told[:len("a crm expired")])
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"a crm expired", "b crm expired"}) {
		t.Errorf("letters of %q", got)
	}
}

// A letter waits for an endpoint that is gone longer than its segment is kept, and is a letter still.
func TestALetterThatIsCarriedIsALetterStill(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, nil)
	crm, dead := deadLetters(b)
	b.append(NewLaneSet(crm.ID()), "a")
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	b.postAll(crm, dead)
	dead.Failed(b.take(dead), broken(1), "answered 502")
	b.outlive(clock, 2) // the event and its letter
	list, err := b.Stories([]byte("a"), 10)
	if err != nil || len(list) != 1 || len(list[0].Deliveries) != 2 || list[0].Deliveries[1].Letter == nil {
		t.Fatalf("the story is %+v, %v", list, err)
	}
	b.mustSayNothing()
}

// A relay that does not know letters must not take what stands behind one for something else.
func TestAFrameWithALetterIsOfAVersionOfItsOwn(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	plain := b.append(NewLaneSet(crm.ID()), "a")[0].Seq
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	b.postAll(crm, dead)
	letter := b.take(dead).Event.Seq
	for seq, version := range map[uint64]byte{plain: 1, letter: 2} {
		frames, _, err := b.frames(seq)
		if err != nil || len(frames) == 0 || frames[0].Raw[1] != version {
			t.Errorf("the frame of event %d: %v, want one of version %d", seq, err, version)
		}
	}
}

// What fails while the records are looked at is found there and remembered as well.
func TestALetterThatIsOwedTwiceIsMadeOnce(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm, dead := deadLetters(b)
	b.append(NewLaneSet(crm.ID()), "a", "b")
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	crm.Failed(mustTake(t, crm, "b"), broken(1), "answered 500")
	b.saveAll()
	seqs, _, err := crm.lettersOwed()
	if err != nil || len(seqs) != 2 {
		t.Fatal(seqs, err)
	}
	crm.mu.Lock()
	crm.letters.owed = append(seqs, seqs...)
	crm.mu.Unlock()
	b.postAll(crm, dead)
	if got := b.letters(dead); len(got) != 2 {
		t.Errorf("the letters are %q", got)
	}
}

func TestATellerHearsOfEachLetter(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	var told atomic.Int64
	crm.OweLetters(true, func() { told.Add(1) })
	b.append(NewLaneSet(crm.ID()), "a")
	before := told.Load()
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	if told.Load() == before {
		t.Error("nobody was told that a letter is owed")
	}
	if list, err := b.Stories([]byte("a"), 1); err != nil || list[0].IsSettled() {
		t.Errorf("an event whose letter is not made yet is settled: %+v, %v", list, err)
	}
	crm.OweLetters(false, nil)
	if list, err := b.Stories([]byte("a"), 1); err != nil || !list[0].IsSettled() {
		t.Errorf("an event whose letter nobody makes is not settled: %+v, %v", list, err)
	}
}

// Whether a letter is on disk already is asked of the log, which reads every letter that its event has: it is asked for those alone
// of which memory does not tell that they were never tried.
func TestALetterThatWasNeverTriedIsNotLookedFor(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	b := openBench(t, func(o *Options) {
		o.fault = func(place string, made bool) error {
			if place == log.PlaceRead && !made {
				reads.Add(1)
			}
			return nil
		}
	})
	crm, dead := deadLetters(b)
	b.append(NewLaneSet(crm.ID()), "a")
	crm.Failed(mustTake(t, crm, "a"), broken(1), "answered 500")
	again := func(b *bench, crm *Lane) {
		t.Helper()
		b.startReplay(crm, ReplaySpec{Failed: true})
		b.replayAll(crm, func(d *Delivery) { crm.Failed(d, broken(1), "answered 500") })
		b.saveAll()
	}
	const n = 20
	for i := range n {
		if i > 0 {
			again(b, crm)
		}
		b.postAll(crm, dead)
	}
	b.saveAll()
	cost := func(b *bench, crm, dead *Lane) int64 {
		t.Helper()
		before := reads.Load()
		b.postAll(crm, dead)
		return reads.Load() - before
	}
	b = b.crash(nil) // what it reads now is on disk
	crm, dead = deadLetters(b)
	b.postAll(crm, dead) // what was owed at the start: nothing
	again(b, crm)
	if got := cost(b, crm, dead); got >= n {
		t.Errorf("a letter that was never tried costs %d reads, beside %d of the same event", got, n)
	}
	again(b, crm)
	b = b.crash(nil)
	crm, dead = deadLetters(b)
	if got := cost(b, crm, dead); got < n {
		t.Errorf("a letter of before the start is made with %d reads: whether it is one of %d was not asked", got, n)
	}
	if got := b.letters(dead); len(got) != n+2 {
		t.Errorf("%d letters, want %d", len(got), n+2)
	}
}

// everyEvent has a letter made of every event.
func everyEvent(*Stored) bool { return true }
