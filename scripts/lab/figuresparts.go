package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"
)

// quiet: a lane that got one event among many that were for others. Its twin is the same queue when that is delivered.
func (f *figures) quiet(ctx context.Context) error {
	arrived := make(chan time.Time, 1)
	few, others := newReceiver(), newReceiver()
	o := observer(func(_ []byte, at time.Time) {
		select {
		case arrived <- at:
		default:
		}
	})
	few.observer.Store(&o)
	endpoints, err := listen(map[string]*receiver{"quiet": few, "others": others}, map[string]string{"quiet": quietType, "others": "*"})
	defer few.close()
	defer others.close()
	if err != nil {
		return err
	}
	r, err := f.newRelay(endpoints)
	if err != nil {
		return err
	}
	defer func() { _ = endRelay(r) }()
	n := f.sizes.quiet
	fill, err := newFiller(r.data, time.Now(), fillerRetention, "quiet", "others")
	if err != nil {
		return err
	}
	began := time.Now()
	err = fill.fill(ctx, batchOf{count: n, size: 1024, lane: "others", other: func(at int) (string, string) {
		if at == n/2 {
			return quietType, "quiet"
		}
		return "", ""
	}})
	if err = errors.Join(err, fill.close()); err != nil {
		return err
	}
	rate := float64(n) / time.Since(began).Seconds()
	with, err := f.startBeside(ctx, r, 3*time.Second)
	if err != nil {
		return err
	}
	var late time.Duration
	select {
	case at := <-arrived:
		late = at.Sub(with.ready)
	default:
		return errors.New("the quiet lane's event did not arrive in 3 s")
	}
	without, err := f.startBeside(ctx, r, 3*time.Second)
	if err != nil {
		return err
	}
	size := grouped(uint64(n))
	ready := measured("quiet lane, one event among "+size+": ready after a restart", "delivered", inMillis(without.took), inMillis(with.took), "ms", 0)
	asFast := with.took < without.took*5/4+100*time.Millisecond
	ready.Asked, ready.Met = "as fast", &asFast
	if !f.long {
		ready = ready.heldTo("two seconds more", with.took < without.took+2*time.Second)
	}
	ready.Note = fmt.Sprintf("made at %.0f a second", rate)
	f.add(ready,
		f.within("quiet lane: its event arrives after the relay is ready", "", 0, late, 2000),
		f.within("quiet lane: longest time without a save", "delivered", without.gap, with.gap, 500),
		f.within("quiet lane: slowest answer", "delivered", without.slowest, with.slowest, 250),
		measured("quiet lane: bytes read from start to stop", "delivered", float64(without.read)/(1<<20), float64(with.read)/(1<<20), "MiB", 0),
	)
	return nil
}

const quietType = "bot.deactivated"

// listen starts receivers and makes endpoints of them, each with a type of events.
func listen(receivers map[string]*receiver, types map[string]string) (list []endpoint, err error) {
	for name, r := range receivers {
		addr, err := startReceiver(r)
		if err != nil {
			return nil, err
		}
		list = append(list, endpoint{name: name, url: "http://" + addr + "/events", events: []string{types[name]}})
	}
	return list, nil
}

// beside is what a run beside new events took.
type beside struct {
	took    time.Duration // until it was ready
	ready   time.Time
	slowest time.Duration // answer
	gap     time.Duration // without a save
	read    uint64        // bytes, by system calls
}

// startBeside starts a relay on a queue that is not in memory, posts 50 events a second for a while, and stops it.
func (f *figures) startBeside(ctx context.Context, r *relay, d time.Duration) (b beside, err error) {
	if err := forgetPages(r.data); err != nil {
		return b, err
	}
	if b.took, err = r.start(ctx); err != nil {
		return b, err
	}
	b.ready = time.Now()
	b.slowest, err = steady(ctx, r, liveType, 50, d)
	end := time.Now()
	if err == nil {
		b.read, err = readBytes(r.proc.pid())
	}
	if err = errors.Join(err, r.stop()); err != nil {
		return b, err
	}
	saves, err := savesIn(r.data, b.ready, end)
	b.gap = longestGap(saves, b.ready, end)
	return b, err
}

