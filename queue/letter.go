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

// A letter is a copy of an event whose delivery failed, for another lane: an event of its own, appended as any other, that
// has the id, type and body of the first and says whose delivery failed and why. So all that holds for events holds for it.
//
// The record of the failed delivery says that a letter is owed, from the moment on at which it is failed, whoever makes it so. It
// says so until the letter is on disk, and the letter is made when the record is. If we die in between, the record still says so,
// and the log tells whether the letter is there: each is made once. A letter that fails is not copied any further.

// letters is what a lane knows of those that it owes. The lane's mu guards it.
type letters struct {
	on    bool
	tell  func()
	owed  []uint64 // events whose deliveries failed since, of which none was tried
	doubt []uint64 // and those whose letters may be on disk: found in the records, or left by an error
	miss  bool     // there may be more in the records: what was owed at the start, and what owed had no room for
	look  bool     // they are looked at, and those of the events below seen were
	seen  uint64
}

// ErrUnsaved: what the lane did is not on disk yet, which takes a second at most unless the disk is full.
var ErrUnsaved = errors.New("not saved yet")

const (
	// maxOwed bounds the events that are remembered; the records of the others are looked for.
	maxOwed = 4096
	// lettersAtATime and letterBytes are what is copied at a time.
	lettersAtATime = 64
	letterBytes    = 1 << 20
	// lettersLook is how many records are looked at in a turn.
	lettersLook = 1024
)

// owe notes that a letter is owed for the delivery of an event that has failed, if any are.
func (o *letters) owe(seq uint64) bool {
	switch {
	case !o.on:
		return false
	case len(o.owed)+len(o.doubt) < maxOwed:
		o.owed = append(o.owed, seq)
	default:
		o.miss = true
	}
	o.tell()
	return true
}

// OweLetters says whether a letter is owed for each delivery that fails from now on. tell is called when there is one to post,
// under the lane's lock, from any goroutine: it must not block. Those that are owed from before are posted as well.
func (l *Lane) OweLetters(on bool, tell func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.letters
	if on && !o.on {
		o.miss = true
		tell()
	}
	o.on, o.tell = on, tell
}

func (l *Lane) owesLetters() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.letters.on
}

// PostLetters makes a few of the letters that the lane owes, for the lane to, and reports whether there may be more. After
// an error, which is Append's, ErrUnsaved or tells that something could not be read, they are still owed. One at a time may call it. It
// writes to disk and waits for it.
func (l *Lane) PostLetters(to *Lane) (more bool, err error) {
	seqs, doubt, err := l.lettersOwed()
	if err != nil || len(seqs) == 0 {
		return false, err
	}
	posted, err := l.post(to, seqs, doubt)
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.letters
	switch left := slices.Clip(seqs[posted:]); {
	case err != nil: // what was owed meanwhile may be one of them once more
		o.doubt = append(append(left, o.doubt...), o.owed...)
		o.owed = nil
	case doubt:
		o.doubt = append(left, o.doubt...)
	default:
		o.owed = append(left, o.owed...)
	}
	if err == nil && posted == 0 {
		err = ErrUnsaved
	}
	return len(o.owed)+len(o.doubt) > 0 || o.miss || o.look, err
}

// lettersOwed takes the events out of a list of those that are owed, after a look at the records if there are none. doubt: their
// letters may be on disk.
func (l *Lane) lettersOwed() (seqs []uint64, doubt bool, err error) {
	for {
		l.mu.Lock()
		o := &l.letters
		if seqs, o.doubt = o.doubt, nil; len(seqs) > 0 {
			l.mu.Unlock()
			return seqs, true, nil
		}
		if seqs, o.owed = o.owed, nil; len(seqs) > 0 || !o.miss && !o.look {
			l.mu.Unlock()
			return seqs, false, nil
		}
		if !o.look {
			o.look, o.seen, o.miss = true, 0, false // what finds no room from now on is looked for again
		}
		from := o.seen
		l.mu.Unlock()
		next, err := l.lookForOwed(from, &seqs)
		if err != nil {
			return nil, false, err
		}
		l.mu.Lock()
		o.look, o.seen = next != 0, next
		l.mu.Unlock()
		if len(seqs) > 0 {
			return seqs, true, nil
		}
	}
}

