package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// moment is what the relay does while calls of its store fail.
type moment struct {
	name    string
	queue   []string // lines of its configuration
	killed  bool     // the queue is as a kill left it
	spoilt  bool     // a table is missing, so that the store is made again
	old     bool     // the queue is older than its dedup window
	atTable bool     // it begins when a table is made
	do      func(*underTest) error
}

// shortWindow is the shortest dedup window there is.
const shortWindow = time.Minute

var moments = []moment{
	{name: "starting", do: (*underTest).starting},
	{name: "starting after a kill", killed: true, do: (*underTest).starting},
	{name: "making the store again", spoilt: true, do: (*underTest).starting},
	// Six tables were left at level 0, which the next start begins to merge.
	{name: "merging", atTable: true, do: (*underTest).appendingFromTheStart},
	{name: "appending", do: (*underTest).appending},
	{name: "saving", do: (*underTest).saving},
	{name: "stopping", do: (*underTest).stopping},
	{name: "rewriting", queue: []string{`retention = "1s"`}, do: (*underTest).appendingFromTheStart},
	{name: "sealing", queue: []string{`retention = "1m"`, `dedup_window = "1m"`}, old: true, do: (*underTest).appendingFromTheStart},
	{name: "deleting", queue: []string{`retention = "1s"`, `dedup_window = "1m"`}, old: true, do: (*underTest).appendingFromTheStart},
}

// underTest is a relay whose store's calls fail.
type underTest struct {
	*examination
	ctx     context.Context
	fault   *callFault
	place   *rand.Rand
	ended   string // what the process said last when it ended by itself
	refused bool   // to start
	leaving bool   // it was asked to stop
	stuck   error  // and did not
}

const (
	// sickFor is how long a moment lasts, and sickAtMost until something failed in it.
	sickFor    = 1200 * time.Millisecond
	sickAtMost = 2500 * time.Millisecond
)

// enter starts the relay, and from then on calls fail when it is armed. It may refuse to start, or wait until that is over.
func (p *underTest) enter(armed bool) (runs bool, err error) {
	p.fault.arm(armed)
	began := time.Now()
	_, err = p.relay.startUntil(p.ctx, func(ctx context.Context) error {
		if failed, _ := p.fault.done(); failed > 0 && time.Since(began) > sickAtMost {
			p.fault.arm(false)
		}
		return p.relay.health(ctx)
	})
	if err == nil {
		return true, nil
	}
	if p.relay.proc == nil || p.relay.alive() == nil || p.ctx.Err() != nil {
		return false, err
	}
	p.refused, p.killed = true, true
	p.ended = p.relay.proc.lastWords()
	return false, nil
}

// keepOn does something again and again, while calls fail.
func (p *underTest) keepOn(do func() error) error {
	began := time.Now()
	for p.ctx.Err() == nil && p.relay.alive() == nil {
		_, all := p.fault.done()
		if lasted := time.Since(began); lasted > sickAtMost || lasted > sickFor && (all || p.fault.call == "") {
			break
		}
		if err := do(); err != nil {
			return err
		}
	}
	return p.ctx.Err()
}

// some is how many events are posted at a time.
const some = 40

// post posts some more. As long as they are refused they are the next ones, too.
func (p *underTest) post() error {
	results, err := p.f.offer(p.ctx, p.relay, p.total, p.total+some)
	p.unsure = some
	if err == nil {
		for _, status := range results {
			if status != "accepted" && status != "duplicate" {
				return fmt.Errorf("post: an event is answered %q", status)
			}
		}
		p.total += some
		p.unsure = 0
	}
	pause(p.ctx, 10*time.Millisecond)
	return nil
}

// accept has what was refused last accepted, by a relay under which nothing fails any more.
func (p *underTest) accept() error {
	if p.unsure == 0 {
		return nil
	}
	err := await(p.ctx, startLimit, func() bool {
		return p.post() != nil || p.unsure == 0 || p.relay.alive() != nil
	})
	return errors.Join(err, p.relay.alive())
}

func (p *underTest) starting() error {
	runs, err := p.enter(true)
	if err != nil || !runs {
		return err
	}
	return p.keepOn(func() error { pause(p.ctx, pollInterval); return nil })
}

func (p *underTest) appendingFromTheStart() error {
	runs, err := p.enter(true)
	if err != nil || !runs {
		return err
	}
	return p.keepOn(p.post)
}

func (p *underTest) appending() error {
	if runs, err := p.enter(false); err != nil || !runs {
		return errors.Join(err, errors.New("the relay does not start though nothing fails"))
	}
	p.fault.arm(true)
	return p.keepOn(p.post)
}

