package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"realtorbot-relay/sign"
)

func TestEventHasAskedSizeAndIsJSON(t *testing.T) {
	for _, size := range []int{250, 251, 300, 1200, 1201, 4096} {
		e, err := newTemplate(7, "lead.created", size, time.Unix(1700000000, 0))
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if len(e.text) != size {
			t.Errorf("size %d: event has %d bytes", size, len(e.text))
		}
		var parsed struct {
			ID        string
			Type      string
			Timestamp time.Time
			Data      map[string]any
		}
		if err := json.Unmarshal(e.text, &parsed); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		if parsed.Type != "lead.created" || parsed.Timestamp.Unix() != 1700000000 || parsed.Data["leadId"] == "" {
			t.Errorf("size %d: got %+v", size, parsed)
		}
	}
	if _, err := newTemplate(7, "lead.created", 100, time.Now()); err == nil {
		t.Error("size 100: no error, though the event does not fit")
	}
}

func TestEventsAreCompactAsTheRelayStoresThem(t *testing.T) {
	e, err := newTemplate(7, "lead.created", 250, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, e.text); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(compact.Bytes(), e.text) {
		t.Errorf("not compact: %s", e.text)
	}
}

func TestPatchGivesEachEventOfABatchItsIDAndStamp(t *testing.T) {
	e, err := newTemplate(0xabcdef01, "lead.created", 260, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1700000000, 123456789)
	for _, batch := range []int{1, 3} {
		r := newRequest("127.0.0.1:1", "/events", e, batch, noCredential)
		r.patch(999, now.Add(-time.Hour)) // what an earlier post left must be gone
		r.patch(40, now)
		lines := bytes.Split(bytes.TrimSuffix(r.bytes[r.bodyAt:], []byte("\n")), []byte("\n"))
		if len(lines) != batch {
			t.Fatalf("batch %d: %d lines", batch, len(lines))
		}
		for i, line := range lines {
			if !json.Valid(line) {
				t.Errorf("batch %d: line %d is not JSON: %s", batch, i, line)
			}
			run, seq, ok := parseID(eventID(line))
			if !ok || run != 0xabcdef01 || seq != uint64(40+i) {
				t.Errorf("batch %d: line %d has id %q", batch, i, eventID(line))
			}
			if stamp, ok := eventStamp(line); !ok || !stamp.Equal(now) {
				t.Errorf("batch %d: line %d has stamp %v", batch, i, stamp)
			}
		}
	}
}

func TestPatchAllocatesNothing(t *testing.T) {
	e, err := newTemplate(1, "lead.created", 250, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, now := newRequest("127.0.0.1:1", "/events", e, 10, noCredential), time.Now()
	if n := testing.AllocsPerRun(100, func() { r.patch(5, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseIDRefusesForeignIDs(t *testing.T) {
	own := string(appendID(nil, 0x12, 34))
	if run, seq, ok := parseID([]byte(own)); !ok || run != 0x12 || seq != 34 {
		t.Fatalf("own id %q: %x %d %v", own, run, seq, ok)
	}
	for _, id := range []string{"", "evt_1", "evt_0000001g_000000001", "evt_00000012-000000034", "evt_00000012_00000003x", own + "0", "xvt" + own[3:]} {
		if _, _, ok := parseID([]byte(id)); ok {
			t.Errorf("%q was taken for an id of a run", id)
		}
	}
}

func FuzzEventFromOutside(f *testing.F) {
	f.Add([]byte(`{"id":"evt_1","data":{"stamp":"1700000000000000000"}}`))
	f.Add([]byte(`{"id":"`))
	f.Add([]byte(`"stamp":"17`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if id := eventID(body); id != nil && !bytes.Contains(body, id) {
			t.Errorf("id %q is not in the body", id)
		}
		if stamp, ok := eventStamp(body); ok && stamp.UnixNano() <= 0 {
			t.Errorf("stamp %v", stamp)
		}
	})
}

// What a queue packs of events tells something only if they are no more alike than real ones.
func TestEventsPackNoBetterThanThoseOfPeople(t *testing.T) {
	e, err := newTemplate(1, "lead.created", 260, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var block []byte
	for seq := range uint64(250) {
		block = append(block, e.text...)
		e.put(block[len(block)-len(e.text):], seq, 1_700_000_000_000_000_000+seq*41_234_567)
		if !json.Valid(block[len(block)-len(e.text):]) {
			t.Fatalf("event %d is not JSON: %s", seq, block[len(block)-len(e.text):])
		}
	}
	if ratio := float64(len(s2.Encode(nil, block))) / float64(len(block)); ratio < 0.34 || ratio > 0.46 {
		t.Errorf("packed they take %.2f of their bytes", ratio)
	}
}

// A template knows its events also where only the beginning of a large one is written anew.
func TestALargeEventIsKnownAgain(t *testing.T) {
	for _, size := range []int{1140, 1200, 100_000} {
		e, err := newTemplate(1, "lead.created", size, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		text := bytes.Clone(e.text)
		for seq := range uint64(50) {
			e.put(text, seq, seq)
			if !json.Valid(text) || !e.made(text) {
				t.Fatalf("%d bytes: event %d is not known again, or no JSON: %s", size, seq, text[:300])
			}
		}
		if text[len(text)/2] ^= 1; e.made(text) {
			t.Errorf("%d bytes: a bit was not noticed", size)
		}
	}
}

// Posts of the mix are admitted by what the relay checks them with: each differs from the one before in id, text and signature.
func TestThePostsOfTheMixAreSigned(t *testing.T) {
	now, sizes, signed := time.Now(), map[int]int{}, 0
	for _, class := range realMix() {
		e, err := newTemplate(1, "lead.created", class.size, now)
		if err != nil {
			t.Fatal(err)
		}
		r := newRequest("127.0.0.1:1", class.path, e, 1, class.credential)
		for seq := range uint64(2) {
			r.patch(seq, now)
			request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.bytes)))
			if err != nil {
				t.Fatalf("%s: %v", class.name, err)
			}
			body, err := io.ReadAll(request.Body)
			if err != nil || len(body) != class.size || !json.Valid(body) {
				t.Fatalf("%s: a body of %d bytes, %v", class.name, len(body), err)
			}
			sizes[len(body)]++
			h := request.Header
			if documented := h.Get("X-Realtorbot-Signature"); documented != "" {
				signed++
				if err := sign.VerifyRealtorBot(documented, body, sign.NewSecret(attackSecret)); err != nil {
					t.Errorf("%s: %v", class.name, err)
				}
			}
			if standard := h.Get("Webhook-Signature"); standard != "" {
				signed++
				key, err := sign.ParseStandardKey(sign.NewSecret(labSecret))
				if err == nil {
					err = sign.VerifyStandard(standard, h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), body, now, time.Minute, key)
				}
				if err != nil {
					t.Errorf("%s: %v", class.name, err)
				}
			}
		}
	}
	if want := map[int]int{300: 56, 4 << 10: 16, 64 << 10: 8}; !maps.Equal(sizes, want) || signed != 40 {
		t.Errorf("%v and %d signed, want %v and 40", sizes, signed, want)
	}
}
