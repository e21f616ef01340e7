package queue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The fault matrix: every place where the queue writes, in every situation that matters, crossed with every way in which
// a write goes wrong. A death is that of a real process: a child of the test plays the act, tells each step to a pipe and
// is killed with SIGKILL at the place.

// harm is a way in which a write goes wrong.
type harm struct {
	name string
	made bool // the write was made first
	kill bool // the process ends; otherwise the write returns an error
}

var harms = []harm{
	{"failed", false, false},
	{"failed but made", true, false},
	{"gone before", false, true},
	{"gone after", true, true},
}

// act is a situation in which the queue writes. run prepares it, arms the fault and has the queue write.
type act struct {
	name   string
	place  string
	nth    int64 // at which visit of the place after arming it happens
	change func(*Options)
	run    func(*play)

	harmless bool // a write that fails there is tried again and does not fail the queue
}

func acts() []act {
	atOpen := func(p *play) { p.arm(); _ = p.open() }
	roomy := func(o *Options) { o.slotSize = 4 << 20 }
	known := func(o *Options) { o.DedupWindow = 20 * time.Second }
	// bigSave arms while frames for several transactions wait.
	bigSave := func(p *play) {
		p.begin()
		release := p.hold()
		p.tryBig(12)
		p.arm()
		release()
		_ = p.save()
	}
	// many makes more of everything than fits into a transaction.
	many := func(p *play) {
		p.begin()
		for i := range 6 {
			p.must(p.append(ids(100+1000*i, 1100+1000*i)...))
		}
		p.finish()
	}
	giveUp := func(p *play) {
		p.arm()
		p.tell("giving-up mail")
		if p.GiveUp(p.mail) == nil {
			p.tell("gave-up mail")
		}
	}
	harmless := func(name, place string, run func(*play)) act { return act{name, place, 1, nil, run, true} }
	list := []act{
		harmless("spare log", placeSpare, func(p *play) {
			p.arm()
			p.must(p.open())
			for _, name := range []string{"crm", "mail"} { // the keeper looks for room twice a second
				await(p.t, "a spare", func() bool { _, err := p.lane(name); return err == nil })
			}
			await(p.t, "a save", func() bool { return p.save() == nil })
			p.begin()
			p.must(p.save())
		}),
		harmless("ballast", placeBallast, func(p *play) { p.arm(); p.begin(); p.must(p.save()) }),
		harmless("giving up the ballast", placeDropBallast, func(p *play) {
			var free atomic.Int64
			free.Store(1 << 40)
			p.opts.Free = func() (int64, error) { return free.Load(), nil }
			p.begin()
			p.must(p.save())
			p.arm()
			free.Store(1 << 20)
			await(p.t, "the ballast to be given up", func() bool { signal(p.keeper.kick); return p.fired.Load() && !p.disk.held.Load() })
			free.Store(1 << 40)
			await(p.t, "room", func() bool { return p.save() == nil })
		}),
	}
	for _, a := range []struct {
		name, place string
		nth         int64
		change      func(*Options)
		run         func(*play)
	}{
		{"new mark", placeMarkFile, 1, nil, atOpen},
		{"mark", placeMark, 1, nil, func(p *play) { p.begin(); p.arm(); _ = p.save() }},
		{"format file", placeFormat, 1, nil, atOpen},
		{"name of the format file", placeFormatDir, 1, nil, atOpen},
		{"first slot", placeFill, 10, nil, atOpen},
		{"name of the second slot", placeSlotDir, 2, nil, atOpen},
		{"first event", placeHeader, 1, nil, func(p *play) {
			p.lanes()
			p.arm()
			_ = p.append("x")
		}},
		{"entry", placeEntry, 1, nil, func(p *play) { p.begin(); p.arm(); _ = p.append("x", "y") }},
		{"sync", placeSync, 1, nil, func(p *play) { p.begin(); p.arm(); _ = p.append("x", "y") }},
		{"slot turn", placeHeader, 1, nil, func(p *play) { p.begin(); p.arm(); p.tryBig(3) }},
		{"entry after a slot turn", placeEntry, 3, nil, func(p *play) { p.begin(); p.arm(); p.tryBig(3) }},
		{"zeros of a third slot", placeFill, 10, nil, func(p *play) { p.begin(); p.arm(); p.tryBig(5) }},
		{"name of a third slot", placeSlotDir, 1, nil, func(p *play) { p.begin(); p.arm(); p.tryBig(5) }},
		{"save", placeCommit, 1, nil, func(p *play) { p.begin(); p.arm(); _ = p.save() }},
		{"save of frames", placeCommit, 1, nil, func(p *play) {
			p.begin()
			p.must(p.save())
			p.must(p.append("x"))
			p.arm()
			_ = p.save()
		}},
		{"save of lanes", placeCommit, 1, nil, func(p *play) {
			p.begin()
			p.must(p.save())
			p.settle(p.crm, p.due(p.crm), Settled)
			p.settle(p.crm, p.take(p.crm), GivenUp)
			p.settle(p.mail, p.take(p.mail), Retrying)
			p.arm()
			_ = p.save()
		}},
		{"large save, first transaction", placeCommit, 1, roomy, bigSave},
		{"large save, second transaction", placeCommit, 2, roomy, bigSave},
		{"large save, third transaction", placeCommit, 3, roomy, bigSave},
		{"new lane", placeCommit, 1, nil, func(p *play) { p.begin(); p.arm(); _, _ = p.lane("third") }},
		{"pause", placeCommit, 1, nil, func(p *play) { p.begin(); p.arm(); _ = p.crm.Pause("gone") }},
		{"give up", placeCommit, 1, nil, func(p *play) { p.begin(); p.must(p.save()); giveUp(p) }},
		{"large deletion, first transaction", placeCommit, 1, roomy, func(p *play) { many(p); p.marked(); p.expire(6 * time.Second) }},
		{"large deletion, second transaction", placeCommit, 2, roomy, func(p *play) { many(p); p.marked(); p.expire(6 * time.Second) }},
		{"large give up", placeCommit, 1, roomy, func(p *play) {
			p.begin()
			for i := range 6 {
				p.must(p.append(ids(100+1000*i, 1100+1000*i)...))
			}
			for d := p.take(p.mail); d != nil; {
				p.settle(p.mail, d, GivenUp)
				if d, _ = p.mail.Take(); d == nil {
					p.must(p.save())
					d, _ = p.mail.Take()
				}
			}
			giveUp(p)
		}},
		{"large deletion, with attempts", placeCommit, 1, roomy, func(p *play) {
			p.begin()
			p.finish()
			p.must(p.append(ids(100, 1100)...))
			for round, state := range []string{Retrying, Retrying, Settled} {
				for _, l := range p.to {
					for range 1000 {
						var d *Delivery
						if round == 0 {
							d = p.take(l)
						} else {
							d = p.due(l)
						}
						p.tell("settle %s %s %s", l.Name(), d.Event.ID, state)
						a := &Attempt{Number: d.Attempts + 1, At: p.opts.Now(), Status: 500}
						if state == Retrying {
							l.Retry(d, a, p.opts.Now().Add(time.Millisecond))
						} else {
							l.Delivered(d, a)
						}
						l.mu.Lock()
						full := l.full()
						l.mu.Unlock()
						if full {
							p.must(p.save())
						}
					}
					p.must(p.save())
				}
				p.advance(time.Millisecond)
			}
			p.finish()
			p.advance(time.Second)
			p.marked()
			p.expire(6 * time.Second)
		}},
		{"start of a replay", placeCommit, 1, nil, func(p *play) {
			p.begin()
			p.must(p.save())
			p.arm()
			_, _ = p.crm.StartReplay(ReplaySpec{Failed: true}, 2)
		}},
		{"replays", placeCommit, 1, nil, func(p *play) { p.replay(); p.arm(); _ = p.save() }},
		{"replays, second save", placeCommit, 1, nil, func(p *play) {
			p.replay()
			p.must(p.save())
			for _, l := range p.to {
				p.settle(l, p.takeReplay(l), Settled)
			}
			p.arm()
			_ = p.save()
		}},
		{"end of a replay", placeCommit, 1, nil, func(p *play) {
			p.replay()
			for d, _ := p.crm.TakeReplay(p.opts.Now()); d != nil; d, _ = p.crm.TakeReplay(p.opts.Now()) {
				p.settle(p.crm, d, Settled)
			}
			p.arm()
			_ = p.save()
		}},
		{"cancelled replay", placeCommit, 1, nil, func(p *play) {
			p.replay()
			p.must(p.save())
			p.arm()
			_, _ = p.crm.CancelReplay(p.crm.Replays()[0].ID)
		}},
		{"give up of a lane with a replay", placeCommit, 1, nil, func(p *play) { p.replay(); p.must(p.save()); giveUp(p) }},
		{"give up of failed deliveries", placeCommit, 1, nil, func(p *play) {
			p.replay()
			p.must(p.save())
			p.giveUpFailed(true)
		}},
		{"marks", placeCommit, 2, nil, func(p *play) {
			p.retire()
			for i := 0; i < 4 && !p.fired.Load(); i++ { // it depends on the marks before whether one is saved at once
				p.must(p.append(fmt.Sprint("x", i)))
				p.advance(time.Second)
				p.settle(p.crm, p.take(p.crm), Settled)
				p.settle(p.mail, p.take(p.mail), Settled)
				p.visits.Store(0)
				p.arm()
				_ = p.save() // the first commit; it waits for a second round, which the fault may cut short
				p.marked()
				p.armed.Store(false)
			}
		}},
		{"deletion of blocks", placeCommit, 1, nil, func(p *play) { p.retire(); p.expire(6 * time.Second) }},
		{"deletion of blocks with known ids", placeCommit, 1, known, func(p *play) { p.retire(); p.expire(6 * time.Second) }},
		{"expiry of ids", placeCommit, 1, known, func(p *play) { p.bury(); p.expire(21 * time.Second) }},
		{"expiry of failed deliveries", placeCommit, 1, nil, func(p *play) { p.forgive(); p.arm(); _ = p.save() }},
		{"deletion of kept events", placeCommit, 2, nil, func(p *play) {
			p.forgive()
			p.arm()
			_ = p.save()
			await(p.t, "the janitor", p.fired.Load)
		}},
	} {
		list = append(list, act{a.name, a.place, a.nth, a.change, a.run, false})
	}
	return list
}

func TestNoFaultLosesWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	for _, a := range acts() {
		for _, h := range harms {
			t.Run(a.name+", "+h.name, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "data")
				var book *bytes.Buffer
				if h.kill {
					book = playInChild(t, dir, a, h)
				} else {
					book = playHere(t, dir, a, h)
				}
				mustBeWhole(t, dir, a, book)
			})
		}
	}
}

const playStart = 1_700_000_000_000 // of the clock, Unix milliseconds

// playHere plays an act with a write that fails, and looks at what the queue answers from then on.
func playHere(t *testing.T, dir string, a act, h harm) *bytes.Buffer {
	book := &bytes.Buffer{}
	p := newPlay(t, dir, a, h, book, playStart)
	a.run(p)
	if !p.fired.Load() {
		t.Fatal("the fault did not happen")
	}
	if p.Queue == nil {
		return book // Open said so
	}
	if a.harmless {
		p.must(p.Close())
		return book
	}
	await(t, "the queue to fail", func() bool { return p.Err() != nil })
	<-p.Failed()
	for _, id := range []string{"after", "evt_1000"} {
		if err := p.append(id); !errors.Is(err, ErrFailed) || !errors.Is(err, errInjected) {
			t.Errorf("append to a failed queue says %v", err)
		}
	}
	if err := p.Close(); !errors.Is(err, errInjected) {
		t.Errorf("close says %v", err)
	}
	return book
}