// retention: half of a queue goes at once, beside 1,000 posts a second.
func (f *figures) retention(ctx context.Context) error {
	n := f.sizes.retention
	rec := newReceiver()
	defer rec.close()
	endpoints, err := listen(map[string]*receiver{"receiver": rec}, map[string]string{"receiver": "*"})
	if err != nil {
		return err
	}
	r, err := f.newRelay(endpoints)
	if err != nil {
		return err
	}
	defer func() { _ = endRelay(r) }()
	if _, err := f.fillOld(ctx, r, n/2, nil); err != nil {
		return err
	}
	young, err := newFiller(r.data, time.Now().Add(-time.Hour), youngRetention, "receiver")
	if err != nil {
		return err
	}
	if err := errors.Join(young.fill(ctx, batchOf{count: n / 2, size: 260, lane: "receiver"}), young.close()); err != nil {
		return err
	}
	had := diskUsage(r.data)
	w, err := f.watchRetention(ctx, r, 1000)
	if err != nil {
		return err
	}
	alone, err := steady(ctx, r, liveType, 1000, w.end.Sub(w.began))
	if err = errors.Join(err, r.stop()); err != nil {
		return err
	}
	saves, err := savesIn(r.data, w.began, w.end)
	if err != nil {
		return err
	}
	space := measured("retention: seconds until the disk is back", "", 0, w.space.Sub(w.began).Seconds(), "s", 120)
	space.Note = fmt.Sprintf("%d of %d MiB", (had-w.disk)>>20, had>>20)
	f.add(
		f.within(fmt.Sprintf("retention, half of %s at once, beside 1,000 a second: longest time without a save", grouped(uint64(n))), "", 0, longestGap(saves, w.began, w.end), 1000),
		f.within("retention: slowest answer", "as long with nothing to delete", alone, w.slowest, 250),
		space,
		measured("retention: events deleted a second", "", 0, w.rate, "events/s", 0),
	)
	return nil
}

// youngRetention keeps a filler from deleting what the relay is to delete, and has marks of more than a day apart kept.
const youngRetention = 30 * 24 * time.Hour

// fillOld makes the old part of a queue, eight days ago, and returns the moment that retention counts from; lanes hold one
// failed delivery each.
func (f *figures) fillOld(ctx context.Context, r *relay, n int, lanes []string) (settled time.Time, err error) {
	settled = time.Now().Add(-8 * 24 * time.Hour)
	old, err := newFiller(r.data, settled.Add(-2*24*time.Hour), fillerRetention, append([]string{"receiver"}, lanes...)...)
	if err != nil {
		return settled, err
	}
	// What retention counts from are two marks that are some days apart: as a queue has them that was up all the time.
	err = old.fill(ctx, batchOf{count: fillEvents, size: 260, lane: "receiver"})
	old.rest(ctx)
	old.now.Store(settled.UnixMilli())
	if err == nil && len(lanes) > 0 {
		err = old.failOne(ctx, lanes, 260)
	}
	if err == nil {
		err = old.fill(ctx, batchOf{count: n, size: 260, lane: "receiver"})
	}
	old.rest(ctx)
	if err == nil {
		err = old.fill(ctx, batchOf{count: fillEvents, size: 260, lane: "receiver"}) // the mark is written with it
	}
	return settled, errors.Join(err, old.close())
}

// retained is what was seen of a retention.
type retained struct {
	began, space, end time.Time
	slowest           time.Duration
	rate              float64 // events deleted a second
	disk              int64
}

