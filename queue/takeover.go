package queue

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"realtorbot-relay/queue/directory"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/format1"
	"realtorbot-relay/queue/log"
)

// A queue of format 1 is read once, oldest event first, and written anew beside itself, under takeoverName. Until FORMAT is
// renamed nothing of it is touched: a start that was cut short begins anew, and a binary of format 1 still opens it. After
// that the new files take the places of the old ones, and a start that was cut short goes on with that.
const takeoverName = "taken-over"

// Fault places.
const (
	placeTakeoverClear = "removal of a takeover that was cut short"
	placeTakeoverMake  = "folder of a takeover"
	placeTakeoverIDs   = "ids of a takeover"
	placeTakeoverSync  = "sync of a takeover"
	placeTakeoverOld   = "removal of what was taken over"
	placeTakeoverName  = "name of what was taken over"
	placeTakeoverEnd   = "end of a takeover"
)

// faultStep runs one step of a takeover, as a fault place.
func (q *Queue) faultStep(place string, fn func() error) error {
	err := q.opts.fault.Before(place)
	if err == nil {
		err = q.opts.fault.After(place, fn())
	}
	return err
}

// takeOver brings the directory to this version's format.
func (q *Queue) takeOver(f directory.Format) error {
	dir := filepath.Join(q.opts.Dir, takeoverName)
	if f.Version == 1 {
		if err := q.faultStep(placeTakeoverClear, func() error { return os.RemoveAll(dir) }); err != nil {
			return err
		}
		if err := q.readFormat1(dir); err != nil {
			return fmt.Errorf("take over the queue of an older version: %w", err)
		}
		fresh := directory.Current
		fresh.MemTable = q.memTable
		if err := q.dir.WriteFormat(fresh); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// The old store and journal go before the new log takes its place: the new store is made from the log, and the new
	// journal is empty. Once the log has its place, store and journal are the new ones.
	moves := []string{logName, checkpointName}
	if _, err := os.Lstat(filepath.Join(dir, logName)); err == nil {
		moves = []string{storeName, journalName, logName, checkpointName}
	}
	for _, name := range moves {
		from, to := filepath.Join(dir, name), filepath.Join(q.opts.Dir, name)
		_, err := os.Lstat(from)
		there := err == nil
		if !there && name != storeName && name != journalName {
			continue // it has its place already
		}
		if err := q.faultStep(placeTakeoverOld, func() error { return os.RemoveAll(to) }); err != nil {
			return err
		}
		if !there {
			continue
		}
		if err := q.faultStep(placeTakeoverName, func() error { return errors.Join(os.Rename(from, to), syncDir(q.opts.Dir)) }); err != nil {
			return err
		}
	}
	return nil // the folder is empty, and is removed when the store exists
}

// importer writes what a queue of format 1 has into a new log.
type importer struct {
	r      *format1.Reader
	l      *log.Log
	next   uint64 // the next entry's number
	event  uint64
	now    int64 // queue time of entries that had none
	events int64
	unsent int // bytes that were added and not saved
}

// importSaveBytes is after how many bytes of entries they are saved.
const importSaveBytes = 4 << 20

// readFormat1 writes the new log and the new checkpoint.
func (q *Queue) readFormat1(dir string) error {
	began := time.Now()
	r, err := format1.Open(q.opts.Dir, q.opts.Notice)
	if err != nil {
		return err
	}
	defer r.Close()
	state, err := r.State()
	if err != nil {
		return err
	}
	if need := 2*r.Size() + criticalFree; q.opts.free() < need {
		return fmt.Errorf("%w: %d MiB of disk are needed for the new files beside the old ones, and %d MiB are free: make room", ErrUnwritable, need>>20, q.opts.free()>>20)
	}
	if err := q.faultStep(placeTakeoverMake, func() error { return os.MkdirAll(filepath.Join(dir, logName), 0o700) }); err != nil {
		return err
	}
	now := max(state.Clock.Now, 1)
	t := &importer{r: r, next: 1, event: 1, now: now}
	imported, first, err := q.importIDs(r, dir, now)
	if err != nil {
		return err
	}
	t.l, _, err = log.Open(log.Options{
		Dir: filepath.Join(dir, logName), SegmentSize: q.opts.segmentSize, BlockSize: blockBytes, Fault: q.opts.fault,
		Now: func() int64 { return t.now }, Notice: q.opts.Notice,
	}, log.Start{Entry: 1, Event: max(first, 1)})
	if err != nil {
		return err
	}
	defer func() { _ = t.l.Close() }()
	for _, step := range []func() error{t.lanes, t.frames, t.retained, t.records, t.attempts} {
		if err := step(); err != nil {
			return err
		}
	}
	t.l.Skip(t.next, state.Next)
	if err := t.save(true); err != nil {
		return err
	}
	if want := state.Events; t.events != want && state.Damaged == 0 {
		return fmt.Errorf("%d events were written and the old queue has %d: it was not touched", t.events, want)
	}
	m, _, err := openCheckpoint(dir, q.opts.fault)
	if err != nil {
		return err
	}
	high := checkpoint{applied: t.next - 1, end: state.Next, clock: clockState{now: state.Clock.Now, wall: state.Clock.Wall, up: state.Clock.Up, boot: state.Clock.Boot}}
	for _, one := range state.Watermarks {
		high.watermarks = append(high.watermarks, watermark{one.At, one.Next})
	}
	if err := errors.Join(m.write(high), m.close()); err != nil {
		return err
	}
	if err := q.faultStep(placeTakeoverSync, func() error { return errors.Join(syncDir(dir), syncDir(q.opts.Dir)) }); err != nil {
		return err
	}
	q.opts.Notice(fmt.Sprintf("the queue was written by an older version of the relay: its %d events, %d lanes and %d known ids were taken over in %v",
		t.events, state.NextLane, imported, time.Since(began).Round(time.Millisecond)))
	return nil
}

// importIDs writes the ids that are known and whose events are deleted. first is the first event that is kept.
func (q *Queue) importIDs(r *format1.Reader, dir string, now int64) (count int, first uint64, err error) {
	if err := r.Frames(func(f *format1.Frame) error {
		if first == 0 {
			first = f.First
		}
		return nil
	}); err != nil {
		return 0, 0, err
	}
	state, err := r.State()
	if err != nil {
		return 0, 0, err
	}
	if first == 0 {
		first = state.Next
	}
	var im log.Importer
	err = r.IDs(func(id []byte, seq uint64, at int64) error {
		if seq < first && q.withinWindow(at, now) {
			im.Add(id, seq, at)
			count++
		}
		return nil
	})
	if err != nil || count == 0 {
		return 0, first, err
	}
	return count, first, q.faultStep(placeTakeoverIDs, func() error { return im.Write(filepath.Join(dir, logName), first, now) })
}

func (t *importer) add(h entry.Header, raw []byte, f *entry.Frame, p *entry.Progress) error {
	t.l.Add(h, raw, f, p)
	t.next = h.Number + 1
	t.unsent += len(raw)
	if t.unsent < importSaveBytes {
		return nil
	}
	return t.save(false)
}

func (t *importer) save(all bool) error {
	t.unsent = 0
	if _, err := t.l.Save(); err != nil {
		return err
	}
	if t.l.Full(math.MinInt64) && !all {
		return t.l.Seal()
	}
	return nil
}

func (t *importer) lanes() error {
	state, err := t.r.State()
	if err != nil {
		return err
	}
	return t.r.Lanes(func(l format1.Lane) error {
		// Its retries and failed deliveries follow with its record; this entry gives it its number.
		e := entry.Lane{ID: LaneID(l.ID), Name: l.Name, Record: laneOf(&l, state.Next).append(nil)}
		return t.add(entry.Header{Kind: entry.KindLane, Number: t.next, At: t.now}, e.Append(nil, false, t.next, t.now), nil, nil)
	})
}

func laneOf(l *format1.Lane, end uint64) *laneRecord {
	return &laneRecord{
		name: l.Name, cursor: l.Cursor, settled: l.Settled, passed: l.Passed, delivered: l.Delivered, retrying: l.Retrying,
		failed: l.Failed, paused: l.Paused, born: l.Born, replayed: l.Replayed, matched: l.Matched, counted: end,
	}
}

func laneSet(lanes []uint32) LaneSet {
	ids := make([]LaneID, len(lanes))
	for i, id := range lanes {
		ids[i] = LaneID(id)
	}
	return entry.NewLaneSet(ids...)
}

func (t *importer) frames() error {
	var d entry.Draft
	return t.r.Frames(func(f *format1.Frame) error {
		d.Reset()
		list := make([]Event, len(f.Events))
		for i := range f.Events {
			ev := &f.Events[i]
			list[i] = Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: laneSet(ev.Lanes)}
			d.Add(ev.Source, &list[i], t.l.Key().Hash(ev.ID))
		}
		raw, frame := d.Seal(nil, t.next, f.First, f.At)
		t.events += int64(len(list))
		return t.add(entry.Header{Kind: entry.KindFrame, Number: t.next, At: f.At}, raw, frame, nil)
	})
}

