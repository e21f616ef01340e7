package sign

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// The example that Standard Webhooks' reference libraries test against.
const (
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorUnix   = 1614265330
	vectorStamp  = "1614265330"
	vectorBody   = `{"test": 2432232314}`
	vectorWant   = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func mustStandardKey(t testing.TB, secret string) StandardKey {
	t.Helper()
	key, err := ParseStandardKey(NewSecret(secret))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func whsec(size int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", size)))
}

func TestStandardMatchesPublishedVector(t *testing.T) {
	key := mustStandardKey(t, vectorSecret)
	if got := string(Standard(nil, []StandardKey{key}, vectorID, vectorUnix, []byte(vectorBody))); got != vectorWant {
		t.Errorf("Standard = %s, want %s", got, vectorWant)
	}
	signer, err := NewSigner([]string{SchemeStandard}, NewSecret(vectorSecret), Secret{})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 { // the state is used again from the second round on
		if got := string(signer.Standard([]byte("a "), vectorID, vectorUnix, []byte(vectorBody))); got != "a "+vectorWant {
			t.Errorf("round %d: Signer = %s, want %s", round, got, vectorWant)
		}
	}
	now := time.Unix(vectorUnix, 0)
	if err := VerifyStandard(vectorWant, vectorID, vectorStamp, []byte(vectorBody), now, time.Minute, key); err != nil {
		t.Error(err)
	}
}

func TestStandardSignsWithCurrentAndPrevious(t *testing.T) {
	current, previous := whsec(32), vectorSecret
	keys := []StandardKey{mustStandardKey(t, current), {}, mustStandardKey(t, previous)}
	body := []byte(vectorBody)

	got := string(Standard(nil, keys, vectorID, vectorUnix, body))
	first, second, ok := strings.Cut(got, " ")
	if !ok || second != vectorWant || first != string(Standard(nil, keys[:1], vectorID, vectorUnix, body)) {
		t.Errorf("Standard = %q, want current's signature, a space and %s", got, vectorWant)
	}
	signer, err := NewSigner([]string{SchemeStandard, SchemeRealtorBot}, NewSecret(current), NewSecret(previous))
	if err != nil {
		t.Fatal(err)
	}
	if same := string(signer.Standard(nil, vectorID, vectorUnix, body)); same != got {
		t.Errorf("Signer = %q, want %q", same, got)
	}
	if want := string(RealtorBot(nil, NewSecret(current), body)); string(signer.RealtorBot(nil, body)) != want {
		t.Error("X-RealtorBot-Signature isn't current's")
	}
}

func TestVerifyStandard(t *testing.T) {
	key, other := mustStandardKey(t, vectorSecret), mustStandardKey(t, whsec(24))
	wrong := string(Standard(nil, []StandardKey{other}, vectorID, vectorUnix, []byte(vectorBody)))
	dotted := string(Standard(nil, []StandardKey{key}, "msg.x/..", vectorUnix, []byte(vectorBody)))
	const tolerance = 5 * time.Minute

	for _, c := range []struct {
		name, header, id, stamp, body string
		later                         time.Duration // now, after the timestamp
		keys                          []StandardKey
		want                          error
	}{
		{"alone", vectorWant, vectorID, vectorStamp, vectorBody, 0, []StandardKey{key}, nil},
		{"second signature", wrong + " " + vectorWant, vectorID, vectorStamp, vectorBody, 0, []StandardKey{key}, nil},
		{"second key", vectorWant, vectorID, vectorStamp, vectorBody, 0, []StandardKey{{}, other, key}, nil},
		{"unknown versions", "v1a,AAAA v2,xyz nonsense " + vectorWant, vectorID, vectorStamp, vectorBody, 0, []StandardKey{key}, nil},
		{"malformed v1 beside", "v1,!! v1, " + vectorWant, vectorID, vectorStamp, vectorBody, 0, []StandardKey{key}, nil},
		{"as old as tolerated", vectorWant, vectorID, vectorStamp, vectorBody, tolerance, []StandardKey{key}, nil},
		{"as new as tolerated", vectorWant, vectorID, vectorStamp, vectorBody, -tolerance, []StandardKey{key}, nil},
		{"too old", vectorWant, vectorID, vectorStamp, vectorBody, tolerance + time.Second, []StandardKey{key}, ErrTimestampTooOld},
		{"too new", vectorWant, vectorID, vectorStamp, vectorBody, -tolerance - time.Second, []StandardKey{key}, ErrTimestampTooNew},
		{"farthest future", vectorWant, vectorID, "9223372036854775807", vectorBody, 0, []StandardKey{key}, ErrTimestampTooNew},
		{"beyond 63 bits", vectorWant, vectorID, "9223372036854775808", vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"another key", vectorWant, vectorID, vectorStamp, vectorBody, 0, []StandardKey{other}, ErrNoMatch},
		{"another id", vectorWant, "msg_x", vectorStamp, vectorBody, 0, []StandardKey{key}, ErrNoMatch},
		{"another second", vectorWant, vectorID, "1614265331", vectorBody, 0, []StandardKey{key}, ErrNoMatch},
		{"another body", vectorWant, vectorID, vectorStamp, `{"test":2432232314}`, 0, []StandardKey{key}, ErrNoMatch},
		{"no keys", vectorWant, vectorID, vectorStamp, vectorBody, 0, nil, ErrNoKey},
		{"empty keys", vectorWant, vectorID, vectorStamp, vectorBody, 0, []StandardKey{{}}, ErrNoKey},
		{"no signature", "", vectorID, vectorStamp, vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"only unknown versions", "v1a,AAAA", vectorID, vectorStamp, vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"no id", vectorWant, "", vectorStamp, vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"full stop in another id", vectorWant, "msg.x", vectorStamp, vectorBody, 0, []StandardKey{key}, ErrNoMatch},
		{"full stop in the id", dotted, "msg.x/..", vectorStamp, vectorBody, 0, []StandardKey{key}, nil},
		{"full stop and a space", dotted, "msg.x /", vectorStamp, vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"full stop and a foreign byte", dotted, "msg.\x1f\x8b", vectorStamp, vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"no timestamp", vectorWant, vectorID, "", vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"signed timestamp", vectorWant, vectorID, "+1614265330", vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"negative timestamp", vectorWant, vectorID, "-1", vectorBody, 0, []StandardKey{key}, ErrMalformed},
		{"date", vectorWant, vectorID, "2021-02-25T15:02:10Z", vectorBody, 0, []StandardKey{key}, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(vectorUnix, 0).Add(c.later)
			err := VerifyStandard(c.header, c.id, c.stamp, []byte(c.body), now, tolerance, c.keys...)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Whatever id and JSON body were signed, full stops in them do not let the signed text be taken for another id, time and JSON
// body.
func TestSignedTextIsCutInOneWay(t *testing.T) {
	random := rand.New(rand.NewPCG(26, 11))
	isBody := func(text []byte) bool { // one object or array, or lines of them
		for line := range bytes.Lines(text) {
			line = bytes.TrimSpace(line)
			if len(line) > 0 && (line[0] != '{' && line[0] != '[' || !json.Valid(line)) {
				return false
			}
		}
		return len(bytes.TrimSpace(text)) > 0
	}
	cuts := func(text []byte) (n int) {
		for i, c := range text {
			if c != '.' || i == 0 || bytes.ContainsAny(text[:i], " \n") {
				continue
			}
			stamp, body, ok := bytes.Cut(text[i+1:], []byte{'.'})
			if _, err := parseUnix(string(stamp)); ok && err == nil && isBody(body) {
				n++
			}
		}
		return n
	}
	if n := cuts([]byte(`a.1.{"x":1}`)); n != 1 {
		t.Fatalf("the control has %d cuts", n)
	}
	if n := cuts([]byte(`a.1.2.[.3.{}`)); n != 1 { // a body that is no JSON
		t.Fatalf("the control that is no JSON has %d cuts", n)
	}
	pieces := []string{`"`, `\`, ".", ".1.", ".1.{", ".1.[", "{", "}", "[", "]", ",", ":", "1", "a", `{"a":"`, `"}`, ".1.{}", `{",":`, ` `, "\n"}
	some := func(most int, id bool) string {
		var b strings.Builder
		for range 1 + random.IntN(most) {
			if piece := pieces[random.IntN(len(pieces))]; !id || piece > "!" {
				b.WriteString(piece)
			}
		}
		return b.String()
	}
	for range 20_000 {
		values := make([]any, 1+random.IntN(3))
		for i := range values {
			if values[i] = any(some(5, false)); random.IntN(3) == 0 {
				values[i] = map[string]any{some(4, false): some(4, false)}
			}
		}
		body, err := json.Marshal(map[string]any{some(4, false): values, some(4, false): 1.5})
		if err != nil {
			t.Fatal(err)
		}
		id := "i" + some(6, true)
		if text := append(appendStandardHead(nil, id, 17), body...); cuts(text) != 1 {
			t.Fatalf("%s can be cut in %d ways", text, cuts(text))
		}
	}
}

func TestParseStandardKey(t *testing.T) {
	for _, c := range []struct {
		name, secret string
		ok           bool
	}{
		{"published", vectorSecret, true},
		{"shortest", whsec(24), true},
		{"longest", whsec(64), true},
		{"too short", whsec(23), false},
		{"too long", whsec(65), false},
		{"empty", "", false},
		{"prefix alone", "whsec_", false},
		{"no prefix", strings.TrimPrefix(vectorSecret, "whsec_"), false},
		{"not base64", "whsec_correct-horse-battery-staple-and-more", false},
		{"URL alphabet", "whsec_" + strings.Repeat("-_", 16), false},
		{"no padding", strings.TrimRight(whsec(25), "="), false},
		{"line break", vectorSecret + "\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseStandardKey(NewSecret(c.secret))
			if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrBadKey)) {
				t.Fatalf("got %v, want ok %v", err, c.ok)
			}
			if err != nil && len(c.secret) > 10 && strings.Contains(err.Error(), c.secret[6:]) {
				t.Errorf("error shows the secret: %v", err)
			}
		})
	}
}

func FuzzVerifyStandard(f *testing.F) {
	f.Add(vectorWant, vectorID, vectorStamp, []byte(vectorBody))
	f.Add("v1a,AAAA v1,= "+vectorWant, "a", "0", []byte(""))
	f.Add("v1,"+strings.Repeat("A", 44), "id", "9223372036854775807", []byte("x"))
	key, never := mustStandardKey(f, vectorSecret), mustStandardKey(f, whsec(64))
	f.Fuzz(func(t *testing.T, header, id, stamp string, body []byte) {
		now := time.Unix(vectorUnix, 0)
		if VerifyStandard(header, id, stamp, body, now, 1<<62, never) == nil {
			t.Fatalf("forged: %q", header)
		}
		signed := string(Standard(nil, []StandardKey{key}, id, vectorUnix, body))
		err := VerifyStandard(header+" "+signed, id, vectorStamp, body, now, 0, never, key)
		if wellFormed := id != "" && !strings.Contains(id, "."); (err == nil) != wellFormed {
			t.Fatalf("own signature beside %q: %v", header, err)
		}
	})
}
