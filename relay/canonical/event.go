package canonical

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
)

// Event is one event in canonical form. Body is the whole event; ID and Type are parts of it. Who filled it says how
// long the bytes stay as they are.
type Event struct {
	Body, ID, Type []byte
}

// Invalid tells a client why what it posted was refused. Nothing in it comes from the body but numbers and the names of
// an event's own members, so it can be answered and logged.
type Invalid struct {
	Index   int    // the event's place in its batch, from 0; -1 for a single event and for the batch itself
	Reason  string // a short sentence that stays the same from version to version, but for the numbers in it
	NotJSON bool   // the text is not JSON, as opposed to JSON that is no event
	TooMany bool   // it has more members, or the batch more events, than may be
}

// Error is the reason, behind the event's place in a batch.
func (e *Invalid) Error() string {
	if e.Index < 0 {
		return e.Reason
	}
	return fmt.Sprintf("event %d: %s", e.Index, e.Reason)
}

// Code is the code that a client is answered: invalid_json, invalid_event or too_large.
func (e *Invalid) Code() string {
	switch {
	case e.TooMany:
		return "too_large"
	case e.NotJSON:
		return "invalid_json"
	}
	return "invalid_event"
}

// Status is the status that a client is answered.
func (e *Invalid) Status() int {
	if e.TooMany {
		return 413
	}
	return 400
}

// Stamp supplies what a client may leave out, and what follows from an event.
type Stamp struct {
	Now   time.Time               // the time of receipt, for an event without a timestamp
	Own   bool                    // the relay's own types may be used
	NewID func(dst []byte) []byte // appends a new event id ("evt_…") for an event without one; IsID must hold for it

	Members *match.Members                    // of each event that Found is told of
	Found   func(e Event, found *match.Found) // called with each event in its order, before the next one is read; nil: nobody asks
}

// maxID is the most bytes that an event id may have.
const maxID = 255

// What an event is refused for.
const (
	notObject    = "an event must be an object"
	badID        = "id must be 1-255 printable ASCII characters without space"
	noType       = "type is missing"
	badType      = "type must be " + config.TypeForm
	ownType      = "types that begin with relay. are the relay's own"
	badTimestamp = "timestamp must be an RFC 3339 date and time"
	noData       = "data is missing"
	badData      = "data must be an object"
)