// watchRetention starts a relay that has events to delete, and watches until they are gone and the disk has their space.
func (f *figures) watchRetention(ctx context.Context, r *relay, perSecond float64) (w retained, err error) {
	if err := forgetPages(r.data); err != nil {
		return w, err
	}
	if _, err = r.start(ctx); err != nil {
		return w, err
	}
	posts, err := newLoad(steadyPlan(r, liveType, perSecond, 10*time.Minute), newRun())
	if err != nil {
		return w, err
	}
	stop := func() {}
	if perSecond > 0 {
		_, stop = posts.begin(ctx)
		defer stop()
	}
	began := time.Now()
	first, err := r.kept(ctx)
	if err != nil {
		return w, err
	}
	// What is watched are the segments: with thousands of endpoints an answer of /stats costs more than deleting one.
	var from, to time.Time
	deleted := 0 // segments
	for before, asked := segments(r.data), began; to.IsZero() || time.Since(to) < 3*time.Second; pause(ctx, time.Millisecond) {
		now := segments(r.data)
		if now < before {
			deleted, to = deleted+before-now, time.Now()
			if from.IsZero() {
				from, w.began = to, asked
			}
		}
		before, asked = now, time.Now()
		if time.Since(began) > retentionLimit {
			return w, fmt.Errorf("of %d segments %d were deleted within %s, and it goes on", now+deleted, deleted, retentionLimit)
		}
	}
	left, err := r.kept(ctx)
	if err != nil {
		return w, err
	}
	// When the time begins, the first segment is gone. Beside posts more events are kept than were left.
	if deleted > 1 && left.events < first.events {
		w.rate = float64(first.events-left.events) * float64(deleted-1) / float64(deleted) / max(to.Sub(from), time.Millisecond).Seconds()
	}
	for w.disk = diskUsage(r.data); ; pause(ctx, 50*time.Millisecond) {
		now := diskUsage(r.data)
		if gonePieces(r.data) == 0 {
			w.space, w.disk = time.Now(), now
			break
		}
		if time.Since(w.began) > retentionLimit {
			return w, fmt.Errorf("the space did not come back within %s", retentionLimit)
		}
	}
	w.end = time.Now()
	stop()
	if posted := posts.result(); perSecond > 0 && (posted.OK == 0 || len(posted.Errors) > 0) {
		return w, fmt.Errorf("beside retention %d events were posted; answers other than 200: %v", posted.OK, posted.Errors)
	}
	w.slowest = posts.latency.quantile(1)
	return w, nil
}

const retentionLimit = 4 * time.Minute

// manyLanes: what 5,000 lanes that hold a failed delivery each cost retention, beside ten.
func (f *figures) manyLanes(ctx context.Context) error {
	n := f.sizes.lanes
	rates := map[int][]float64{}
	cpu := map[int][]float64{}
	for range (f.sizes.rounds + 1) / 2 {
		for _, count := range []int{10, 5000} {
			nowhere, err := newClosedPort()
			if err != nil {
				return err
			}
			defer nowhere.close()
			var names []string
			endpoints := []endpoint{{name: "receiver", url: "http://" + nowhere.addr + "/events", events: []string{"*"}}}
			for i := range count {
				names = append(names, fmt.Sprintf("endpoint-%d", i))
				endpoints = append(endpoints, endpoint{name: names[i], url: "http://" + nowhere.addr + "/events", events: []string{quietType}})
			}
			r, err := f.newRelay(endpoints)
			if err != nil {
				return err
			}
			settled, err := f.fillOld(ctx, r, n, names)
			if err == nil && f.long {
				// The relay has started by then: what a start with thousands of endpoints costs is not what retention costs.
				r.queue = []string{fmt.Sprintf("retention = %q", (time.Since(settled) + afterStart).Round(time.Second))}
				err = r.configure(endpoints)
			}
			if err != nil {
				return errors.Join(err, endRelay(r))
			}
			w, err := f.watchRetention(ctx, r, 0)
			if err != nil {
				return errors.Join(err, endRelay(r))
			}
			spent, err := cpuTime(r.proc.pid())
			if err = errors.Join(err, endRelay(r)); err != nil {
				return err
			}
			rates[count] = append(rates[count], w.rate)
			cpu[count] = append(cpu[count], spent.Seconds())
		}
	}
	row := compared(fmt.Sprintf("retention of %s with 5,000 lanes that hold a failed delivery", grouped(uint64(n))), "ten such lanes", rates[10], rates[5000], "events/s", 0.9)
	row = row.heldTo(fmt.Sprintf("%.2f", leastOfManyLanes), !f.long || row.Ratio >= leastOfManyLanes) // a short run has three segments to go by
	row.Note = fmt.Sprintf("processor time of the whole process %.1f and %.1f s", median(cpu[5000]), median(cpu[10]))
	f.add(row)
	return nil
}

// afterStart is when retention begins to delete, counted from the end of filling.
const afterStart = 15 * time.Second

// leastOfManyLanes is what the rate of retention with 5,000 lanes may come down to: 0.78 was measured when this was written.
const leastOfManyLanes = 0.6