// lookForOwed looks at some records of failed deliveries, of events from one on. next is where to go on, 0 at the end.
func (l *Lane) lookForOwed(from uint64, seqs *[]uint64) (next uint64, err error) {
	if from == 0 {
		if err := l.q.keeper.drain(l.q); err != nil {
			return 0, err
		}
	}
	looked := 0
	err = l.q.index.scan(recordKey(l.id, entry.Failed, from), recordKey(l.id, entry.Failed, math.MaxUint64), func(key store.Key, record []byte) (bool, error) {
		if f, err := parseFailure(key.Number, record); err == nil && f.Owed {
			*seqs = append(*seqs, key.Number)
		}
		if looked++; looked == lettersLook {
			next = key.Number + 1
		}
		return next == 0, nil
	})
	return next, err
}

// post makes letters for the first of some events, as many as are copied at a time, and says how many need none any more. With
// doubt it asks the log whether they are there: that may be a look at every segment for each, and at every letter of its event.
func (l *Lane) post(to *Lane, seqs []uint64, doubt bool) (posted int, err error) {
	var read reading
	var sources []string
	var events []Event
	var made []Failure
	set, bytes := NewLaneSet(to.id), 0
	for posted < len(seqs) && len(events) < lettersAtATime && bytes < letterBytes {
		seq := seqs[posted]
		f, owed, saved, err := l.owes(seq)
		if err != nil {
			return 0, err
		}
		if !saved {
			break // if we died now, it would not have failed
		}
		posted++
		again := slices.ContainsFunc(made, func(one Failure) bool { return one.Seq == seq }) // remembered, and found in the records
		if !owed || again {
			continue // it was replayed or deleted, or has been made
		}
		ev, ok, err := read.find(l.q, seq)
		if err != nil {
			return 0, err
		}
		made = append(made, f)
		if !ok || ev.Letter != nil {
			continue // what can't be read was told; a letter goes nowhere further
		}
		letter := Letter{Seq: seq, At: f.At.UnixMilli(), Lane: l.name, Class: f.Class, Reason: f.Reason}
		if doubt {
			there, err := l.q.hasLetter(ev.ID, &letter)
			if err != nil {
				return 0, err
			}
			if there {
				continue // we died when it was on disk and the record did not say so yet
			}
		}
		sources = append(sources, ev.Source)
		events = append(events, Event{ID: ev.ID, Type: ev.Type, Body: ev.Body, Lanes: set, Letter: letter.Append(nil)})
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

// owes returns the record of a failed delivery, whether a letter is owed for it, and whether the store has it like that.
func (l *Lane) owes(seq uint64) (f Failure, owed, saved bool, err error) {
	l.mu.Lock()
	records, err := l.kept(seq, entry.Failed)
	_, fresh := l.unsaved[recordName{entry.Failed, seq}]
	l.mu.Unlock()
	if err != nil || records[0] == nil {
		return f, false, true, err
	}
	if f, err = parseFailure(seq, records[0]); err != nil {
		return f, false, true, nil // the janitor tells
	}
	return f, f.Owed, !fresh || !f.Owed, nil
}

// hasLetter reports whether a letter of an event with an id is on disk.
func (q *Queue) hasLetter(id []byte, letter *Letter) (bool, error) {
	h := q.log.Key().EventHash(id, []byte{})
	seqs, err := q.log.LookupAll(&h)
	for i := 0; i < len(seqs) && err == nil; i++ {
		var ev Stored
		var ok bool
		if ev, ok, err = q.find(seqs[i]); errors.Is(err, codec.ErrDamaged) {
			err = nil // it is told, and what it was is not known: rather twice than never
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
		if err := l.q.keeper.drain(l.q); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	records, err := l.kept(made.Seq, entry.Failed)
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

// withLetters are the events that have an id and the letters of it, newest first.
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

// maxLetters bounds the letters of one event that its story tells.
const maxLetters = 64

// LetterOf tells of which failed delivery an event is a copy; nil when it is none.
func LetterOf(ev *Stored) *Letter {
	if ev.Letter == nil {
		return nil
	}
	letter, err := entry.ParseLetter(ev.Letter)
	if err != nil {
		return &Letter{} // its block's checksum holds: it was written wrong, and is a letter all the same
	}
	return &letter
}
