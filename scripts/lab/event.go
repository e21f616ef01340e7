package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

const (
	idPrefix    = "evt_"
	runDigits   = 8
	seqDigits   = 9
	idLength    = len(idPrefix) + runDigits + 1 + seqDigits
	stampDigits = 19
	stampMember = `"stamp":"`
	idMember    = `"id":"`
)

// newRun draws the number that sets the ids of one run apart from those of all others.
func newRun() uint32 { return rand.Uint32() }

// appendID appends the id of event seq of a run.
func appendID(dst []byte, run uint32, seq uint64) []byte {
	dst = append(dst, idPrefix...)
	at := len(dst)
	dst = append(dst, "00000000_000000000"...)
	putHex(dst[at:at+runDigits], run)
	putDecimal(dst[at+runDigits+1:], seq)
	return dst
}

// parseID takes apart what appendID made; ok is false for any other id.
func parseID(id []byte) (run uint32, seq uint64, ok bool) {
	if len(id) != idLength || string(id[:len(idPrefix)]) != idPrefix || id[len(idPrefix)+runDigits] != '_' {
		return 0, 0, false
	}
	r, err := strconv.ParseUint(string(id[len(idPrefix):len(idPrefix)+runDigits]), 16, 32)
	if err != nil {
		return 0, 0, false
	}
	seq, ok = parseDecimal(id[idLength-seqDigits:])
	return uint32(r), seq, ok
}

// putDecimal fills dst with v, with leading zeros.
func putDecimal(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
}

func putHex(dst []byte, v uint32) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = "0123456789abcdef"[v&15]
		v >>= 4
	}
}

func parseDecimal(digits []byte) (v uint64, ok bool) {
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	return v, len(digits) > 0
}

// template is the text of one event whose id and stamp are patched in place.
type template struct {
	text    []byte
	idAt    int // of idLength bytes
	stampAt int // of stampDigits bytes
}

// newTemplate makes an event of exactly size bytes, as a lead form on a web site would cause it.
func newTemplate(run uint32, eventType string, size int, now time.Time) (template, error) {
	head := append([]byte(`{`+idMember), appendID(nil, run, 0)...)
	head = fmt.Appendf(head, `","type":%q,"timestamp":%q,"data":{"leadId":"lead_xyz789","firstName":"John",`+
		`"email":"john@example.com","score":75,"notes":"`, eventType, now.UTC().Format(time.RFC3339))
	tail := `",` + stampMember + `0000000000000000000"}}`

	least := len(head) + len(tail)
	if size < least {
		return template{}, usageError(fmt.Sprintf("size %d: an event of type %s has at least %d bytes", size, eventType, least))
	}
	const prose = "Looking for a house with a garden near the school. "
	for i := 0; len(head) < size-len(tail); i++ {
		head = append(head, prose[i%len(prose)])
	}
	text := append(head, tail...)
	return template{
		text:    text,
		idAt:    len(`{` + idMember),
		stampAt: len(text) - len(`"}}`) - stampDigits,
	}, nil
}

// made reports whether a text is this event, with any number and any stamp.
func (t *template) made(text []byte) bool {
	if len(text) != len(t.text) {
		return false
	}
	seqAt := t.idAt + idLength - seqDigits
	return bytes.Equal(text[:seqAt], t.text[:seqAt]) &&
		bytes.Equal(text[seqAt+seqDigits:t.stampAt], t.text[seqAt+seqDigits:t.stampAt]) &&
		bytes.Equal(text[t.stampAt+stampDigits:], t.text[t.stampAt+stampDigits:])
}

// request is one POST, built once for a connection. It belongs to that connection's goroutine.
type request struct {
	bytes  []byte
	events int
	size   int // of one event with its line end
	bodyAt int
	event  template
}

// newRequest makes the POST of one event, or of an NDJSON batch of so many.
func newRequest(addr, path string, event template, batch int) *request {
	contentType, line := "application/json", event.text
	if batch > 1 {
		contentType, line = "application/x-ndjson", append(bytes.Clone(event.text), '\n')
	}
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		path, addr, contentType, batch*len(line))
	return &request{
		bytes:  append(head, bytes.Repeat(line, batch)...),
		events: batch,
		size:   len(line),
		bodyAt: len(head),
		event:  event,
	}
}

// patch gives the events the ids first, first+1, … and the moment of posting.
func (r *request) patch(first uint64, now time.Time) {
	stamp := uint64(now.UnixNano())
	for i := range r.events {
		at := r.bodyAt + i*r.size
		seqAt := at + r.event.idAt + idLength - seqDigits
		putDecimal(r.bytes[seqAt:seqAt+seqDigits], first+uint64(i))
		stampAt := at + r.event.stampAt
		putDecimal(r.bytes[stampAt:stampAt+stampDigits], stamp)
	}
}

// eventID is the id in the text of an event; nil without one. It points into body.
func eventID(body []byte) []byte {
	at := bytes.Index(body, []byte(idMember))
	if at < 0 {
		return nil
	}
	id := body[at+len(idMember):]
	end := bytes.IndexByte(id, '"')
	if end < 0 {
		return nil
	}
	return id[:end]
}

// eventStamp is the moment of posting that an event carries; ok is false without one.
func eventStamp(body []byte) (t time.Time, ok bool) {
	at := bytes.LastIndex(body, []byte(stampMember))
	if at < 0 || len(body) < at+len(stampMember)+stampDigits {
		return time.Time{}, false
	}
	ns, ok := parseDecimal(body[at+len(stampMember):][:stampDigits])
	if !ok || int64(ns) <= 0 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(ns)), true
}