// bytes: what an event of 260 bytes costs on disk at full load.
func (f *figures) bytes(ctx context.Context) error {
	rec := newReceiver()
	defer rec.close()
	endpoints, err := listen(map[string]*receiver{"receiver": rec}, map[string]string{"receiver": "*"})
	if err != nil {
		return err
	}
	r, err := f.newRelay(endpoints)
	if err != nil {
		return err
	}
	defer func() { _ = endRelay(r) }()
	if _, err := r.start(ctx); err != nil {
		return err
	}
	before, err := writtenBytes(r.proc.pid())
	if err != nil {
		return err
	}
	logBefore := diskUsage(r.data + "/log")
	_, posted, err := postAll(ctx, loadPlan{addr: r.ingest, path: "/events", conns: benchConns, duration: f.sizes.bytes, size: 260, eventType: downType}, newRun())
	if err != nil {
		return err
	}
	if err := waitUntil(ctx, throughLimit, throughStall, rec.unique, func() bool { return rec.unique() >= posted.OK }); err != nil {
		return err
	}
	pause(ctx, 2*time.Second) // the rest of the journal moves into the log
	after, err := writtenBytes(r.proc.pid())
	if err != nil {
		return err
	}
	logged := diskUsage(r.data+"/log") - logBefore
	written := measured("bodies of 260 bytes at full load: bytes written, per byte of body", "", 0, float64(after-before)/float64(posted.OK)/260, "×", 1.6)
	written.Note = fmt.Sprintf("%.0f events a second, in and out", posted.PerSecond)
	kept := measured("bytes kept an event, with its attempt and its id", "", 0, float64(logged)/float64(posted.OK)+bytesOfID, "B", 165)
	kept.Note = fmt.Sprintf("%d of them for the id, written when the segment is sealed", bytesOfID)
	f.add(written, kept)
	return nil
}

// bytesOfID is what an id takes in the footer of a segment.
const bytesOfID = 16

// ids: tens of millions of ids and settled events.
func (f *figures) ids(ctx context.Context) error {
	nowhere, err := newClosedPort()
	if err != nil {
		return err
	}
	defer nowhere.close()
	few, err := f.filledWith(ctx, nowhere, 0)
	if err != nil {
		return err
	}
	defer func() { _ = endRelay(few) }()
	settled, err := f.filledWith(ctx, nowhere, f.sizes.settled)
	if err != nil {
		return err
	}
	defer func() { _ = endRelay(settled) }()
	if err := f.compareProcessor(ctx, few, settled); err != nil {
		return err
	}
	if err := errors.Join(few.stop(), settled.stop()); err != nil {
		return err
	}
	many, err := f.filledWith(ctx, nowhere, f.sizes.ids)
	if err != nil {
		return err
	}
	defer func() { _ = endRelay(many) }()
	if err := forgetPages(many.data); err != nil {
		return err
	}
	took, err := many.start(ctx)
	if err != nil {
		return err
	}
	pause(ctx, time.Duration(f.sizes.ids/1_000_000)*200*time.Millisecond) // the filters follow
	size := grouped(uint64(f.sizes.ids))
	f.add(f.within(size+" events and ids: ready after a restart", "", 0, took, 1000))
	before, err := readCalls(many.proc.pid())
	if err != nil {
		return err
	}
	_, posted, err := postAll(ctx, loadPlan{addr: many.ingest, path: "/events", conns: 8, count: 100_000, duration: time.Minute, batch: 100, eventType: downType}, newRun())
	if err != nil {
		return err
	}
	after, err := readCalls(many.proc.pid())
	if err != nil {
		return err
	}
	memory, err := rssAnon(many.proc.pid())
	if err != nil {
		return err
	}
	f.add(
		measured(size+" ids: reads for a new one", "", 0, float64(after-before)/float64(posted.OK), "", 0.25),
		measured(size+" ids: anonymous memory", "", 0, float64(memory)/(1<<20), "MiB", 160+math.Ceil(float64(f.sizes.ids)*2.7/(1<<20))),
	)
	return f.search(ctx, many, size)
}