const childEnv = "RELAY_QUEUE_FAULT"

// playInChild plays an act in a process of its own, which ends at the fault.
func playInChild(t *testing.T, dir string, a act, h harm) *bytes.Buffer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestAPlayEndsAtItsFault$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%s", childEnv, a.name, h.name, dir))
	cmd.ExtraFiles = []*os.File{write}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	book := &bytes.Buffer{}
	_, err = io.Copy(book, read) // until the child is gone
	_ = cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil || ctx.Err() != nil || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v, not killed at its fault: %v\n%s", cmd.ProcessState, err, said.String())
	}
	return book
}

// TestAPlayEndsAtItsFault is the child's side of playInChild; in the parent there is nothing to play.
func TestAPlayEndsAtItsFault(t *testing.T) {
	part := strings.SplitN(os.Getenv(childEnv), "|", 3)
	for _, a := range acts() {
		for _, h := range harms {
			if len(part) == 3 && a.name == part[0] && h.name == part[1] {
				a.run(newPlay(t, part[2], a, h, os.NewFile(3, "ledger"), playStart))
				t.Fatal("the fault did not happen")
			}
		}
	}
}

func mustTell(t *testing.T, l *ledger, book *bytes.Buffer) {
	t.Helper()
	for lines := bufio.NewScanner(book); lines.Scan(); {
		if err := l.read(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
}

// mustBeWhole opens a queue after its fault and checks it: as it is, after the time of retention, and when all that was
// left is delivered.
func mustBeWhole(t *testing.T, dir string, a act, book *bytes.Buffer) {
	t.Helper()
	l := newLedger()
	mustTell(t, l, book)
	p := newPlay(t, dir, a, harm{}, book, l.now)
	await(t, "the directory to be free", func() bool { // a process that is just being started may still have the lock's file
		err := p.open()
		if !errors.Is(err, ErrInUse) {
			p.must(err)
		}
		return err == nil
	})
	defer func() { p.must(p.Close()) }()
	look := func(when string) {
		t.Helper()
		mustTell(t, l, book)
		for _, complaint := range check(p.Queue, l) {
			t.Errorf("%s: %s", when, complaint)
		}
	}
	look("opened again")
	for id, was := range l.acked {
		if l.now-was.at >= p.opts.DedupWindow.Milliseconds() {
			continue
		}
		receipts := make([]Receipt, 1)
		p.must(p.Append("platform", []Event{{ID: []byte(id), Type: []byte("x"), Body: playBody(id)}}, receipts))
		if !receipts[0].Duplicate || receipts[0].Seq != was.seq {
			t.Errorf("%s again is answered %+v, want a duplicate of %d", id, receipts[0], was.seq)
		}
	}
	tidy := func() {
		t.Helper()
		p.must(p.update(func(*batch) error { return p.keeper.janitor.run(p.Queue) }))
	}
	p.advance(time.Second)
	tidy()
	p.advance(2 * p.opts.Retention)
	tidy()
	look("after the retention")
	if wanted, ever := l.lanes["mail"]; ever && !wanted && !slices.ContainsFunc(p.Queue.Lanes(), func(l *Lane) bool { return l.Name() == "mail" }) {
		p.tell("gave-up mail")
	}
	p.lanes()
	if l.forgiving {
		p.giveUpFailed(false)
		p.must(p.save())
		look("given up again")
	}
	p.must(p.append("fresh"))
	for _, lane := range p.to {
		for d, in := takeDue(lane, p.opts.Now()); in; d, in = takeDue(lane, p.opts.Now()) {
			p.settle(lane, d, Settled)
		}
	}
	p.finish()
	look("delivered")
	for _, lane := range p.to {
		if s := lane.Stats(); s.Pending != 0 || s.Retrying != 0 {
			t.Errorf("%s has %+v left", lane.Name(), s)
		}
		for _, r := range lane.Replays() {
			if r.State == ReplayRunning || r.Retrying != 0 || r.TakenUp != r.Delivered+r.Failed {
				t.Errorf("%s has a replay left: %+v", lane.Name(), r)
			}
		}
	}
}

func TestAMarkIsNeverAheadOfTheSavedLanes(t *testing.T) {
	t.Parallel()
	b, clock := openStill(t, func(o *Options) { o.saveEvery = time.Hour })
	crm := b.lane("crm")
	b.append(NewLaneSet(crm.ID()), "a")
	b.saveAll()
	crm.Delivered(mustTake(t, crm, "a"), ok(1))
	b.tidy()
	after := b.crash(nil)
	clock.Add(2 * time.Hour.Milliseconds())
	after.tidy()
	mustTake(t, after.lane("crm"), "a")
}
