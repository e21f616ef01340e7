package canonical

import (
	"bytes"
	"time"
	"unsafe"

	"realtorbot-relay/relay/memory"
)

// What a body is refused for as a whole.
const (
	emptyBody  = "the body is empty"
	emptyBatch = "the batch holds no event"
	neither    = "the body must be an event or an array of events"
)

// stampRoom is how many bytes an id and a timestamp that are put in take.
const stampRoom = 128

// Parser turns what clients post into events in canonical form. An event that it refuses refuses the batch.
//
// It holds scratch memory, so it is to be reused, and by one goroutine at a time. The bytes of the events it returns,
// and the slice they are in, are the Parser's and hold until its next use. The zero Parser is ready for use. Every error it
// returns is an *Invalid, or one of the account.
type Parser struct {
	canon  canon
	events []Event

	now       time.Time // of timestamp
	timestamp []byte
}

// TakeFrom has what the Parser allocates taken from an account from here on. The caller has counted what it holds already.
func (p *Parser) TakeFrom(a memory.Account) { p.canon.account = a }

// DropBody forgets the body that was read last. The events stay.
func (p *Parser) DropBody() { p.canon.in = nil }

// Reset ends the use of an account, and the last body and its events. The scratch stays, for the next use.
func (p *Parser) Reset() {
	clear(p.events)
	p.canon.in, p.canon.account = nil, nil
}

// JSON reads a body that is one event or an array of them, whichever its first byte that is not space announces.
func (p *Parser) JSON(body []byte, s Stamp) (events []Event, single bool, err error) {
	if !p.start(body) {
		return nil, false, p.invalid(-1, 0)
	}
	c := &p.canon
	c.space()
	switch c.peek() {
	case '{':
		e, ok := p.alone(s)
		if !ok {
			return nil, true, p.invalid(-1, 0)
		}
		if !p.add(e) {
			return nil, true, p.invalid(-1, 0)
		}
		return p.events, true, nil
	case '[':
		events, err = p.array(s)
		return events, false, err
	}
	switch {
	case c.at == len(body):
		c.malformed(emptyBody, -1)
	case c.alone():
		c.refuse(neither, -1)
	}
	return nil, false, p.invalid(-1, 0)
}

// Canonical reads a body that is one JSON value and returns its canonical form, with nothing put in. The bytes hold until
// the Parser's next use.
func (p *Parser) Canonical(body []byte) (form []byte, err error) {
	if !p.start(body) || !p.canon.alone() {
		return nil, p.invalid(-1, 0)
	}
	return p.canon.out, nil
}

// Lines reads a body that is NDJSON: one event per line. Lines may end in \r\n, blank ones are skipped, and the index of
// an event does not count them.
func (p *Parser) Lines(body []byte, s Stamp) ([]Event, error) {
	if !p.start(nil) || !p.canon.room(len(body)+stampRoom) {
		return nil, p.invalid(-1, 0)
	}
	for line := 1; len(body) > 0; line++ {
		var text []byte
		text, body, _ = bytes.Cut(body, []byte{'\n'})
		if !p.canon.read(text) {
			return nil, p.invalid(-1, 0)
		}
		if p.canon.space(); p.canon.at == len(text) {
			continue
		}
		e, ok := p.alone(s)
		if !ok {
			return nil, p.invalid(len(p.events), line)
		}
		if !p.add(e) {
			return nil, p.invalid(-1, 0)
		}
	}
	if len(p.events) == 0 {
		p.canon.refuse(emptyBatch, -1)
		return nil, p.invalid(-1, 0)
	}
	return p.events, nil
}

// array reads the array that starts at the next byte and ends the body.
func (p *Parser) array(s Stamp) ([]Event, error) {
	c := &p.canon
	c.at++
	c.space()
	if c.peek() == ']' {
		c.at++
		if c.ended() {
			c.refuse(emptyBatch, -1)
		}
		return nil, p.invalid(-1, 0)
	}
	for more := true; more; {
		e, ok := p.event(s)
		if !ok {
			return nil, p.invalid(len(p.events), 0)
		}
		if !p.add(e) {
			return nil, p.invalid(-1, 0)
		}
		c.space()
		switch c.peek() {
		case ',':
			c.at++
			c.space()
		case ']':
			c.at++
			more = false
		default:
			c.unexpected()
			return nil, p.invalid(-1, 0)
		}
	}
	if !c.ended() {
		return nil, p.invalid(-1, 0)
	}
	return p.events, nil
}

// add puts an event to those of the body.
func (p *Parser) add(e Event) bool {
	if len(p.events) >= maxEvents {
		return p.canon.exceeds(manyEvents, -1)
	}
	var err error
	if p.events, err = memory.Grow(p.canon.account, p.events, 1); err != nil {
		return p.canon.full(err)
	}
	p.events = append(p.events, e)
	return true
}

// alone reads a text that must hold one event, with nothing but space around it.
func (p *Parser) alone(s Stamp) (Event, bool) {
	p.canon.space()
	e, ok := p.event(s)
	return e, ok && p.canon.ended()
}

// start makes the Parser ready for a body. What it made of the last one is void from here on.
func (p *Parser) start(body []byte) bool {
	c := &p.canon
	clear(p.events)
	p.events = p.events[:0]
	c.out = c.out[:0]
	return c.read(body)
}

// Size is how many bytes of scratch there are.
func (p *Parser) Size() int {
	c := &p.canon
	return c.found.Bytes() + cap(c.out) + cap(c.spare) + 4*cap(c.tables) + int(unsafe.Sizeof(member{}))*(cap(c.members)+cap(c.strays)) +
		int(unsafe.Sizeof(shuffle{}))*cap(c.shuffles) + int(unsafe.Sizeof(Event{}))*cap(p.events)
}

// invalid makes the error of the fault that the reading ended with. line is the line of an NDJSON body, or 0.
func (p *Parser) invalid(index, line int) error {
	f := p.canon.fault
	if f.memory != nil {
		return f.memory
	}
	return &Invalid{Index: index, Reason: f.text(line), NotJSON: f.notJSON, TooMany: f.many}
}