// filledWith makes a relay with so many settled events, of an hour ago, and one endpoint, which is paused when it runs.
func (f *figures) filledWith(ctx context.Context, nowhere *closedPort, n int) (*relay, error) {
	r, err := f.newRelay([]endpoint{{name: "receiver", url: "http://" + nowhere.addr + "/events", events: []string{"lead.*"}}})
	if err != nil {
		return nil, err
	}
	fill, err := newFiller(r.data, time.Now().Add(-time.Hour), youngRetention, "receiver")
	if err != nil {
		return nil, err
	}
	const pieces = 10 // at moments of their own
	for i := range pieces {
		fill.now.Store(time.Now().Add(-time.Hour + time.Duration(i)*time.Minute).UnixMilli())
		err = errors.Join(err, fill.fill(ctx, batchOf{
			count: n / pieces / fillEvents * fillEvents, size: 260, lane: "receiver",
			other: func(at int) (string, string) {
				if at%1_000_000 == 17 {
					return quietType, ""
				}
				return "", ""
			},
			fails: func(at int) bool { return at%100_000 == 99 },
		}))
	}
	return r, errors.Join(err, fill.close())
}

// compareProcessor has two relays accept events in turns.
func (f *figures) compareProcessor(ctx context.Context, few, many *relay) error {
	per := map[*relay][]float64{}
	for _, r := range []*relay{few, many} {
		if _, err := r.start(ctx); err != nil {
			return err
		}
		if err := r.operate(ctx, "receiver", "pause"); err != nil {
			return err
		}
	}
	for round := range f.sizes.rounds + 1 {
		for turn := range 2 {
			r := []*relay{few, many}[(round+turn)%2]
			spent, err := during(r.proc.pid(), func() (uint64, error) {
				_, posted, err := postAll(ctx, loadPlan{addr: r.ingest, path: "/events", conns: benchConns, duration: f.sizes.round, size: 260, eventType: downType}, newRun())
				return posted.OK, err
			})
			if err != nil {
				return err
			}
			if round > 0 { // the first warms up
				per[r] = append(per[r], spent.perEvent)
			}
			pause(ctx, settleTime)
		}
	}
	row := compared(fmt.Sprintf("processor time an event with %s settled", grouped(uint64(f.sizes.settled))), "an empty queue", per[few], per[many], "µs", 0)
	met := row.Ratio <= 1.1
	row.Asked, row.Met = "ratio ≤ 1.10", &met
	row = row.heldTo(fmt.Sprintf("%.2f", mostProcessor), row.Ratio <= mostProcessor)
	f.add(row)
	return nil
}

// mostProcessor is what a ratio of processor times is held to: rounds differ by a tenth and more where the machine is shared.
const mostProcessor = 1.5

// search asks for pages of all kinds, each several times.
func (f *figures) search(ctx context.Context, r *relay, size string) error {
	old := time.Now().Add(-55 * time.Minute).UTC().Format(time.RFC3339)
	for _, q := range []struct {
		name  string
		query url.Values
	}{
		{"the newest", url.Values{}},
		{"a common type", url.Values{"type": {downType}}},
		{"a rare type", url.Values{"type": {quietType}}},
		{"a type that never was", url.Values{"type": {"never.was"}}},
		{"the oldest", url.Values{"until": {old}}},
		{"a rare type, the oldest", url.Values{"type": {quietType}, "until": {old}}},
		{"failed", url.Values{"status": {"failed"}}},
		{"failed, a rare type", url.Values{"status": {"failed"}, "type": {quietType}}},
		{"an endpoint's, delivered, a rare type", url.Values{"endpoint": {"receiver"}, "status": {"delivered"}, "type": {quietType}}},
	} {
		var first, longest time.Duration // what nothing is in memory for, and of the others
		found := 0
		for n := range 5 {
			var page struct {
				Events []struct{} `json:"events"`
			}
			began := time.Now()
			if err := r.call(ctx, http.MethodGet, "http://"+r.admin+"/events?"+q.query.Encode(), &page); err != nil {
				return err
			}
			if took := time.Since(began); n == 0 {
				first = took
			} else {
				longest = max(longest, took)
			}
			found = len(page.Events)
		}
		row := f.within(size+" events: a page of "+q.name, "", 0, longest, 50)
		row.Note = fmt.Sprintf("%d found; the first time, read from the disk, %.0f ms", found, inMillis(first))
		f.add(row)
	}
	return nil
}
