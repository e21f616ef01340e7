package queue

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"math/rand"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"realtorbot-relay/queue/journal"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// The fault matrix: every place where the queue writes, in every situation that comes there, crossed with every way in which
// a write goes wrong. A sample from a seed, and with -args -faults all the whole.

var (
	faultsFlag = flag.String("faults", "20", "how many of the matrix of faults are tried, or all")
	seedFlag   = flag.Int64("faultseed", 1, "of the sample; 0: the time")
)

// situation is something that the queue does when a fault may happen.
type situation struct {
	name string
	do   func(*scenario)
}

func situations() []situation {
	return []situation{
		{"starting", func(p *scenario) {
			p.arm(false)
			p.must(p.Close())
			p.Queue = nil
			p.arm(true)
			_ = p.open()
		}},
		{"starting after a death", func(p *scenario) {
			p.arm(false)
			dir := filepath.Join(p.t.TempDir(), "data")
			p.must(p.update(func() error { return copyTree(dir, p.opts.Dir) }))
			p.must(p.Close())
			p.Queue, p.opts.Dir, p.died = nil, dir, true
			p.arm(true)
			_ = p.open()
		}},
		{"starting after a death between log and store", func(p *scenario) {
			p.arm(false)
			dir := filepath.Join(p.t.TempDir(), "data")
			p.capture(store.AtCommit, dir)
			p.mustAppend(5, "evt")
			_ = p.save()
			p.must(p.Close())
			p.Queue, p.opts.Dir, p.died = nil, dir, true
			p.arm(true)
			_ = p.open()
		}},
		{"starting anew", func(p *scenario) {
			p.arm(false)
			p.must(p.Close())
			p.Queue, p.ledger, p.opts.Dir = nil, newLedger(), filepath.Join(p.t.TempDir(), "data")
			p.arm(true)
			_ = p.open()
		}},
		{"appending", func(p *scenario) {
			for range 4 {
				_ = p.append(1+p.r.Intn(20), "evt")
				_ = p.append(1, "big")
			}
			_ = p.save()
			_ = p.append(5, "big") // more than a slot
		}},
		{"saving", func(p *scenario) {
			for range 3 {
				for _, l := range p.Lanes() {
					p.work(l, 8)
				}
				_ = p.append(3, "evt")
				_ = p.save()
			}
		}},
		{"pausing and making", func(p *scenario) {
			for _, l := range p.Lanes() {
				p.pause(l, fmt.Sprint("why ", l.ID()))
			}
			p.lane("fresh")
		}},
		{"sealing", func(p *scenario) {
			for range 2 {
				_ = p.append(5, "big")
				_ = p.save()
				_ = p.update(p.seal)
			}
		}},
		{"writing a snapshot", func(p *scenario) {
			_ = p.update(func() error { return p.keep(p.writer.writeWholeSnapshot(p.Queue)) })
		}},
		{"carrying and stripping", func(p *scenario) {
			p.retire()
			p.advance(scenarioRetention + time.Second)
			p.tidy()
		}},
		{"carrying and deleting", func(p *scenario) {
			p.retire()
			p.advance(scenarioWindow + time.Minute)
			p.tidy()
		}},
		{"deleting a large segment", func(p *scenario) {
			p.arm(false)
			for range 9 {
				p.mustAppend(10, "big")
			}
			p.retire()
			p.advance(scenarioWindow + time.Minute)
			p.tidy()
		}},
		{"running out of space", func(p *scenario) {
			p.free.Store(criticalFree - 1)
			for _, l := range p.Lanes() {
				p.work(l, 3)
			}
			_ = p.save()
			_ = p.append(1, "evt")
			p.free.Store(1 << 40)
			for n := 0; p.writer.saveRefused.Load() && p.Err() == nil && n < 200; n++ { // the writer looks for room twice a second
				time.Sleep(10 * time.Millisecond)
			}
			_ = p.append(1, "evt")
			_ = p.save()
		}},
		{"giving up what nobody serves", func(p *scenario) {
			p.arm(false)
			p.advance(scenarioUnserved)
			p.arm(true)
			p.expire(p.Find("left"))
			_ = p.save()
			p.arm(false)
			if p.Err() == nil { // else it is done after the next start
				p.free.Store(1 << 40)
				p.mustSave()
				p.expire(p.Find("left"))
			}
		}},
		{"serving again", func(p *scenario) {
			p.leave(nil)
			p.work(p.Find("left"), 20)
			p.tidy()
			_ = p.save()
			p.tidy()
		}},
		{"giving up", func(p *scenario) {
			if l := p.Find("old"); l != nil {
				p.discard(l)
			}
			if l := p.Find("crm"); l != nil {
				p.discardFailed(l)
			}
		}},
		{"replaying", func(p *scenario) {
			l := p.Find("crm")
			if status, err := l.StartReplay(ReplaySpec{}, -1); err == nil {
				p.replay(l, 4)
				_ = p.save()
				p.replay(l, 4)
				_, _ = l.CancelReplay(status.ID)
			}
			_ = p.save()
		}},
		{"making the store again", func(p *scenario) {
			_ = p.update(func() error { return p.keep(p.writer.remake(p.Queue, "a test says so")) })
		}},
		{"stopping", func(p *scenario) {
			_ = p.Close()
			p.Queue = nil
		}},
	}
}