// saving is all that waits for a save: pauses and their end, stories, and that what failed is given up.
func (p *underTest) saving() error {
	if runs, err := p.enter(false); err != nil || !runs {
		return errors.Join(err, errors.New("the relay does not start though nothing fails"))
	}
	p.fault.arm(true)
	admin := "http://" + p.relay.admin
	give := p.place.IntN(4)
	turn := 0
	return p.keepOn(func() error {
		if err := p.post(); err != nil {
			return err
		}
		_ = p.relay.operate(p.ctx, liveEndpoint, "pause")
		p.unsurePause = p.relay.operate(p.ctx, liveEndpoint, "resume") != nil // it took effect, and may not be on disk
		_, _, _, _ = p.relay.request(p.ctx, http.MethodGet, admin+"/events/"+string(appendID(nil, p.f.run(), p.total-1)), "")
		if turn == give {
			p.gave = gaveUp
			if p.relay.call(p.ctx, http.MethodDelete, admin+"/endpoints/"+failingEndpoint+"/failed", nil) != nil {
				p.gave = mayHaveGivenUp
			}
		}
		turn++
		return nil
	})
}

func (p *underTest) stopping() error {
	if runs, err := p.enter(false); err != nil || !runs {
		return errors.Join(err, errors.New("the relay does not start though nothing fails"))
	}
	for range 5 {
		if err := p.post(); err != nil {
			return err
		}
	}
	p.fault.arm(true)
	p.leaving = true
	p.stuck = p.relay.stop()
	return nil
}

// judgeEnd says what was wrong about the end of a process that ended by itself. It may when it can't start, and when the
// disk does not get well again, and says why.
func (p *underTest) judgeEnd() error {
	if p.stuck != nil {
		return p.stuck
	}
	if p.relay.alive() == nil {
		return nil
	}
	p.killed = true
	if p.ended == "" && *p.relay.proc.status.Load() != "exit code 0" {
		p.ended = p.relay.proc.lastWords()
	}
	switch {
	case p.ended == "" || p.refused && strings.HasPrefix(p.ended, "exit status 1;") && strings.Contains(p.ended, p.fault.err.Error()):
		return nil
	case !strings.HasPrefix(p.ended, "exit status 1;") || !strings.Contains(p.ended, `"level":"error"`):
		return fmt.Errorf("the relay ended: %s", p.ended)
	case p.fault.how != failsOn && !p.leaving:
		return fmt.Errorf("the relay ended though its disk got well again: %s", p.ended)
	}
	return nil
}

// lookAgain brings the relay to where it can be examined: the one that was fault, which has to notice what it lost, or the next one.
func (p *underTest) lookAgain() error {
	if p.relay.alive() == nil {
		if err := p.accept(); err != nil {
			return err
		}
		if p.insist = p.place.IntN(2) == 0; p.insist {
			return p.mended()
		}
		p.damaged, _ = p.relay.damaged(p.ctx)
		if p.place.IntN(2) == 0 {
			p.relay.proc.kill()
			p.killed = true
		} else if err := p.relay.stop(); err != nil {
			return err
		}
	}
	p.relay.under = nil
	if _, err := p.relay.start(p.ctx); err != nil {
		return fmt.Errorf("the relay does not serve though nothing fails any more: %w", err)
	}
	return nil
}

// mended waits until a relay has noticed what its store lost, and has made that again.
func (p *underTest) mended() error {
	const limit = 20 * time.Second // it looks every five seconds
	want := map[string]uint64{}
	for n := range p.total {
		if p.f.failed(n) && p.gave == 0 {
			want[failingEndpoint]++
		}
		if p.f.retrying(n) {
			want[retryingEndpoint]++
		}
	}
	last := ""
	err := await(p.ctx, limit, func() bool {
		failed, _, err := p.list(p.ctx, "/endpoints/"+failingEndpoint+"/failed?limit=1000", "deliveries")
		retrying, _, err2 := p.list(p.ctx, "/events?limit=1000&status=retrying&endpoint="+retryingEndpoint, "events")
		last = fmt.Sprintf("%d failed and %d retrying are listed, want %v (%v, %v)", len(failed), len(retrying), want, err, err2)
		listed := err == nil && err2 == nil && uint64(len(retrying)) == want[retryingEndpoint] && (p.gave != 0 || uint64(len(failed)) == want[failingEndpoint])
		return listed || p.relay.alive() != nil
	})
	if err != nil {
		return fmt.Errorf("the relay that goes on does not come to what is true: %s; it tells %q", last, firstOf(damageLines(p.relay.proc.log), 3))
	}
	return p.relay.alive()
}

// lose takes away a segment of the log, of which an examination must find that it is missing.
func (p *underTest) lose() error {
	if err := p.relay.stop(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(p.relay.data, "log", "*.seg"))
	if err != nil || len(names) < 2 {
		return fmt.Errorf("there are %d segments: %v", len(names), err)
	}
	if err := os.Remove(names[len(names)-2]); err != nil {
		return err
	}
	p.relay.under = nil
	if _, err := p.relay.start(p.ctx); err != nil {
		return err
	}
	if p.examine(p.ctx) == nil {
		return errors.New("a segment was taken away, and nothing is missed: this shows nothing")
	}
	return p.ctx.Err()
}
