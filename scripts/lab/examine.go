package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// examination holds a filled queue, after something was done to a copy of it, against what is known of it.
type examination struct {
	f      *filled
	relay  *relay
	four   *four
	result *damageResult

	exact   bool // nothing may be missing
	journal bool // the journal was spoilt
	cut     bool // what came last may be missing without a word: what a crash cuts short looks the same
	resumed bool // held was resumed while it was spoilt
	killed  bool // it was killed after that
	insist  bool // it is asked again as long as a change can't be saved, since it is just making its store again
	gave    givenUp
	expired uint64 // events below may be accepted again: their dedup window is over
	total   uint64
	unsure  uint64 // events behind total that were posted when it ended, and never answered
	mangled atomic.Int64
	damaged int // as counted by processes before this one
	listed  map[uint64]bool
	kept    map[uint64]bool // listed as retrying
	verdict verdict
	// unsurePause: live was paused and resumed, and the last of its resumes was refused, so that a start may find it paused.
	unsurePause bool
	// unlisted is how many failed deliveries are counted and not listed, which the list leaves out when their events are lost.
	unlisted int64
}

// givenUp is whether the failed deliveries were given up.
type givenUp int

const (
	gaveUp         givenUp = iota + 1 // it was answered so
	mayHaveGivenUp                    // it was asked for, and the answer was an error
)

func newExamination(f *filled, r *relay, receivers *four, result *damageResult) *examination {
	e := &examination{f: f, relay: r, four: receivers, result: result, total: f.total}
	event := f.event
	event.text = append([]byte(nil), f.event.text...)
	run, _, _ := parseID(eventID(event.text))
	for _, one := range receivers.by {
		one.srv.Handler = func(ctx *fasthttp.RequestCtx) {
			if of, _, ok := parseID(eventID(ctx.PostBody())); ctx.IsPost() && (!ok || of != run || !event.made(ctx.PostBody())) {
				e.mangled.Add(1)
			}
			one.handle(ctx)
		}
	}
	return e
}

const liveEvents = 200

// lastEvents are those of a filled queue that the journal alone has.
const lastEvents = 400

// begin starts the relay that is to be spoilt while it serves.
func (e *examination) begin(ctx context.Context) error {
	if _, err := e.relay.start(ctx); err != nil {
		return err
	}
	from := e.total
	e.total += liveEvents
	return e.f.postRange(ctx, e.relay, from, e.total)
}

// goOn has the relay that was spoilt do everything: take events, list, deliver, and end. Ending by itself is no loss: whoever
// runs it starts it again.
func (e *examination) goOn(ctx context.Context, place *rand.Rand) error {
	from := e.total
	// A journal that was taken from under it refuses everything, and ends the process, or goes on.
	var err error
	_ = await(ctx, startLimit, func() bool {
		err = e.f.postRange(ctx, e.relay, from, from+liveEvents)
		return err == nil || e.relay.alive() != nil
	})
	if err == nil {
		e.total = from + liveEvents
	} else if e.relay.alive() == nil {
		return err
	} else {
		e.unsure = liveEvents
	}
	_, _, _ = e.list(ctx, "/events?limit=1000", "events")
	_, _, _ = e.list(ctx, "/endpoints/"+failingEndpoint+"/failed?limit=1000", "deliveries")
	if place.IntN(2) == 0 && e.relay.alive() == nil && e.relay.operate(ctx, heldEndpoint, "resume") == nil {
		e.resumed = true
		if err := e.relay.settled(ctx, startLimit, startLimit, nil, heldEndpoint); err != nil && e.relay.alive() == nil {
			return fmt.Errorf("held does not come to its end: %w", err)
		}
	}
	e.damaged, _ = e.relay.damaged(ctx)
	if e.relay.alive() != nil {
		e.killed = true
		e.result.Ended = e.relay.proc.lastWords()
		return nil
	}
	if e.resumed || place.IntN(2) == 0 {
		return e.relay.stop()
	}
	e.relay.proc.kill()
	e.killed = true
	return nil
}

// list reads all pages of a list and returns the numbers of its events; those of rows without an id are counted as unknown.
func (e *examination) list(ctx context.Context, path, rows string) (numbers map[uint64]bool, unknown int, err error) {
	numbers = map[uint64]bool{}
	for after := ""; ; {
		var page struct {
			Events, Deliveries []struct{ ID string }
			Next               string
		}
		if err := e.relay.call(ctx, http.MethodGet, "http://"+e.relay.admin+path+after, &page); err != nil {
			return nil, 0, err
		}
		list := page.Events
		if rows == "deliveries" {
			list = page.Deliveries
		}
		for _, one := range list {
			if _, n, ok := parseID([]byte(one.ID)); ok {
				numbers[n] = true
			} else {
				unknown++
			}
		}
		if page.Next == "" {
			return numbers, unknown, nil
		}
		after = "&after=" + page.Next
	}
}