// seal ends the segment, as the writer does when it is full.
func (p *scenario) seal() error {
	k := &p.writer
	err := k.flush(p.Queue)
	if err == nil && !k.saveRefused.Load() {
		err = p.log.Seal()
	}
	return p.keep(err)
}

// keep treats an error as the writer does.
func (p *scenario) keep(err error) error {
	if err != nil && !p.Queue.disk.noteShortage(p.Queue, err) {
		p.fail(err)
	}
	return err
}

// retire settles and seals, so that the next step of the clock lets segments go. Nothing goes wrong meanwhile.
func (p *scenario) retire() {
	p.arm(false)
	for _, l := range p.Lanes() {
		if l.Name() == "left" {
			continue // what it holds is carried
		}
		p.pause(l, "")
		p.finish(l)
	}
	p.mustSave()
	p.must(p.update(func() error { return p.log.Seal() }))
	p.tidy()
	p.arm(true)
}

// suffer plays a situation with a harm, nil for none, and judges the queue afterwards. It returns the places that it visited.
func suffer(t *testing.T, s situation, h *writeFault, seed int64) (visited map[string]bool, fired int) {
	t.Helper()
	p := newScenario(t, seed)
	defer func() {
		if p.Queue != nil {
			_ = p.Close()
		}
	}()
	p.begin()
	p.harm = h
	p.arm(true)
	s.do(p)
	p.arm(false)
	p.free.Store(1 << 40)
	if p.Queue != nil && p.Err() != nil {
		_ = p.Close()
		p.Queue = nil
	}
	if p.Queue == nil {
		// A store that could not be closed in time is still in use.
		await(t, "an open queue", func() bool {
			err := p.open()
			if err != nil && !strings.Contains(err.Error(), "in use") {
				p.must(err)
			}
			return err == nil
		})
		p.died = true
		if l := p.Find("left"); l != nil && p.now()-scenarioStart >= scenarioUnserved.Milliseconds() {
			await(t, "its end", func() bool { p.tidy(); return l.Stats().Pending+l.Stats().Retrying == 0 })
		}
	}
	if !p.died { // else what was not saved may have to be done again
		p.mustSave()
	}
	p.look("when it was over")
	p.repeat("when it was over")
	p.must(p.Close())
	p.must(p.open())
	p.look("opened again")
	p.repeat("opened again")
	for _, name := range []string{"crm", "mail"} {
		p.mustLane(name)
	}
	await(t, "room", func() bool { return p.append(3, "evt") == nil })
	p.end()
	p.look("delivered")
	p.advance(2 * scenarioWindow)
	p.tidy()
	p.advance(2 * scenarioWindow)
	p.tidy()
	p.look("after the retention")
	p.must(p.Close())
	p.Queue = nil
	return p.visited, p.fired
}

// The ways in which writes go wrong.
var (
	hows   = []string{"once", "for a while", "from then on", "every third"}
	errnos = []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE}
)