// retained carries the events whose blocks were deleted.
func (t *importer) retained() error {
	var raw []byte
	var events []*entry.Frame
	bodies := 0
	put := func() {
		if len(events) > 0 {
			t.l.Carry(raw, events, bodies)
			raw, events, bodies = nil, nil, 0
		}
	}
	err := t.r.Retained(func(ev format1.Event) error {
		var d entry.Draft
		d.Add(ev.Source, &Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: laneSet(ev.Lanes)}, entry.Hash{})
		var f *entry.Frame
		raw, f = d.Seal(raw, t.next, ev.Seq, ev.At)
		events, bodies = append(events, f), bodies+len(ev.Body)
		t.events++
		if len(raw) >= blockBytes {
			put()
		}
		return nil
	})
	put()
	return err
}

// records writes what is retrying, failed and replayed.
func (t *importer) records() error {
	gathered := map[LaneID][]entry.Change{}
	put := func(id LaneID) error {
		list := gathered[id]
		gathered[id] = nil
		p := &entry.Progress{Lane: id, Changes: list}
		return t.add(entry.Header{Kind: entry.KindProgress, Number: t.next, At: t.now}, p.Append(nil, t.next, t.now), nil, p)
	}
	add := func(lane uint32, c entry.Change) error {
		id := LaneID(lane)
		if gathered[id] = append(gathered[id], c); len(gathered[id]) >= maxChanges/2 {
			return put(id)
		}
		return nil
	}
	err := t.r.Retries(func(lane uint32, seq uint64, due int64, attempts int, replay uint64) error {
		r := &retry{seq: seq, due: time.UnixMilli(due), queued: t.now, attempts: attempts, replay: replay}
		return add(lane, entry.Change{Kind: entry.Retry, Seq: seq, Record: appendRetry(nil, r)})
	})
	if err == nil {
		err = t.r.Failed(func(lane uint32, f format1.Failure) error {
			one := Failure{Seq: f.Seq, At: f.At, Attempts: f.Attempts, Status: f.Status, Class: f.Class, Reason: f.Reason}
			return add(lane, entry.Change{Kind: entry.Failed, Seq: f.Seq, Record: appendFailure(nil, &one)})
		})
	}
	if err == nil {
		err = t.r.Replays(func(lane uint32, number uint64, record []byte) error {
			return add(lane, entry.Change{Kind: entry.Replay, Seq: number, Record: append([]byte{}, record...)})
		})
	}
	for id := range gathered {
		if err == nil && len(gathered[id]) > 0 {
			err = put(id)
		}
	}
	return err
}

func (t *importer) attempts() error {
	var p *entry.Progress
	size := 0
	put := func() error {
		if p == nil {
			return nil
		}
		one := p
		p, size = nil, 0
		return t.add(entry.Header{Kind: entry.KindProgress, Number: t.next, At: t.now}, one.Append(nil, t.next, t.now), nil, one)
	}
	err := t.r.Attempts(func(lane uint32, seq uint64, a format1.Attempt) error {
		if p != nil && (p.Lane != LaneID(lane) || size >= blockBytes/2) {
			if err := put(); err != nil {
				return err
			}
		}
		if p == nil {
			p = &entry.Progress{Lane: LaneID(lane)}
		}
		m := entry.EventAttempt{Seq: seq, Attempt: Attempt{
			Number: a.Number, At: a.At, Took: a.Took, DNS: a.DNS, Connect: a.Connect, TLS: a.TLS, FirstByte: a.FirstByte,
			Status: a.Status, Class: a.Class, Error: a.Error, Excerpt: append([]byte(nil), a.Excerpt...), Replay: a.Replay,
		}}
		size += 64 + len(a.Excerpt) + len(a.Error)
		p.Attempts = append(p.Attempts, m)
		return nil
	})
	if err == nil {
		err = put()
	}
	return err
}
