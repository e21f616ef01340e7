package queue

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var errInjected = errors.New("input/output error")

// play performs an act. It tells the ledger before it does something that may show, and after it was answered.
type play struct {
	*Queue
	t         *testing.T
	act       act
	harm      harm
	opts      Options
	out       io.Writer
	clock     atomic.Int64
	armed     atomic.Bool
	visits    atomic.Int64
	fired     atomic.Bool
	crm, mail *Lane
	to        []*Lane // where events go
}

func newPlay(t *testing.T, dir string, a act, h harm, out io.Writer, now int64) *play {
	p := &play{t: t, act: a, harm: h, out: out}
	p.opts = Options{
		Dir: dir, DedupWindow: 5 * time.Second, Retention: 5 * time.Second, FailedRetention: 30 * time.Second,
		Now: func() time.Time { return time.UnixMilli(p.clock.Load()) }, slotSize: 256 << 10, saveEvery: time.Hour, tailBytes: 1, ballast: 64 << 10,
		fault: p.fault,
	}
	if a.change != nil {
		a.change(&p.opts)
	}
	p.advance(time.Duration(now) * time.Millisecond)
	return p
}

func (p *play) tell(format string, args ...any) {
	if _, err := fmt.Fprintf(p.out, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *play) advance(d time.Duration) { p.tell("clock %d", p.clock.Add(d.Milliseconds())) }

func (p *play) fault(place string, made bool) error {
	if !p.armed.Load() || place != p.act.place || made != p.harm.made || p.visits.Add(1) != p.act.nth {
		return nil
	}
	p.fired.Store(true)
	if p.harm.kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return errInjected
}

func (p *play) open() error {
	q, err := openUnforked(p.opts)
	if err == nil {
		p.Queue = q
	}
	return err
}

func (p *play) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%s, %s: %v", p.act.name, p.harm.name, err)
	}
}

func (p *play) lane(name string) (*Lane, error) {
	l, err := p.Lane(name)
	if err == nil {
		p.tell("lane %s", name)
	}
	return l, err
}

// lanes opens the queue, when that is to be done, and both lanes.
func (p *play) lanes() {
	p.t.Helper()
	if p.Queue == nil {
		p.must(p.open())
	}
	var err error
	p.crm, err = p.lane("crm")
	p.must(err)
	p.mail, err = p.lane("mail")
	p.must(err)
	p.to = []*Lane{p.crm, p.mail}
}

// playBody is the body of an event: large and beyond compression when its id says so.
func playBody(id string) []byte {
	if !strings.HasPrefix(id, "big") {
		return body(id)
	}
	raw := make([]byte, 100<<10)
	rand.New(rand.NewSource(int64(len(id)*1000) + int64(id[len(id)-1]))).Read(raw)
	return raw
}

// append stores events for all lanes.
func (p *play) append(ids ...string) error {
	var set []LaneID
	var names []string
	for _, l := range p.to {
		set, names = append(set, l.ID()), append(names, l.Name())
	}
	events := make([]Event, len(ids))
	for i, id := range ids {
		p.tell("try %s", id)
		events[i] = Event{ID: []byte(id), Type: []byte("x"), Body: playBody(id), Lanes: NewLaneSet(set...)}
	}
	receipts := make([]Receipt, len(ids))
	err := p.Append("platform", events, receipts)
	for i := range receipts {
		if err == nil && !receipts[i].Duplicate {
			p.tell("ack %d %s %s", receipts[i].Seq, ids[i], strings.Join(names, ","))
		}
	}
	return err
}

func (p *play) take(l *Lane) *Delivery {
	p.t.Helper()
	d, _ := l.Take()
	if d == nil {
		p.t.Fatalf("%s, %s: nothing to take from %s", p.act.name, p.harm.name, l.Name())
	}
	return d
}

func (p *play) due(l *Lane) *Delivery {
	p.t.Helper()
	d, in := l.TakeDue(p.opts.Now())
	if !in {
		p.t.Fatalf("%s, %s: nothing is due for %s", p.act.name, p.harm.name, l.Name())
	}
	return d
}

func (p *play) settle(l *Lane, d *Delivery, state string) {
	p.tell("settle %s %s %s", l.Name(), d.Event.ID, state)
	a := &Attempt{Number: d.Attempts + 1, At: p.opts.Now(), Status: 500}
	switch state {
	case Settled:
		l.Delivered(d, a)
	case Retrying:
		l.Retry(d, a, p.opts.Now())
	case GivenUp:
		l.Failed(d, a, "answered 500")
	}
}

func (p *play) takeReplay(l *Lane) *Delivery {
	p.t.Helper()
	d, _ := l.TakeReplay(p.opts.Now())
	if d == nil {
		p.t.Fatalf("%s, %s: nothing to replay for %s", p.act.name, p.harm.name, l.Name())
	}
	return d
}

