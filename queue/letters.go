package queue

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/entry"
	"realtorbot-relay/queue/store"
)

// A letter (dead letter) is a copy of an event whose delivery failed, for another lane: an event of its own, appended like
// any other, with the id, type and body of the first and with whose delivery failed and why. So everything that holds for
// events holds for letters.
//
// The record of a failed delivery says, from the moment on at which the delivery is failed, that a letter is owed. It says
// so until the letter is durable; and the letter is made only when that record is durable. If we die in between, the record
// still says so, and the log says whether the letter is there: each is made once. A letter whose own delivery fails is not
// copied again.

// letters is what a lane knows of the letters that it owes. The lane's mu guards it.
type letters struct {
	on        bool
	notify    func()
	owed      []uint64 // events whose deliveries failed, of whose letters none was tried
	uncertain []uint64 // events whose letters may be durable: found in the records, or left by an error
	unlisted  bool     // the records may have more: those from before the start, and those for which owed had no room
	scanning  bool     // the records are being scanned; those of events below scannedTo were
	scannedTo uint64
}

// ErrUnsaved: what the lane did is not durable yet. That takes a second at most, unless the disk is full.
var ErrUnsaved = errors.New("not saved yet")

const (
	// maxOwed bounds the events that are in memory; the records have the others.
	maxOwed = 4096
	// lettersPerPost and letterBytes are how many letters, and how many bytes of them, are made at a time.
	lettersPerPost = 64
	letterBytes    = 1 << 20
	// lettersPerScan is how many records are read at a time.
	lettersPerScan = 1024
)

// add notes that a letter is owed for an event whose delivery has failed, and reports whether letters are on.
func (o *letters) add(seq uint64) bool {
	switch {
	case !o.on:
		return false
	case len(o.owed)+len(o.uncertain) < maxOwed:
		o.owed = append(o.owed, seq)
	default:
		o.unlisted = true
	}
	o.notify()
	return true
}

// OweLetters says whether a letter is owed for each delivery that fails from now on. notify is called when there is a letter
// to post, under the lane's lock, from any goroutine: it must not block. Letters that are owed from before are posted as
// well. It reads memory.
func (l *Lane) OweLetters(on bool, tell func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.letters
	if on && !o.on {
		o.unlisted = true
		tell()
	}
	o.on, o.notify = on, tell
}

func (l *Lane) owesLetters() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.letters.on
}

// PostLetters makes some of the letters that the lane owes, appends them for the lane target, and reports whether there may be
// more. No letter is made of an event that own, which must not block, says is none of the lane's. After an error, which is Append's,
// ErrUnsaved or one of a read, they are still owed. One caller at a time. It reads disk, holds no lock meanwhile, and waits for a sync:
// letters that it made are durable when it returns.
func (l *Lane) PostLetters(target *Lane, own func(*Stored) bool) (more bool, err error) {
	seqs, doubt, err := l.lettersOwed()
	if err != nil || len(seqs) == 0 {
		return false, err
	}
	posted, err := l.post(target, own, seqs, doubt)
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.letters
	switch left := slices.Clip(seqs[posted:]); {
	case err != nil: // what came to be owed meanwhile may be among them
		o.uncertain = append(append(left, o.uncertain...), o.owed...)
		o.owed = nil
	case doubt:
		o.uncertain = append(left, o.uncertain...)
	default:
		o.owed = append(left, o.owed...)
	}
	if err == nil && posted == 0 {
		err = ErrUnsaved
	}
	return len(o.owed)+len(o.uncertain) > 0 || o.unlisted || o.scanning, err
}

// lettersOwed takes the events for which letters are owed out of a list; when the lists are empty it scans the records.
// uncertain: the letters may be durable.
func (l *Lane) lettersOwed() (seqs []uint64, doubt bool, err error) {
	for {
		l.mu.Lock()
		o := &l.letters
		if seqs, o.uncertain = o.uncertain, nil; len(seqs) > 0 {
			l.mu.Unlock()
			return seqs, true, nil
		}
		if seqs, o.owed = o.owed, nil; len(seqs) > 0 || !o.unlisted && !o.scanning {
			l.mu.Unlock()
			return seqs, false, nil
		}
		if !o.scanning {
			o.scanning, o.scannedTo, o.unlisted = true, 0, false // what has no room in owed from now on needs another scan
		}
		from := o.scannedTo
		l.mu.Unlock()
		next, err := l.scanForOwed(from, &seqs)
		if err != nil {
			return nil, false, err
		}
		l.mu.Lock()
		o.scanning, o.scannedTo = next != 0, next
		l.mu.Unlock()
		if len(seqs) > 0 {
			return seqs, true, nil
		}
	}
}

// scanForOwed reads some records of failed deliveries, of events from one on. next is where to go on, 0 at the end.
func (l *Lane) scanForOwed(from uint64, seqs *[]uint64) (next uint64, err error) {
	if from == 0 {
		if err := l.q.writer.awaitSave(l.q); err != nil {
			return 0, err
		}
	}
	looked := 0
	err = l.q.index.scan(recordKey(l.id, entry.Failed, from), recordKey(l.id, entry.Failed, math.MaxUint64), func(key store.Key, record []byte) (bool, error) {
		if f, err := parseFailure(key.Number, record); err == nil && f.Owed {
			*seqs = append(*seqs, key.Number)
		}
		if looked++; looked == lettersPerScan {
			next = key.Number + 1
		}
		return next == 0, nil
	})
	return next, err
}