// event reads the event at the next byte.
func (p *Parser) event(s Stamp) (Event, bool) {
	c := &p.canon
	c.begin()
	if c.peek() != '{' {
		return Event{}, c.value(1) && c.refuse(notObject, -1)
	}
	start := len(c.out)
	place := s.Members.Event()
	c.place = place
	if !c.object(1) || !c.settle(start, c.members) {
		return Event{}, false
	}
	var id, kind, stamp, data member // those with end 0 are missing
	front := int32(start + 1)        // of the first member whose name is no array index
	for _, m := range c.members {
		switch string(m.name(c.out)) {
		case "id":
			id = m
		case "type":
			kind = m
		case "timestamp":
			stamp = m
		case "data":
			data = m
		}
		if m.rank < notIndex {
			front = m.end + 1
		}
	}
	c.members = c.members[:0]
	switch {
	case id.end > 0 && !isQuotedID(c.out[id.value:id.end]):
		return Event{}, c.refuse(badID, -1)
	case kind.end == 0:
		return Event{}, c.refuse(noType, -1)
	case c.out[kind.value] != '"' || !config.IsType(c.out[kind.value+1:kind.end-1]):
		return Event{}, c.refuse(badType, -1)
	case !s.Own && bytes.HasPrefix(c.out[kind.value+1:kind.end], []byte(config.AlertPrefix)):
		return Event{}, c.refuse(ownType, -1)
	case stamp.end > 0 && !isTimestamp(c.out[stamp.value:stamp.end]):
		return Event{}, c.refuse(badTimestamp, -1)
	case data.end == 0:
		return Event{}, c.refuse(noData, -1)
	case c.out[data.value] != '{':
		return Event{}, c.refuse(badData, -1)
	}
	if stamp.end == 0 { // where the documentation has it
		added, ok := c.putIn(kind.end, `,"timestamp":"`, func(dst []byte) []byte {
			return append(dst, p.received(s.Now)...)
		}, `"`)
		if !ok {
			return Event{}, false
		}
		if id.value > kind.value {
			id.value, id.end = id.value+added, id.end+added
		}
		c.found.Note(place.Inside([]byte("timestamp")), c.out[kind.end+int32(len(`,"timestamp":`)):kind.end+added])
	}
	if id.end == 0 {
		added, ok := c.putIn(front, `"id":"`, func(dst []byte) []byte {
			at := len(dst)
			dst = s.NewID(dst)
			if Escapes(dst[at:]) > 0 {
				dst = AppendEscaped(dst[:at], bytes.Clone(dst[at:]))
			}
			return dst
		}, `",`)
		if !ok {
			return Event{}, false
		}
		id.value, id.end = front+int32(len(`"id":`)), front+added-1
		kind.value, kind.end = kind.value+added, kind.end+added
		c.found.Note(place.Inside([]byte("id")), c.out[id.value:id.end])
	}
	end := len(c.out)
	idFrom, idTo := int(id.value)+1, int(id.end)-1
	if bytes.IndexByte(c.out[idFrom:idTo], '\\') >= 0 { // what it means stands behind the event
		if !c.room(idTo - idFrom + len(c.in) - c.at) {
			return Event{}, false
		}
		c.out = appendUnescaped(c.out, c.out[idFrom:idTo])
		idFrom, idTo = end, len(c.out)
	}
	// Later events may move the arena. This one stays where it is then, in the old one.
	e := Event{
		Body: slices.Clip(c.out[start:end]),
		ID:   slices.Clip(c.out[idFrom:idTo]),
		Type: slices.Clip(c.out[kind.value+1 : kind.end-1]),
	}
	if s.Found != nil {
		s.Found(e, &c.found)
	}
	return e, true
}

// received is the timestamp of an event that has none. A batch has one for all.
func (p *Parser) received(now time.Time) []byte {
	if !now.Equal(p.now) || len(p.timestamp) == 0 {
		p.now, p.timestamp = now, now.UTC().AppendFormat(p.timestamp[:0], "2006-01-02T15:04:05.000Z")
	}
	return p.timestamp
}

// putIn writes a member, or what there is of it, at a place of out, and returns how many bytes that takes.
func (c *canon) putIn(at int32, before string, value func(dst []byte) []byte, behind string) (added int32, ok bool) {
	c.spare = append(value(append(c.spare[:0], before...)), behind...)
	if !c.room(len(c.spare) + len(c.in) - c.at) {
		return 0, false
	}
	c.out = slices.Insert(c.out, int(at), c.spare...)
	return int32(len(c.spare)), true
}

// IsID reports whether an event may have the id.
func IsID(id []byte) bool {
	for _, b := range id {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxID
}

// isQuotedID reports whether value, in canonical form, is a string that is an id. Of printable ASCII characters that form
// escapes two, the quote and the backslash, each with a backslash.
func isQuotedID(value []byte) bool {
	if value[0] != '"' {
		return false
	}
	text, length := value[1:len(value)-1], 0
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '\\':
			if i++; text[i] != '"' && text[i] != '\\' {
				return false
			}
		case b <= ' ' || b > '~':
			return false
		}
		length++
	}
	return length > 0 && length <= maxID
}

// appendUnescaped adds what the text of an id in canonical form means.
func appendUnescaped(dst, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
		}
		dst = append(dst, text[i])
	}
	return dst
}

// Escapes is how many characters of an id are escaped in JSON.
func Escapes(id []byte) int { return bytes.Count(id, []byte{'"'}) + bytes.Count(id, []byte{'\\'}) }

// AppendEscaped adds an id as it stands between the quotes of a JSON string.
func AppendEscaped(dst, id []byte) []byte {
	for _, b := range id {
		if b == '"' || b == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, b)
	}
	return dst
}
