package sign

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// RFC 4231, "Test Vectors for HMAC-SHA-256": cases 1-4, 6 and 7 (5 is about truncation, which no scheme here does).
var rfc4231 = []struct{ key, data, want string }{
	{strings.Repeat("\x0b", 20), "Hi There",
		"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
	{"Jefe", "what do ya want for nothing?",
		"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
	{strings.Repeat("\xaa", 20), strings.Repeat("\xdd", 50),
		"773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
	{"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19",
		strings.Repeat("\xcd", 50),
		"82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
	{strings.Repeat("\xaa", 131), "Test Using Larger Than Block-Size Key - Hash Key First",
		"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	{strings.Repeat("\xaa", 131), "This is a test using a larger than block-size key and a larger than block-size data. " +
		"The key needs to be hashed before being used by the HMAC algorithm.",
		"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
}

func TestRealtorBotMatchesRFC4231(t *testing.T) {
	for i, v := range rfc4231 {
		key, body := NewSecret(v.key), []byte(v.data)
		if got := string(RealtorBot([]byte("prefix "), key, body)); got != "prefix "+v.want {
			t.Errorf("vector %d: RealtorBot = %s, want %s", i, got, v.want)
		}
		signer, err := NewSigner([]string{SchemeRealtorBot}, key, Secret{})
		if err != nil {
			t.Fatal(err)
		}
		for round := range 3 { // the state is used again from the second round on
			if got := string(signer.RealtorBot(nil, body)); got != v.want {
				t.Errorf("vector %d, round %d: Signer = %s, want %s", i, round, got, v.want)
			}
		}
		if err := VerifyRealtorBot(v.want, body, key); err != nil {
			t.Errorf("vector %d: %v", i, err)
		}
	}
}

func TestVerifyRealtorBot(t *testing.T) {
	current, previous, other := NewSecret("current"), NewSecret("previous"), NewSecret("other")
	body := []byte(`{"id":"evt_1"}`)
	good := string(RealtorBot(nil, current, body))

	for _, c := range []struct {
		name   string
		header string
		body   string
		keys   []Secret
		want   error
	}{
		{"the only secret", good, string(body), []Secret{current}, nil},
		{"first of two secrets", good, string(body), []Secret{current, previous}, nil},
		{"last of three secrets", good, string(body), []Secret{other, previous, current}, nil},
		{"beside an empty secret", good, string(body), []Secret{{}, current}, nil},
		{"another secret", good, string(body), []Secret{other}, ErrNoMatch},
		{"another body", good, string(body) + "\n", []Secret{current}, ErrNoMatch},
		{"one digit changed", flip(good), string(body), []Secret{current}, ErrNoMatch},
		{"no secret", good, string(body), nil, ErrNoKey},
		{"only empty secrets", string(rfc2104Empty(body)), string(body), []Secret{{}, {}}, ErrNoKey},
		{"empty", "", string(body), []Secret{current}, ErrMalformed},
		{"upper case", strings.ToUpper(good), string(body), []Secret{current}, ErrMalformed},
		{"cut short", good[:63], string(body), []Secret{current}, ErrMalformed},
		{"too long", good + "0", string(body), []Secret{current}, ErrMalformed},
		{"with a prefix", "sha256=" + good, string(body), []Secret{current}, ErrMalformed},
		{"not hex", strings.Repeat("g", 64), string(body), []Secret{current}, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := VerifyRealtorBot(c.header, []byte(c.body), c.keys...); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// rfc2104Empty is what anyone can compute who guesses that the secret is empty.
func rfc2104Empty(body []byte) []byte {
	const digits = "0123456789abcdef"
	var out []byte
	for _, b := range newMACState("").over(body) {
		out = append(out, digits[b>>4], digits[b&15])
	}
	return out
}

func flip(signature string) string {
	if signature[10] == '0' {
		return signature[:10] + "1" + signature[11:]
	}
	return signature[:10] + "0" + signature[11:]
}

func TestEmptySecretSignsNothing(t *testing.T) {
	body := []byte("{}")
	signer, err := NewSigner([]string{SchemeRealtorBot, SchemeStandard}, Secret{}, NewSecret("left over"))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{
		"RealtorBot":        RealtorBot(nil, Secret{}, body),
		"Standard":          Standard(nil, []StandardKey{{}}, "evt_1", 1, body),
		"Signer.RealtorBot": signer.RealtorBot(nil, body),
		"Signer.Standard":   signer.Standard(nil, "evt_1", 1, body),
	} {
		if len(got) != 0 {
			t.Errorf("%s = %s", name, got)
		}
	}
}

func FuzzVerifyRealtorBot(f *testing.F) {
	f.Add(rfc4231[1].want, []byte(rfc4231[1].data))
	f.Add(strings.Repeat("0", 64), []byte("{}"))
	f.Add("sha256=", []byte{})
	key, never := NewSecret("Jefe"), NewSecret("a secret that signed nothing")
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		signature := RealtorBot(nil, key, body)
		if err := VerifyRealtorBot(string(signature), body, never, key); err != nil {
			t.Fatalf("own signature refused: %v", err)
		}
		if err := VerifyRealtorBot(header, body, key); (err == nil) != (header == string(signature)) {
			t.Fatalf("header %q: %v", header, err)
		}
		if VerifyRealtorBot(header, body, never) == nil {
			t.Fatalf("forged: %q over %q", header, bytes.Clone(body))
		}
	})
}