// post makes letters for the first of some events, as many as are made at a time. It returns how many of the events need no
// letter any more. If uncertain, it asks the log whether the letter is there: that may look at every segment for each event,
// and at all letters of the event.
func (l *Lane) post(target *Lane, own func(*Stored) bool, seqs []uint64, doubt bool) (posted int, err error) {
	var reader eventReader
	var sources []string
	var events []Event
	var made []Failure
	set, bytes := NewLaneSet(target.id), 0
	for posted < len(seqs) && len(made) < lettersPerPost && bytes < letterBytes {
		seq := seqs[posted]
		f, owed, saved, err := l.letterOwed(seq)
		if err != nil {
			return 0, err
		}
		if !saved {
			break // if we died now, the delivery would not have failed
		}
		posted++
		again := slices.ContainsFunc(made, func(one Failure) bool { return one.Seq == seq }) // it was in a list and in the records
		if !owed || again {
			continue // it was replayed or deleted, or its letter is made already
		}
		ev, ok, err := reader.find(l.q, seq)
		if err != nil {
			return 0, err
		}
		made = append(made, f)
		if !ok || ev.Letter != nil || !own(&ev) {
			continue // an event that can't be read has been reported; a letter is not copied again
		}
		letter := Letter{Seq: seq, At: f.At.UnixMilli(), Lane: l.name, Class: f.Class, Reason: f.Reason}
		if doubt {
			there, err := l.q.hasLetter(ev.ID, &letter)
			if err != nil {
				return 0, err
			}
			if there {
				continue // we died when the letter was durable and the record still said owed
			}
		}
		sources = append(sources, ev.Source)
		events = append(events, Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: set, Letter: letter.Append(nil), Words: ev.Words})
		bytes += len(ev.Body)
	}
	for from := 0; from < len(events); {
		n := from + 1
		for n < len(events) && sources[n] == sources[from] {
			n++
		}
		if err := l.q.Append(sources[from], events[from:n], make([]Receipt, n-from)); err != nil {
			return 0, fmt.Errorf("post dead letters of lane %q: %w", l.name, err)
		}
		from = n
	}
	for i := range made {
		if err := l.settleLetter(&made[i]); err != nil {
			return 0, err
		}
	}
	return posted, nil
}

// letterOwed returns the record of a failed delivery, whether a letter is owed for it, and whether the store has that
// record.
func (l *Lane) letterOwed(seq uint64) (f Failure, owed, saved bool, err error) {
	l.mu.Lock()
	records, err := l.recordsOf(seq, entry.Failed)
	_, fresh := l.unsaved[recordName{entry.Failed, seq}]
	l.mu.Unlock()
	if err != nil || records[0] == nil {
		return f, false, true, err
	}
	if f, err = parseFailure(seq, records[0]); err != nil {
		return f, false, true, nil // the start reports it
	}
	return f, f.Owed, !fresh || !f.Owed, nil
}

// hasLetter reports whether a letter of an event with an id is durable.
func (q *Queue) hasLetter(id []byte, letter *Letter) (bool, error) {
	h := q.log.Key().EventHash(id, []byte{})
	seqs, err := q.log.LookupAll(&h)
	for i := 0; i < len(seqs) && err == nil; i++ {
		var ev Stored
		var ok bool
		if ev, ok, err = q.find(seqs[i]); errors.Is(err, codec.ErrDamaged) {
			err = nil // what it was is not known: rather twice than never
		} else if ok && err == nil {
			if had := LetterOf(&ev); had != nil && had.Seq == letter.Seq && had.At == letter.At && had.Lane == letter.Lane {
				return true, nil
			}
		}
	}
	return false, err
}

// settleLetter notes that a letter is not owed any more, unless the delivery has failed anew since.
func (l *Lane) settleLetter(made *Failure) error {
	if l.isFull() {
		if err := l.q.writer.awaitSave(l.q); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	records, err := l.recordsOf(made.Seq, entry.Failed)
	if err != nil || records[0] == nil {
		return err
	}
	if now, err := parseFailure(made.Seq, records[0]); err != nil || now != *made {
		return nil
	}
	paid := *made
	paid.Owed = false
	l.change(entry.Failed, made.Seq, appendFailure(nil, &paid))
	l.changed()
	return nil
}

// withLetters lists the events with an id and their letters, newest first.
func (q *Queue) withLetters(id []byte) ([]uint64, error) {
	h := q.log.Key().Hash(id)
	seqs, err := q.log.LookupAll(&h)
	if err != nil {
		return nil, err
	}
	h = q.log.Key().EventHash(id, []byte{})
	letters, err := q.log.LookupAll(&h)
	if err != nil || len(letters) == 0 {
		return seqs, err
	}
	seqs = append(seqs, letters...)
	slices.SortFunc(seqs, func(a, b uint64) int { return cmp.Compare(b, a) })
	return seqs, nil
}

// maxLetters bounds the letters that one event's story has.
const maxLetters = 64

// LetterOf returns of which failed delivery an event is a copy; nil when it is none. It reads memory.
func LetterOf(ev *Stored) *Letter {
	if ev.Letter == nil {
		return nil
	}
	letter, err := entry.ParseLetter(ev.Letter)
	if err != nil {
		return &Letter{} // its block's checksum holds, so it was written wrong, and is a letter all the same
	}
	return &letter
}
