package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/journal"
	"realtorbot-relay/queue/log"
)

// openLog opens journal and log, and appends to the log what only the journal has. So everything by which a duplicate may be
// answered is written anew and synced.
func (q *Queue) openLog(undo *[]func() error, saved checkpoint) error {
	opts := &q.opts
	j, records, damages, err := journal.Open(journal.Options{
		Dir: filepath.Join(opts.Dir, journalName), SlotSize: opts.slotSize, MaxSlots: opts.maxSlots,
		MayGrow: func() bool { return opts.free() >= criticalFree+opts.slotSize }, Fault: opts.fault,
	})
	if err != nil {
		return err
	}
	*undo = append(*undo, j.Close)
	q.journal = j
	// The checkpoint was written when the log had been synced up to the entry that it names.
	list, start, err := q.readRecords(records, saved.applied+1)
	if err != nil {
		return err
	}
	l, found, err := log.Open(log.Options{
		Dir: filepath.Join(opts.Dir, logName), SegmentSize: opts.segmentSize, BlockSize: blockBytes, FilterBytes: opts.FilterBytes,
		Fault: opts.fault, Now: q.now, Notice: opts.Notice, Lost: func(ids int64) { q.damaged.Add(ids) },
	}, start)
	if err != nil {
		return err
	}
	*undo = append(*undo, l.Close)
	q.log = l
	for _, s := range l.Segments() {
		q.raiseClock(max(s.Made, s.LastAt))
	}
	for _, what := range found.Damage {
		q.damaged.Add(1)
		opts.Notice("log is damaged: " + what)
	}
	for _, gap := range found.Gaps {
		q.reportGap("log", gap.FromEvent, gap.ToEvent, gap.FromEntry, gap.ToEntry, nil)
	}
	if low := l.Segments()[0]; saved.firstSegment > 0 && low.Number > saved.firstSegment {
		q.reportGap("log", saved.firstEvent, low.FirstEvent, 0, 0, nil)
	}
	q.reportJournal(damages)
	return q.addRecords(list, found, damages, saved)
}

// loggedEntry is an entry of the journal.
type loggedEntry struct {
	h     entry.Header
	raw   []byte
	frame *entry.Frame
	p     *entry.Progress
}

// readRecords takes the journal's records apart and leaves out what the log certainly has: entries below free, or below what
// a record says. start is where the rest begins. An entry that this version does not know is an error.
func (q *Queue) readRecords(records []journal.Record, free uint64) (list []loggedEntry, start log.Start, err error) {
	for _, r := range records {
		if len(r.Payload) >= loggedSize {
			free = max(free, binary.LittleEndian.Uint64(r.Payload))
		}
	}
	for _, r := range records {
		if r.End <= free || len(r.Payload) < loggedSize {
			continue
		}
		for rest := r.Payload[loggedSize:]; len(rest) > 0; {
			h, raw, more, err := entry.Next(rest)
			e := loggedEntry{h: h, raw: raw}
			if err == nil && h.Kind == entry.KindFrame {
				e.frame, err = entry.ParseFrame(h, raw)
			} else if err == nil && h.Kind == entry.KindProgress {
				e.p, err = entry.ParseProgress(h, raw)
			}
			if errors.Is(err, entry.ErrUnknown) {
				return nil, start, fmt.Errorf("read the journal: %w", err)
			}
			if err != nil {
				q.damaged.Add(1)
				q.opts.Notice(fmt.Sprintf("journal is damaged: a record of entries %d to %d: %v", r.First, r.End-1, err))
				break
			}
			rest = more
			q.raiseClock(h.At)
			if h.Number >= free {
				list = append(list, e)
			}
		}
	}
	start = log.NoStart
	if len(list) > 0 {
		start.Entry, start.Event = list[0].h.Number, 1
		for i := range list {
			if list[i].frame != nil {
				start.Event = list[i].frame.First
				break
			}
		}
	}
	return list, start, nil
}

// addRecords appends to the log what only the journal has, and syncs it.
func (q *Queue) addRecords(list []loggedEntry, found log.Found, damages []journal.Damage, saved checkpoint) error {
	next, event := found.NextEntry, found.NextEvent
	for i := range list {
		e := &list[i]
		if e.h.Number < next {
			continue
		}
		first := event
		if e.frame != nil {
			first = e.frame.First
		}
		if e.h.Number > next || first > event {
			q.reportGap("journal", event, first, next, e.h.Number, damages)
		}
		if e.frame != nil {
			event = e.frame.End()
			q.log.Accept(e.frame)
		}
		q.log.Add(e.h, e.raw, e.frame, e.p)
		next = e.h.Number + 1
	}
	if _, err := q.log.Save(); err != nil {
		return err
	}
	lost := saved.journalGeneration > q.journal.Generation()
	if lost {
		q.damaged.Add(1)
		q.reportJournalDamage("the slot that was in use last holds nothing any more, and events that only it had are missing")
		q.journal.SkipGenerations(saved.journalGeneration)
	}
	if event < saved.end {
		q.damaged.Add(int64(saved.end - event))
		q.reportJournalDamage(fmt.Sprintf("events %d to %d are missing at its end", event, saved.end-1))
	}
	// Numbers that were used are not used again.
	next, event = max(next, saved.applied+1), max(event, saved.end)
	q.log.Skip(next, event)
	q.nextEntry.Store(next)
	q.logged.Store(next)
	q.end.Store(event)
	q.writer.journalBytes.Store(q.journal.Bytes())
	q.writer.journalGeneration.Store(q.journal.Generation())
	return nil
}

// reportJournal reports what can't be read of the journal, whatever it held.
func (q *Queue) reportJournal(damages []journal.Damage) {
	for _, d := range damages {
		switch {
		case d.Grave:
			q.damaged.Add(1)
			q.reportJournalDamage(d.What)
		case d.Torn:
			q.opts.Notice(fmt.Sprintf("journal %q: %s", d.File, d.What))
		}
	}
}

// reportGap reports acknowledged events that must be there and are not.
func (q *Queue) reportGap(where string, fromEvent, toEvent, fromEntry, toEntry uint64, damages []journal.Damage) {
	what := "no broken record was found"
	if len(damages) > 0 {
		what = damages[0].What
	}
	if toEvent > fromEvent {
		q.damaged.Add(int64(toEvent - fromEvent))
		what = fmt.Sprintf("events %d to %d can't be read (%s)", fromEvent, toEvent-1, what)
	} else {
		q.damaged.Add(1)
		what = fmt.Sprintf("entries %d to %d can't be read, so attempts that they record may be made again (%s)", fromEntry, toEntry-1, what)
	}
	if where == "journal" {
		q.reportJournalDamage(what)
		return
	}
	q.opts.Notice(where + " is damaged: " + what)
}

// reportJournalDamage reports damage of the journal and copies its files aside.
func (q *Queue) reportJournalDamage(what string) {
	aside := q.opts.asidePath("journal")
	err := os.MkdirAll(aside, 0o700)
	files, _ := filepath.Glob(filepath.Join(q.opts.Dir, journalName, "slot-*"))
	for _, path := range files {
		if err == nil {
			err = copyFile(filepath.Join(aside, filepath.Base(path)), path)
		}
	}
	line := fmt.Sprintf("journal is damaged: %s; its files were copied to %q", what, aside)
	if err != nil {
		line = fmt.Sprintf("%s, but the copy failed: %v", line, err)
	}
	q.opts.Notice(line)
}

func copyFile(to, from string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o600)
}