// replay brings the queue into a state in which both lanes have a replay half done: crm of what failed, mail of all.
func (p *play) replay() {
	p.t.Helper()
	p.begin()
	p.must(p.append(ids(10, 20)...))
	for range 10 {
		p.settle(p.crm, p.take(p.crm), GivenUp)
		p.settle(p.mail, p.take(p.mail), Settled)
	}
	p.must(p.save())
	for l, spec := range map[*Lane]ReplaySpec{p.crm: {Failed: true}, p.mail: {}} {
		if _, err := l.StartReplay(spec, -1); err != nil {
			p.must(err)
		}
		slow := p.takeReplay(l)
		for _, state := range []string{Settled, Retrying, GivenUp} {
			p.settle(l, p.takeReplay(l), state)
		}
		l.Release(slow, p.opts.Now())
	}
	p.settle(p.crm, p.due(p.crm), Settled)
	p.must(p.save())
	for _, l := range p.to {
		for _, state := range []string{GivenUp, Settled, Retrying} {
			p.settle(l, p.takeReplay(l), state)
		}
	}
}

func (p *play) save() error {
	err := p.keeper.drain(p.Queue)
	if err == nil {
		p.tell("saved")
	}
	return err
}

// begin brings the queue into a state that has some of everything: saved, in the journal alone, and in memory alone.
func (p *play) begin() {
	p.t.Helper()
	p.lanes()
	p.must(p.append(ids(0, 6)...))
	for _, state := range []string{Settled, Retrying, GivenUp, Settled} {
		p.settle(p.crm, p.take(p.crm), state)
	}
	late, second, third := p.take(p.mail), p.take(p.mail), p.take(p.mail)
	p.settle(p.mail, second, Settled)
	p.settle(p.mail, third, Retrying)
	p.must(p.save())
	p.must(p.append(ids(6, 10)...))
	p.settle(p.crm, p.due(p.crm), GivenUp)
	p.settle(p.crm, p.take(p.crm), Settled)
	p.settle(p.crm, p.take(p.crm), Retrying)
	p.settle(p.mail, late, Settled)
	p.settle(p.mail, p.due(p.mail), Retrying)
	p.settle(p.mail, p.take(p.mail), Settled)
}

// finish settles all that is pending and saves it.
func (p *play) finish() {
	p.t.Helper()
	for _, l := range p.to {
		for again := true; again; {
			again = false
			for d, _ := l.Take(); d != nil; d, _ = l.Take() {
				p.settle(l, d, Settled)
				again = true
			}
			for d, _ := l.TakeReplay(p.opts.Now()); d != nil; d, _ = l.TakeReplay(p.opts.Now()) {
				p.settle(l, d, Settled)
				again = true
			}
			p.must(p.save()) // a lane that is full hands out nothing before
		}
	}
}

// hold keeps the keeper from saving until the function it returns is called.
func (p *play) hold() (release func()) {
	held, free := make(chan struct{}), make(chan struct{})
	go func() {
		_ = p.update(func(*batch) error {
			close(held)
			<-free
			return nil
		})
	}()
	<-held
	return func() { close(free) }
}

// marked waits until the janitor has noted that no lane needs the log any more, or the fault has happened.
func (p *play) marked() {
	p.t.Helper()
	await(p.t, "a mark at the end of the log", func() (there bool) {
		err := p.update(func(*batch) error {
			marks := p.keeper.janitor.marks
			there = len(marks) > 0 && marks[len(marks)-1].next >= p.end.Load()
			return nil
		})
		return there || err != nil
	})
}

// retire brings the janitor to where the next step of the clock makes it delete.
func (p *play) retire() {
	p.t.Helper()
	p.begin()
	p.must(p.save())
	p.finish()
	p.advance(time.Second)
	p.marked()
}

// expire lets time pass until the fault has happened.
func (p *play) expire(d time.Duration) {
	p.t.Helper()
	p.arm()
	p.advance(d)
	await(p.t, "the janitor", p.fired.Load)
}

// bury lets time pass until the janitor has deleted all blocks.
func (p *play) bury() {
	p.t.Helper()
	p.retire()
	p.advance(6 * time.Second)
	await(p.t, "the blocks to be deleted", func() bool {
		_, _, there, err := p.store.block(0)
		return !there && err == nil
	})
}

// forgive lets time pass until the failed deliveries have expired, in memory.
func (p *play) forgive() {
	p.t.Helper()
	p.bury()
	p.advance(31 * time.Second)
	await(p.t, "the failed deliveries to expire", func() bool { return p.crm.Stats().Failed == 0 })
}

func (p *play) arm() { p.armed.Store(true) }

// tryBig appends n events that don't get smaller. How far it comes depends on the fault.
func (p *play) tryBig(n int) {
	for i := range n {
		if p.append(fmt.Sprintf("big_%c", 'a'+i)) != nil {
			return
		}
	}
}

// giveUpFailed gives up what has failed for crm. The store then shows no difference to what is delivered.
func (p *play) giveUpFailed(arm bool) {
	p.t.Helper()
	p.tell("giving-up-failed")
	for _, id := range p.failures(p.crm) {
		p.tell("settle crm %s %s", id, Settled)
	}
	if arm {
		p.arm()
	}
	_, _ = p.crm.GiveUpFailed(ReplaySpec{})
}

// failures are the events whose deliveries to a lane have failed.
func (p *play) failures(l *Lane) (ids []string) {
	p.t.Helper()
	found, err := p.Search(Query{State: GivenUp, Lane: l})
	p.must(err)
	for _, ev := range found.Events {
		ids = append(ids, ev.ID)
	}
	return ids
}
