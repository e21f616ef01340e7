package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
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

// template is the text of one event, in which put patches in place what events differ in.
type template struct {
	text    []byte
	idAt    int // of idLength bytes
	leadAt  int // of what its data says of a lead, up to leadEnd
	leadEnd int
	tailAt  int // of what follows the lead's notes
	stampAt int // of stampDigits bytes
}

// mostLead is how much of a lead differs from event to event: to write all of a large one anew would cost more than to post it.
const mostLead = 1 << 10

// leastLead is how long the longest lead is, without notes.
const leastLead = 112

// newTemplate makes an event of exactly size bytes, as a lead form on a web site would cause it.
func newTemplate(run uint32, eventType string, size int, now time.Time) (template, error) {
	head := append([]byte(`{`+idMember), appendID(nil, run, 0)...)
	head = fmt.Appendf(head, `","type":%q,"timestamp":%q,"data":{`, eventType, now.UTC().Format(time.RFC3339))
	tail := `,` + stampMember + `0000000000000000000"}}`
	if least := len(head) + leastLead + len(tail); size < least {
		return template{}, usageError(fmt.Sprintf("size %d: an event of type %s has at least %d bytes", size, eventType, least))
	}
	t := template{
		text: make([]byte, size), idAt: len(`{` + idMember),
		leadAt: len(head), leadEnd: size - len(tail), tailAt: size - len(tail), stampAt: size - len(`"}}`) - stampDigits,
	}
	copy(t.text, head)
	copy(t.text[t.tailAt:], tail)
	t.put(t.text, 0, 0)
	t.leadEnd = min(t.leadEnd, t.leadAt+mostLead)
	return t, nil
}

// What leads are called and what they write: no two events are alike, as those of people are not, or what a queue packs of them
// would tell nothing.
var (
	leadNames = strings.Fields("Ada Agnes Amir Anna Ben Boris Carla Chen David Diego Elena Emil Esra Farid Fiona Goran Greta Hana Hugo Ida Ines " +
		"Ivan Jana Jonas Julia Kai Karim Lena Liam Lotte Luis Mara Maria Milan Mina Nadia Nils Nora Olga Omar Otto Paul Petra Rosa Ruben Sara " +
		"Selma Simon Sofia Sven Tara Tim Tomas Uma Vera Viktor Wanda Yara Yusuf Zoe Eva Leo Max Rita")
	leadWords = strings.Fields("a about after afternoon agent and any apartment appointment are area attic available balcony bank basement bath bedroom " +
		"bike budget buy by call cellar centre children city could deposit dog east email evening family fees flat floor for from furnished garage " +
		"garden ground have house how in is it kitchen large later lease lift light live look loan market metro month morning move near need new " +
		"next north not of office old on or our park parking pets photos plan please pool price question quiet rent river roof room school see " +
		"sell size small soon south station still street summer sun tax terrace the this to top town tram two until use view visit walk want " +
		"water week west what when where which window winter with work would year you your")
	leadHosts = strings.Fields("mail.com web.de me.com gmx.net post.at live.com")
)

// put makes an event of text, a copy of the template's: its number and stamp, and what its data says, which the number tells.
func (t *template) put(text []byte, seq, stamp uint64) {
	putDecimal(text[t.idAt+idLength-seqDigits:t.idAt+idLength], seq)
	putDecimal(text[t.stampAt:t.stampAt+stampDigits], stamp)
	state := seq
	draw := func(n int) int { // splitmix64
		state += 0x9e3779b97f4a7c15
		z := (state ^ state>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return int((z ^ z>>31) >> 1 % uint64(n))
	}
	out := text[t.leadAt:t.leadAt:t.leadEnd]
	random := func(n int) {
		for range n {
			out = append(out, "0123456789abcdefghijklmnopqrstuvwxyz"[draw(36)])
		}
	}
	out = append(out, `"leadId":"lead_`...)
	random(24)
	out = append(append(out, `","firstName":"`...), leadNames[draw(len(leadNames))]...)
	out = append(out, `","email":"`...)
	for range 8 {
		out = append(out, byte('a'+draw(26)))
	}
	out = append(append(out, '@'), leadHosts[draw(len(leadHosts))]...)
	out = append(out, `","score":`...)
	out = strconv.AppendInt(out, int64(10+draw(90)), 10)
	out = append(out, `,"notes":"`...)
	end := cap(out)
	if t.leadEnd == t.tailAt {
		end-- // for the quote
	}
	random(min(20, end-len(out))) // where the form was, say
	for len(out) < end {
		out = append(out, ' ')
		word := leadWords[draw(len(leadWords))]
		out = append(out, word[:min(len(word), end-len(out))]...)
	}
	if t.leadEnd == t.tailAt {
		_ = append(out, '"')
	}
}

// made reports whether a text is this event, with any number and any stamp.
func (t *template) made(text []byte) bool {
	if len(text) != len(t.text) {
		return false
	}
	seq, ok := parseDecimal(text[t.idAt+idLength-seqDigits : t.idAt+idLength])
	stamp, whole := parseDecimal(text[t.stampAt : t.stampAt+stampDigits])
	if !ok || !whole {
		return false
	}
	want := bytes.Clone(t.text)
	t.put(want, seq, stamp)
	return bytes.Equal(text, want)
}

// request is one POST, built once for a connection. It belongs to that connection's goroutine.
type request struct {
	bytes      []byte
	events     int
	size       int // of one event with its line end
	headerAt   int // of the credential
	bodyAt     int
	event      template
	credential credential
}

// newRequest makes the POST of one event, or of an NDJSON batch of so many.
func newRequest(addr, path string, event template, batch int, with credential) *request {
	contentType, line := "application/json", event.text
	if batch > 1 {
		contentType, line = "application/x-ndjson", append(bytes.Clone(event.text), '\n')
	}
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n",
		path, addr, contentType, batch*len(line))
	r := &request{events: batch, size: len(line), headerAt: len(head), event: event, credential: with}
	head = append(with(head, eventID(line), nil, time.Now()), "\r\n"...)
	r.bodyAt, r.bytes = len(head), append(head, bytes.Repeat(line, batch)...)
	return r
}

// patch gives the events the ids first, first+1, … and the moment of posting, and all of them their credential.
func (r *request) patch(first uint64, now time.Time) {
	stamp := uint64(now.UnixNano())
	for i := range r.events {
		at := r.bodyAt + i*r.size
		r.event.put(r.bytes[at:at+len(r.event.text)], first+uint64(i), stamp)
	}
	body := r.bytes[r.bodyAt:]
	r.credential(r.bytes[r.headerAt:r.headerAt:r.bodyAt-len("\r\n")], body[r.event.idAt:r.event.idAt+idLength], body, now)
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