// examine asks the relay, which serves the copy, for everything, and has it deliver.
func (e *examination) examine(ctx context.Context) error {
	held, failing, retrying := uint64(0), uint64(0), uint64(0)
	for n := range e.total {
		if n >= e.f.heldAt {
			held++
		}
		if e.f.failed(n) {
			failing++
		}
		if e.f.retrying(n) {
			retrying++
		}
	}
	rest := e.total - e.f.restAt
	want := map[string]endpointStats{
		heldEndpoint:     {State: "paused", Pending: held},
		failingEndpoint:  {State: "paused", Pending: rest, Failed: failing},
		retryingEndpoint: {State: "paused", Pending: rest, Retrying: retrying},
	}
	if e.resumed {
		delete(want, heldEndpoint)
	}
	if e.gave == gaveUp {
		want[failingEndpoint] = endpointStats{State: "paused", Pending: rest}
	}
	has := map[string]endpointStats{}
	for name, should := range want {
		s, err := e.relay.stats(ctx, name)
		if err != nil {
			return err
		}
		has[name] = s
		s.Name, s.Delivered = "", 0
		if more := s.Pending - should.Pending; more == e.unsure {
			should.Pending += more
		}
		if name == failingEndpoint && e.gave == mayHaveGivenUp {
			should.Failed = min(should.Failed, s.Failed)
		}
		if e.exact && s != should {
			return fmt.Errorf("%s has %+v, want %+v", name, s, should)
		}
		if s.State != "paused" {
			return fmt.Errorf("%s is %s and was paused", name, s.State)
		}
	}
	missing, unkept := map[uint64]bool{}, 0
	var unknown int
	var err error
	if e.listed, unknown, err = e.list(ctx, "/endpoints/"+failingEndpoint+"/failed?limit=1000", "deliveries"); err != nil {
		return err
	}
	e.unlisted = int64(has[failingEndpoint].Failed) - int64(len(e.listed)+unknown)
	if e.kept, _, err = e.list(ctx, "/events?limit=1000&status=retrying&endpoint="+retryingEndpoint, "events"); err != nil {
		return err
	}
	paused := []string{heldEndpoint, failingEndpoint}
	if e.unsurePause {
		paused = append(paused, liveEndpoint)
	} else if s, err := e.relay.stats(ctx, liveEndpoint); err != nil {
		return err
	} else if s.State == "paused" {
		return fmt.Errorf("%s is paused, and the end of its pause was answered 200", liveEndpoint)
	}
	for _, name := range paused {
		if err := e.resume(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range []string{heldEndpoint, failingEndpoint, liveEndpoint} {
		if err := e.relay.settled(ctx, startLimit, startLimit, nil, name); err != nil {
			return fmt.Errorf("%s does not come to its end: %w: %s", name, err, e.relay.proc.lastWords())
		}
	}
	held0, failing0 := e.numbers(heldEndpoint), e.numbers(failingEndpoint)
	for n := range e.total {
		if n >= e.f.heldAt && !held0[n] || n >= e.f.restAt && !failing0[n] || e.f.failed(n) && e.gave == 0 && !e.listed[n] {
			missing[n] = true
		}
		if e.f.retrying(n) && !e.kept[n] {
			unkept++
		}
	}
	// A retry whose event can't be read is told when it is due, which is hours from now; until then it must be counted.
	if e.exact && unkept > 0 || !e.exact && has[retryingEndpoint].Retrying+uint64(unkept) < retrying && unkept > toldNumbers(damageLines(e.relay.proc.log)) {
		return fmt.Errorf("%d deliveries are not listed as retrying, %d are counted, %d were", unkept, has[retryingEndpoint].Retrying, retrying)
	}
	for n := range held0 {
		if n >= e.total+liveEvents {
			return fmt.Errorf("event %d was delivered and never posted", n)
		}
	}
	if n := e.mangled.Load(); n > 0 {
		return fmt.Errorf("%d events were delivered that are not what was posted", n)
	}
	forgotten, err := e.repost(ctx)
	if err != nil {
		return err
	}
	cut := e.cut || e.killed && e.journal
	now, err := e.relay.damaged(ctx)
	if err != nil {
		return err
	}
	e.result.Missing, e.result.Damaged = len(missing), e.damaged+now
	// Only what was posted last had its only copy in the journal.
	for n := range missing {
		cut = cut && n >= e.f.total-lastEvents
	}
	e.verdict = verdict{e.exact, cut, unknown, e.unlisted, missing, forgotten, e.result.Damaged, damageLines(e.relay.proc.log)}
	return e.verdict.judge()
}

func (e *examination) resume(ctx context.Context, name string) (err error) {
	_ = await(ctx, stopLimit, func() bool {
		err = e.relay.operate(ctx, name, "resume")
		return err == nil || !e.insist
	})
	return err
}

// verdict is what is judged of a case.
type verdict struct {
	exact, cut bool            // see examination
	nameless   int             // failed deliveries that are listed without their event's id, which tells it
	unlisted   int64           // failed deliveries that are counted and not listed
	missing    map[uint64]bool // acknowledged, and at some endpoint neither delivered nor listed
	forgotten  []uint64        // accepted once more when posted again
	damaged    int             // as the relay counts
	lines      []string        // that tell of damage
}

// judge says what is wrong.
func (v *verdict) judge() error {
	if v.exact && len(v.missing) > 0 {
		return fmt.Errorf("%d events are missing (%v first), though what was spoilt holds none", len(v.missing), anyOf(v.missing))
	}
	strange := 0
	for _, n := range v.forgotten {
		if !v.missing[n] {
			strange++
		}
	}
	told := toldNumbers(v.lines)
	if v.unlisted < 0 || v.unlisted > int64(told) {
		return fmt.Errorf("%d failed deliveries more are counted than listed, and the lines tell of %d events", v.unlisted, told)
	}
	switch {
	case strange > 0 && v.exact, strange > told+toldIDs(v.lines):
		return fmt.Errorf("%d events are accepted again that were not lost, and the lines tell of %d ids; event %d first", strange, toldIDs(v.lines), v.forgotten[0])
	case strange > v.damaged:
		return fmt.Errorf("%d ids are lost and %d things counted", strange, v.damaged)
	case v.cut, len(v.missing) <= v.nameless:
	case len(v.lines) == 0:
		return fmt.Errorf("%d events are missing (%v first) without a word", len(v.missing), anyOf(v.missing))
	case told < len(v.missing)-v.nameless:
		return fmt.Errorf("%d events are missing and the lines tell of %d", len(v.missing), told)
	case v.damaged < len(v.missing)-v.nameless:
		return fmt.Errorf("%d events are missing and %d counted", len(v.missing), v.damaged)
	}
	return nil
}

// control makes sure that an event which is not there is missed.
func (e *examination) control() error {
	if e.result.Missing > 0 || e.result.Damaged > 0 {
		return fmt.Errorf("nothing was spoilt, and %d are missing and %d damaged", e.result.Missing, e.result.Damaged)
	}
	for _, v := range []verdict{{missing: map[uint64]bool{e.f.heldAt: true}}, {forgotten: []uint64{1}}} {
		if v.lines = e.verdict.lines; v.judge() == nil {
			return fmt.Errorf("an event that is missing without a word, or accepted again, is not found: this shows nothing")
		}
	}
	return nil
}

// numbers are the events that a receiver got.
func (e *examination) numbers(name string) map[uint64]bool {
	list := map[uint64]bool{}
	for id := range e.four.by[name].ids() {
		if _, n, ok := parseID([]byte(id)); ok {
			list[n] = true
		}
	}
	return list
}

// repost posts everything again, and returns what was accepted.
func (e *examination) repost(ctx context.Context) (forgotten []uint64, err error) {
	for from := uint64(0); from < e.total; from += repostBatch {
		results, err := e.f.offer(ctx, e.relay, from, min(from+repostBatch, e.total))
		if err != nil {
			return nil, err
		}
		for i, status := range results {
			if status != "duplicate" && from+uint64(i) >= e.expired {
				forgotten = append(forgotten, from+uint64(i))
			}
		}
	}
	return forgotten, nil
}

// damageLines are the lines of a log that tell of damage.
func damageLines(log string) (lines []string) {
	text, err := os.ReadFile(log)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		for _, word := range []string{"damage", "can't be read", "aside", "missing", "holds nothing", "made again"} {
			if strings.Contains(line, word) {
				lines = append(lines, strings.TrimSpace(line))
				break
			}
		}
	}
	return lines
}

var eventNumbers = regexp.MustCompile(`events? (\d+)(?: to (\d+))?`)

// toldNumbers is how many different events lines name.
func toldNumbers(lines []string) int {
	told := map[uint64]bool{}
	for _, line := range lines {
		for _, found := range eventNumbers.FindAllStringSubmatch(line, -1) {
			from, _ := strconv.ParseUint(found[1], 10, 64)
			to := from
			if found[2] != "" {
				to, _ = strconv.ParseUint(found[2], 10, 64)
			}
			for n := from; n <= to && len(told) < 1_000_000; n++ {
				told[n] = true
			}
		}
	}
	return len(told)
}

var idsLost = regexp.MustCompile(`(\d+) ids are lost`)

// toldIDs is how many ids lines tell to be lost.
func toldIDs(lines []string) (n int) {
	for _, line := range lines {
		if found := idsLost.FindStringSubmatch(line); found != nil {
			lost, _ := strconv.Atoi(found[1])
			n += lost
		}
	}
	return n
}

func anyOf(set map[uint64]bool) (list []uint64) {
	for n := range set {
		if list = append(list, n); len(list) == 3 {
			break
		}
	}
	return list
}

func firstOf(list []string, n int) []string { return list[:min(len(list), n)] }