// places are the names of all places of faults, as the sources define them.
func places(t *testing.T) (list []string) {
	for _, f := range sources(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			text, ok := spec.Values[0].(*ast.BasicLit)
			name := spec.Names[0].Name
			if strings.HasPrefix(name, "placeTake") || strings.HasPrefix(name, "placeRestore") || name == "PlaceRead" {
				return true // see the tests of takeovers, restores and reads
			}
			if ok && text.Kind == token.STRING && (strings.HasPrefix(name, "Place") || strings.HasPrefix(name, "place") || strings.HasPrefix(name, "At")) {
				one, _ := strconv.Unquote(text.Value)
				list = append(list, one)
			}
			return true
		})
	}
	return list
}

func TestNoFaultLosesWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	seed := cmp.Or(*seedFlag, time.Now().UnixNano())
	t.Logf("seed %d", seed)
	type one struct {
		s situation
		h writeFault
	}
	var matrix []one
	visited := map[string]bool{}
	for _, s := range situations() {
		at, _ := suffer(t, s, nil, seed) // without harm, which shows where it comes
		for place := range at {
			if strings.HasPrefix(place, "read of") {
				continue // what can't be read is damage, and told
			}
			visited[place] = true
			for _, made := range []bool{false, true} {
				for _, how := range hows {
					for _, err := range errnos {
						matrix = append(matrix, one{s, writeFault{place, made, how, err}})
					}
				}
			}
		}
	}
	for _, place := range places(t) {
		if !visited[place] {
			t.Errorf("no situation comes to %q", place)
		}
	}
	slices.SortFunc(matrix, func(a, b one) int {
		return cmp.Or(cmp.Compare(a.s.name, b.s.name), cmp.Compare(a.h.String(), b.h.String()))
	})
	count := len(matrix)
	if *faultsFlag != "all" {
		r := rand.New(rand.NewSource(seed))
		r.Shuffle(len(matrix), func(i, j int) { matrix[i], matrix[j] = matrix[j], matrix[i] })
		n, err := strconv.Atoi(*faultsFlag)
		if err != nil {
			t.Fatal(err)
		}
		matrix = matrix[:min(len(matrix), n)]
		for _, s := range situations() {
			for _, h := range found[s.name] {
				matrix = append(matrix, one{s, h})
			}
		}
	}
	t.Logf("%d of %d faults at %d places", len(matrix), count, len(visited))
	fired := 0
	for i, m := range matrix {
		t.Run(fmt.Sprintf("%s, %v", m.s.name, m.h), func(t *testing.T) {
			_, n := suffer(t, m.s, &m.h, seed+int64(i))
			if n > 0 {
				fired++
			}
		})
	}
	if fired < len(matrix)/2 {
		t.Errorf("of %d faults %d happened", len(matrix), fired)
	}
}

// found are those by which something was found, which are tried always.
var found = map[string][]writeFault{
	"pausing and making":     {{store.AtCommit, true, "for a while", syscall.ENOSPC}},    // a store that knows no more what it has was taken for a full disk
	"giving up":              {{store.AtCommit, false, "once", syscall.EMFILE}},          // what the store did not have yet was not given up
	"carrying and stripping": {{log.PlaceRename, false, "from then on", syscall.EMFILE}}, // places went before their segment
	"carrying and deleting": {
		{store.AtCommit, false, "from then on", syscall.ENOSPC}, // carried events were counted and not placed
		{log.PlaceSync, true, "every third", syscall.EMFILE},    // those that a save was refused for were counted twice
	},
	"appending": {{journal.PlaceFill, false, "for a while", syscall.ENOSPC}}, // room was waited for that could not come
	"sealing": {
		{log.PlaceSeal, false, "once", syscall.EMFILE},        // a broken log was taken for a full disk
		{store.AtCommit, true, "every third", syscall.EMFILE}, // a store that could not be made again at once ended the queue
		{store.AtCommit, true, "from then on", syscall.EIO},   // the same
	},
	"making the store again": {{store.AtInstallNew, false, "once", syscall.EIO}}, // the old one was gone and the new one had no name
}
